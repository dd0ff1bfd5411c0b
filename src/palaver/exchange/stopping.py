"""Early stopping of nodes: each ends at its best evaluation, once none has been better for a while (thesis §1.5.3.3).

A node that has stopped takes part in no more rounds: it does not train, speak or hear, but is there when a decision is
asked for. What a run reports is of all nodes at their best.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group
from palaver.exchange.sharding import ONE_DEVICE
from palaver.exchange.state import State
from palaver.types import Array, NodeState, PyTree


class Best(NamedTuple):
    """Each node at its best evaluation so far."""

    accuracy: Array
    """``[S, N]``; -1 before the first evaluation."""
    waited: Array
    """``[S, N]`` int32: evaluations since then."""
    nodes: tuple[NodeState, ...]
    """A group each, leaves ``[S, n, ...]``."""


class Stopping(NamedTuple):
    """What a study does to nodes after an evaluation."""

    begin: Callable[[State], PyTree]
    """``begin(state)``: what it remembers, before the first round."""
    after: Callable[[State, PyTree, np.ndarray], tuple[State, PyTree]]
    """``after(state, memory, accuracy [S, N])``: nodes at their best where they stop, and what it remembers; the arrays
    that it is given can no longer be used."""
    at_best: Callable[[State, PyTree], State] | None
    """``at_best(state, memory)``: all nodes at their best; ``None``: nodes do not stop."""


def stopping(group: Collective) -> Stopping:
    """Early stopping with the collective's patience; nothing without.

    Args:
        group: the collective.

    Returns:
        The functions.

    """
    if not group.patience:
        return Stopping(lambda state: (), lambda state, memory, accuracy: (state, memory), None)

    def begin(state: State) -> Best:
        # Copies: a state that has been advanced is gone.
        return Best(
            jnp.full_like(state.loss, -1.0), jnp.zeros_like(state.position), jax.tree.map(jnp.copy, state.nodes)
        )

    def after(state: State, best: Best, accuracy: np.ndarray) -> tuple[State, Best]:
        where = jax.tree.map(lambda array: array.sharding, (state, best))
        found = _after(state, best, jnp.asarray(accuracy, state.loss.dtype), group=group)
        return jax.device_put(found, where)  # as the next rounds were compiled for

    def at_best(state: State, best: Best) -> State:
        return state._replace(nodes=jax.tree.map(jnp.copy, best.nodes))

    return Stopping(begin, after, at_best)


@partial(jax.jit, static_argnames="group", donate_argnums=(0, 1))
def _after(state: State, best: Best, accuracy: Array, *, group: Collective) -> tuple[State, Best]:
    better = (accuracy > best.accuracy) & ~state.stopped
    kept = _where(group, better, state.nodes, best.nodes)
    waited = jnp.where(better, 0, best.waited + 1)
    stopped = state.stopped | (waited >= group.patience)
    nodes = _where(group, stopped, kept, state.nodes)
    after = state._replace(nodes=nodes, stopped=stopped)
    return after, Best(jnp.where(better, accuracy, best.accuracy), waited, kept)


def _where(
    group: Collective, which: Array, one: tuple[NodeState, ...], other: tuple[NodeState, ...]
) -> tuple[NodeState, ...]:
    """These nodes ``[S, N]`` of the first, the rest of the other."""
    found = []
    for of_group, a, b in zip(by_group(which, group, ONE_DEVICE), one, other, strict=True):

        def chosen(x: Array, y: Array, of_group: Array = of_group) -> Array:
            return jnp.where(of_group.reshape(*of_group.shape, *[1] * (x.ndim - 2)), x, y)

        found.append(jax.tree.map(chosen, a, b))
    return tuple(found)
