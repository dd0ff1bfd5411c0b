"""How well classes can be read from the features of nodes that learn without labels: a linear probe for each node."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver import probe
from palaver.data import Dataset
from palaver.data.inputs import chunks, to_float
from palaver.exchange.simulate import Simulation
from palaver.exchange.state import State
from palaver.types import Array


class Probed(NamedTuple):
    """The probes of every node."""

    accuracy: np.ndarray
    """``[S, N]`` on the validation examples, a fraction in [0, 1]."""
    test: np.ndarray
    """``[S, N, T, C]`` logits of the test examples."""


@partial(jax.jit, static_argnames="classes")
def _fit(train: Array, validation: Array, test: Array, y_train: Array, y_validation: Array, classes: int):
    """Probes of all nodes of a seed, on features ``[N, M, D]``: validation accuracy ``[N]``, test logits."""

    def one(train: Array, validation: Array, test: Array) -> tuple[Array, Array]:
        found = probe.fit(train, y_train, validation, y_validation, classes=classes)
        return found.accuracy, found.logits(test)

    return jax.vmap(one)(train, validation, test)


def probing(simulation: Simulation, data: Dataset) -> Callable[[State], Probed]:
    """Makes the function that fits a probe for each node on the whole training set, with early stopping on validation.

    Thesis §2.2.4.1 and §2.3.3. Features of the whole data set are held at once: S·N·M·D numbers.

    Args:
        simulation: the compiled collective.
        data: the data set; its labels are used by the probes alone.

    Returns:
        ``probe(state)``: the probes' accuracies and logits.

    """
    features = simulation.map_nodes(lambda node, state, x: node.predict(state, to_float(x)).features)

    def features_of(state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        parts = [np.asarray(features(state, inputs)) for inputs, _, _ in chunks(x, y)]
        return np.concatenate(parts, axis=2)[:, :, : len(y)]

    def fitted(state: State) -> Probed:
        parts = ("train", "validation", "test")
        seeds = zip(*(features_of(state, getattr(data, f"x_{p}"), getattr(data, f"y_{p}")) for p in parts), strict=True)
        labels = jnp.asarray(data.y_train), jnp.asarray(data.y_validation)
        found = [_fit(*features, *labels, data.classes) for features in seeds]
        return Probed(*(np.stack([np.asarray(part) for part in kind]) for kind in zip(*found, strict=True)))

    return fitted
