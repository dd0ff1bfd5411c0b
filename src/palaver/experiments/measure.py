"""What an evaluation looks at: accuracies of classifiers, or of linear probes on features learnt without labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from palaver.data import Dataset
from palaver.engines.evaluate import calibrate, evaluate, score
from palaver.engines.probing import Probed, probing
from palaver.engines.simulate import Simulation, as_input
from palaver.engines.state import State
from palaver.experiments import record
from palaver.experiments.settings import CollectiveSettings
from palaver.types import PyTree

PICTURED = 8
"""Examples in a row of pictures."""

_LOOKED_AT = 512
"""Validation examples for the objective's terms and the statistics of codes."""


class Measured(NamedTuple):
    """One evaluation."""

    memory: PyTree
    """What the next one needs to know, arrays."""
    node: dict[str, np.ndarray]
    """``[S, N]`` by metric."""
    collective: dict[str, np.ndarray]
    """``[S]`` by metric."""
    pictures: dict[str, np.ndarray]
    """By kind, uint8 ``[rows, columns, H, W]`` or ``[rows, columns, H, W, 3]``, of the first seed's first node."""


class Measure(NamedTuple):
    """How a configuration is evaluated."""

    memory: PyTree
    """Before the first evaluation."""
    look: Callable[[State, PyTree, bool], Measured]
    """``look(state, memory, full)``; ``full`` at the rounds that are reported."""


def measure(settings: CollectiveSettings, data: Dataset, sim: Simulation, seeds: int) -> Measure:
    """The measure for these settings' objective."""
    if settings.objective == "labels":
        return Measure((), partial(_accuracies, settings, data, sim))
    # The memory: each node's best validation accuracy so far, and its probe's test logits at that stage.
    best = np.full((seeds, settings.nodes), -1.0, np.float32)
    logits = np.zeros((seeds, settings.nodes, len(data.y_test), data.classes), np.float32)
    # Every node is given the same key, so that samples differ by the node and not by the noise.
    metrics = sim.ask(lambda node, state, x: node.metrics(jax.random.key(1), state, as_input(x)))
    draw = sim.ask(lambda node, state, x: node.pictures(jax.random.key(2), state, as_input(x)))
    return Measure((best, logits), partial(_probes, data, probing(sim, data), metrics, draw, settings.burn_in))


def _accuracies(
    settings: CollectiveSettings, data: Dataset, sim: Simulation, state: State, _memory: PyTree, full: bool
) -> Measured:
    """Validation accuracies; where ``full``, of all validation examples and of the test set too."""
    x, y = data.x_validation, data.y_validation
    if settings.eval_examples and not full:
        some = np.random.default_rng(0).permutation(len(y))[: settings.eval_examples]
        x, y = x[some], y[some]
    scores = evaluate(sim, state, x, y)
    collective = record.accuracies(scores)
    if full:
        collective |= record.accuracies(evaluate(sim, state, data.x_test, data.y_test), "test_")
    if full and settings.calibrate:
        # Fitted on validation, so only the test examples can say what it is worth.
        temperatures = calibrate(sim, state, x, y)
        scored = evaluate(sim, state, data.x_test, data.y_test, temperatures=temperatures)
        collective |= record.accuracies(scored, "test_calibrated_")
    return Measured((), {"accuracy": scores.nodes}, collective, {})


def _probes(
    data: Dataset,
    fitted: Callable[[State], Probed],
    metrics: Callable[..., dict[str, jax.Array]],
    draw: Callable[..., dict[str, jax.Array]],
    burn_in: int,
    state: State,
    memory: tuple[np.ndarray, np.ndarray],
    _full: bool,
) -> Measured:
    """A probe a node, trained on the whole training set; test accuracy of each node's best stage by validation.

    Stages before anyone spoke stand for themselves and are then forgotten: they say nothing about talking.
    """
    best, kept = memory
    found = fitted(state)
    better = found.accuracy > best
    kept = np.where(better[..., None, None], found.test, kept)
    best = np.where(better, found.accuracy, best)
    scores = score(kept, data.y_test)
    looked = {name: np.asarray(value) for name, value in metrics(state, data.x_validation[:_LOOKED_AT]).items()}
    collective = record.accuracies(scores) | {"validation_average_accuracy": best.mean(1)}
    collective |= {name: value.mean(1) for name, value in looked.items()}
    drawn = draw(state, data.x_validation[:PICTURED])
    return Measured(
        memory if int(state.round) <= burn_in else (best, kept),
        {"accuracy": scores.nodes, "probe_accuracy": found.accuracy} | looked,
        collective,
        _images({kind: np.asarray(value[0, 0]) for kind, value in drawn.items()}),
    )


def _images(drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[0, 1] to uint8, whatever is beyond clipped; nothing of inputs that are neither grey nor colour images."""
    squeezed = {kind: grid[..., 0] if grid.ndim == 5 and grid.shape[-1] == 1 else grid for kind, grid in drawn.items()}
    return {
        kind: np.round(255 * np.clip(np.nan_to_num(grid), 0, 1)).astype(np.uint8)
        for kind, grid in squeezed.items()
        if grid.ndim == 4 or (grid.ndim == 5 and grid.shape[-1] == 3)
    }
