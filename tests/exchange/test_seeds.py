"""Seeds share a program and nothing else: others do not change a seed, whether they train or diverge."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver import topology
from palaver.exchange.description import Collective, collective
from palaver.exchange.presence import presence
from palaver.exchange.simulate import simulation
from palaver.exchange.state import Shards, State
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import NO_PACKET, Node, NodeState, Outputs, StepInfo

ROUNDS, NODES, BATCH, SEEDS, EXAMPLES = 20, 4, 4, 3, 60
NEVER = -1
"""``breaks`` of a node that does not diverge."""


def walker() -> Node:
    """A node of one parameter that its own data, what it receives, and noise change.

    It becomes infinite in the round that its state names.
    """

    def init(key):
        own = {"round": jnp.int32(0), "breaks": jnp.int32(NEVER)}
        return NodeState(params=jax.random.normal(key), model_state=own, opt_state=())

    def step(key, state, batch, payload, consume):
        target = jnp.where(consume, payload.mean(), batch.x.mean() + batch.labels.mean())
        at = 0.9 * state.params + 0.1 * target + 0.01 * jax.random.normal(key)
        own = state.model_state
        at = jnp.where(own["round"] == own["breaks"], jnp.inf, at)
        after = NodeState(at, {**own, "round": own["round"] + 1}, ())
        return after, StepInfo(jnp.full(BATCH, at), (at - target) ** 2)

    def predict(state, x):
        logits = state.params * x
        return Outputs(logits, logits)

    def payload(_x, labels):
        return jax.ShapeDtypeStruct(labels.shape, jnp.float32)

    def encode(state, x):
        return state.params * x[:, 0]

    return Node(
        init=init,
        step=step,
        predict=predict,
        payload=payload,
        bits=lambda _: 32,
        parameters=lambda: 1,
        encode=encode,
        decode=lambda payload: payload,
    )


def describe(**talk: Any) -> Collective:
    chances = {"p_consume": 0.5, "p_broadcast": 0.5, "capacity": 3, "batch_size": BATCH}
    return collective(walker(), topology.full(NODES), **chances, **talk)


GROUP = describe()
TALKS: dict[str, dict[str, Any]] = {
    "own": {},
    "latest": {"examples": "reference"},
    "mean": {
        "examples": "reference",
        "combine": "mean",
        "decay": 0.7,
        "least_change": 0.05,
        "half_life": 30.0,
        "presence": presence(NODES, asleep=0.2, asleep_rounds=3, slow=1, vanish=1, vanish_at=9),
    },
}


def shards() -> Shards:
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(EXAMPLES).reshape(NODES, -1) for _ in range(SEEDS)]).astype(np.int32)
    size = rng.integers(2, index.shape[2] + 1, (SEEDS, NODES)).astype(np.int32)
    x = rng.normal(size=(EXAMPLES, 2)).astype(np.float32)
    reference = np.stack([rng.permutation(EXAMPLES)[:10] for _ in range(SEEDS)]).astype(np.int32)
    return Shards(
        jnp.asarray(x),
        jnp.arange(EXAMPLES) % 3,
        jnp.asarray(index),
        jnp.asarray(size),
        labelled=jnp.asarray(size // 2),
        reference=jnp.asarray(reference),
    )


KEYS = [5, 6, 7]


def keys(numbers):
    return jnp.stack([jax.random.key(number) for number in numbers])


@pytest.fixture(scope="module")
def together():
    return simulation(GROUP, shards())


def host(tree):
    """NumPy, random keys as the numbers they hold."""

    def bare(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(bare, tree)


def of_seed(state: State, seed: int) -> State:
    """Everything that belongs to one seed."""
    return jax.tree.map(lambda leaf: leaf[seed], state._replace(round=np.array([int(state.round)] * SEEDS)))


@pytest.mark.parametrize("talk", TALKS)
def test_a_seed_among_three_gives_what_it_gives_alone(talk):
    group, data = describe(**TALKS[talk]), shards()
    together = simulation(group, data)
    whole, trace = together.trace(together.init(keys(KEYS)), ROUNDS)
    for seed in (1,):
        by_seed = {"index", "size", "labelled", "reference"}
        own = data._replace(**{name: getattr(data, name)[seed : seed + 1] for name in by_seed})
        sim = simulation(group, own)
        alone, alone_trace = sim.trace(sim.init(keys(KEYS[seed : seed + 1])), ROUNDS)
        for name, field in host(trace)._asdict().items():
            np.testing.assert_array_equal(field[:, seed], np.asarray(getattr(alone_trace, name))[:, 0], err_msg=name)
        pairs = zip(
            jax.tree.leaves_with_path(of_seed(host(whole), seed)), jax.tree.leaves(of_seed(host(alone), 0)), strict=True
        )
        for (path, among), single in pairs:
            name = jax.tree_util.keystr(path)
            if np.issubdtype(among.dtype, np.floating):
                np.testing.assert_allclose(among, single, rtol=1e-5, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(among, single, err_msg=name)
    # And the seeds are not copies of each other.
    params = np.asarray(whole.nodes[0].params)
    assert len(np.unique(params)) == SEEDS * NODES
    assert not (np.asarray(trace.broadcast)[:, 0] == np.asarray(trace.broadcast)[:, 1]).all()
    assert (np.asarray(whole.counts.consumed).sum(1) > 5).all()


def with_break(state: State, seed: int, node: int, when: int) -> State:
    (nodes,) = state.nodes
    breaks = nodes.model_state["breaks"].at[seed, node].set(when)
    return state._replace(nodes=(nodes._replace(model_state={**nodes.model_state, "breaks": breaks}),))


def test_a_seed_that_diverges_is_flagged_and_changes_no_other(together):
    when, broken = 7, 1
    fine, _ = together.trace(together.init(keys(KEYS)), ROUNDS)
    hurt, _ = together.trace(with_break(together.init(keys(KEYS)), broken, 2, when), ROUNDS)
    assert fine.diverged.tolist() == [-1, -1, -1]
    assert hurt.diverged.tolist() == [-1, when, -1]
    fine, hurt = host(fine), host(hurt)
    for seed in (0, 2):
        jax.tree.map(np.testing.assert_array_equal, of_seed(hurt, seed), of_seed(fine, seed))
    # Within the broken seed packets carry it to other nodes, but no decision changes.
    lost = ~np.isfinite(hurt.nodes[0].params[broken])
    assert lost[2]
    assert lost.sum() > 1
    np.testing.assert_array_equal(hurt.counts.consumed, fine.counts.consumed)
    np.testing.assert_array_equal(hurt.position, fine.position)


def test_the_first_broken_round_is_kept_when_a_run_goes_on(together):
    state = with_break(with_break(together.init(keys(KEYS)), 0, 0, 3), 2, 1, 25)
    state, _ = together.trace(state, ROUNDS)
    assert state.diverged.tolist() == [3, -1, -1]
    state, _ = together.trace(state, ROUNDS)
    assert state.diverged.tolist() == [3, -1, 25]
    assert int(state.round) == 2 * ROUNDS


def test_a_nodes_draws_do_not_depend_on_how_many_nodes_there_are():
    """Coins, own batches, initial parameters and dropout of the first nodes of a collective and of a larger one."""

    def dropped_out(nodes: int, p_consume: float = 0.0, p_broadcast: float = 0.5):
        node = supervised(lambda rngs: MLP((2,), 3, hidden=(8,), dropout=0.5, rngs=rngs))
        group = collective(node, topology.full(nodes), p_consume=p_consume, p_broadcast=p_broadcast, batch_size=BATCH)
        index = jnp.broadcast_to(jnp.arange(8 * nodes).reshape(nodes, 8) % EXAMPLES, (1, nodes, 8))
        data = shards()._replace(index=index, size=jnp.full((1, nodes), 8), labelled=None, reference=None)
        sim = simulation(group, data)
        return sim.trace(sim.init(keys([5])), ROUNDS)

    (few, few_trace), (many, many_trace) = (dropped_out(nodes) for nodes in (3, 7))
    for name in ("index", "broadcast"):
        few_field, many_field = (np.asarray(getattr(trace, name)) for trace in (few_trace, many_trace))
        np.testing.assert_array_equal(few_field, many_field[:, :, :3], err_msg=name)
    assert few_trace.broadcast.any()
    # Where all broadcast in every round, no inbox is empty from the second round on: a node reads whenever it wants to.
    few_reads, many_reads = (dropped_out(nodes, 0.5, 1.0)[1].sender != NO_PACKET for nodes in (3, 7))
    np.testing.assert_array_equal(few_reads, many_reads[:, :, :3])
    assert 0.2 < few_reads[1:].mean() < 0.8
    for one, other in zip(jax.tree.leaves(few.nodes[0].params), jax.tree.leaves(many.nodes[0].params), strict=True):
        np.testing.assert_allclose(one, other[:, :3], rtol=1e-5, atol=1e-6)
