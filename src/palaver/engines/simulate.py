"""A collective as one compiled program: Algorithm 2 of the thesis for every node and every seed at once.

The stretch between two evaluations is one compiled loop; nodes and seeds are array axes (``S`` seeds, ``N`` nodes). The
training set stands on the device once; packets hold indices into it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from palaver import inbox as boxes
from palaver.engines.description import Collective
from palaver.engines.mesh import ONE_DEVICE, Spread
from palaver.engines.state import NEVER, Counts, Decisions, Losses, Shards, State, World
from palaver.exchange import protocol
from palaver.types import NO_LABEL, NO_PACKET, Array, Batch, Node, NodeState, Packet, PalaverError, PyTree

_Carry: TypeAlias = tuple[State, list[Losses]]


def as_input(x: Array) -> Array:
    """What the models see: uint8 images scaled to [0, 1], anything else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def of_nodes(function: Any) -> Any:
    """``function`` of one node mapped over leading axes ``[S, N]`` of its arguments."""
    return jax.vmap(jax.vmap(function))


def node_keys(keys: Array, nodes: int) -> Array:
    """The keys ``[S, N]`` of all nodes, for seeds' keys ``[S]``."""
    return jax.vmap(lambda key: jax.vmap(partial(protocol.node_key, key))(jnp.arange(nodes)))(keys)


def each(function: Any, loop: str) -> Any:
    """``function`` of one node applied over leading axes ``[S, n]`` of all its arguments."""

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


class Simulation(NamedTuple):
    """The compiled functions of one collective on one training set; made by ``simulation``."""

    init: Any
    """``init(keys [S]) -> State``."""
    advance: Any
    """``advance(state, rounds) -> State``; the state given is used up."""
    trace: Any
    """``trace(state, rounds) -> (State, Decisions)`` with a leading axis of rounds."""
    ask: Callable[[Callable[..., PyTree]], Callable[..., PyTree]]
    """``ask(function)(state, *shared)``: what ``function(node, node_state, *shared)`` gives, leaves ``[S, N, ...]``."""
    logits: Any
    """``logits(state, x [B, ...]) -> [S, N, B, C]`` in evaluation mode."""
    bits: int
    """Payload bits per example."""


def simulation(
    group: Collective, shards: Shards, *, spread: Spread = ONE_DEVICE, loop: str | None = None
) -> Simulation:
    """Compiles a collective for a training set.

    Args:
        group: from ``collective``.
        shards: the data and who owns what, for S seeds.
        spread: one device, or the node axis over a mesh (``palaver.engines.mesh.over``).
        loop: ``vmap`` or ``map`` over the nodes of a device; ``None`` chooses by ``node_loop``.

    Raises:
        PalaverError: if the shards are not for this collective's nodes, a shard is empty, or groups of nodes say
            things of different shape.

    """
    if shards.index.shape[1] != group.nodes:
        raise PalaverError(f"shards for {shards.index.shape[1]} nodes, the collective has {group.nodes}")
    if int(jnp.min(shards.size)) < 1:
        raise PalaverError("a node has no example: split the data among fewer nodes")
    payload, bits = _payload(group, shards)
    step = partial(_round, group=group, spread=spread, loop=loop)

    def play(carry: _Carry, world: World) -> tuple[_Carry, Decisions]:
        state, losses = carry
        after, now, decisions = step(state, world)
        return (after, list(map(partial(_add_loss, state.round), losses, now))), decisions

    def close(carry: _Carry) -> State:
        """Each device has summed its own nodes' losses; they are gathered once, after the last round."""
        state, losses = carry
        losses = [jax.tree.map(spread.gather, own) for own in losses]
        total, broken = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *losses)
        first = broken.min(1)
        diverged = jnp.where((state.diverged < 0) & (first < NEVER), first, state.diverged)
        return state._replace(loss=total, diverged=diverged)

    def advance(state: State, world: World, rounds: Array) -> State:
        start = state, _no_loss(state, group, spread)
        return close(jax.lax.fori_loop(0, rounds, lambda _, carry: play(carry, world)[0], start))

    def trace(state: State, world: World, rounds: int) -> tuple[State, Decisions]:
        start = state, _no_loss(state, group, spread)
        carry, decisions = jax.lax.scan(lambda carry, _: play(carry, world), start, None, length=rounds)
        return close(carry), decisions

    ask = partial(_ask, group, spread, loop)
    parts = State(*[spread.whole] * len(State._fields))._replace(nodes=spread.nodes)
    small = all((loop or node_loop(node)) == "vmap" for node, _ in group.groups)
    compiled = partial(jax.jit, donate_argnums=0, compiler_options=_effort(1) if small else None)
    run = compiled(spread.program(advance, (parts, spread.whole, spread.whole), parts))
    traced = compiled(
        lambda state, world, rounds: spread.program(
            partial(trace, rounds=rounds), (parts, spread.whole), (parts, spread.whole)
        )(state, world),
        static_argnums=2,
    )
    # Initialisation runs once: XLA's CPU backend takes ten times longer to optimise it than it could save.
    begin = jax.jit(partial(_init, group, payload), out_shardings=spread.shardings(parts), compiler_options=_effort(0))
    topology = group.topology if isinstance(group.topology, Partial) else Partial(group.topology)
    world = jax.device_put(World(shards, topology), spread.shardings(spread.whole))
    return Simulation(
        init=begin,
        advance=lambda state, rounds: run(state, world, jnp.int32(rounds)),
        trace=lambda state, rounds: traced(state, world, rounds),
        ask=ask,
        logits=ask(lambda node, state, x: node.predict(state, as_input(x)).logits),
        bits=bits,
    )


def _ask(group: Collective, spread: Spread, loop: str | None, function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """See ``Simulation.ask``."""

    def of_all(nodes: tuple[NodeState, ...], *shared: PyTree) -> PyTree:
        said = [
            each(lambda s, node=node: function(node, s, *shared), loop or node_loop(node))(state)
            for (node, _), state in zip(group.groups, nodes, strict=True)
        ]
        gathered = [jax.tree.map(spread.gather, s) for s in said]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *gathered)

    compiled = jax.jit(
        lambda nodes, *shared: spread.program(of_all, (spread.nodes, *[spread.whole] * len(shared)), spread.whole)(
            nodes, *shared
        )
    )
    return lambda state, *shared: compiled(state.nodes, *shared)


def _effort(level: int) -> dict[str, bool | int | str] | None:
    """How hard XLA's CPU backend optimises: for small nodes level 1 runs as fast as the default and compiles sooner."""
    return {"xla_backend_optimization_level": level} if jax.default_backend() == "cpu" else None


def _payload(group: Collective, shards: Shards) -> tuple[PyTree, int]:
    """Shapes of a packet's payload, the same for every group, and its declared bits per example."""
    x = jax.eval_shape(as_input, jax.ShapeDtypeStruct((group.protocol.batch_size, *shards.x.shape[1:]), shards.x.dtype))
    y = jax.ShapeDtypeStruct((group.protocol.batch_size,), jnp.int32)
    said = [node.payload(x, y) for node, _ in group.groups]
    bits = [node.bits(payload) for (node, _), payload in zip(group.groups, said, strict=True)]
    shapes = [str(jax.tree.map(lambda a: (a.shape, a.dtype), payload)) for payload in said]
    if len(set(zip(shapes, bits, strict=True))) > 1:
        raise PalaverError("groups of nodes say different things: give all nodes of a collective the same channel")
    return said[0], bits[0]


def _init(group: Collective, payload: PyTree, keys: Array) -> State:
    seeds, nodes = keys.shape[0], group.nodes
    keys, init_keys = jax.vmap(lambda k: tuple(jax.random.split(k)))(keys)
    states, offset = [], 0
    for node, count in group.groups:
        ids = jnp.arange(offset, offset + count)
        states.append(
            jax.vmap(lambda k, ids=ids, node=node: jax.vmap(lambda i: node.init(jax.random.fold_in(k, i)))(ids))(
                init_keys
            )
        )
        offset += count
    inbox = boxes.empty(nodes, group.capacity)
    slots = inbox.references.shape[0]
    none = jnp.full((seeds, nodes), 0, jnp.int32)
    return State(
        round=jnp.int32(0),
        key=keys,
        nodes=tuple(states),
        position=none,
        inbox=jax.tree.map(lambda a: jnp.broadcast_to(a, (seeds, *a.shape)), inbox),
        packets=_blank(payload, group.protocol.batch_size, seeds, slots),
        said=_blank(payload, group.protocol.batch_size, seeds, nodes),
        slot=jnp.full((seeds, nodes), slots, jnp.int32),
        counts=Counts(none, none, none, none),
        loss=jnp.zeros((seeds, nodes)),
        diverged=jnp.full(seeds, -1, jnp.int32),
    )


def _no_loss(state: State, group: Collective, spread: Spread) -> list[Losses]:
    return [
        Losses(zero, jnp.full(zero.shape, NEVER, jnp.int32))
        for zero in _by_group(jnp.zeros_like(state.loss), group, spread)
    ]


def _add_loss(step: Array, losses: Losses, now: Array) -> Losses:
    broken = jnp.where(jnp.isfinite(now), losses.broken, jnp.minimum(losses.broken, step))
    return Losses(losses.total + now, broken)


def _round(
    state: State, world: World, *, group: Collective, spread: Spread, loop: str | None
) -> tuple[State, list[Array], Decisions]:
    """Every node pops, trains and speaks once; the losses are each group's on this device ``[S, n]``."""
    shards = world.shards
    # Last round's packets are written only now, before anything is read: XLA can then write the pool in place.
    packets = jax.tree.map(
        jax.vmap(lambda pool, slot, new: pool.at[slot].set(new, mode="drop")),
        state.packets,
        jax.tree.map(lambda _: state.slot, state.packets),
        state.said,
    )
    keys = node_keys(state.key, group.nodes)
    coins = of_nodes(lambda key: protocol.toss(group.protocol, key, state.round))(keys)
    decision = of_nodes(lambda *own: protocol.decide(group.protocol, own[0], state.round, own[1]))(
        coins, state.inbox.count
    )
    inbox, slot = jax.vmap(boxes.pop)(state.inbox, decision.consume)
    consumed = decision.consume
    own = of_nodes(partial(protocol.local_batch, group.protocol))(keys, state.position, shards.size)
    read = jnp.maximum(slot, 0)
    heard = tuple(
        jax.tree.map(lambda pool, mine=mine: _take(pool, mine), packets.payload)
        for mine in _by_group(read, group, spread)
    )
    index = jnp.where(consumed[..., None], _take(packets.index, read), jnp.take_along_axis(shards.index, own, axis=2))
    nodes, said, losses = train_round(
        state, shards, coins.key, index, heard, consumed, group=group, spread=spread, loop=loop
    )
    neighbours = world.topology(state.round)
    inbox, delivery = jax.vmap(lambda i, s: boxes.push(i, neighbours, s, overflow=group.overflow))(
        inbox, decision.broadcast
    )
    spoke = delivery.slot < inbox.references.shape[-1]
    counts = Counts(
        *(
            total + now
            for total, now in zip(state.counts, (consumed, spoke, delivery.sent, delivery.dropped), strict=True)
        )
    )
    decisions = Decisions(
        sender=jnp.where(consumed, _take(packets.sender, read), NO_PACKET),
        step=jnp.where(consumed, _take(packets.step, read), -1),
        index=index,
        spoke=spoke,
        sent=delivery.sent,
        dropped=delivery.dropped,
    )
    state = State(
        round=state.round + 1,
        key=state.key,
        nodes=nodes,
        position=state.position + jnp.where(consumed, 0, group.protocol.batch_size),
        inbox=inbox,
        packets=packets,
        said=Packet(
            index=index,
            payload=said,
            sender=jnp.broadcast_to(jnp.arange(group.nodes, dtype=jnp.int32), slot.shape),
            step=jnp.full_like(slot, state.round),
        ),
        slot=delivery.slot,
        counts=counts,
        loss=state.loss,
        diverged=state.diverged,
    )
    return state, losses, decisions


def _blank(payload: PyTree, batch_size: int, *leading: int) -> Packet:
    """Packets of zeros with these leading axes."""
    return Packet(
        index=jnp.zeros((*leading, batch_size), jnp.int32),
        payload=jax.tree.map(lambda a: jnp.zeros((*leading, *a.shape), a.dtype), payload),
        sender=jnp.zeros(leading, jnp.int32),
        step=jnp.zeros(leading, jnp.int32),
    )


def _take(pool: Array, slot: Array) -> Array:
    """``[S, M, ...]`` at ``[S, n]``."""
    return jax.vmap(lambda p, s: p[s])(pool, slot)


def _by_group(x: Array, group: Collective, spread: Spread) -> list[Array]:
    """``[S, N, ...]`` as this device's share of each group."""
    offsets = np.cumsum([0, *(count for _, count in group.groups)])
    return [spread.own(x, int(offset), count) for offset, (_, count) in zip(offsets, group.groups, strict=False)]


def train_round(
    state: State,
    shards: Shards,
    keys: Array,
    index: Array,
    heard: tuple[PyTree, ...],
    consumed: Array,
    *,
    group: Collective,
    spread: Spread,
    loop: str | None,
) -> tuple[tuple[NodeState, ...], PyTree, list[Array]]:
    """One step of every node: new states, what each of all nodes said ``[S, N, ...]``, and the losses.

    The losses are a group each, of the nodes on this device ``[S, n]``.

    Args:
        state: before the round.
        shards: the data.
        keys: ``[S, N]`` random keys of the nodes' steps.
        index: ``[S, N, B]`` rows that each node trains on.
        heard: a group each, the payloads of its nodes on this device ``[S, n, B, ...]``.
        consumed: ``[S, N]`` whose rows and payload came from a packet.
        group: the collective.
        spread: where its nodes lie.
        loop: see ``simulation``.

    """
    shares = zip(*(_by_group(x, group, spread) for x in (keys, index, consumed)), strict=True)
    states, told, losses = [], [], []
    for (node, _), nodes, payload, (key, rows, consume) in zip(group.groups, state.nodes, heard, shares, strict=True):

        def one(key: Array, nodes: NodeState, rows: Array, payload: PyTree, consume: Array, node: Node = node) -> Any:
            batch = Batch(x=as_input(shards.x[rows]), labels=jnp.where(consume, NO_LABEL, shards.y[rows]))
            return node.step(key, nodes, batch, payload, consume)

        nodes, said, loss = each(one, loop or node_loop(node))(key, nodes, rows, payload, consume)
        states.append(nodes)
        told.append(jax.tree.map(spread.gather, said))
        losses.append(loss)
    said = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *told)
    return tuple(states), said, losses
