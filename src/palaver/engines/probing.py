"""What classes can be read from nodes that learn without labels: a linear probe on the frozen features of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver import probe
from palaver.data import Dataset
from palaver.engines.evaluate import chunks
from palaver.engines.simulate import Simulation, as_input
from palaver.engines.state import State


class Probed(NamedTuple):
    """The probes of every node."""

    accuracy: np.ndarray
    """``[S, N]`` on the validation examples, a fraction in [0, 1]."""
    validation: np.ndarray
    """``[S, N, V, C]`` logits of the validation examples."""
    test: np.ndarray
    """``[S, N, T, C]`` logits of the test examples."""


@partial(jax.jit, static_argnames="classes")
def _fit(features: jax.Array, y: jax.Array, seen: jax.Array, y_seen: jax.Array, held_out: jax.Array, classes: int):
    """Probes of all nodes of a seed at once: validation accuracy ``[N]``, validation and test logits."""

    def one(features: jax.Array, seen: jax.Array, held_out: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = probe.fit(features, y, seen, y_seen, classes=classes)
        return found.accuracy, found.logits(seen), found.logits(held_out)

    return jax.vmap(one)(features, seen, held_out)


def probing(simulation: Simulation, data: Dataset) -> Callable[[State], Probed]:
    """Makes the function that fits a probe a node on the whole training set, stopped early on validation.

    Features of the whole data set are held at once: S·N·M·D numbers.
    """
    features = simulation.ask(lambda node, state, x: node.predict(state, as_input(x)).features)

    def read(state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        parts = [np.asarray(features(state, inputs)) for inputs, _, _ in chunks(x, y)]
        return np.concatenate(parts, axis=2)[:, :, : len(y)]

    def fitted(state: State) -> Probed:
        parts = ("train", "validation", "test")
        seeds = zip(*(read(state, getattr(data, f"x_{p}"), getattr(data, f"y_{p}")) for p in parts), strict=True)
        y, y_seen = jnp.asarray(data.y_train), jnp.asarray(data.y_validation)
        found = [_fit(train, y, seen, y_seen, held_out, data.classes) for train, seen, held_out in seeds]
        return Probed(*(np.stack([np.asarray(part) for part in kind]) for kind in zip(*found, strict=True)))

    return fitted
