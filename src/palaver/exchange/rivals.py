"""A baseline as one compiled program, on the same nodes, data, random draws and evaluation as a collective.

It is a ``Simulation`` as a collective's, so that study, evaluation, checkpoints and report work on it as they are. The
nodes begin with the parameters that they have in a collective, and draw the same minibatches in the same order: a
method that never communicates is a silent collective to the bit.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Wrapped
from jax.tree_util import Partial

from palaver.baselines.method import Memory, Method, Sent, Sizes, States, floats, halves
from palaver.data.inputs import to_float
from palaver.devices import once
from palaver.exchange import protocol
from palaver.exchange.cohort import Given, Placed, cohort, sent_shapes
from palaver.exchange.description import Collective, Talk
from palaver.exchange.mapping import init_nodes
from palaver.exchange.round import toss_rounds
from palaver.exchange.sharding import ONE_DEVICE, NodeSharding, on_every_device
from palaver.exchange.simulate import (
    INDEX_BITS,
    Simulation,
    bits_of,
    compile_programs,
    compiler_options,
    in_blocks,
    simulation,
)
from palaver.exchange.state import RoundTrace, Shards
from palaver.topology import mean_degree
from palaver.types import Array, NodeState, PalaverError


class RivalState(NamedTuple):
    """What a run of a baseline carries from round to round; the fields that a collective's ``State`` has mean the same.

    A run that goes on from a saved state gives the same bits as one never interrupted.
    """

    round: Array
    """Scalar int32: rounds done."""
    key: Array
    """``[S]`` keys: all randomness after initialisation is drawn from key, round and node id."""
    nodes: States
    """A group each, leaves ``[S, n, ...]``."""
    position: Array
    """``[S, N]`` int32: examples of its own each node has read."""
    memory: Memory
    """The method's."""
    sent: Sent
    """``[S, N]`` int32 each: since the start."""
    loss: Array
    """``[S, N]`` training loss summed over the rounds of the latest ``advance``."""
    diverged: Array
    """``[S]`` int32: first round with a loss that is not finite, -1 if none."""


def rival(
    method: Method,
    group: Collective,
    shards: Shards,
    seeds: Sequence[int],
    *,
    reference: Array | None = None,
    sharding: NodeSharding = ONE_DEVICE,
    loop: str | None = None,
) -> Simulation:
    """Compiles a baseline for a training set.

    Args:
        method: from ``palaver.baselines``.
        group: from ``collective``; of its exchange only the topology is used, by methods that have neighbours.
        shards: the data and each node's part of it, for S seeds.
        seeds: S of them, for what a method draws before training.
        reference: ``[S, R]`` int32 rows of the training set that all nodes share; ``None``: there are none.
        sharding: one device, or the node axis over a mesh (``palaver.exchange.sharding``).
        loop: ``vmap`` or ``map`` over the nodes of a device; ``None`` chooses by ``node_loop``.

    Returns:
        The compiled functions. ``trace`` raises ``PalaverError``: no packets are read.

    Raises:
        PalaverError: nodes or data that the method cannot use; otherwise as ``simulation``.

    """
    # It never trains: it checks nodes and data, and its functions of all nodes serve any state that has ``nodes``.
    quiet = group.protocol._replace(p_consume=0.0, p_broadcast=0.0)
    base = simulation(group._replace(protocol=quiet, capacity=1, talk=Talk()), shards, sharding=sharding, loop=loop)
    sizes = check_rival(method, group, shards, reference)
    reference = jnp.zeros((len(shards.index), 0), jnp.int32) if reference is None else reference
    before = Sent()
    if method.pool is not None:
        pool = method.pool(np.asarray(shards.index), np.asarray(shards.size), list(seeds))
        shards, before = shards._replace(index=jnp.asarray(pool.index), size=jnp.asarray(pool.size)), pool.sent
    specs = RivalState(*[sharding.replicated] * len(RivalState._fields))
    specs = specs._replace(nodes=sharding.nodes, memory=Memory(sharding.replicated, sharding.nodes))
    init = jax.jit(
        partial(_init, method, group, sizes, before), out_shardings=sharding.shardings(specs), compiler_options=once()
    )
    advance = _program(method, Placed(group, sharding, loop), specs)
    topology = group.topology if isinstance(group.topology, Partial) else Partial(group.topology)
    given = on_every_device(Given(shards, topology, reference), sharding)

    def trace(_state: Any, _rounds: int) -> tuple[Any, RoundTrace]:
        raise PalaverError(f"{method.name} reads no packets: trace a collective")

    # Where a program on several devices fails, reading its results waits for ever; only ``block_until_ready`` raises.
    return base._replace(
        init=lambda keys: jax.block_until_ready(init(keys)),
        advance=lambda state, rounds: jax.block_until_ready(advance(state, given, jnp.int32(rounds))),
        trace=trace,
        bits=0,
        sent=partial(_sent, method.bits(sizes), bits_of(shards.x)),
        compile=partial(compile_programs, init, advance, given, sharding),
    )


def check_rival(method: Method, group: Collective, shards: Shards, reference: Array | None) -> Sizes:
    """Checks nodes and data for a method, from shapes alone.

    Args:
        method: from ``palaver.baselines``.
        group: the nodes.
        shards: the data.
        reference: as in ``rival``.

    Returns:
        The sizes that the method's cost depends on.

    Raises:
        PalaverError: nodes or data that the method cannot use.

    """
    rows = 0 if reference is None else reference.shape[1]
    sizes = sizes_of(group, shards.x.shape[1:], shards.x.dtype, int(shards.size[0].sum()), rows)
    _check(method, group, shards, sizes)
    return sizes


def sizes_of(group: Collective, shape: tuple[int, ...], dtype: Any, examples: int, reference: int) -> Sizes:
    """What a method's cost depends on.

    Args:
        group: the nodes.
        shape: of an input.
        dtype: of the inputs.
        examples: of all nodes together.
        reference: examples of the reference set.

    """
    node, _ = group.groups[0]
    x = jax.eval_shape(to_float, jax.ShapeDtypeStruct((1, *shape), dtype))
    logits = jax.eval_shape(lambda x: node.predict(node.init(jax.random.key(0)), x).logits, x)
    parameters = round(sum(count * node.parameters() for node, count in group.groups) / group.nodes)
    degree, batch_size = mean_degree(group.topology), group.protocol.batch_size
    return Sizes(group.nodes, batch_size, logits.shape[-1], parameters, reference, examples, degree)


def _check(method: Method, group: Collective, shards: Shards, sizes: Sizes) -> None:
    """Raises ``PalaverError`` for nodes or data that the method cannot use."""
    name = method.name
    if sizes.nodes < 2:
        raise PalaverError(f"{name} is for nodes that work together, here is 1: give 2 or more")
    if method.averages and len(group.groups) > 1:
        raise PalaverError(f"{name} averages nodes of one kind, here are {len(group.groups)} groups: give one")
    if method.public and not sizes.reference:
        raise PalaverError(f"{name} needs a reference set, here is none: give some of the training set as one")
    for node, _ in group.groups:
        halves(node)
        leaves = jax.tree.leaves(sent_shapes(node, shards, sizes.batch_size))
        whole = [(leaf.shape, leaf.dtype) for leaf in leaves] == [((sizes.batch_size, sizes.classes), jnp.float32)]
        if method.soft and not (node.decode and whole):
            raise PalaverError(f"{name} trains on predictions: give its nodes the channel logits()")
    method.check(sizes, np.asarray(group.topology(jnp.int32(0))))


def _init(method: Method, group: Collective, sizes: Sizes, before: Sent, keys: Array) -> RivalState:
    """The state before the first round, with keys and parameters as a collective's."""
    keys, states = init_nodes(group, keys)
    states = tuple(map(_alike, states)) if method.averages else states
    shape = len(keys), group.nodes
    return RivalState(
        round=jnp.int32(0),
        key=keys,
        nodes=states,
        position=jnp.zeros(shape, jnp.int32),
        memory=method.start(sizes, states),
        sent=jax.tree.map(lambda count: jnp.broadcast_to(jnp.asarray(count, jnp.int32), shape), before),
        loss=jnp.zeros(shape),
        diverged=jnp.full(shape[0], -1, jnp.int32),
    )


def _alike(state: NodeState) -> NodeState:
    """All nodes with the first one's parameters and batch statistics; each keeps its random streams."""
    return floats(lambda leaf: jnp.broadcast_to(leaf[:, :1], leaf.shape), state)


def _program(method: Method, placed: Placed, specs: RivalState) -> Wrapped:
    """``Simulation.advance``, compiled, with the constants as second argument."""
    group, sharding = placed.group, placed.sharding

    def play(given: Given, state: RivalState, coins: protocol.Coins) -> RivalState:
        now = cohort(state, coins.key, given, placed)
        played = method.play(now, state.nodes, state.memory)
        broken = (state.diverged < 0) & ~jnp.isfinite(played.loss).all(1)
        return state._replace(
            round=state.round + 1,
            nodes=played.nodes,
            memory=played.memory,
            position=state.position + jnp.where(played.read, group.protocol.batch_size, 0),
            sent=jax.tree.map(lambda total, now: total + now, state.sent, played.sent),
            loss=state.loss + played.loss,
            diverged=jnp.where(broken, state.round, state.diverged),
        )

    def advance(state: RivalState, given: Given, rounds: Array) -> RivalState:
        start = state._replace(loss=jnp.zeros_like(state.loss))
        return in_blocks(rounds, start, partial(toss_rounds, group=group), partial(play, given))

    whole = sharding.replicated
    return jax.jit(
        sharding.program(advance, (specs, whole, whole), specs),
        donate_argnums=0,
        compiler_options=compiler_options(group, placed.loop),
    )


def _sent(message: float, example: int, state: RivalState) -> dict[str, np.ndarray]:
    """See ``Simulation.sent``; a message and an example have so many bits."""
    return in_bits(state.sent, message, example)


def in_bits(sent: Sent, message: float, example: int) -> dict[str, np.ndarray]:
    """What was sent in bits, by what it is: a message and an example have so many."""
    messages, examples, indices = (np.asarray(count, np.float64) for count in sent)
    return {
        "bits.examples": examples * example,
        "bits.indices": indices * INDEX_BITS,
        "bits.payload": messages * message,
    }
