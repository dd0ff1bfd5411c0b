"""One round of Algorithm 2 for every node and every seed at once.

Everything about one node is in ``palaver.exchange.protocol`` and ``palaver.node``; here it is mapped over array axes
(``S`` seeds, ``N`` nodes). With the nodes on several devices (``NodeSharding``) the arrays of all nodes ``[S, N, ...]``
are the same on every device, and each trains the ``n`` nodes of its own.
"""

import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from palaver.data.inputs import to_float
from palaver.exchange import mail, protocol, reference, twins
from palaver.exchange.description import Collective
from palaver.exchange.liars import lies
from palaver.exchange.mapping import by_group, node_keys, node_loop, of_all, of_nodes, vmap_nodes
from palaver.exchange.presence import Present, present
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.state import Constants, Counts, OwnBatches, Reading, RoundTrace, Said, Shards, State
from palaver.types import NO_LABEL, NO_PEER, Array, Batch, Node, NodeState, PyTree, StepInfo


def toss_rounds(state: Any, rounds: int, *, group: Collective) -> protocol.Coins:
    """All nodes' random draws in the next rounds, leaves ``[R, S, N]``.

    They depend on nothing that happens in these rounds. Drawn at once, few nodes take much less time over them: a draw
    is many small operations, and for ten nodes starting them is what takes the time.

    Args:
        state: before the first of these rounds, with ``round`` and ``key`` as ``State`` has them.
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
    """Every node learns from others or from a batch of its own, and broadcasts or not.

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
    shards, remembers = constants.shards, group.talk.combine == "mean"
    there = who_is_there(state, group)
    own = own_batches(state, shards, group=group, sharding=sharding)
    if remembers:
        state, reading = reference.read(state, shards, coins, there.active, own, group=group, sharding=sharding)
    else:
        state, reading = mail.read(state, coins, there.active, own, group=group, sharding=sharding)
    nodes, payload, losses = train_round(
        state, shards, coins.key, reading, there.active, group=group, sharding=sharding, loop=loop
    )
    if group.talk.gate == "twin":
        trains = there.active & ~reading.consumed
        after = twins.train(state, shards, coins.key, own, trains, group=group, sharding=sharding, loop=loop)
        state = state._replace(twins=after)
    said = Said(reading.broadcast, of_all(reading.rows, sharding), payload)
    index = said.index
    reached = _reached(constants.topology(state.round), there.awake & ~state.stopped, group)
    if group.talk.examples == "reference":
        wants = reading.broadcast & (reached != NO_PEER).any(-1)
        state, said = reference.speak(state, nodes, shards, wants, group=group, sharding=sharding, loop=loop)
    if remembers:
        judged = None
        if group.talk.gate == "twin":
            state, judged = twins.judge(state, said, reached, shards, group=group, sharding=sharding, loop=loop)
        state, delivered = reference.deliver(state, said, reached, shards, judged, group=group, sharding=sharding)
    else:
        state, delivered = mail.deliver(state, said, reached, group=group)
    trace = RoundTrace(reading.sender, reading.step, index, *delivered)
    trains_own = there.active & ~reading.consumed
    after = state._replace(
        round=state.round + 1,
        nodes=nodes,
        position=state.position + jnp.where(trains_own, group.protocol.batch_size, 0),
        counts=Counts(*map(operator.add, state.counts, (reading.consumed, *delivered))),
        own=state.own + _own(constants, index, there.active),
    )
    return after, losses, trace


def _own(constants: Constants, index: Array, active: Array) -> Array:
    """How many of the rows ``[S, N, B]`` that nodes train on are of their own shards, ``[S, N]``; 0 without owners."""
    if constants.owner is None:
        return jnp.zeros((), jnp.int32)
    owner = jax.vmap(lambda owner, rows: owner[rows])(constants.owner, index)
    mine = owner == jnp.arange(index.shape[1])[:, None]
    return jnp.where(active, mine.sum(-1, dtype=jnp.int32), 0)


def who_is_there(state: State, group: Collective) -> Present:
    """Who is awake and who is active in this round, ``[S, N]`` each."""
    shape = state.key.shape[0], group.nodes
    if group.presence.whole:
        there = Present(jnp.ones(shape, bool), jnp.ones(shape, bool))
    else:
        one = partial(present, group.presence, nodes=group.nodes, step=state.round)
        there = jax.vmap(lambda key: jax.vmap(lambda node: one(key, node))(jnp.arange(group.nodes)))(state.key)
    return there._replace(active=there.active & ~state.stopped) if group.patience else there


def who_lies(keys: Array, group: Collective) -> Array:
    """Who lies, ``[S, N]`` bool, for seeds' keys ``[S]``."""
    one = partial(lies, group.liars, nodes=group.nodes)
    return jax.vmap(lambda key: jax.vmap(lambda node: one(key, node))(jnp.arange(group.nodes)))(keys)


def _reached(neighbours: Array, hear: Array, group: Collective) -> Array:
    """Whom each node's packet reaches: its neighbours ``[N, P]``; of them those that ``hear [S, N]``, ``[S, N, P]``."""
    if group.steady:
        return neighbours
    hears = jax.vmap(lambda hears: hears.at[neighbours].get(mode="clip"))(hear)
    return jnp.where(hears, neighbours, NO_PEER)


def own_batches(state: Any, shards: Shards, *, group: Collective, sharding: NodeSharding) -> OwnBatches:
    """The next minibatch of every node's own shard; only of its labelled part, where own examples are not sent.

    Args:
        state: before the round, with ``key`` and ``position`` as ``State`` has them.
        shards: the data.
        group: the collective.
        sharding: where its nodes are.

    """
    keys = node_keys(state.key, group.nodes)
    labelled = shards.size if shards.labelled is None else shards.labelled
    sends_own = group.talk.examples == "own" and group.protocol.p_broadcast > 0
    of_all = keys, state.position, shards.size if sends_own else labelled, shards.index
    rows, labels = [], []
    for key, position, size, shard, known in zip(
        *(by_group(x, group, sharding) for x in (*of_all, labelled)), strict=True
    ):
        places = of_nodes(partial(protocol.local_batch, group.protocol))(key, position, size)
        own = jnp.take_along_axis(shard, places, axis=2)
        rows.append(own)
        labels.append(jnp.where(places < known[..., None], shards.y[own], NO_LABEL))
    return OwnBatches(rows, labels)


def train_round(
    state: State,
    shards: Shards,
    keys: Array,
    reading: Reading,
    active: Array,
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
        reading: what they train on.
        active: ``[S, N]`` bool: who takes a step; the others stay as they are, with a loss of 0.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    """
    local = zip(*(by_group(x, group, sharding) for x in (keys, reading.consumed, active)), strict=True)
    states, payloads, losses = [], [], []
    groups = zip(group.groups, state.nodes, reading.rows, reading.labels, reading.received, local, strict=True)
    for (node, _), before, rows, labels, received, (key, consume, steps) in groups:

        def one(
            key: Array,
            before: NodeState,
            rows: Array,
            labels: Array,
            received: PyTree,
            consume: Array,
            steps: Array,
            node: Node = node,
        ) -> tuple[NodeState, StepInfo]:
            after, info = node.step(key, before, Batch(to_float(shards.x[rows]), labels), received, consume)
            if group.steady:
                return after, info
            after, loss = jax.tree.map(partial(jnp.where, steps), (after, info.loss), (before, jnp.zeros(())))
            return after, info._replace(loss=loss)

        stepped = vmap_nodes(one, loop or node_loop(node))
        nodes, info = stepped(key, before, rows, labels, received, consume, steps)
        states.append(nodes)
        payloads.append(info.payload)
        losses.append(info.loss)
    return tuple(states), of_all(payloads, sharding), losses
