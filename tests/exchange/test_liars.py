"""Who lies, and what they say, by their definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver import channels, topology
from palaver.exchange.description import collective
from palaver.exchange.liars import LIES, Liars, liars, lies, untruth
from palaver.exchange.shards import shards
from palaver.exchange.simulate import simulation
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import PalaverError

KEYS = jnp.stack([jax.random.key(seed) for seed in range(6)])
P = np.random.default_rng(0).dirichlet(np.ones(5), size=2000).astype(np.float32)


def told(lie, *, seed=0, node=1, step=0, p=P):
    return np.asarray(untruth(Liars(1, lie), jnp.int32(step), KEYS[seed], jnp.int32(node), jnp.asarray(p)))


def test_exactly_so_many_lie_and_others_in_other_seeds():
    one = partial(lies, liars(9, number=4), nodes=9)
    who = np.asarray(jax.vmap(lambda key: jax.vmap(lambda node: one(key, node))(jnp.arange(9)))(KEYS))
    assert who.sum(1).tolist() == [4] * 6
    assert len({tuple(row) for row in who.tolist()}) > 3


@pytest.mark.parametrize("lie", LIES)
def test_what_liars_say_is_a_distribution(lie):
    np.testing.assert_allclose(told(lie).sum(-1), 1, rtol=1e-5)


def test_flipped_is_the_least_likely_class():
    assert told("flipped").argmax(-1).tolist() == P.argmin(-1).tolist()
    assert set(told("flipped").ravel().tolist()) == {0, 1}


def test_constant_is_one_class_of_all_liars_always():
    first = told("constant")
    assert (first == first[0]).all() and first[0].sum() == 1
    np.testing.assert_array_equal(first, told("constant", node=3, step=8))
    assert len({told("constant", seed=seed)[0].argmax() for seed in range(6)}) > 1


def test_random_is_drawn_for_every_row_node_and_round():
    draws = [told("random", node=node, step=step).argmax(-1) for node, step in ((1, 0), (1, 1), (2, 0))]
    for one in draws:
        assert abs(np.bincount(one, minlength=5) / len(P) - 0.2).max() < 5 * np.sqrt(0.16 / len(P))
    for one, other in ((0, 1), (0, 2)):
        assert abs((draws[one] == draws[other]).mean() - 0.2) < 5 * np.sqrt(0.16 / len(P))


def test_mimicry_exchanges_the_two_most_likely():
    found, ranked = told("mimicry"), np.argsort(P)
    rows = np.arange(len(P))
    assert found.argmax(-1).tolist() == ranked[:, -2].tolist()
    np.testing.assert_array_equal(np.sort(found), np.sort(P))
    np.testing.assert_array_equal(found[rows, ranked[:, -1]], P[rows, ranked[:, -2]])
    np.testing.assert_array_equal(found[rows, ranked[:, 0]], P[rows, ranked[:, 0]])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"number": 5}, "liars is 5: give 0 to 4 nodes, so that one is honest"),
        ({"number": -1}, "liars is -1: give 0 to 4 nodes, so that one is honest"),
        ({"lie": "white"}, "lie is 'white': choose one of flipped, constant, random, mimicry"),
    ],
)
def test_what_is_refused(given, line):
    with pytest.raises(PalaverError) as error:
        liars(5, **given)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"gate": "twin"},
            'combine, decay, weighted, least_change and gate are for examples="reference": leave them out',
        ),
        (
            {"examples": "reference", "gate": "twin"},
            'decay, weighted, gate and liars are for combine="mean": leave them out',
        ),
        ({"liars": Liars(2)}, 'decay, weighted, gate and liars are for combine="mean": leave them out'),
        ({"liars": 2}, "liars is 2: give what palaver.exchange.liars.liars returns"),
        ({"gate": "own"}, "gate is 'own': choose one of none, twin"),
    ],
)
def test_a_collective_without_memory_has_no_gate(given, line):
    node = supervised(lambda rngs: MLP((2,), 3, hidden=(), rngs=rngs), channels.logits())
    with pytest.raises(PalaverError) as error:
        collective(node, topology.full(5), **given)
    assert str(error.value) == line


def test_the_twin_of_a_node_that_hears_nothing_is_the_node():
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(120, 2)).astype(np.float32), draws.integers(0, 3, 120)
    node = supervised(lambda rngs: MLP((2,), 3, hidden=(4,), dropout=0.2, rngs=rngs), channels.logits())
    talk = {"examples": "reference", "combine": "mean", "gate": "twin", "batch_size": 8}
    for p_consume, same in ((0.0, True), (0.5, False)):
        group = collective(node, topology.full(4), p_consume=p_consume, p_broadcast=0.5, **talk)
        sim = simulation(group, shards(x, y, 4, [0, 1], reference=0.2))
        state = sim.advance(sim.init(KEYS[:2]), 60)
        pairs = zip(jax.tree.leaves(state.nodes[0].params), jax.tree.leaves(state.twins[0].params), strict=True)
        # One program may order the same sums in another way than the other.
        assert (max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in pairs) < 1e-5) == same
