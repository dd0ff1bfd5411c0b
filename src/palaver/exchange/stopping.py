"""Early stopping of nodes: each ends at its best evaluation, once none has been better for a while (thesis §1.5.3.3).

A node that has stopped takes part in no more rounds: it neither trains nor speaks, but is there when a decision is
asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.exchange.description import Collective
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
    """``after(state, memory, accuracy [S, N])``: nodes at their best where they stop, and what it remembers."""


def stopping(group: Collective) -> Stopping:
    """Early stopping with the collective's patience; nothing without.

    Args:
        group: the collective.

    Returns:
        The functions.

    """
    if not group.patience:
        return Stopping(lambda state: (), lambda state, memory, accuracy: (state, memory))

    def begin(state: State) -> Best:
        shape = state.position.shape
        # Copies: a state that has been advanced is gone.
        return Best(jnp.full(shape, -1.0), jnp.zeros(shape, jnp.int32), jax.tree.map(jnp.copy, state.nodes))

    return Stopping(begin, lambda state, best, accuracy: _after(state, best, jnp.asarray(accuracy), group=group))


@partial(jax.jit, static_argnames="group")
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
    offsets = np.cumsum([0, *(count for _, count in group.groups)])
    found = []
    for first, (_, count), a, b in zip(offsets, group.groups, one, other, strict=False):
        of_group = which[:, first : first + count]

        def chosen(x: Array, y: Array, of_group: Array = of_group) -> Array:
            return jnp.where(of_group.reshape(*of_group.shape, *[1] * (x.ndim - 2)), x, y)

        found.append(jax.tree.map(chosen, a, b))
    return tuple(found)
