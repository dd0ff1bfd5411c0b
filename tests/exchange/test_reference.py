"""Every decision about a reference set, and all that is learnt from it, against a literal play of the same rules."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

import oracle
import reference_oracle
from palaver import gate, topology
from palaver.exchange.description import Collective, collective
from palaver.exchange.liars import liars
from palaver.exchange.mapping import node_keys, of_nodes
from palaver.exchange.presence import presence
from palaver.exchange.protocol import toss
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import RoundTrace, Shards, State
from palaver.types import NO_LABEL, NO_PEER, Node, NodeState, Outputs, StepInfo
from reference_oracle import Lesson, Rules

ROUNDS, BATCH, SEEDS, CLASSES = 40, 4, 2, 3
EXAMPLES, REFERENCE = 200, 10
"""The reference set's last block overlaps the one before it."""
NODES, KINDS = 6, (2, 4)
TOPOLOGIES = {
    "ring": topology.ring(6, 3),
    "random regular": topology.random_regular(6, 3, seed=4),
    "random changing": topology.random_changing(6, 3, every=3, rounds=ROUNDS, seed=5),
    "full": topology.full(6),
    "star": topology.from_graph(nx.star_graph(5)),
    "one way, with one that never sends": topology.from_graph([[0, 1, 1], [1, 0, 0], [0, 0, 0]]),
}
STRETCH = 1000
"""Rounds from ``i * STRETCH`` on are played on topology ``i``: so one compiled program serves all of them."""

THERE = presence(6, asleep=0.3, asleep_rounds=3, slow=2, slow_every=3, vanish=1, vanish_at=15)
TALKS: dict[str, dict[str, Any]] = {
    "latest": {"overflow": "drop_oldest"},
    "latest of what is new": {
        "overflow": "drop_newest",
        "least_change": 0.1,
        "rebroadcast": False,
        "presence": THERE,
    },
    "mean": {"combine": "mean"},
    "mean that decays": {
        "combine": "mean",
        "decay": 0.6,
        "weighted": True,
        "least_change": 0.07,
        "rebroadcast": False,
        "presence": THERE,
    },
    "mean behind a gate": {"combine": "mean", "gate": "twin", "liars": liars(6, number=1, lie="constant")},
    "mean that decays behind a gate": {
        "combine": "mean",
        "decay": 0.6,
        "weighted": True,
        "least_change": 0.07,
        "gate": "twin",
        "presence": THERE,
        "liars": liars(6, number=2, lie="mimicry"),
    },
    "mean with lies": {"combine": "mean", "liars": liars(6, number=3, lie="flipped")},
}
SLOWLY = {"latest of what is new", "mean", "mean behind a gate"}
"""Computed one node after the other."""


@jax.jit
def in_turn(step):
    """Every topology of the list, by the round; nodes beyond its own have no neighbours."""

    def padded(where):
        def table(now):
            peers = jnp.asarray(where(now))
            rows, columns = NODES - peers.shape[0], NODES - 1 - peers.shape[1]
            return jnp.pad(peers, ((0, rows), (0, columns)), constant_values=NO_PEER)

        return table

    step = jnp.asarray(step)
    return jax.lax.switch(step // STRETCH, [padded(where) for where in TOPOLOGIES.values()], step % STRETCH)


def logits_of(node, lessons, row, np=jnp):
    """``[..., C]``: what a node thinks of rows after so many training steps; it drifts."""
    classes = np.arange(CLASSES)
    return 2 * np.sin(1.7 * node + 0.4 * (row[..., None] % 16) + 0.08 * lessons * (classes + 1) + classes)


def outputs(node: int, lessons: int, row: int) -> np.ndarray:
    """The distribution that a node sends about a row, in float64."""
    p = np.exp(logits_of(node, lessons, np.array(row), np))
    return p / p.sum()


def recorder() -> Node:
    """A node that records what it trains on, and whose outputs are ``logits_of``; ``at_round`` gives it its id."""

    def init(_key: jax.Array) -> NodeState:
        log = jnp.full((ROUNDS, BATCH), -7, jnp.int32)
        received = jnp.zeros((ROUNDS, BATCH, CLASSES))
        whose = jnp.zeros(ROUNDS, bool)
        own = {"id": jnp.int32(-7), "lessons": jnp.int32(0)}
        return NodeState({}, own | {"x": log, "labels": log, "received": received, "consume": whose}, opt_state=())

    def step(_key, state, batch, received, consume):
        own = state.model_state
        now = {"x": batch.x[:, 0].astype(jnp.int32), "labels": batch.labels, "received": received, "consume": consume}
        log = {name: own[name].at[own["lessons"]].set(value) for name, value in now.items()}
        after = state._replace(model_state={"id": own["id"], "lessons": own["lessons"] + 1, **log})
        return after, StepInfo({"logits": jnp.zeros((BATCH, CLASSES))}, jnp.float32(0))

    def encode(state, x):
        own = state.model_state
        return {"logits": logits_of(own["id"], own["lessons"], x[:, 0])}

    def predict(state, x):
        own = state.model_state
        return Outputs(logits_of(own["id"], own["lessons"], x[:, 0]), x)

    def payload(x: Any, _labels: Any) -> Any:
        return {"logits": jax.ShapeDtypeStruct((x.shape[0], CLASSES), jnp.float32)}

    return Node(
        init=init,
        step=step,
        predict=predict,
        payload=payload,
        bits=lambda _: 32 * CLASSES,
        parameters=lambda: 0,
        encode=encode,
        decode=lambda sent: jax.nn.softmax(sent["logits"]),
    )


def numbered_shards(nodes: int) -> Shards:
    """Row ``i`` of the training set holds the number ``i`` and the label ``i % 10``; shards of very uneven size."""
    sizes = np.array([[1, 7, 30, 3, 4, 13], [26, 2, 4, 19, 1, 5]])
    sizes = np.tile(sizes, (1, -(-nodes // 6)))[:, :nodes]
    index = np.zeros((SEEDS, nodes, sizes.max()), np.int32)
    reference = np.zeros((SEEDS, REFERENCE), np.int32)
    for seed in range(SEEDS):
        rows = np.random.default_rng(seed).permutation(EXAMPLES)
        reference[seed], rows = rows[:REFERENCE], rows[REFERENCE:]
        for node, size in enumerate(sizes[seed]):
            index[seed, node, :size], rows = rows[:size], rows[size:]
    return Shards(
        jnp.arange(EXAMPLES, dtype=jnp.float32)[:, None],
        jnp.arange(EXAMPLES, dtype=jnp.int32) % 10,
        jnp.asarray(index),
        jnp.asarray(sizes, jnp.int32),
        labelled=jnp.asarray(-(-sizes // 2), jnp.int32),
        reference=jnp.asarray(reference),
    )


def at_round(state: State, start: int) -> State:
    """The state of recorders before round ``start``, each with its own id."""

    def named(groups: tuple[NodeState, ...]) -> tuple[NodeState, ...]:
        found, first = [], 0
        for nodes in groups:
            shape = nodes.model_state["id"].shape
            ids = jnp.broadcast_to(jnp.arange(first, first + shape[1], dtype=jnp.int32), shape)
            found.append(nodes._replace(model_state={**nodes.model_state, "id": ids}))
            first += shape[1]
        return tuple(found)

    return state._replace(round=jnp.int32(start), nodes=named(state.nodes), twins=named(state.twins))


class Played(NamedTuple):
    state: State
    trace: RoundTrace
    rounds: list[list[list[reference_oracle.Event]]]
    nodes: list[list[reference_oracle.Node]]

    def of_nodes(self, name: str) -> np.ndarray:
        """``[S, N, ...]`` of what all recorders hold by this name."""
        return np.concatenate([np.asarray(group.model_state[name]) for group in self.state.nodes], axis=1)


def play(sim: Simulation, group: Collective, shards: Shards, start: int) -> Played:
    """The simulation's trace from this round on and, for each seed, the oracle's."""
    state = at_round(sim.init(jnp.stack([jax.random.key(seed) for seed in (3, 11)])), start)
    keys, steps = state.key.copy(), start + np.arange(ROUNDS)
    state, trace = sim.trace(state, ROUNDS)
    own_keys = node_keys(keys, group.nodes)
    drawn = jax.vmap(lambda step: of_nodes(lambda key: toss(group.protocol, key, step))(own_keys))(jnp.asarray(steps))
    talk, protocol = group.talk, group.protocol
    rules = Rules(
        BATCH,
        talk.combine,
        talk.decay,
        talk.weighted,
        talk.least_change,
        protocol.rebroadcast,
        group.capacity,
        group.overflow,
        group.presence,
        talk.gate,
        group.liars,
    )
    rounds, nodes = [], []
    for seed in range(SEEDS):
        own = oracle.shards(keys[seed], np.asarray(shards.index[seed]), np.asarray(shards.labelled[seed]))
        consume, broadcast = (np.asarray(coin[:, seed]) for coin in (drawn.consume, drawn.broadcast))
        coins = list(zip(consume, broadcast & (steps >= protocol.burn_in)[:, None], strict=True))
        reference = shards.reference[seed].tolist()
        played = reference_oracle.play(keys[seed], coins, own, group.topology, reference, outputs, rules, start=start)
        rounds.append(played[0])
        nodes.append(played[1])
    return Played(state, jax.tree.map(np.asarray, trace), rounds, nodes)


def assert_same(played: Played, shards: Shards) -> None:
    """Every decision, every lesson, and all that the state keeps."""
    state, counts = played.state, jax.tree.map(np.asarray, played.state.counts)
    logs = {name: played.of_nodes(name) for name in ("lessons", "x", "labels", "received", "consume")}
    for seed in range(SEEDS):
        events = {
            name: np.array([[getattr(event, name) for event in now] for now in played.rounds[seed]])
            for name in reference_oracle.Event._fields
        }
        for name, expected in events.items():
            np.testing.assert_array_equal(getattr(played.trace, name)[:, seed], expected, err_msg=name)
        for name in ("broadcast", "sent", "dropped"):
            np.testing.assert_array_equal(getattr(counts, name)[seed], events[name].sum(0), err_msg=name)
        for number, node in enumerate(played.nodes[seed]):
            log = {name: values[seed, number] for name, values in logs.items()}
            assert log["lessons"] == len(node.lessons)
            known = set(node.own.rows)  # the labelled ones: the others may not be sent, and teach nothing
            for place, lesson in enumerate(node.lessons):
                assert_lesson({name: values[place] for name, values in log.items() if name != "lessons"}, lesson, known)
            consumed = sum(lesson.received is not None for lesson in node.lessons)
            assert counts.consumed[seed, number] == consumed
            assert state.position[seed, number] == BATCH * (len(node.lessons) - consumed)


def assert_lesson(log: dict[str, np.ndarray], lesson: Lesson, known: set[int]) -> None:
    """One training step: whose batch, which rows, their labels, and what was received about them."""
    np.testing.assert_array_equal(log["x"], lesson.rows)
    assert log["consume"] == (lesson.received is not None)
    if lesson.received is None:
        np.testing.assert_array_equal(log["labels"], [row % 10 if row in known else NO_LABEL for row in lesson.rows])
    else:
        np.testing.assert_array_equal(log["labels"], NO_LABEL)
        np.testing.assert_allclose(log["received"], lesson.received, atol=1e-5)


def assert_same_memory(played: Played, group: Collective) -> None:
    """What every node heard and said, row by row, or what waits in its inbox."""
    state, talk = played.state, group.talk
    tables = {
        "heard": [np.concatenate(part, axis=1) for part in zip(*state.heard, strict=True)],
        "said": [np.concatenate(state.said, axis=1)] if state.said else [],
    }
    trust = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *state.trust) if state.trust else None
    assert bool(tables["heard"]) == (talk.combine == "mean")
    assert bool(tables["said"]) == bool(talk.least_change)
    for seed in range(SEEDS):
        for number, node in enumerate(played.nodes[seed]):
            for place in range(REFERENCE):
                if tables["heard"]:
                    total, weight = (part[seed, number, place] for part in tables["heard"])
                    heard = node.heard[place]
                    assert (weight > 0) == bool(heard)
                    if heard:
                        np.testing.assert_allclose(total / weight, reference_oracle.mean(heard, talk.decay), atol=1e-5)
                if tables["said"]:
                    said = node.said.get(place, np.zeros(CLASSES))
                    np.testing.assert_allclose(tables["said"][0][seed, number, place], said, atol=1e-5)
            if talk.gate == "twin":
                assert_same_trust(gate.Trust(*(part[seed, number] for part in trust)), node)
            if talk.combine == "latest":
                assert state.inbox.count[seed, number] == len(node.inbox)


def assert_same_trust(trust: gate.Trust, node: reference_oracle.Node) -> None:
    for sender in range(NODES):
        opinion = node.opinions.get(sender)
        assert trust.count[sender] == (len(opinion.scores) if opinion else 0)
        assert trust.state[sender] == (getattr(gate, opinion.state) if opinion else gate.PROBATION)
        if opinion:
            np.testing.assert_allclose(trust.score[sender], opinion.mean, atol=1e-5)


def test_a_twin_learns_from_its_nodes_own_batches_alone(compiled):
    sim, group, shards = compiled
    played = play(sim, group, shards, 0)
    assert bool(played.state.twins) == (group.talk.gate == "twin")
    if not played.state.twins:
        return
    lessons, consume = (
        np.concatenate([np.asarray(twins.model_state[name]) for twins in played.state.twins], axis=1)
        for name in ("lessons", "consume")
    )
    own = [[sum(lesson.received is None for lesson in node.lessons) for node in seed] for seed in played.nodes]
    np.testing.assert_array_equal(lessons, own)
    assert not consume.any()


def test_senders_are_trusted_muted_and_pardoned(compiled):
    sim, group, shards = compiled
    if group.talk.gate == "none":
        pytest.skip("everybody is believed")
    played = play(sim, group, shards, 0)
    states = np.concatenate([np.asarray(trust.state) for trust in played.state.trust], axis=1)
    assert {gate.TRUSTED, gate.MUTED} <= set(states.ravel().tolist())


@pytest.fixture(scope="module", params=TALKS)
def compiled(request):
    """One program for each way to talk."""
    nodes = [(recorder(), count) for count in KINDS]
    chances = {"p_consume": 0.4, "p_broadcast": 0.7, "capacity": 2, "burn_in": 5}
    group = collective(nodes, in_turn, batch_size=BATCH, examples="reference", **chances, **TALKS[request.param])
    shards = numbered_shards(NODES)
    return simulation(group, shards, loop="map" if request.param in SLOWLY else "vmap"), group, shards


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_decision_is_the_oracles(name, compiled):
    sim, group, shards = compiled
    played = play(sim, group, shards, STRETCH * list(TOPOLOGIES).index(name))
    assert_same(played, shards)
    assert_same_memory(played, group)
    # The case must be a hard one: packets are read, about several blocks, and dropped where there are inboxes. Behind a
    # gate, whom few senders reach may read none.
    if group.talk.gate == "twin":
        judged = [opinion.scores for seed in played.nodes for node in seed for opinion in node.opinions.values()]
        assert sum(map(len, judged)) > 20
        return
    taught = [
        lesson for seed in played.nodes for node in seed for lesson in node.lessons if lesson.received is not None
    ]
    assert len(taught) > 10
    assert len({lesson.rows for lesson in taught}) > 2
    dropped = sum(event.dropped for seed in played.rounds for now in seed for event in now)
    assert (dropped > 4) == (group.talk.combine == "latest")


def test_nodes_that_are_away_or_have_nothing_new_make_a_difference(compiled):
    sim, group, shards = compiled
    played = play(sim, group, shards, 0)
    assert (played.of_nodes("lessons") < ROUNDS).any() == (not group.presence.whole)
    loud = play(sim, group._replace(talk=group.talk._replace(least_change=0.0)), shards, 0)
    talked = sum(event.broadcast for seed in loud.rounds for now in seed for event in now)
    assert (np.asarray(played.state.counts.broadcast).sum() < talked) == bool(group.talk.least_change)
