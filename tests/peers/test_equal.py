"""Peers on a virtual clock make the simulation's every decision, and learn the same."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import optax
import pytest

from palaver import channels, topology
from palaver.exchange.description import Collective, collective
from palaver.exchange.liars import liars, lies, untruth
from palaver.exchange.mapping import init_nodes
from palaver.exchange.presence import presence, present
from palaver.exchange.shards import shards
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import Shards
from palaver.gate import MUTED, PROBATION, TRUSTED, Trust
from palaver.models import MLP
from palaver.node import supervised
from palaver.peers.agreement import Agreement
from palaver.peers.core import Peer
from palaver.peers.judge import Judge
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.lockstep import play
from palaver.types import NO_PEER, Channel, Outputs

ROUNDS, NODES, BATCH, CLASSES, INPUTS = 60, 6, 4, 3, 5
TOPOLOGIES = {
    "ring": topology.ring(NODES, 2),
    "random changing": topology.random_changing(NODES, 3, every=3, rounds=ROUNDS, seed=5),
    "full": topology.full(NODES),
    "star": topology.from_graph(nx.star_graph(NODES - 1)),
}
STRETCH = 1000
"""Rounds from ``i * STRETCH`` on are played on topology ``i``: so one compiled program serves all of them."""


@jax.jit
def in_turn(step):
    """Every topology of the list, by the round."""

    def padded(where):
        def table(now):
            peers = jnp.asarray(where(now))
            return jnp.pad(peers, ((0, 0), (0, NODES - 1 - peers.shape[1])), constant_values=NO_PEER)

        return table

    step = jnp.asarray(step)
    return jax.lax.switch(step // STRETCH, [padded(where) for where in TOPOLOGIES.values()], step % STRETCH)


AWAY = presence(NODES, asleep=0.2, asleep_rounds=3, slow=2, slow_every=3, vanish=1, vanish_at=30)
OWN: dict[str, dict[str, Any]] = {
    "own, oldest dropped": {"overflow": "drop_oldest", "burn_in": 5},
    "own, newest dropped": {"overflow": "drop_newest", "rebroadcast": False},
}
REFERENCE: dict[str, dict[str, Any]] = {
    "reference, oldest dropped": {"overflow": "drop_oldest", "half_life": 3000.0},
    "reference, newest dropped, what is new": {"overflow": "drop_newest", "least_change": 0.02, "presence": AWAY},
    "reference, mean": {"combine": "mean"},
    "reference, mean, weighted, what is new": {
        "combine": "mean",
        "weighted": True,
        "decay": 0.6,
        "least_change": 0.02,
        "presence": AWAY,
    },
    "reference, mean, gate": {"combine": "mean", "weighted": True, "gate": "twin"},
    "reference, mean, gate, liars": {"combine": "mean", "gate": "twin", "liars": liars(NODES, number=2, lie="random")},
}
CHANNELS = {
    "own, oldest dropped": channels.labels_logits(bits=8),
    "own, newest dropped": channels.features(),
    "reference, newest dropped, what is new": channels.logits(bits=16),
    "reference, mean, weighted, what is new": channels.logits(bits=8, top=2),
}
TALKS = OWN | {name: {"examples": "reference"} | talk for name, talk in REFERENCE.items()}


def data() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(150, INPUTS)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


class Case(NamedTuple):
    """A collective, its data, and its compiled simulation."""

    group: Collective
    parts: Shards
    channel: Channel
    sim: Simulation


@pytest.fixture(scope="module", params=TALKS)
def case(request):
    channel, talk = CHANNELS.get(request.param, channels.logits()), TALKS[request.param]
    x, y = data()
    node = supervised(lambda rngs: MLP((INPUTS,), CLASSES, hidden=(8,), rngs=rngs), channel, optimizer=optax.adam(0.01))
    group = collective(node, in_turn, p_consume=0.5, p_broadcast=0.6, capacity=2, batch_size=BATCH, **talk)
    parts = shards(x, y, NODES, [7], split="dirichlet", reference=0.1 if "examples" in talk else 0.0)
    return Case(group, parts, channel, simulation(group, parts))


@partial(jax.jit, static_argnums=0)
def calendar(there, key, steps):
    """``[rounds, N, 2]`` bool: whether each peer is awake and active."""
    one = lambda step: jax.vmap(lambda n: jnp.stack(present(there, key, n, NODES, step)))(jnp.arange(NODES))  # noqa: E731
    return jax.vmap(one)(steps)


def made(group: Collective, parts: Shards, key: jax.Array, channel: Channel) -> list[Peer]:
    """The peers of a collective, with the simulation's shards and first parameters."""
    keys, (states,) = init_nodes(group, key[None])
    x, y = np.asarray(parts.x), np.asarray(parts.y)
    agreement = Agreement(
        names=tuple(f"site-{node}" for node in range(group.nodes)),
        key=keys[0],
        topology=group.topology,
        protocol=group.protocol,
        talk=group.talk,
        capacity=group.capacity,
        overflow=group.overflow,
        channel=channel,
        classes=CLASSES,
        features=8,
        shape=x.shape[1:],
        dtype=x.dtype,
        reference=None if parts.reference is None else x[np.asarray(parts.reference[0])],
    )
    peers = []
    for node in range(group.nodes):
        rows = np.asarray(parts.index[0, node, : int(parts.size[0, node])])
        learner, twin = (
            FlaxLearner(group.groups[0][0], jax.tree.map(lambda a, node=node: jnp.array(a[0, node]), states))
            for _ in range(2)
        )
        judge = Judge(twin, group.nodes) if group.talk.gate == "twin" else None
        peers.append(Peer(agreement, node, learner, x[rows], y[rows], judge=judge))
        if lies(group.liars, keys[0], jnp.int32(node), group.nodes):
            peers[node].learner = Liar(peers[node], group)
    return peers


class Liar:
    """A learner that says what a liar of the simulation would."""

    def __init__(self, peer: Peer, group: Collective) -> None:
        self.peer, self.learner, self.group = peer, peer.learner, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def encode(self, x: np.ndarray) -> Any:
        deal, truth = self.peer.agreement, jax.nn.softmax(jnp.asarray(self.learner.predict(x).logits))
        false = np.asarray(
            untruth(self.group.liars, jnp.int32(self.peer.step), deal.key, jnp.int32(self.peer.me), truth)
        )
        sure = 100 * false  # of one class, whatever temperature it is decoded with
        payload = deal.channel.encode(Outputs(sure, sure), None)
        np.testing.assert_allclose(deal.decode()(payload), false, atol=1e-6)
        return payload


@pytest.mark.parametrize("where", TOPOLOGIES)
def test_peers_decide_and_learn_as_the_simulation_does(where, case):
    group, key, start = case.group, jax.random.key(7), STRETCH * list(TOPOLOGIES).index(where)
    peers = made(group, case.parts, key, case.channel)
    for peer in peers:
        peer.step = start
    begun = case.sim.init(key[None])._replace(round=jnp.int32(start))
    state, trace = case.sim.trace(begun, ROUNDS)
    trace = jax.tree.map(lambda a: np.asarray(a)[:, 0], trace)
    there = np.asarray(calendar(group.presence, peers[0].agreement.key, start + np.arange(ROUNDS)))
    turns = play(
        peers,
        ROUNDS,
        collective=bytes(8),
        awake=lambda node, step: there[step - start, node, 0],
        active=lambda node, step: there[step - start, node, 1],
    )
    x, active = np.asarray(case.parts.x), there[..., 1]

    def found(name, blank):
        return np.array([[blank if turn is None else getattr(turn, name) for turn in turns_of] for turns_of in turns])

    np.testing.assert_array_equal(found("sender", -1), trace.sender)
    np.testing.assert_array_equal(found("step", -1), trace.step)
    sent = np.array([[0 if turn is None else len(turn.outgoing) for turn in turns_of] for turns_of in turns])
    np.testing.assert_array_equal(sent, trace.sent)
    np.testing.assert_array_equal(sent > 0, trace.broadcast)
    counts = jax.tree.map(lambda a: np.asarray(a)[0], state.counts)
    for name in counts._fields:
        np.testing.assert_array_equal([getattr(p.counts, name) for p in peers], getattr(counts, name), name)
    np.testing.assert_array_equal([p.position for p in peers], state.position[0])
    if group.talk.examples == "own":
        np.testing.assert_array_equal(found("x", np.zeros((BATCH, INPUTS)))[active], x[trace.index][active])
        assert trace.dropped.sum() > 20
    if group.talk.gate == "twin":
        for peer in peers:
            peer.absorb()  # what came in after the last round
        for name in Trust._fields:
            ours = np.array([getattr(p.judge.trust, name) for p in peers])
            np.testing.assert_allclose(ours, getattr(state.trust[0], name)[0], atol=1e-5, rtol=0)
        assert {PROBATION, TRUSTED, MUTED} == set(np.asarray(state.trust[0].state).ravel().tolist())
    # It is a hard case: peers read, speak, and, where they may, do not.
    assert counts.consumed.sum() > (5 if group.talk.gate == "twin" else 30)
    assert counts.sent.sum() > 50
    for node, peer in enumerate(peers):
        ours = jax.tree.leaves(peer.learner.state.params)
        theirs = [leaf[0, node] for leaf in jax.tree.leaves(state.nodes[0].params)]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
