"""What an evaluation measures, against counts by hand and literal loops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import palaver as pv
from palaver.exchange.evaluate import evaluate, score
from palaver.exchange.liars import liars as describe_liars
from palaver.exchange.measurements import label_shares, of_nodes, own_accuracy
from palaver.exchange.presence import presence
from palaver.exchange.round import who_is_there, who_lies
from palaver.exchange.shards import shards
from palaver.exchange.state import Shards
from palaver.types import PalaverError

DATA = pv.data.load("digits")
SEEDS, NODES, GONE = [3, 5], 5, 2


class Fixed(NamedTuple):
    """Nodes that say the same about every example, as state and simulation in one."""

    key: jax.Array
    said: np.ndarray
    """``[S, N, C]``."""

    def logits(self, state, x):
        return jnp.broadcast_to(state.said[:, :, None], (*state.said.shape[:2], len(x), state.said.shape[2]))


def fixed(said):
    said = np.asarray(said, np.float32)
    return Fixed(jax.vmap(jax.random.key)(jnp.arange(len(said))), said)


def test_nodes_by_class_and_on_their_own_distribution_by_hand():
    y = np.array([0, 0, 0, 1])
    answers = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])  # node 0: 2 of 3 and 1 of 1; node 1: 0 of 3 and 1 of 1
    found = score(np.eye(3, dtype=np.float32)[answers][None], y, rules={})
    np.testing.assert_allclose(found.by_class, [[[2 / 3, 1, np.nan], [0, 1, np.nan]]])
    np.testing.assert_array_equal(found.nodes, [[0.75, 0.25]])
    # Node 0 has as many of class 0 as of class 1; node 1 has classes 1 and 2, and of the latter there is no example.
    own = np.array([[[0.5, 0.5, 0], [0, 0.5, 0.5]]])
    np.testing.assert_allclose(own_accuracy(found.by_class, own), [[5 / 6, 1]])
    named = of_nodes(found, own, "test_")
    assert {name: value.tolist() for name, value in named.items()} == {
        "test_average_accuracy": [0.5],
        "test_own_accuracy": pytest.approx([11 / 12]),
        "test_worst_accuracy": [0.25],
        "test_spread_accuracy": [0.25],  # 0.75 and 0.25, divided by 2 nodes
    }
    assert np.isnan(own_accuracy(found.by_class, np.array([[[0, 0, 1.0], [0, 1, 0]]]))).tolist() == [[True, False]]


def test_label_shares_count_the_labels_that_a_node_knows():
    index = jnp.array([[[0, 1, 2, 3], [4, 5, 0, 0]]])
    parts = Shards(np.zeros((6, 1)), jnp.array([2, 0, 0, 1, 1, -1]), index, jnp.array([[4, 2]]))
    np.testing.assert_array_equal(label_shares(parts, 3), [[[0.5, 0.25, 0.25], [0, 1, 0]]])
    known = parts._replace(labelled=jnp.array([[2, 2]]))
    np.testing.assert_array_equal(label_shares(known, 3), [[[0.5, 0, 0.5], [0, 1, 0]]])


def test_chunks_of_examples_make_no_difference():
    rng = np.random.default_rng(0)
    nodes = fixed(rng.normal(size=(2, 4, 3)))
    y = rng.integers(0, 3, 300)
    found = evaluate(nodes, nodes, np.zeros((300, 1), np.float32), y)
    whole = score(np.asarray(nodes.logits(nodes, y)), y)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    assert found.nodes.tolist() == (nodes.said.argmax(-1)[..., None] == y).mean(-1).tolist()


def by_percent(scores):
    assert {rule for _, rule in scores.subsets} == {pv.decision.DEFAULT_RULE}
    return {percent: of_seeds for (percent, _), of_seeds in scores.subsets.items()}


def test_subsets_decide_by_every_rule_that_is_asked_for():
    rng = np.random.default_rng(1)
    nodes = fixed(rng.normal(size=(2, 8, 3)))
    x, y = np.zeros((2000, 1), np.float32), rng.integers(0, 3, 2000)
    rules = list(pv.decision.RULES)
    found = evaluate(nodes, nodes, x, y, subsets=(25, 100), subset_rules=[*rules, "no such rule"])
    assert found.subsets.keys() == {(percent, rule) for percent in (25, 100) for rule in rules}
    for rule in rules:
        np.testing.assert_array_equal(found.subsets[100, rule], found.rules[rule])
    assert any((found.subsets[25, rule] != found.rules[rule]).any() for rule in rules)


def test_a_subset_is_a_share_of_those_that_answer_drawn_for_every_example():
    # Node 0 alone knows; the others are uniform and say class 0. So the decision is right where node 0 is asked.
    nodes = fixed(np.where(np.arange(10)[:, None] == 0, [0, 20, 0], 0)[None].repeat(2, 0))
    x, y = np.zeros((10_000, 1), np.float32), np.ones(10_000, int)
    found = by_percent(evaluate(nodes, nodes, x, y, subsets=(1, 10, 25, 50, 100)))
    for percent, asked in {1: 1, 10: 1, 25: 3, 50: 5, 100: 10}.items():
        error = 4 * np.sqrt(asked / 10 * (1 - asked / 10) / 10_000)
        assert np.abs(found[percent] - asked / 10).max() <= error
    assert found[1].tolist() == found[10].tolist()
    assert found[25][0] != found[25][1]  # each seed draws its own
    # Of four that answer, half are two, and it is two of these.
    there = np.repeat(np.arange(10) < 4, 2).reshape(10, 2).T
    half = by_percent(evaluate(nodes, nodes, x, y, subsets=(50,), answered=there))[50]
    assert np.abs(half - 0.5).max() <= 4 * np.sqrt(0.25 / 10_000)
    alone = by_percent(evaluate(nodes, nodes, x, y, subsets=(10,), answered=np.eye(2, 10, dtype=bool)))[10]
    assert alone.tolist() == [1.0, 0.0]
    assert evaluate(nodes, nodes, x, y, rules={"mean": pv.decision.mean}, subsets=(10,)).subsets == {}


def test_masks_and_percentages_are_checked():
    nodes, x, y = fixed(np.zeros((1, 2, 3))), np.zeros((4, 1), np.float32), np.zeros(4, int)
    with pytest.raises(PalaverError, match=r"^answered has shape \(2,\): give \[seeds, nodes\], \(1, 2\)$"):
        evaluate(nodes, nodes, x, y, answered=np.ones(2, bool))
    with pytest.raises(PalaverError, match="^subsets is 0"):
        evaluate(nodes, nodes, x, y, subsets=(0,))


@pytest.fixture(scope="module")
def left():
    """Five nodes by class on digits, of which two vanish before the fifth round, evaluated every two rounds."""
    learner = pv.supervised(lambda rngs: pv.models.MLP((8, 8), 10, hidden=(8,), rngs=rngs))
    group = pv.collective(
        learner, pv.topology.full(NODES), presence=presence(NODES, vanish=GONE, vanish_at=4), p_broadcast=0.5
    )
    return pv.train(group, DATA, rounds=40, seeds=SEEDS, eval_every=2, split="class", target=0.098), group


def of(history, name):
    rows = history.metrics.filter((pl.col("metric") == name) & pl.col("node").is_null()).sort("seed", "round")
    return rows["value"].to_numpy().reshape(len(SEEDS), -1)


def test_those_that_are_gone_do_not_decide(left):
    history, group = left
    # After 2 rounds all are there, after 4 the two are gone.
    assert of(history, "awake").tolist() == [[1.0] + [0.6] * 19] * 2
    logits = history.simulation.logits(history.state, DATA.x_validation)
    there = np.asarray(who_is_there(history.state, group).awake)
    for seed in range(2):
        decided = pv.decision.confidence(logits[seed][there[seed]], jnp.ones((NODES - GONE, logits.shape[2]), bool))
        right = (np.asarray(decided.argmax(-1)) == DATA.y_validation).mean()
        assert of(history, "collective_accuracy")[seed, -1] == pytest.approx(right, abs=1e-9)
    assert of(history, "average_accuracy")[:, -1].tolist() == history.nodes[-1].mean(1).tolist()


def test_the_nodes_apart_against_a_loop(left):
    history, _ = left
    parts = shards(DATA.x_train, DATA.y_train, NODES, SEEDS, split="class")
    answers = np.asarray(history.simulation.logits(history.state, DATA.x_validation)).argmax(-1)
    for seed in range(2):
        own = []
        for node in range(NODES):
            labels = DATA.y_train[np.asarray(parts.index[seed, node, : int(parts.size[seed, node])])]
            right = [answers[seed, node][DATA.y_validation == c] == c for c in labels]
            own.append(np.mean([each.mean() for each in right]))
        assert of(history, "own_accuracy")[seed, -1] == pytest.approx(np.mean(own))
    assert of(history, "worst_accuracy")[:, -1].tolist() == history.nodes[-1].min(1).tolist()
    assert of(history, "spread_accuracy")[:, -1].tolist() == history.nodes[-1].std(1).tolist()
    # By class a node is better on what it has than on everything.
    assert (of(history, "own_accuracy")[:, -1] > of(history, "average_accuracy")[:, -1] + 0.1).all()


def test_subsets_and_the_test_set_are_for_the_reported_round(left):
    history, _ = left
    full = history.metrics.filter(pl.col("metric").str.contains("^(subset|test_)"))
    assert full["round"].unique().to_list() == [40]
    assert {f"subset_accuracy.{percent}" for percent in (10, 25, 50)} < set(full["metric"])
    tested = {f"test_{name}_accuracy" for name in ("average", "own", "worst", "spread", "collective")}
    assert tested < set(full["metric"])


def test_bits_to_a_target_are_those_sent_by_then(left):
    history, _ = left
    for suffix, name in (("", "collective_accuracy"), (".average", "average_accuracy")):
        rounds, bits = [], []
        for accuracy, *parts in zip(of(history, name), *(of(history, f"bits.{part}") for part in PARTS), strict=True):
            reached = np.flatnonzero(accuracy >= 0.098)
            rounds.append(2.0 * (reached[0] + 1) if len(reached) else None)
            bits.append(float(sum(part[reached[0]] for part in parts)) if len(reached) else None)
        assert history.summary["metrics"][f"rounds_to_target{suffix}"]["values"] == rounds
        assert history.summary["metrics"][f"bits_to_target{suffix}"]["values"] == bits
        assert None not in bits and min(bits) < max(bits)


@pytest.fixture(scope="module")
def lied_to():
    """Five nodes on digits, of which two say one constant from the first round on."""
    learner = pv.supervised(lambda rngs: pv.models.MLP((8, 8), 10, hidden=(8,), rngs=rngs), pv.channels.logits())
    liars = describe_liars(NODES, number=2, lie="constant")
    talk = {"examples": "reference", "combine": "mean", "gate": "twin"}
    group = pv.collective(learner, pv.topology.full(NODES), liars=liars, p_broadcast=0.5, **talk)
    return pv.train(group, DATA, rounds=60, seeds=SEEDS, eval_every=60, reference=0.2), group


def test_liars_count_in_no_mean_and_decide_nothing(lied_to):
    history, group = lied_to
    honest = ~np.asarray(who_lies(history.state.key, group))
    assert honest.sum(1).tolist() == [NODES - 2] * 2
    logits = history.simulation.logits(history.state, DATA.x_validation)
    for seed in range(2):
        of_honest = history.nodes[-1, seed][honest[seed]]
        for name, expected in (("average", of_honest.mean()), ("worst", of_honest.min()), ("spread", of_honest.std())):
            assert of(history, f"{name}_accuracy")[seed, -1] == pytest.approx(expected, abs=1e-9)
        decided = pv.decision.confidence(logits[seed][honest[seed]], jnp.ones((NODES - 2, logits.shape[2]), bool))
        right = (np.asarray(decided.argmax(-1)) == DATA.y_validation).mean()
        assert of(history, "collective_accuracy")[seed, -1] == pytest.approx(right, abs=1e-9)


PARTS = ("examples", "indices", "payload")
