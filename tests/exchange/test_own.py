"""What nodes train on, and how well they know their own examples, against the trace and a loop over nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from palaver import channels, topology
from palaver.data import load
from palaver.data.dataset import Dataset
from palaver.exchange import measurements
from palaver.exchange.description import collective
from palaver.exchange.measurements import measure
from palaver.exchange.presence import presence
from palaver.exchange.shards import shards
from palaver.exchange.simulate import simulation
from palaver.models import MLP
from palaver.node import supervised

SEEDS, ROUNDS, BATCH = (0, 3), 40, 8


def digits() -> Dataset:
    return load("digits")


def two_kinds(channel, counts=(3, 2), **how):
    """Two kinds of nodes, so that each has its own program."""
    groups = [
        (supervised(lambda rngs, w=w: MLP((8, 8), 10, hidden=(w,), rngs=rngs), channel, optimizer=optax.adam(0.01)), n)
        for w, n in zip((8, 12), counts, strict=True)
    ]
    return collective(groups, topology.full(sum(counts)), batch_size=BATCH, **how)


def keys():
    return jnp.stack([jax.random.key(seed) for seed in SEEDS])


@pytest.mark.parametrize("rebroadcast", [True, False])
def test_the_own_share_is_that_of_the_rows_in_the_trace(rebroadcast):
    data = digits()
    away = presence(5, asleep=0.3, asleep_rounds=2, slow=2, slow_every=3)
    group = two_kinds(channels.labels(), rebroadcast=rebroadcast, presence=away)
    parts = shards(data.x_train, data.y_train, 5, SEEDS, fraction=0.5)
    sim = simulation(group, parts)
    state, trace = sim.trace(sim.init(keys()), ROUNDS)
    index, counts = np.asarray(trace.index), sim.sent(state)
    trained = np.asarray(state.counts.consumed) * BATCH + np.asarray(state.position)
    before, last = sim.init(keys()), np.zeros((2, 5))
    own = np.zeros((2, 5))
    for step in range(ROUNDS):
        after, _ = sim.trace(before, 1)
        moved = np.asarray(after.position) + np.asarray(after.counts.consumed) * BATCH
        active = moved > last
        before, last = after, moved
        for seed in range(2):
            for node in range(5):
                shard = set(np.asarray(parts.index)[seed, node, : int(parts.size[seed, node])].tolist())
                own[seed, node] += active[seed, node] * sum(row in shard for row in index[step, seed, node].tolist())
    np.testing.assert_array_equal(state.own, own)
    np.testing.assert_allclose(counts["own_share"], own / trained)
    if not rebroadcast:  # nothing comes back
        np.testing.assert_array_equal(own, state.position)
    else:
        assert (own > np.asarray(state.position)).any()


def test_nobody_counts_where_no_own_examples_are_sent():
    data = digits()
    for how in ({"examples": "reference"}, {"p_consume": 0.0, "p_broadcast": 0.0}):
        sim = simulation(
            two_kinds(channels.logits(), **how),
            shards(data.x_train, data.y_train, 5, SEEDS, reference=0.1),
        )
        state = sim.advance(sim.init(keys()), 5)
        assert "own_share" not in sim.sent(state)
        assert not np.asarray(state.own).any()


@pytest.mark.parametrize("labelled", [1.0, 0.3])
def test_local_loss_and_accuracy_are_those_of_a_loop_over_nodes(labelled):
    data, group = digits(), two_kinds(channels.logits())
    parts = shards(data.x_train, data.y_train, 5, SEEDS, split="dirichlet", alpha=0.3, labelled=labelled)
    sim = simulation(group, parts)
    state = sim.advance(sim.init(keys()), 30)
    found = measure(group, data, sim, parts).take(state, (), True).collective
    loss, right = np.zeros((2, 5)), np.zeros((2, 5))
    for seed in range(2):
        for node in range(5):
            known = int((parts.size if parts.labelled is None else parts.labelled)[seed, node])
            rows = np.asarray(parts.index)[seed, node, :known]
            logits = np.asarray(sim.logits(state, data.x_train[rows]))[seed, node]
            y = data.y_train[rows]
            loss[seed, node] = (np.logaddexp.reduce(logits, -1) - logits[np.arange(known), y]).mean()
            right[seed, node] = (logits.argmax(-1) == y).mean()
    np.testing.assert_allclose(found["local_loss"], loss.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found["local_accuracy"], right.mean(1), rtol=1e-6)
    assert (
        not {"local_loss", "local_accuracy"} & measure(group, data, sim, parts).take(state, (), False).collective.keys()
    )


def test_the_own_examples_are_drawn_from_all_classes_of_a_shard(monkeypatch):
    """Of a shard that has one class after the other, the first examples would be of one class alone."""
    data, group = digits(), two_kinds(channels.none(), (1, 1), p_consume=0.0, p_broadcast=0.0)
    parts = shards(data.x_train, data.y_train, 2, SEEDS, split="dirichlet", alpha=10.0)
    sim = simulation(group, parts)
    state = sim.advance(sim.init(keys()), 60)
    found = {}
    for most in (60, 10_000):
        monkeypatch.setattr(measurements, "_OWN", most)
        found[most] = measure(group, data, sim, parts).take(state, (), True).collective["local_accuracy"]
    first = np.asarray(parts.index)[:, :, :60]
    classes = [len(np.unique(data.y_train[rows])) for rows in first.reshape(-1, 60)]
    assert max(classes) <= 3, "the shard is not in the order of its classes: this test shows nothing"
    np.testing.assert_allclose(found[60], found[10_000], atol=0.12)


def test_with_calibrated_subsets_of_the_nodes_decide_on_the_test_set_by_every_rule():
    data, group = digits(), two_kinds(channels.none(), p_consume=0.0, p_broadcast=0.0)
    parts = shards(data.x_train, data.y_train, 5, SEEDS)
    sim = simulation(group, parts)
    state = sim.advance(sim.init(keys()), 20)
    found = measure(group, data, sim, parts, calibrated=True).take(state, (), True).collective
    names = [f"{percent}{end}" for percent in (10, 25, 50) for end in ("", ".majority", ".mean", ".product")]
    for name in names:
        assert found[f"test_subset_accuracy.{name}"].shape == found[f"test_calibrated_subset_accuracy.{name}"].shape
    # One of five is a node alone; which one is drawn.
    np.testing.assert_allclose(found["test_subset_accuracy.10"], found["test_average_accuracy"], atol=0.06)
    np.testing.assert_array_equal(found["test_subset_accuracy.10"], found["test_subset_accuracy.10.mean"])
    assert (found["test_subset_accuracy.50"] > found["test_subset_accuracy.10"]).all()
    assert not any("test_subset" in name for name in measure(group, data, sim, parts).take(state, (), True).collective)
