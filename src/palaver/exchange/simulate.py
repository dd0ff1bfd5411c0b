"""A collective as one compiled program: Algorithm 2 of the thesis for every node and every seed at once.

All rounds between two evaluations are one compiled loop; nodes and seeds are array axes (``S`` seeds, ``N`` nodes). The
training set is on the device once; packets hold indices into it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Wrapped
from jax.tree_util import Partial
from jax.typing import ArrayLike

from palaver.data.inputs import to_float
from palaver.devices import once
from palaver.exchange import inbox, mail, reference, twins
from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group, init_nodes, node_loop, of_all, received_shapes, vmap_nodes
from palaver.exchange.protocol import Coins
from palaver.exchange.round import play_round, toss_rounds
from palaver.exchange.sharding import ONE_DEVICE, NodeSharding, on_every_device
from palaver.exchange.state import NEVER, Constants, Counts, Losses, RoundTrace, Shards, State
from palaver.types import NO_PEER, Array, NodeState, PalaverError, PyTree

C = TypeVar("C")
_Carry: TypeAlias = tuple[State, list[Losses]]

INDEX_BITS = 32
"""Of a packet about a reference set: they name its first row."""

_DRAWN = 16
"""Rounds whose random draws are made at once."""


class Simulation(NamedTuple):
    """The compiled functions of one collective on one training set; made by ``simulation``."""

    init: Callable[[Array], State]
    """``init(keys [S]) -> State``."""
    advance: Callable[[State, int], State]
    """``advance(state, rounds) -> State``; the arrays of the given state can no longer be used."""
    trace: Callable[[State, int], tuple[State, RoundTrace]]
    """``trace(state, rounds) -> (State, RoundTrace)``, as ``advance``, with a leading axis of rounds in the trace."""
    map_nodes: Callable[[Callable[..., PyTree]], Callable[..., PyTree]]
    """``map_nodes(function)(state, *shared)``: ``function(node, node_state, *shared)`` of all nodes, leaves
    ``[S, N, ...]``."""
    map_own: Callable[[Callable[..., PyTree]], Callable[..., PyTree]]
    """``map_own(function)(state, own)``: ``function(node, node_state, own)``, each node with its part of ``own``
    ``[S, N, ...]``."""
    logits: Callable[[State, ArrayLike], Array]
    """``logits(state, x [B, ...]) -> [S, N, B, C]`` in evaluation mode."""
    bits: int
    """Payload bits per example."""
    sent: Callable[[State], dict[str, np.ndarray]]
    """``sent(state)``: what each node has sent so far and the counts behind it, ``[S, N]`` float64 by metric: bits of
    examples, indices and payload, every delivery to a neighbour counted, also one that was dropped.
    """
    compile: Callable[[Array], None]
    """``compile(keys [S])``: compiles ``init`` and ``advance`` for as many seeds, and runs neither."""


def simulation(
    group: Collective, shards: Shards, *, sharding: NodeSharding = ONE_DEVICE, loop: str | None = None
) -> Simulation:
    """Compiles a collective for a training set: Algorithm 2 of the thesis for all nodes and seeds.

    Args:
        group: from ``collective``.
        shards: the data and each node's part of it, for S seeds.
        sharding: one device, or the node axis over a mesh (``palaver.exchange.sharding``).
        loop: ``vmap`` or ``map`` over the nodes of a device; ``None`` chooses by ``node_loop``.

    Returns:
        The compiled functions.

    Raises:
        PalaverError: if the shards are not for this collective's nodes, a shard is empty, or groups of nodes send
            payloads of different shape.

    """
    if shards.index.shape[1] != group.nodes:
        raise PalaverError(f"shards for {shards.index.shape[1]} nodes: make them for {group.nodes}")
    if int(jnp.min(shards.size)) < 1:
        raise PalaverError("a node has no example: split the data among fewer nodes")
    payload, bits = _payload(group, shards)
    _check_reference(group, shards, payload)
    specs = State(*[sharding.replicated] * len(State._fields))
    of_nodes = ("nodes", "heard", "said", "twins", "trust")
    specs = specs._replace(**dict.fromkeys(of_nodes, sharding.nodes))
    size = 0 if shards.reference is None else shards.reference.shape[1]
    init = jax.jit(
        partial(_init, group, payload, size), out_shardings=sharding.shardings(specs), compiler_options=once()
    )
    advance, trace = _programs(group, sharding, loop, specs)
    topology = group.topology if isinstance(group.topology, Partial) else Partial(group.topology)
    constants = on_every_device(Constants(shards, topology, _owner(group, shards)), sharding)
    map_nodes = partial(_map_nodes, group, sharding, loop)

    return Simulation(
        init=_synchronous(init),
        advance=_synchronous(lambda state, rounds: advance(state, constants, jnp.int32(rounds))),
        trace=_synchronous(lambda state, rounds: trace(state, constants, rounds)),
        map_nodes=map_nodes,
        map_own=partial(_map_own, group, sharding, loop),
        logits=map_nodes(lambda node, state, x: node.predict(state, to_float(x)).logits),
        bits=bits,
        sent=partial(_sent, group, bits_of(shards.x), bits),
        compile=partial(compile_programs, init, advance, constants, sharding),
    )


def _check_reference(group: Collective, shards: Shards, payload: PyTree) -> None:
    """Raises ``PalaverError`` for packets about a reference set that is not there, or nodes that cannot send them."""
    if group.talk.examples != "reference":
        return
    size = 0 if shards.reference is None else shards.reference.shape[1]
    if size < group.protocol.batch_size:
        raise PalaverError(
            f"the reference set has {size} rows: give at least batch_size, {group.protocol.batch_size}, as reference"
        )
    if not all(node.encode for node, _ in group.groups):
        raise PalaverError("a node has no encode, which makes packets about a reference set: see palaver.types.Node")
    if group.talk.combine == "mean" or group.talk.least_change:
        received = received_shapes(group.groups[0][0], payload)
        one = isinstance(received, jax.ShapeDtypeStruct) and jnp.issubdtype(received.dtype, jnp.floating)
        if not (one and all(node.decode for node, _ in group.groups)):
            raise PalaverError(
                "combine mean, weighted and least_change need payloads that are decoded to one array of floats, as a "
                "distribution over the classes: give nodes such a channel, as channels.logits(), or leave them out"
            )
        if len(received.shape) != 2 and (group.talk.gate != "none" or group.liars.count):
            raise PalaverError(
                f"gate and liars need payloads that are decoded to distributions [B, C], this channel's have shape "
                f"{received.shape}: give nodes such a channel, as channels.logits(), or leave them out"
            )


def bits_of(x: Array) -> int:
    """Bits of one of the examples ``[M, ...]``, as they are stored."""
    return 8 * x.dtype.itemsize * math.prod(x.shape[1:])


def _sent(group: Collective, example: int, payload: int, state: State) -> dict[str, np.ndarray]:
    """See ``Simulation.sent``; an example and its payload have so many bits."""
    counts = {name: np.asarray(count, np.float64) for name, count in state.counts._asdict().items()}
    examples, refers = counts["sent"] * group.protocol.batch_size, group.talk.examples == "reference"
    bits = {
        "bits.examples": examples * (0 if refers else example),
        "bits.indices": counts["sent"] * (INDEX_BITS if refers else 0),
        "bits.payload": examples * payload,
    }
    if refers or group.protocol.p_broadcast == 0:
        return bits | counts
    trained = counts["consumed"] * group.protocol.batch_size + np.asarray(state.position)
    return bits | counts | {"own_share": np.asarray(state.own) / np.maximum(trained, 1)}


def compile_programs(init: Wrapped, advance: Wrapped, constants: PyTree, sharding: NodeSharding, keys: Array) -> None:
    """See ``Simulation.compile``; ``advance(state, constants, rounds)``."""
    made, state = init.lower(keys).compile(), jax.eval_shape(init, keys)
    if sharding.nodes is not None:
        state = jax.tree.map(_like, state, made.output_shardings)
    advance.lower(state, constants, jnp.int32(0)).compile()


def _like(array: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def _programs(group: Collective, sharding: NodeSharding, loop: str | None, specs: State) -> tuple[Wrapped, Wrapped]:
    """``Simulation.advance`` and ``Simulation.trace``, compiled, with the constants as second argument."""

    def play(carry: _Carry, constants: Constants, coins: Coins) -> tuple[_Carry, RoundTrace]:
        state, losses = carry
        after, now, trace = play_round(state, constants, coins, group=group, sharding=sharding, loop=loop)
        return (after, list(map(partial(_add_loss, state.round), losses, now))), trace

    def close(carry: _Carry) -> State:
        """Each device has summed its own nodes' losses; they are gathered once, after the last round."""
        state, losses = carry
        losses = [jax.tree.map(sharding.gather, local) for local in losses]
        total, broken = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *losses)
        first = broken.min(1)
        diverged = jnp.where((state.diverged < 0) & (first < NEVER), first, state.diverged)
        return state._replace(loss=total, diverged=diverged)

    def advance(state: State, constants: Constants, rounds: Array) -> State:
        start = state, _no_loss(state, group, sharding)
        toss = partial(toss_rounds, group=group)
        return close(
            in_blocks(rounds, start, lambda c, n: toss(c[0], n), lambda c, coins: play(c, constants, coins)[0])
        )

    def trace(state: State, constants: Constants, rounds: int) -> tuple[State, RoundTrace]:
        start = state, _no_loss(state, group, sharding)
        tossed = toss_rounds(state, rounds, group=group)
        carry, traced = jax.lax.scan(lambda carry, coins: play(carry, constants, coins), start, tossed)
        return close(carry), traced

    compiled = partial(jax.jit, donate_argnums=0, compiler_options=compiler_options(group, loop))
    whole = sharding.replicated
    return compiled(sharding.program(advance, (specs, whole, whole), specs)), compiled(
        lambda state, constants, rounds: sharding.program(
            partial(trace, rounds=rounds), (specs, whole), (specs, whole)
        )(state, constants),
        static_argnums=2,
    )


def in_blocks(rounds: Array, carry: C, draw: Callable[[C, int], PyTree], play: Callable[[C, PyTree], C]) -> C:
    """Plays rounds whose random draws are made some rounds at once.

    Args:
        rounds: scalar int32, how many.
        carry: what goes from round to round.
        draw: ``draw(carry, R)``: the draws of the next R rounds, leaves ``[R, ...]``.
        play: ``play(carry, drawn)``: one round.

    """

    def some(block: Array, carry: C) -> C:
        drawn, left = draw(carry, _DRAWN), jnp.minimum(rounds - block * _DRAWN, _DRAWN)
        return jax.lax.fori_loop(0, left, lambda i, carry: play(carry, jax.tree.map(lambda a: a[i], drawn)), carry)

    return jax.lax.fori_loop(0, -(-rounds // _DRAWN), some, carry)


def _map_nodes(
    group: Collective, sharding: NodeSharding, loop: str | None, function: Callable[..., PyTree]
) -> Callable[..., PyTree]:
    """See ``Simulation.map_nodes``."""

    def found(nodes: tuple[NodeState, ...], *shared: PyTree) -> PyTree:
        local = [
            vmap_nodes(lambda s, node=node: function(node, s, *shared), loop or node_loop(node))(state)
            for (node, _), state in zip(group.groups, nodes, strict=True)
        ]
        return of_all(local, sharding)

    whole = sharding.replicated
    compiled = jax.jit(
        lambda nodes, *shared: sharding.program(found, (sharding.nodes, *[whole] * len(shared)), whole)(nodes, *shared)
    )
    return _synchronous(lambda state, *shared: compiled(state.nodes, *shared))


def _map_own(
    group: Collective, sharding: NodeSharding, loop: str | None, function: Callable[..., PyTree]
) -> Callable[..., PyTree]:
    """See ``Simulation.map_own``."""

    def found(nodes: tuple[NodeState, ...], own: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(own)
        parts = [
            tree.unflatten(part) for part in zip(*(by_group(leaf, group, sharding) for leaf in leaves), strict=True)
        ]
        local = [
            vmap_nodes(partial(function, node), loop or node_loop(node))(state, part)
            for (node, _), state, part in zip(group.groups, nodes, parts, strict=True)
        ]
        return of_all(local, sharding)

    whole = sharding.replicated
    compiled = jax.jit(sharding.program(found, (sharding.nodes, whole), whole))
    return _synchronous(lambda state, own: compiled(state.nodes, own))


def _owner(group: Collective, shards: Shards) -> Array | None:
    """See ``Constants.owner``."""
    if group.talk.examples != "own" or group.protocol.p_broadcast == 0:
        return None
    index, size = np.asarray(shards.index), np.asarray(shards.size)
    owner = np.full((len(index), len(shards.x)), NO_PEER, np.int32)
    seed, node, place = np.nonzero(np.arange(index.shape[2]) < size[..., None])
    owner[seed, index[seed, node, place]] = node
    return jnp.asarray(owner)


def _synchronous(program: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The program as a function that returns when its results are there.

    Where a program on several devices fails, of memory for example, ``int`` and ``np.asarray`` of its results wait for
    ever, but ``block_until_ready`` raises the error.
    """
    return lambda *args: jax.block_until_ready(program(*args))


def compiler_options(group: Collective, loop: str | None) -> dict[str, bool | int | str] | None:
    """How XLA compiles the rounds: for small nodes its CPU backend optimises less, which runs as fast (measured).

    Args:
        group: the collective.
        loop: see ``simulation``.

    Returns:
        The options for ``jax.jit``; ``None``: the default.

    """
    small = all((loop or node_loop(node)) == "vmap" for node, _ in group.groups)
    return {"xla_backend_optimization_level": 1} if small and jax.default_backend() == "cpu" else None


def _payload(group: Collective, shards: Shards) -> tuple[PyTree, int]:
    """Shapes of a packet's payload, the same for every group, and its declared bits per example."""
    x = jax.eval_shape(to_float, jax.ShapeDtypeStruct((group.protocol.batch_size, *shards.x.shape[1:]), shards.x.dtype))
    y = jax.ShapeDtypeStruct((group.protocol.batch_size,), jnp.int32)
    payloads = [node.payload(x, y) for node, _ in group.groups]
    bits = [node.bits(payload) for (node, _), payload in zip(group.groups, payloads, strict=True)]
    shapes = [str(jax.tree.map(lambda a: (a.shape, a.dtype), payload)) for payload in payloads]
    if len(set(zip(shapes, bits, strict=True))) > 1:
        raise PalaverError("groups of nodes send different payloads: give all nodes of a collective the same channel")
    return payloads[0], bits[0]


def _init(group: Collective, payload: PyTree, size: int, keys: Array) -> State:
    """The state before the first round; the payload's shapes, and R rows of a reference set."""
    seeds, nodes, talk = keys.shape[0], group.nodes, group.talk
    heard, said = [], []
    if talk.combine == "mean" or talk.least_change:
        received = received_shapes(group.groups[0][0], payload)
        tables = [reference.blank(size, received, seeds, count) for _, count in group.groups]
        heard, said = tables if talk.combine == "mean" else [], [t.total for t in tables] if talk.least_change else []
        payload = () if talk.combine == "mean" else payload
    keys, states = init_nodes(group, keys)
    inboxes = inbox.empty(nodes, group.capacity if talk.combine == "latest" else 1)
    slots = inboxes.references.shape[0]
    zeros = jnp.full((seeds, nodes), 0, jnp.int32)
    return State(
        round=jnp.int32(0),
        key=keys,
        nodes=states,
        position=zeros,
        inbox=jax.tree.map(lambda a: jnp.broadcast_to(a, (seeds, *a.shape)), inboxes),
        packets=mail.blank(payload, group.protocol.batch_size, seeds, slots),
        outgoing=mail.blank(payload, group.protocol.batch_size, seeds, nodes),
        slot=jnp.full((seeds, nodes), slots, jnp.int32),
        counts=Counts(zeros, zeros, zeros, zeros),
        own=zeros,
        heard=tuple(heard),
        said=tuple(said),
        twins=states if talk.gate == "twin" else (),
        trust=twins.strangers(group, seeds) if talk.gate == "twin" else (),
        stopped=jnp.zeros((seeds, nodes), bool),
        loss=jnp.zeros((seeds, nodes)),
        diverged=jnp.full(seeds, -1, jnp.int32),
    )


def _no_loss(state: State, group: Collective, sharding: NodeSharding) -> list[Losses]:
    return [
        Losses(zero, jnp.full(zero.shape, NEVER, jnp.int32))
        for zero in by_group(jnp.zeros_like(state.loss), group, sharding)
    ]


def _add_loss(step: Array, losses: Losses, now: Array) -> Losses:
    broken = jnp.where(jnp.isfinite(now), losses.broken, jnp.minimum(losses.broken, step))
    return Losses(losses.total + now, broken)
