"""Codistillation and federated distillation beside literal loops that sum the gradients of two losses."""

import jax
import numpy as np
import pytest
from literal import BATCH, CLASSES, NODES, REFERENCE, SEEDS, Run, assert_same, mlp, params, trained
from scipy.special import softmax

from palaver.baselines import codistillation, dsfl, fd, fedmd, scarlet, stale_codistillation

ROUNDS, BURN_IN, WEIGHT = 9, 3, 0.7


def runs(node, loop):
    found = [Run(place, node, alike=False) for place in range(len(SEEDS))]
    for run in found:
        for run.round in range(ROUNDS):
            loop(run)
    return found


def step_on_both(run, i, batch, peers, weight):
    """One step on ``CE(y) + weight · CE(peers)``, from two backward passes."""
    own, other = run.gradients(i, batch), run.gradients(i, batch, peers)
    run.update(i, own._replace(grads=jax.tree.map(lambda a, b: a + weight * b, own.grads, other.grads)))


@pytest.mark.parametrize("period", [None, 4])
def test_codistillation_adds_the_cross_entropy_with_the_mean_of_the_peers(period):
    node, teachers = mlp(), {}

    def loop(run):
        batches, learns = [run.batch(i) for i in range(NODES)], run.round >= BURN_IN
        if learns and (period is None or (run.round - BURN_IN) % period == 0):
            teachers[run.place] = list(run.states)
        students = run.states
        run.states = teachers.get(run.place, students)
        said = [[softmax(run.predict(j, batch.x), -1) for j in range(NODES)] for batch in batches]
        run.states = list(students)
        for i, batch in enumerate(batches):
            if learns:
                peers = np.mean([said[i][j] for j in range(NODES) if j != i], axis=0)
                step_on_both(run, i, batch, peers, WEIGHT)
            else:
                run.step(i, batch)

    settings = {"weight": WEIGHT, "burn_in": BURN_IN}
    method = codistillation(**settings) if period is None else stale_codistillation(**settings, period=period)
    state, sim = trained(method, ROUNDS, node)
    assert_same(state, runs(node, loop))
    talks, others, example = ROUNDS - BURN_IN, NODES - 1, 5 * 32
    sent = sim.sent(state)
    if period is None:
        np.testing.assert_array_equal(sent["bits.examples"], talks * BATCH * others * example)
        np.testing.assert_array_equal(sent["bits.payload"], talks * 32 * CLASSES * BATCH * others)
    else:  # in rounds 3 and 7
        np.testing.assert_array_equal(sent["bits.payload"], 2 * 32 * node.parameters() * others)
        assert not sent["bits.examples"].any()


def test_federated_distillation_adds_the_cross_entropy_with_the_peers_mean_logits_of_the_class():
    """Classes that no other node has told of have the label in place of the peers."""
    node, period, told, heard, missing = mlp(), 3, {}, {}, set()

    def loop(run):
        tables = told.setdefault(run.place, [{} for _ in range(NODES)])
        for i in range(NODES):
            batch = run.batch(i)
            for y, logits in zip(batch.labels, run.predict(i, batch.x), strict=True):
                tables[i].setdefault(int(y), []).append(logits)
            if run.place not in heard:
                run.step(i, batch)
                continue
            said = [
                [heard[run.place][j][int(y)] for j in range(NODES) if j != i and int(y) in heard[run.place][j]]
                for y in batch.labels
            ]
            missing.update((run.place, i) for peers in said if not peers)
            rows = [
                softmax(np.mean(peers, axis=0)) if peers else np.eye(CLASSES)[y]
                for peers, y in zip(said, batch.labels, strict=True)
            ]
            step_on_both(run, i, batch, np.float32(rows), WEIGHT)
        if (run.round + 1) % period == 0:
            heard[run.place] = [{y: np.mean(rows, axis=0) for y, rows in table.items()} for table in tables]
            told[run.place] = [{} for _ in range(NODES)]

    state, sim = trained(fd(period=period, weight=WEIGHT), ROUNDS, node)
    assert_same(state, runs(node, loop))
    np.testing.assert_array_equal(sim.sent(state)["bits.payload"], 3 * 64 * CLASSES**2)


def mean_of_scores(said):
    return softmax(np.mean(said, axis=0), -1)


def sharpened(said):
    return softmax(softmax(said, -1).mean(0) / 0.1, -1)


def squared(said):
    mean = softmax(said, -1).mean(0) ** 2
    return mean / mean.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("make", "consensus", "begin", "first"),
    [(fedmd, mean_of_scores, 0, 1), (dsfl, sharpened, 2, 0), (scarlet, squared, 2, 0)],
)
def test_a_digest_trains_on_the_consensus_about_public_examples(make, consensus, begin, first):
    """Cycles of 4 rounds, of which 2 are trained on a minibatch each of the public set; the rest on own data.

    Of the 30 public examples at most 16 are drawn in a cycle, so that with a cache some of them are not sent again.
    """
    node, period, digest, drawn, cached, sent = mlp(), 4, 2, {}, {}, {}
    cache = {"cache": 2} if make is scarlet else {}

    def loop(run):
        cycle, phase = divmod(run.round, period)
        phase -= begin
        if cycle < first or not 0 <= phase < digest:
            for i in range(NODES):
                run.step(i, run.batch(i))
            return
        known = cached.setdefault(run.place, {})
        if phase == 0:
            drawn[run.place] = rows = np.asarray(public_rows(run, cycle, digest * BATCH))
            said = np.stack([run.predict(i, run.of(rows).x) for i in range(NODES)])
            for row, target in zip(rows, consensus(said), strict=True):
                made = known.get(int(row), (-99, None))[0]
                if cycle - made >= cache.get("cache", 1):
                    known[int(row)] = cycle, target
                    sent[run.place] = sent.get(run.place, 0) + 1
        rows = drawn[run.place][phase * BATCH : (phase + 1) * BATCH]
        for i in range(NODES):
            run.step(i, run.of(rows), np.float32([known[int(row)][1] for row in rows]))

    state, sim = trained(make(period=period, rounds=digest, examples=16, **cache), ROUNDS, node)
    found = runs(node, loop)
    assert_same(state, found)
    np.testing.assert_array_equal(state.position, [run.position for run in found])
    bits = sim.sent(state)
    expected = np.array([[sent[place]] * NODES for place in range(len(SEEDS))])
    np.testing.assert_array_equal(bits["bits.payload"], expected * 64 * CLASSES)
    cycles = 2  # FedMD's first cycle has no digest, and of the third of the others only round 8 is there
    np.testing.assert_array_equal(bits["bits.indices"], np.full((len(SEEDS), NODES), cycles * 32))
    assert (expected < cycles * 16).all() if cache else (expected == cycles * 16).all()


def public_rows(run, cycle, count):
    """The rows of the reference set that all nodes draw in a cycle: none twice."""
    from palaver.data.order import shuffled

    words = jax.random.bits(jax.random.fold_in(run.key, cycle), (2,))
    rows = REFERENCE[run.place][shuffled(words, np.arange(count), np.int32(REFERENCE.shape[1]))]
    assert len(set(rows.tolist())) == count
    return rows


def test_a_digest_longer_than_its_examples_goes_through_them_again():
    """16 examples are two minibatches; four rounds of digest send no more than two do."""
    state, sim = trained(dsfl(period=6, rounds=4, examples=16), 6, mlp())
    np.testing.assert_array_equal(sim.sent(state)["bits.payload"], 16 * 64 * CLASSES)
    np.testing.assert_array_equal(state.position, 2 * BATCH)
    assert np.isfinite(params(state)).all()
