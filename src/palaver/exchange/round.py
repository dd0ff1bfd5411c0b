"""One round of Algorithm 2 for every node and every seed at once.

Everything about one node is in ``palaver.exchange.protocol`` and ``palaver.node``; here it is mapped over array axes
(``S`` seeds, ``N`` nodes), and packets are passed between nodes. With the nodes on several devices (``NodeSharding``)
the arrays of all nodes ``[S, N, ...]`` are the same on every device, and each trains the ``n`` nodes of its own.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data.inputs import to_float
from palaver.exchange import inbox, protocol
from palaver.exchange.description import Collective
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.state import Constants, Counts, RoundTrace, Shards, State
from palaver.types import NO_LABEL, NO_PACKET, Array, Batch, Node, NodeState, Packet, PyTree, StepInfo


def of_nodes(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``function`` of one node mapped over leading axes ``[S, N]`` of its arguments."""
    return jax.vmap(jax.vmap(function))


def node_keys(keys: Array, nodes: int) -> Array:
    """The keys ``[S, N]`` of all nodes, for seeds' keys ``[S]``."""
    return jax.vmap(lambda key: jax.vmap(partial(protocol.node_key, key))(jnp.arange(nodes)))(keys)


def vmap_nodes(function: Callable[..., PyTree], loop: str) -> Callable[..., PyTree]:
    """``function`` of one node applied over leading axes ``[S, n]`` of all its arguments.

    Args:
        function: of arrays, and pytrees of arrays.
        loop: ``vmap`` computes all nodes at once, ``map`` one after the other.

    """

    def over(*args: PyTree) -> PyTree:
        seeds, nodes = jax.tree.leaves(args)[0].shape[:2]
        flat = jax.tree.map(lambda a: a.reshape(seeds * nodes, *a.shape[2:]), args)
        out = jax.vmap(function)(*flat) if loop == "vmap" else jax.lax.map(lambda a: function(*a), flat)
        return jax.tree.map(lambda a: a.reshape(seeds, nodes, *a.shape[1:]), out)

    return over


def node_loop(node: Node) -> str:
    """``vmap``, or on a CPU ``map`` for convolutional nodes, whose patches then stay in the cache (measured)."""
    params = jax.eval_shape(node.init, jax.random.key(0)).params
    convolutional = any(leaf.ndim >= 4 for leaf in jax.tree.leaves(params))
    return "map" if convolutional and jax.default_backend() == "cpu" else "vmap"


def by_group(x: Array, group: Collective, sharding: NodeSharding) -> list[Array]:
    """``[S, N, ...]`` as this device's part of each group, ``[S, n, ...]``."""
    offsets = np.cumsum([0, *(count for _, count in group.groups)])
    return [
        sharding.local_slice(x, int(start), count) for start, (_, count) in zip(offsets, group.groups, strict=False)
    ]


def toss_rounds(state: State, rounds: int, *, group: Collective) -> protocol.Coins:
    """All nodes' random draws in the next rounds, leaves ``[R, S, N]``.

    They depend on nothing that happens in these rounds. Drawn at once, few nodes take much less time over them: a draw
    is many small operations, and for ten nodes starting them is what takes the time.

    Args:
        state: before the first of these rounds.
        rounds: R.
        group: the collective.

    """
    keys = node_keys(state.key, group.nodes)
    steps = state.round + jnp.arange(rounds, dtype=jnp.int32)
    return jax.vmap(lambda step: of_nodes(lambda key: protocol.toss(group.protocol, key, step))(keys))(steps)


def play_round(
    state: State,
    constants: Constants,
    coins: protocol.Coins,
    *,
    group: Collective,
    sharding: NodeSharding,
    loop: str | None,
) -> tuple[State, list[Array], RoundTrace]:
    """Every node takes a packet or a batch of its own, trains on it, and broadcasts it or not.

    Args:
        state: before the round.
        constants: data and topology.
        coins: this round's random draws, leaves ``[S, N]``.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    Returns:
        The state after it, each group's losses on this device ``[S, n]``, and what happened.

    """
    packets = _stored(state)
    keys = node_keys(state.key, group.nodes)
    consumed, broadcast = of_nodes(lambda own, waiting: protocol.decide(group.protocol, own, state.round, waiting))(
        coins, state.inbox.count
    )
    popped, slot = jax.vmap(inbox.pop)(state.inbox, consumed)
    read = jnp.maximum(slot, 0)
    rows, received = _batches(state, constants.shards, packets, keys, read, consumed, group=group, sharding=sharding)
    nodes, payload, losses = train_round(
        state, constants.shards, coins.key, rows, received, consumed, group=group, sharding=sharding, loop=loop
    )
    index = _of_all(rows, sharding)
    neighbours = constants.topology(state.round)
    inboxes, delivery = jax.vmap(lambda i, b: inbox.push(i, neighbours, b, overflow=group.overflow))(popped, broadcast)
    sent = delivery.slot < inboxes.references.shape[-1]
    trace = RoundTrace(
        sender=jnp.where(consumed, _take(packets.sender, read), NO_PACKET),
        step=jnp.where(consumed, _take(packets.step, read), -1),
        index=index,
        broadcast=sent,
        sent=delivery.sent,
        dropped=delivery.dropped,
    )
    after = state._replace(
        round=state.round + 1,
        nodes=nodes,
        position=state.position + jnp.where(consumed, 0, group.protocol.batch_size),
        inbox=inboxes,
        packets=packets,
        outgoing=Packet(
            index=index,
            payload=payload,
            sender=jnp.broadcast_to(jnp.arange(group.nodes, dtype=jnp.int32), slot.shape),
            step=jnp.full_like(slot, state.round),
        ),
        slot=delivery.slot,
        counts=Counts(*map(operator.add, state.counts, (consumed, sent, delivery.sent, delivery.dropped))),
    )
    return after, losses, trace


def train_round(
    state: State,
    shards: Shards,
    keys: Array,
    rows: Sequence[Array],
    received: Sequence[PyTree],
    consumed: Array,
    *,
    group: Collective,
    sharding: NodeSharding,
    loop: str | None,
) -> tuple[tuple[NodeState, ...], PyTree, list[Array]]:
    """One step of every node: new states, what each of all nodes would broadcast ``[S, N, ...]``, and the losses.

    The losses are a group each, of the nodes on this device ``[S, n]``.

    Args:
        state: before the round.
        shards: the data.
        keys: ``[S, N]`` random keys of the nodes' steps.
        rows: a group each, which examples its nodes on this device train on, ``[S, n, B]``.
        received: a group each, the payloads of its nodes on this device ``[S, n, B, ...]``.
        consumed: ``[S, N]`` bool: whose rows and payload came from a packet.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    """
    local = zip(*(by_group(x, group, sharding) for x in (keys, consumed)), strict=True)
    states, payloads, losses = [], [], []
    groups = zip(group.groups, state.nodes, rows, received, local, strict=True)
    for (node, _), nodes, own_rows, payload, (key, consume) in groups:

        def one(
            key: Array, nodes: NodeState, rows: Array, payload: PyTree, consume: Array, node: Node = node
        ) -> tuple[NodeState, StepInfo]:
            batch = Batch(x=to_float(shards.x[rows]), labels=jnp.where(consume, NO_LABEL, shards.y[rows]))
            return node.step(key, nodes, batch, node.decode(payload) if node.decode else payload, consume)

        nodes, info = vmap_nodes(one, loop or node_loop(node))(key, nodes, own_rows, payload, consume)
        states.append(nodes)
        payloads.append(info.payload)
        losses.append(info.loss)
    return tuple(states), _of_all(payloads, sharding), losses


def _of_all(local: Sequence[PyTree], sharding: NodeSharding) -> PyTree:
    """What every group has on this device ``[S, n, ...]`` as that of all nodes ``[S, N, ...]``."""
    gathered = [jax.tree.map(sharding.gather, part) for part in local]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *gathered)


def _stored(state: State) -> Packet:
    """The pool with last round's packets in it.

    They are written only now, before anything is read: XLA can then write the pool in place.
    """
    return jax.tree.map(
        jax.vmap(lambda pool, slot, new: pool.at[slot].set(new, mode="drop")),
        state.packets,
        jax.tree.map(lambda _: state.slot, state.packets),
        state.outgoing,
    )


def _batches(
    state: State,
    shards: Shards,
    packets: Packet,
    keys: Array,
    read: Array,
    consumed: Array,
    *,
    group: Collective,
    sharding: NodeSharding,
) -> tuple[list[Array], list[PyTree]]:
    """A group each, of its nodes on this device: the rows ``[S, n, B]`` that they train on, and the payloads there."""
    of_all = keys, state.position, shards.size, shards.index, read, consumed
    rows, received = [], []
    for key, position, size, shard, slot, consume in zip(*(by_group(x, group, sharding) for x in of_all), strict=True):
        own = of_nodes(partial(protocol.local_batch, group.protocol))(key, position, size)
        own = jnp.take_along_axis(shard, own, axis=2)
        rows.append(jnp.where(consume[..., None], _take(packets.index, slot), own))
        received.append(jax.tree.map(lambda pool, slot=slot: _take(pool, slot), packets.payload))
    return rows, received


def _take(pool: Array, slot: Array) -> Array:
    """``[S, M, ...]`` at ``[S, n]``."""
    return jax.vmap(lambda p, s: p[s])(pool, slot)
