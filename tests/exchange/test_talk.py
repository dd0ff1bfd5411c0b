"""What packets about a reference set carry, and what they never do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from palaver import channels, topology
from palaver.exchange.description import Collective, collective
from palaver.exchange.reference import arriving, change, confidence, hear, recall
from palaver.exchange.shards import shards
from palaver.exchange.simulate import simulation
from palaver.exchange.speakers import outputs_of_speakers
from palaver.exchange.state import Heard, Shards, State
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import NO_PEER, Channel, Node, PalaverError

NODES, BATCH, CLASSES, EXAMPLES, ROUNDS = 4, 4, 3, 90, 16
RING = topology.ring(NODES, 2)
CHANNELS = {
    "labels": channels.labels(),
    "logits": channels.logits(),
    "labels+logits": channels.labels_logits(bits=4, top=2),
    "features": channels.features(),
}
TALKS = {"latest": {}, "mean of what is new": {"combine": "mean", "least_change": 1e-6}}


def learner(channel: Channel, rate: float = 0.0) -> Node:
    return supervised(lambda rngs: MLP((2,), CLASSES, hidden=(5,), rngs=rngs), channel, optimizer=optax.sgd(rate))


def describe(node: Node, **talk: Any) -> Collective:
    return collective(node, RING, p_consume=0.5, p_broadcast=0.7, capacity=3, batch_size=BATCH, **talk)


def data(*, labelled: float = 0.5) -> Shards:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(EXAMPLES, 2)).astype(np.float32), rng.integers(0, CLASSES, EXAMPLES)
    return shards(x, y, NODES, [0, 1], reference=0.2, labelled=labelled)


def with_others_secrets(own: Shards, node: int) -> Shards:
    """Other inputs and labels in one node's shards of all seeds."""
    rows = np.unique(np.concatenate([row[:n] for row, n in zip(own.index[:, node], own.size[:, node], strict=True)]))
    rows = np.setdiff1d(rows, np.asarray(own.reference))  # what one seed's shard has may be another's reference set
    assert len(rows) > 10
    return own._replace(x=own.x.at[rows].add(3.0), y=own.y.at[rows].set((own.y[rows] + 1) % CLASSES))


def packets(group: Collective, own: Shards) -> tuple[list[Any], State]:
    """For every round who broadcast, and what was on its way after it; the last state."""
    sim = simulation(group, own)
    state = sim.init(jnp.stack([jax.random.key(seed) for seed in (0, 1)]))
    sent = []
    for _ in range(ROUNDS):
        state, trace = sim.trace(state, 1)
        sent.append(jax.tree.map(np.array, (trace.broadcast[0], state.outgoing)))
    return sent, state


def payload_leaves(sent: list[Any]) -> list[np.ndarray]:
    """Everything that was sent, broadcast by broadcast."""
    return [leaf[broadcast] for broadcast, packet in sent for leaf in jax.tree.leaves(packet.payload)]


@pytest.mark.parametrize("talk", TALKS)
def test_private_inputs_and_labels_reach_a_packet_only_through_the_model(talk):
    """At a learning rate of 0 the models stay the same, whatever the nodes own: so does all that is sent."""
    group = describe(learner(CHANNELS["labels+logits"]), examples="reference", **TALKS[talk])
    own = data()
    (sent, state), (others, after) = (packets(group, each) for each in (own, with_others_secrets(own, 1)))
    for one, other in zip(payload_leaves(sent), payload_leaves(others), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(
        jax.tree.leaves((state.heard, state.said)), jax.tree.leaves((after.heard, after.said)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert np.asarray(state.counts.sent).sum() > 20
    np.testing.assert_array_equal(state.counts.sent, after.counts.sent)
    # Losses tell that these inputs and labels were trained on.
    assert (np.asarray(state.loss) != np.asarray(after.loss))[:, 1].any()


def test_the_thesis_way_does_carry_them():
    """So that the test above can fail: what is sent about own examples is another."""
    own = data(labelled=1.0)
    group = describe(learner(CHANNELS["labels"]))
    (sent, _), (others, _) = (packets(group, each) for each in (own, with_others_secrets(own, 1)))
    pairs = zip(payload_leaves(sent), payload_leaves(others), strict=True)
    assert any((one != other).any() for one, other in pairs)


@pytest.mark.parametrize("channel", ["labels+logits", "features"])
def test_packets_name_rows_of_the_reference_set_alone(channel):
    own = data()
    sent, state = packets(describe(learner(CHANNELS[channel], 0.1), examples="reference"), own)
    assert own.reference is not None
    reference = [set(rows) for rows in own.reference.tolist()]
    named: list[set[int]] = [set(), set()]
    for broadcast, packet in sent:
        for seed in range(2):
            named[seed] |= set(packet.index[seed][broadcast[seed]].ravel().tolist())
    assert named == reference
    for seed in range(2):  # and what waits to be read is about them too
        waiting = np.asarray(state.inbox.references[seed]) > 0
        assert set(np.asarray(state.packets.index)[seed][waiting].ravel().tolist()) <= reference[seed] | {0}


@pytest.mark.parametrize("examples", ["own", "reference"])
def test_a_label_that_nobody_has_is_never_sent(examples):
    group = describe(learner(CHANNELS["labels+logits"], 0.1), examples=examples)
    sent, _ = packets(group, data(labelled=0.05))
    ids = np.concatenate([packet.payload["labels"].values[broadcast] for broadcast, packet in sent])
    assert set(np.unique(ids)) == set(range(CLASSES))
    assert len(ids) > 20


def test_a_node_says_first_what_it_has_never_said():
    """However large the change must be: nothing was said before, which is as far as distributions can be."""
    group = describe(learner(CHANNELS["logits"]), examples="reference", least_change=1.0)
    _, state = packets(group, data())
    blocks = -(-18 // BATCH)
    broadcasts = np.asarray(state.counts.broadcast)
    assert (broadcasts > 1).all() and (broadcasts <= blocks).all()  # the models stay as they are: each block once


def test_the_distance_to_what_was_said_by_hand():
    said = jnp.zeros((1, 2, 5, 2)).at[0, 0, 1:4].set(jnp.array([[0.5, 0.5], [1, 0], [0.25, 0.75]]))
    now = jnp.broadcast_to(jnp.array([[0.5, 0.5], [0, 1], [0.75, 0.25]]), (1, 2, 3, 2))
    np.testing.assert_allclose(change(said, jnp.array([1]), now), [[(0 + 1 + 0.5) / 3, 1.0]])


def test_confidence_is_what_the_entropy_lacks():
    p = jnp.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(confidence(p), [0, np.log(4), np.log(2)], atol=1e-6)


def test_a_mean_with_decay_by_hand():
    heard = Heard(jnp.zeros((1, 1, 3, 1)), jnp.zeros((1, 1, 3)))
    for total, weight in ((2.0, 1.0), (0.0, 0.0), (9.0, 3.0)):  # nothing arrives in the second round
        arrived = jnp.full((1, 1, 2, 1), total), jnp.full((1, 1, 2), weight)
        heard = hear(heard, jnp.array([1]), *arrived, decay=0.5)
    mean, known = recall(heard, jnp.array([[0]]), 3)
    np.testing.assert_allclose(mean[0, 0, :, 0], [0, *[(0.5 * 2 + 9) / (0.5 + 3)] * 2])
    assert known.tolist() == [[2]]


@pytest.mark.parametrize("speakers", [0, 1, 7, 12])
@pytest.mark.parametrize("loop", ["vmap", "map"])
def test_only_speakers_outputs_are_computed_and_all_of_them(speakers, loop):
    """Also where more speak than are computed at once."""
    node, seeds, nodes = learner(CHANNELS["logits"]), 2, 6
    keys = jax.random.split(jax.random.key(0), (seeds, nodes))
    states, x = jax.vmap(jax.vmap(node.init))(keys), jax.random.normal(jax.random.key(1), (seeds, BATCH, 2))
    speaks = np.zeros(12, bool)
    speaks[np.random.default_rng(0).permutation(12)[:speakers]] = True
    found = outputs_of_speakers(node, states, x, jnp.asarray(speaks.reshape(seeds, nodes)), loop, 0.2)
    assert node.encode is not None
    every = jax.vmap(jax.vmap(node.encode, (0, None)))(states, x)
    expected = np.where(speaks.reshape(seeds, nodes, 1, 1), every, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("channel", "talk", "line"),
    [
        ("logits", {"examples": "others"}, "examples is 'others': choose one of own, reference"),
        (
            "logits",
            {"combine": "mean"},
            'combine, decay, weighted, least_change and gate are for examples="reference": leave',
        ),
        (
            "logits",
            {"examples": "reference", "decay": 0.5},
            'decay, weighted, gate and liars are for combine="mean": leave them out',
        ),
        (
            "logits",
            {"examples": "reference", "weighted": True},
            'decay, weighted, gate and liars are for combine="mean": leave them',
        ),
        ("logits", {"examples": "reference", "combine": "sum"}, "combine is 'sum': choose one of latest, mean"),
        ("logits", {"examples": "reference", "least_change": 1.5}, "least_change is 1.5: give a number in [0, 1]"),
        ("logits", {"half_life": 0}, "half_life is 0: give a finite number above 0"),
        ("logits", {"half_life": float("nan")}, "half_life is nan: give a finite number above 0"),
        (
            "none",
            {"examples": "reference", "combine": "mean"},
            "combine mean, weighted and least_change need payloads that are decoded",
        ),
        (
            "none",
            {"examples": "reference", "least_change": 0.1},
            "combine mean, weighted and least_change need payloads that are decode",
        ),
    ],
)
def test_what_is_refused(channel, talk, line):
    with pytest.raises(PalaverError) as error:
        simulation(describe(learner((CHANNELS | {"none": channels.none()})[channel]), **talk), data())
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_reference_set_that_is_not_there_or_too_small_is_refused():
    group = describe(learner(CHANNELS["logits"]), examples="reference")
    own = data()
    assert own.reference is not None
    for few, rows in ((None, 0), (own.reference[:, :3], 3)):
        with pytest.raises(
            PalaverError, match=f"^the reference set has {rows} rows: give at least batch_size, 4, as reference$"
        ):
            simulation(group, own._replace(reference=few))
    node = group.groups[0][0]._replace(encode=None)
    with pytest.raises(PalaverError, match="^a node has no encode"):
        simulation(group._replace(groups=((node, NODES),)), own)


@pytest.mark.parametrize("width", [1, 2, 8])
def test_what_arrives_is_the_sum_over_senders(width):
    nodes, rng = 9, np.random.default_rng(width)
    said, weight = rng.random((2, nodes, 5, 3), np.float32), rng.random((2, nodes, 5), np.float32)
    weight[:, 3] = 0
    to = np.array([rng.permutation(np.delete(np.arange(nodes), i))[:width] for i in range(nodes)])
    to[4:6, 0] = NO_PEER
    by_seed = np.stack([to, np.where(rng.random(to.shape) < 0.5, NO_PEER, to)])
    for neighbours in (to, by_seed):
        found = arriving(jnp.asarray(said), jnp.asarray(weight), jnp.asarray(neighbours))
        expected = np.zeros_like(said), np.zeros_like(weight)
        for seed, row in enumerate(np.broadcast_to(neighbours, by_seed.shape)):
            for sender, peers in enumerate(row):
                for peer in peers[peers != NO_PEER]:
                    expected[0][seed, peer] += said[seed, sender] * weight[seed, sender, :, None]
                    expected[1][seed, peer] += weight[seed, sender]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
