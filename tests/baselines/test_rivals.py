"""The engine of baselines: the same nodes and draws as a collective, seeds, resumes, devices, bits, refusals."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from literal import BATCH, CLASSES, NODES, REFERENCE, SEEDS, SHARDS, group_of, keys, mlp, trained

import palaver
from palaver import channels, topology
from palaver.baselines import METHODS, bagging, ensemble, fedavg, fedmd, scarlet, ship, silent
from palaver.data import from_arrays
from palaver.exchange.description import collective
from palaver.exchange.measurements import measure
from palaver.exchange.rivals import check_rival, in_bits, rival
from palaver.exchange.simulate import simulation
from palaver.exchange.stopping import stopping
from palaver.exchange.study import Schedule, study
from palaver.models import MLP
from palaver.node import supervised
from palaver.studies.checkpoints import Checkpoints
from palaver.types import PalaverError

SETTINGS = SimpleNamespace(
    rounds=12,
    burn_in=0,
    period=4,
    digest=2,
    cache=50,
    keep_moments=False,
    peer_weight=1.0,
    outer_rate=0.7,
    outer_momentum=0.9,
)
ROUNDS = 10
every_method = pytest.mark.parametrize("name", METHODS)


def host(tree):
    def bare(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(bare, tree)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, host(one), host(other))


@cache
def run_of(name):
    """A baseline after ``ROUNDS`` rounds, and its simulation; the nodes have dropout, so that steps draw too."""
    return trained(METHODS[name](SETTINGS), ROUNDS, mlp(dropout=0.3))


def test_a_method_that_never_communicates_is_a_silent_collective():
    node = mlp(dropout=0.3)
    sim = simulation(group_of(node), SHARDS)
    quiet = sim.advance(sim.init(keys()), ROUNDS)
    state, _ = trained(silent(), ROUNDS, node)
    for field in ("key", "nodes", "position", "loss", "diverged", "round"):
        assert_equal(getattr(state, field), getattr(quiet, field))


@every_method
def test_a_run_that_goes_on_gives_the_bits_of_one_never_interrupted(name):
    whole, sim = run_of(name)
    half = sim.advance(sim.init(keys()), ROUNDS // 2)
    going_on = sim.advance(half, ROUNDS - ROUNDS // 2)
    assert_equal(whole._replace(loss=going_on.loss), going_on)  # each loss is of the rounds of its own ``advance``
    assert np.isfinite(whole.loss).all() and int(whole.round) == ROUNDS


@pytest.mark.parametrize("name", ["async-sgd", "codistillation-stale", "diloco", "fd", "scarlet", "bagging"])
def test_a_seed_among_two_gives_what_it_gives_alone(name):
    whole, _ = run_of(name)
    own = SHARDS._replace(index=SHARDS.index[1:], size=SHARDS.size[1:])
    sim = rival(METHODS[name](SETTINGS), group_of(mlp(dropout=0.3)), own, SEEDS[1:], reference=REFERENCE[1:])
    alone = sim.advance(sim.init(keys(SEEDS[1:])), ROUNDS)
    among = jax.tree.map(lambda leaf: leaf[1:] if leaf.ndim else leaf, host(whole))
    for one, other in zip(jax.tree.leaves(among), jax.tree.leaves(host(alone)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


P = mlp().parameters()
EXAMPLE, CYCLES = 5 * 32, 2  # of 4 rounds; in each of the 10 rounds' third, FedMD has had its second digest
BITS = {
    "sync-sgd": (0, ROUNDS * 2 * 32 * P * (NODES - 1) / NODES),
    "async-sgd": (0, ROUNDS * 64 * P),
    "fedavg": (0, CYCLES * 64 * P),
    "diloco": (0, CYCLES * 64 * P),
    "gossip": (0, ROUNDS * 32 * P * 2),
    "codistillation": (6 * BATCH * (NODES - 1) * EXAMPLE, 6 * 32 * CLASSES * BATCH * (NODES - 1)),
    "codistillation-stale": (0, 2 * 32 * P * (NODES - 1)),
    "fedmd": (0, 2 * 2 * BATCH * 64 * CLASSES),
    "fd": (0, CYCLES * 64 * CLASSES**2),
    "ds-fl": (0, CYCLES * 2 * BATCH * 64 * CLASSES),
}


@pytest.mark.parametrize("name", BITS)
def test_bits_are_those_of_the_formula(name):
    """Of the table of baselines, for 10 rounds; codistillation begins after a third of the 12 that are planned."""
    state, sim = run_of(name)
    sent = sim.sent(state)
    examples, payload = BITS[name]
    np.testing.assert_allclose(sent["bits.examples"], np.full((len(SEEDS), NODES), examples))
    np.testing.assert_allclose(sent["bits.payload"], np.full((len(SEEDS), NODES), payload))


@every_method
def test_as_much_is_sent_as_is_expected(name):
    """Mean over the nodes; what is cached is known only in expectation."""
    method, (state, sim) = METHODS[name](SETTINGS), run_of(name)
    sizes = check_rival(method, group_of(mlp()), SHARDS, REFERENCE)
    sizes = sizes._replace(examples=SHARDS.size.sum(1).mean())  # the seeds' shards differ in size
    expected = in_bits(method.expected(sizes, ROUNDS), method.bits(sizes), EXAMPLE)
    for what, bits in sim.sent(state).items():
        np.testing.assert_allclose(bits.mean(), expected[what], rtol=0.35 if name == "scarlet" else 1e-6)


def test_cached_examples_are_expected_to_be_sent_as_often_as_they_are():
    """Many cycles of 4 of 30 examples, against a simulation of the cache."""
    method = scarlet(period=2, rounds=1, examples=8, cache=3)
    sizes = check_rival(method, group_of(mlp()), SHARDS, REFERENCE)
    rng, rows, cycles, drawn, total = np.random.default_rng(0), REFERENCE.shape[1], 400, BATCH, 0
    made = np.full(rows, -99)
    for cycle in range(cycles):
        chosen = rng.choice(rows, drawn, replace=False)
        fresh = chosen[cycle - made[chosen] >= 3]
        made[fresh], total = cycle, total + len(fresh)
    np.testing.assert_allclose(method.expected(sizes, 2 * cycles).messages, total, rtol=0.03)


def test_pooled_shards_are_everybodys_examples():
    index, size = np.asarray(SHARDS.index), np.asarray(SHARDS.size)
    for place in range(len(SEEDS)):
        everything = np.sort(np.concatenate([index[place, i, : size[place, i]] for i in range(NODES)]))
        for make in (ensemble, ship, bagging):
            pool = make().pool(index, size, SEEDS)
            np.testing.assert_array_equal(pool.size[place], len(everything))
            rows = pool.index[place][:, : len(everything)]
            if make is bagging:
                assert set(rows.ravel()) <= set(everything) and len({tuple(row) for row in rows}) == NODES
                assert all(len(set(row)) < len(everything) for row in rows)
            else:
                np.testing.assert_array_equal(np.sort(rows), np.tile(everything, (NODES, 1)))


def test_a_bootstrap_leaves_out_a_share_of_1_over_e():
    index = np.arange(10_000).reshape(1, 2, 5000)
    pool = bagging().pool(index, np.full((1, 2), 5000), [0])
    missing = [1 - len(set(row)) / 10_000 for row in pool.index[0]]
    np.testing.assert_allclose(missing, np.exp(-1), atol=0.015)  # three standard deviations


def test_pooled_examples_are_paid_for_once():
    """A node that ships its shard sends it to all others; labels of three classes, 2 bits each, count as payload."""
    size = np.asarray(SHARDS.size)
    for name, examples in (
        ("ship", size * (NODES - 1)),
        ("ensemble", size.sum(1)[:, None]),
        ("bagging", size.sum(1)[:, None]),
    ):
        state, sim = run_of(name)
        sent = sim.sent(state)
        expected = np.broadcast_to(examples, size.shape)
        np.testing.assert_array_equal(sent["bits.examples"], expected * EXAMPLE)
        np.testing.assert_array_equal(sent["bits.payload"], expected * 2)
        assert not sent["bits.indices"].any()


def test_a_baseline_is_studied_and_saved_as_a_collective(tmp_path):
    rng = np.random.default_rng(0)
    data = from_arrays(
        rng.normal(size=(120, 5)).astype(np.float32),
        np.arange(120) % CLASSES,
        validation=0.2,
        test=0.2,
        classes=CLASSES,
    )
    group, sim = group_of(mlp(dropout=0.3)), run_of("scarlet")[1]
    run = study("scarlet", sim, measure(group, data, sim, SHARDS), SEEDS, Schedule(8, 4), stopping(group))
    run.compile()
    state, first = run.advance(run.begin())
    saved = Checkpoints(tmp_path)
    saved.save(first.step, state, {})
    whole, last = run.advance(state)
    again = saved.restore(run.begin())
    assert again.step == 4
    resumed, after = run.advance(again.state)
    assert_equal(whole, resumed)
    assert last.finished and after.frame.equals(last.frame)
    values = dict(last.frame.filter(pl.col("node").is_null(), seed=SEEDS[0]).select("metric", "value").iter_rows())
    assert values["bits.indices"] == 64 and 0 <= values["average_accuracy"] <= 1
    with pytest.raises(PalaverError, match="scarlet reads no packets: trace a collective"):
        sim.trace(state[0], 1)


@pytest.mark.parametrize("name", ["scarlet", "sync-sgd"])
def test_nodes_one_after_the_other_learn_the_same(name):
    """As convolutional nodes are computed on a CPU."""
    whole, _ = run_of(name)
    group = group_of(mlp(dropout=0.3))
    sim = rival(METHODS[name](SETTINGS), group, SHARDS, SEEDS, reference=REFERENCE, loop="map")
    state = sim.advance(sim.init(keys()), ROUNDS)
    for one, other in zip(jax.tree.leaves(host(whole)), jax.tree.leaves(host(state)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def mixed():
    kinds = [(mlp(hidden=(6,)), 2), (mlp(hidden=(4, 4)), NODES - 2)]
    return collective(kinds, topology.ring(NODES, 2), p_consume=0.0, p_broadcast=0.0, batch_size=BATCH)


@pytest.mark.parametrize("name", ["async-sgd", "diloco", "fedavg", "gossip", "sync-sgd"])
def test_nodes_of_different_kinds_are_not_averaged(name):
    method = METHODS[name](SETTINGS)
    with pytest.raises(PalaverError, match=f"{method.name} averages nodes of one kind, here are 2 groups: give one"):
        rival(method, mixed(), SHARDS, SEEDS)


@pytest.mark.parametrize("name", ["codistillation-stale", "fd", "scarlet", "ship"])
def test_nodes_of_different_kinds_learn_from_outputs(name):
    sim = rival(METHODS[name](SETTINGS), mixed(), SHARDS, SEEDS, reference=REFERENCE)
    state = sim.advance(sim.init(keys()), ROUNDS)
    assert np.isfinite(state.loss).all() and len(state.nodes) == 2
    assert sim.logits(state, SHARDS.x[:7]).shape == (len(SEEDS), NODES, 7, CLASSES)


def test_a_diverged_seed_is_flagged():
    sim = rival(fedavg(period=2), group_of(mlp()), SHARDS, SEEDS)
    state = sim.init(keys())
    (nodes,) = state.nodes
    broken = jax.tree.map(lambda leaf: leaf.at[1, 2].set(jnp.nan), nodes.params)
    state = sim.advance(state._replace(nodes=(nodes._replace(params=broken),)), 3)
    assert state.diverged.tolist() == [-1, 0]
    assert np.isfinite(state.loss[0]).all()


def other_channel(rngs):
    return MLP((5,), CLASSES, hidden=(6,), rngs=rngs)


@pytest.mark.parametrize(
    ("method", "group", "reference", "message"),
    [
        (fedmd(), group_of(mlp()), None, "fedmd needs a reference set, here is none: give some"),
        (fedmd(), group_of(mlp()), REFERENCE[:, :5], "of 5 examples for minibatches of 8: give at least 8"),
        (fedmd(), group_of(supervised(other_channel)), REFERENCE, "trains on predictions: give its nodes the channel"),
        (
            fedmd(),
            group_of(supervised(other_channel, channels.labels())),
            REFERENCE,
            "trains on predictions: give its nodes the channel",
        ),
        (fedavg(), group_of(mlp()._replace(update=None)), None, "has no gradients and update, the two halves"),
    ],
)
def test_nodes_and_data_that_do_not_suit_are_refused(method, group, reference, message):
    with pytest.raises(PalaverError, match=message):
        rival(method, group, SHARDS, SEEDS, reference=reference)


def test_a_single_node_is_refused():
    group = collective(mlp(), topology.ring(1, 0), p_consume=0.0, p_broadcast=0.0, batch_size=BATCH)
    alone = SHARDS._replace(index=SHARDS.index[:, :1], size=SHARDS.size[:, :1])
    with pytest.raises(PalaverError, match="fedavg is for nodes that work together, here is 1: give 2 or more"):
        rival(fedavg(), group, alone, SEEDS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fedavg(period=0), "period is 0: give at least 1"),
        (lambda: fedmd(period=10, rounds=10), "rounds is 10 of a cycle of 10: give 1 to 9"),
    ],
)
def test_hyper_parameters_are_checked(make, message):
    with pytest.raises(PalaverError, match=message):
        make()


def test_baselines_are_trained_from_python_as_a_collective_is():
    """Silence gives what silent nodes give; averaged nodes are all the same after a whole number of periods."""
    rng = np.random.default_rng(0)
    data = from_arrays(rng.normal(size=(120, 5)).astype(np.float32), np.arange(120) % CLASSES)
    how = {"rounds": 4, "seeds": SEEDS, "eval_every": 2}
    group = group_of(mlp())
    quiet, silence = palaver.train(group, data, **how), palaver.train(group, data, method=silent(), **how)
    np.testing.assert_array_equal(quiet.nodes, silence.nodes)
    averaged = palaver.train(group, data, method=fedavg(period=2), reference=0.1, **how)
    assert (averaged.nodes == averaged.nodes[..., :1]).all() and not (quiet.nodes == quiet.nodes[..., :1]).all()
    assert averaged.summary["metrics"]["bits.payload"]["mean"] == 2 * 64 * P
    assert f"History(2 evaluations, 2 seeds, {NODES} nodes; at round 4: average node 0." in repr(averaged)


def test_nodes_are_evaluated_at_the_end_of_a_period():
    data = from_arrays(np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32), np.arange(120) % CLASSES)
    group = group_of(mlp())
    averaged = palaver.train(group, data, method=fedavg(period=3), rounds=9, seeds=SEEDS, eval_every=4)
    assert averaged.rounds.tolist() == [6, 9] and (averaged.nodes == averaged.nodes[..., :1]).all()
    with pytest.raises(PalaverError, match=r"rounds is 10: give a multiple of fedavg's period \(3\)"):
        palaver.train(group, data, method=fedavg(period=3), rounds=10)
