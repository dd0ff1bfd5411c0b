"""Accuracies of the nodes and of the collective, under every decision rule."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver import decision
from palaver.arguments import failure_of
from palaver.data.dataset import check_examples
from palaver.data.inputs import CHUNK, chunks
from palaver.exchange.checks import check_rules
from palaver.exchange.simulate import Simulation
from palaver.exchange.state import State
from palaver.types import Array, DecisionRule


class Scores(NamedTuple):
    """Accuracies as fractions in [0, 1]."""

    nodes: np.ndarray
    """``[S, N]`` each node alone."""
    rules: dict[str, np.ndarray]
    """``[S]`` the collective, by decision rule."""


@partial(jax.jit, static_argnames="rules")
def _hits(logits: Array, y: Array, weight: Array, rules: tuple[tuple[str, DecisionRule], ...]):
    """Weighted number of right predictions of every node ``[S, N]`` and every rule ``[S]``."""
    nodes = ((logits.argmax(-1) == y) * weight).sum(-1)
    answered = jnp.ones(logits.shape[1:3], bool)

    def decided(rule: DecisionRule) -> Array:
        return ((jax.vmap(lambda z: rule(z, answered))(logits).argmax(-1) == y) * weight).sum(-1)

    return nodes, {name: decided(rule) for name, rule in rules}


def evaluate(
    simulation: Simulation,
    state: State,
    x: np.ndarray,
    y: np.ndarray,
    *,
    rules: Mapping[str, DecisionRule] | None = None,
    temperatures: Array | None = None,
) -> Scores:
    """Accuracy of every node and of every rule on the same examples (thesis §2.2.3.1).

    Args:
        simulation: the compiled collective.
        state: of its nodes.
        x: ``[B, ...]`` inputs as in the data set.
        y: ``[B]`` class ids.
        rules: decision rules by name; ``None``: ``palaver.decision.RULES``, with all that has been added to it.
        temperatures: ``[S, N]``: divide each node's logits by its own, from ``calibrate``; ``None``: 1.

    Returns:
        The accuracies.

    Raises:
        PalaverError: inputs that the model does not take, labels that are not theirs, or a rule that does not give what
            it should (``palaver.exchange.checks``).

    """
    with failure_of("the model on x", "give inputs [examples, ...] of the shape that it was made for"):
        shape = jax.eval_shape(simulation.logits, state, np.asarray(x)[:CHUNK]).shape
    x, y = check_examples("x", x, "y", y, classes=shape[-1])
    rules = check_rules(rules, shape[1], shape[-1])
    nodes, decided = 0.0, dict.fromkeys(rules, 0.0)
    for inputs, labels, weight in chunks(x, y):
        logits = simulation.logits(state, inputs)
        if temperatures is not None:
            logits = logits / temperatures[..., None, None]
        hits, by_rule = _hits(logits, labels, weight, tuple(rules.items()))
        nodes = nodes + np.asarray(hits, np.float64)
        decided = {name: decided[name] + np.asarray(by_rule[name], np.float64) for name in decided}
    return Scores(np.asarray(nodes) / len(y), {name: np.asarray(value) / len(y) for name, value in decided.items()})


def score(logits: np.ndarray, y: np.ndarray, *, rules: Mapping[str, DecisionRule] | None = None) -> Scores:
    """Accuracies of nodes and rules, as ``evaluate``, from logits that are already computed.

    Args:
        logits: ``[S, N, B, C]``.
        y: ``[B]`` class ids.
        rules: as for ``evaluate``.

    Returns:
        The accuracies.

    """
    rules = decision.RULES if rules is None else rules
    weight = np.ones(len(y), np.float32)
    nodes, decided = _hits(jnp.asarray(logits), jnp.asarray(y, jnp.int32), weight, tuple(rules.items()))
    return Scores(np.asarray(nodes) / len(y), {name: np.asarray(value) / len(y) for name, value in decided.items()})


def calibrate(simulation: Simulation, state: State, x: np.ndarray, y: np.ndarray) -> Array:
    """Fits one temperature per node and seed on validation examples (Guo et al. 2017; ``decision.fit_temperature``).

    All logits are held at once: S·N·B·C numbers.

    Args:
        simulation: the compiled collective.
        state: of its nodes.
        x: ``[B, ...]`` inputs as in the data set.
        y: ``[B]`` class ids.

    Returns:
        ``[S, N]`` temperatures, in [0.05, 20].

    """
    parts = [(simulation.logits(state, inputs), labels, weight) for inputs, labels, weight in chunks(x, y)]
    logits = jnp.concatenate([part[0] for part in parts], axis=2)[:, :, : len(y)]
    fit = jax.vmap(jax.vmap(decision.fit_temperature, (0, None)), (0, None))
    return jax.jit(fit)(logits, jnp.asarray(y, jnp.int32))
