"""Every decision of the compiled simulation against Algorithm 2 played with real queues."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import optax
import pytest

import oracle
from palaver import channels, topology
from palaver.exchange.description import Collective, collective
from palaver.exchange.mapping import node_keys, of_nodes
from palaver.exchange.protocol import toss
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import RoundTrace, Shards, State
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import NO_LABEL, NO_PEER, Node, NodeState, StepInfo

ROUNDS, BATCH, SEEDS = 40, 4, 2
EXAMPLES = 200

NODES = 6
TOPOLOGIES = {
    "pair": topology.ring(2, 1),
    "ring of 2 neighbours": topology.ring(6, 2),
    "ring of 3 neighbours": topology.ring(6, 3),
    "full": topology.full(5),
    "random regular": topology.random_regular(6, 3, seed=4),
    "random changing": topology.random_changing(6, 3, every=3, rounds=ROUNDS, seed=5),
    "star": topology.from_graph(nx.star_graph(5)),
    "one way, with one that never sends": topology.from_graph([[0, 1, 1], [1, 0, 0], [0, 0, 0]]),
}
STRETCH = 1000
"""Rounds from ``i * STRETCH`` on are played on topology ``i``: so one compiled program serves all of them."""


@jax.jit
def in_turn(step):
    """Every topology of the list on ``NODES`` nodes (those beyond its own have no neighbours), by the round."""

    def padded(where):
        def table(now):
            peers = jnp.asarray(where(now))
            rows, columns = NODES - peers.shape[0], NODES - 1 - peers.shape[1]
            return jnp.pad(peers, ((0, rows), (0, columns)), constant_values=NO_PEER)

        return table

    step = jnp.asarray(step)
    return jax.lax.switch(step // STRETCH, [padded(where) for where in TOPOLOGIES.values()], step % STRETCH)


def recorder() -> Node:
    """A node that sends its id, the round and its rows, and records what it receives; it trains nothing.

    Its id and the first round are put into its state by ``at_round``.
    """

    def init(_key: jax.Array) -> NodeState:
        log = jnp.full((ROUNDS, BATCH), -7, jnp.int32)
        own = {"id": jnp.int32(-7), "round": jnp.int32(0)}
        return NodeState({}, {**own, "less_label": log, "sender": log, "step": log, "x": log}, opt_state=())

    def step(_key, state, batch, payload, consume):
        own = state.model_state
        now = own["round"]
        log = {
            name: own[name].at[now % ROUNDS].set(jnp.where(consume, payload[name], -1))
            for name in ("sender", "step", "x")
        }
        row = batch.x[:, 0].astype(jnp.int32)
        log["less_label"] = own["less_label"].at[now % ROUNDS].set(row - batch.labels)
        sent = {"sender": jnp.full(BATCH, own["id"], jnp.int32), "step": jnp.full(BATCH, now, jnp.int32), "x": row}
        after = state._replace(model_state={"id": own["id"], "round": now + 1, **log})
        return after, StepInfo(sent, jnp.float32(0))

    def payload(_x: Any, labels: Any) -> Any:
        whole = jax.ShapeDtypeStruct(labels.shape, jnp.int32)
        return {"sender": whole, "step": whole, "x": whole}

    return Node(init=init, step=step, predict=None, payload=payload, bits=lambda _: 96, parameters=lambda: 0)


def at_round(state: State, start: int) -> State:
    """The state of recorders before round ``start``, each with its own id."""
    (nodes,) = state.nodes
    shape = nodes.model_state["id"].shape
    ids = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    own = {**nodes.model_state, "id": ids, "round": jnp.full(shape, start, jnp.int32)}
    return state._replace(round=jnp.int32(start), nodes=(nodes._replace(model_state=own),))


def numbered_shards(nodes: int) -> Shards:
    """Row ``i`` of the training set holds the number ``i`` and the label ``i % 10``; shards of very uneven size."""
    sizes = np.array([[1, 7, 30, 3, 4, 13], [26, 2, 4, 19, 1, 5]])[:, :nodes]
    index = np.zeros((SEEDS, nodes, sizes.max()), np.int32)
    for seed in range(SEEDS):
        rows = np.random.default_rng(seed).permutation(EXAMPLES)
        for node, size in enumerate(sizes[seed]):
            index[seed, node, :size], rows = rows[:size], rows[size:]
    x = jnp.arange(EXAMPLES, dtype=jnp.float32)[:, None]
    return Shards(x, jnp.arange(EXAMPLES, dtype=jnp.int32) % 10, jnp.asarray(index), jnp.asarray(sizes, jnp.int32))


class Played(NamedTuple):
    state: State
    trace: RoundTrace
    oracles: list[oracle.Run]


def play(sim: Simulation, group: Collective, shards: Shards, state: State) -> Played:
    """The simulation's trace from this state on and, for each seed, the oracle's."""
    keys, start = state.key.copy(), int(state.round)
    state, trace = sim.trace(state, ROUNDS)
    runs = []
    own_keys = node_keys(keys, group.nodes)
    rounds = start + np.arange(ROUNDS)
    drawn = jax.vmap(lambda step: of_nodes(lambda key: toss(group.protocol, key, step))(own_keys))(jnp.asarray(rounds))
    for seed in range(SEEDS):
        consume, broadcast = (np.asarray(coin[:, seed]) for coin in (drawn.consume, drawn.broadcast))
        broadcast = broadcast & (rounds >= group.protocol.burn_in)[:, None]
        own = oracle.shards(keys[seed], np.asarray(shards.index[seed]), np.asarray(shards.size[seed]))
        runs.append(
            oracle.algorithm_2(
                zip(consume, broadcast, strict=True),
                own,
                group.topology,
                start=start,
                capacity=group.capacity,
                overflow=group.overflow,
                rebroadcast=group.protocol.rebroadcast,
                batch_size=BATCH,
            )
        )
    return Played(state, jax.tree.map(np.asarray, trace), runs)


def begin(sim: Simulation) -> State:
    return sim.init(jnp.stack([jax.random.key(seed) for seed in (3, 11)]))


def assert_same(played: Played) -> None:
    """Every field of every decision, and the totals that the state keeps."""
    counts = jax.tree.map(np.asarray, played.state.counts)
    for seed, run in enumerate(played.oracles):
        for name in RoundTrace._fields:
            np.testing.assert_array_equal(getattr(played.trace, name)[:, seed], run.field(name), err_msg=name)
        np.testing.assert_array_equal(counts.consumed[seed], (run.field("sender") >= 0).sum(0))
        np.testing.assert_array_equal(counts.broadcast[seed], run.field("broadcast").sum(0))
        np.testing.assert_array_equal(counts.sent[seed], run.field("sent").sum(0))
        np.testing.assert_array_equal(counts.dropped[seed], run.field("dropped").sum(0))
        np.testing.assert_array_equal(played.state.inbox.count[seed], [len(queue) for queue in run.waiting])
        waiting = sum(len(queue) for queue in run.waiting)
        assert counts.sent[seed].sum() == counts.consumed[seed].sum() + counts.dropped[seed].sum() + waiting


@pytest.fixture(
    scope="module",
    params=[(overflow, again) for overflow in ("drop_oldest", "drop_newest") for again in (True, False)],
    ids=lambda p: f"{p[0]}-{'again' if p[1] else 'once'}",
)
def compiled(request):
    """One program for each policy."""
    overflow, rebroadcast = request.param
    group = collective(
        recorder(),
        in_turn,
        p_consume=0.4,
        p_broadcast=0.7,
        capacity=2,
        overflow=overflow,
        rebroadcast=rebroadcast,
        burn_in=5,  # only the first topology is played from round 0
        batch_size=BATCH,
    )
    shards = numbered_shards(NODES)
    return simulation(group, shards), group, shards


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_decision_is_the_oracles(name, compiled):
    sim, group, shards = compiled
    played = play(sim, group, shards, at_round(begin(sim), STRETCH * list(TOPOLOGIES).index(name)))
    assert_same(played)
    # The case must be a hard one: packets are read, dropped, and (where allowed) broadcast again.
    for run in played.oracles:
        read = run.field("sender") >= 0
        assert read.sum() > 10
        assert run.field("dropped").sum() > 5
        assert bool((read & run.field("broadcast")).any()) == group.protocol.rebroadcast
    # What each node read is what was sent: by that sender, in that round, about those rows.
    (recorded,) = played.state.nodes
    log = {k: np.moveaxis(np.asarray(recorded.model_state[k]), 2, 0) for k in ("sender", "step", "x", "less_label")}
    every = np.ones(BATCH, int)
    consumed = played.trace.sender >= 0
    np.testing.assert_array_equal(log["sender"], played.trace.sender[..., None] * every)
    np.testing.assert_array_equal(log["step"], played.trace.step[..., None] * every)
    np.testing.assert_array_equal(log["x"], np.where(consumed[..., None], played.trace.index, -1))
    # And the batch itself is those rows, with their labels where they are the node's own.
    labels = np.where(consumed[..., None], NO_LABEL, played.trace.index % 10)
    np.testing.assert_array_equal(log["less_label"], played.trace.index - labels)


def test_two_architectures_in_one_collective():
    def model(hidden):
        return supervised(
            lambda rngs: MLP((1,), 10, hidden=hidden, rngs=rngs), channels.logits(), optimizer=optax.sgd(1e-3)
        )

    group = collective(
        [(model((4,)), 2), (model((3, 2)), 3)],
        topology.full(5),
        p_consume=0.5,
        p_broadcast=0.5,
        capacity=2,
        batch_size=BATCH,
    )
    shards = numbered_shards(5)
    sim = simulation(group, shards)
    played = play(sim, group, shards, begin(sim))
    assert_same(played)
    first, second = (jax.tree.leaves(nodes.params) for nodes in played.state.nodes)
    assert sum(leaf[0, 0].size for leaf in first) == (1 * 4 + 4) + (4 * 10 + 10)
    assert sum(leaf[0, 0].size for leaf in second) == (1 * 3 + 3) + (3 * 2 + 2) + (2 * 10 + 10)
    crossed = played.oracles[0].field("sender")
    assert (crossed[:, :2] >= 2).any()
    assert ((crossed[:, 2:] >= 0) & (crossed[:, 2:] < 2)).any()
