"""All nodes of a round as a baseline sees them: functions of one node, mapped over seeds, nodes and devices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from palaver.baselines.method import Cohort, States, Trained, halves
from palaver.data.inputs import to_float
from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group, node_loop, of_all, received_shapes, vmap_nodes
from palaver.exchange.round import own_batches
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.state import Shards
from palaver.types import Array, Batch, Gradients, Node, NodeState, PyTree, StepInfo, Topology

_SHARED = 2**31 - 1
"""Folded into a seed's key for draws that all nodes share. For a node's key it is the node's id, which is smaller."""


class Given(NamedTuple):
    """What the compiled program takes beside its state, and does not change."""

    shards: Shards
    topology: Topology
    reference: Array
    """``[S, R]`` int32 rows of the training set."""


class Placed(NamedTuple):
    """The nodes, and which of them are on this device."""

    group: Collective
    sharding: NodeSharding
    loop: str | None
    """See ``palaver.exchange.simulate.simulation``."""

    def each(self, function: Callable[..., PyTree], nodes: States, *arrays: PyTree) -> list[PyTree]:
        """``function(node, state, *arrays)`` of this device's nodes, a group each; the arrays are of all nodes."""
        leaves, tree = jax.tree.flatten(arrays)
        parts = zip(*(by_group(leaf, self.group, self.sharding) for leaf in leaves), strict=True)
        return [
            self.mapped(node, function)(state, *jax.tree.unflatten(tree, part))
            for (node, _), state, part in zip(self.group.groups, nodes, parts, strict=True)
        ]

    def mapped(self, node: Node, function: Callable[..., PyTree]) -> Callable[..., PyTree]:
        """``function(node, ...)`` over leading axes ``[S, n]``."""
        return vmap_nodes(partial(function, node), self.loop or node_loop(node))

    def of_all(self, local: Sequence[PyTree]) -> PyTree:
        """What every group has on this device ``[S, n, ...]`` as that of all nodes ``[S, N, ...]``."""
        return of_all(local, self.sharding)


def sent_shapes(node: Node, shards: Shards, batch: int) -> PyTree:
    """Shapes of what a node's channel makes of so many examples."""
    x = jax.eval_shape(to_float, jax.ShapeDtypeStruct((batch, *shards.x.shape[1:]), shards.x.dtype))
    return node.payload(x, jax.ShapeDtypeStruct((batch,), jnp.int32))


def received(node: Node, shards: Shards, batch: int) -> PyTree:
    """Shapes of what a node's channel compares its outputs with, for so many examples."""
    return received_shapes(node, sent_shapes(node, shards, batch))


def cohort(state: Any, keys: Array, given: Given, placed: Placed) -> Cohort:
    """The nodes in one round.

    Args:
        state: before the round, with ``round``, ``key`` and ``position`` as ``palaver.exchange.state.State`` has them.
        keys: ``[S, N]`` of the nodes' steps.
        given: data and topology.
        placed: the nodes.

    Returns:
        What a method may use.

    """
    group, shards = placed.group, given.shards
    rows = placed.of_all(own_batches(state, shards, group=group, sharding=placed.sharding).rows)
    return Cohort(
        round=state.round,
        key=jax.vmap(lambda key: jax.random.fold_in(key, _SHARED))(state.key),
        rows=rows,
        labels=shards.y[rows],
        weight=shards.size / shards.size.sum(1, keepdims=True),
        neighbours=given.topology(state.round),
        reference=given.reference,
        step=partial(_step, shards, placed, keys),
        gradients=partial(_gradients, shards, placed, keys),
        update=partial(_update, placed),
        predict=partial(_predict, shards, placed),
        gather=placed.sharding.gather,
        local=lambda x: by_group(x, group, placed.sharding)[0],
        node=group.groups[0][0],
    )


def _step(
    shards: Shards,
    placed: Placed,
    keys: Array,
    nodes: States,
    rows: Array,
    target: Array | None = None,
    consume: Any = True,
    scale: Any = None,
) -> tuple[States, Trained]:
    """See ``Cohort.step``."""

    def one(node: Node, state: NodeState, key: Array, rows: Array, *target: Array) -> tuple[NodeState, StepInfo]:
        given = _batch(node, shards, rows, target, consume)
        if scale is None:
            return node.step(key, state, *given)
        gradients, update = halves(node)
        found, info = gradients(key, state, *given)
        grads = jax.tree.map(lambda leaf: leaf * scale, found.grads)
        return update(state, found._replace(grads=grads), given[2]), info._replace(loss=info.loss * scale)

    arrays = (keys, rows) if target is None else (keys, rows, target)
    found = placed.each(one, nodes, *arrays)
    return tuple(state for state, _ in found), _trained([info for _, info in found], placed)


def _gradients(
    shards: Shards, placed: Placed, keys: Array, nodes: States, rows: Array
) -> tuple[tuple[Gradients, ...], Trained]:
    """See ``Cohort.gradients``."""

    def one(node: Node, state: NodeState, key: Array, rows: Array) -> tuple[Gradients, StepInfo]:
        return halves(node)[0](key, state, *_batch(node, shards, rows, (), False))

    found = placed.each(one, nodes, keys, rows)
    return tuple(grads for grads, _ in found), _trained([info for _, info in found], placed)


def _update(placed: Placed, nodes: States, gradients: tuple[Gradients, ...]) -> States:
    """See ``Cohort.update``."""

    def one(node: Node, state: NodeState, found: Gradients) -> NodeState:
        return halves(node)[1](state, found, jnp.bool_(False))

    groups = zip(placed.group.groups, nodes, gradients, strict=True)
    return tuple(placed.mapped(node, one)(state, found) for (node, _), state, found in groups)


def _predict(shards: Shards, placed: Placed, nodes: States, rows: Array) -> Array:
    """See ``Cohort.predict``; one minibatch after the other, so that memory is bounded."""

    def one(node: Node, state: NodeState, rows: Array) -> Array:
        return node.predict(state, to_float(shards.x[rows])).logits

    def of_batch(rows: Array) -> Array:
        every = jnp.broadcast_to(rows[:, None], (len(rows), placed.group.nodes, *rows.shape[1:]))
        return placed.of_all(placed.each(one, nodes, every))

    return jnp.moveaxis(jax.lax.map(of_batch, jnp.moveaxis(rows, 1, 0)), 0, 2)


def _batch(
    node: Node, shards: Shards, rows: Array, target: tuple[Array, ...], consume: Any
) -> tuple[Batch, PyTree, Array]:
    """One node's minibatch and target ``[B, C]``, and whether the step is on the latter; without one on the labels."""
    batch = Batch(x=to_float(shards.x[rows]), labels=shards.y[rows])
    if target:
        return batch, jnp.exp(target[0]), jnp.asarray(consume)
    shapes = received(node, shards, len(rows))
    return batch, jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes), jnp.bool_(False)


def _trained(infos: list[StepInfo], placed: Placed) -> Trained:
    return Trained(placed.of_all([info.loss for info in infos]), placed.of_all([info.payload for info in infos]))
