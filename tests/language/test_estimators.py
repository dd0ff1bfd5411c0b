"""Gradients through symbols: how often each is drawn, and the score function against the exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from palaver.language import conversation, estimators, generators, information, observation
from palaver.types import PalaverError

LOGITS = jnp.array([1.0, 0.0, -1.0])
ALL = {
    "gumbel-softmax": estimators.gumbel_softmax(),
    "straight-through": estimators.straight_through(),
    "reinforce": estimators.reinforce(),
}
every = pytest.mark.parametrize("name", ALL)


@every
def test_symbols_are_drawn_as_often_as_they_are_likely(name):
    keys = jax.random.split(jax.random.key(0), 20_000)
    symbols = jax.vmap(lambda key: ALL[name].draw(key, LOGITS, 0))(keys)
    np.testing.assert_allclose(symbols.sum(-1), 1, atol=1e-5)
    often = np.bincount(np.asarray(symbols.argmax(-1)), minlength=3) / len(keys)
    likely = np.asarray(jax.nn.softmax(LOGITS))
    np.testing.assert_array_less(np.abs(often - likely), 5 * np.sqrt(likely * (1 - likely) / len(keys)))
    hard = np.isin(np.asarray(symbols), (0.0, 1.0)).all()
    assert hard == (name == "reinforce") or name == "straight-through"
    assert ALL[name].soft == (name == "gumbel-softmax")


def test_straight_through_says_hard_symbols_with_the_soft_ones_gradient():
    soft, through = ALL["gumbel-softmax"], ALL["straight-through"]
    said = through.draw(jax.random.key(3), LOGITS, 0)
    np.testing.assert_allclose(jnp.sort(said), [0, 0, 1], atol=1e-6)
    slopes = [jax.jacobian(lambda z, own=own: own.draw(jax.random.key(3), z, 0))(LOGITS) for own in (soft, through)]
    np.testing.assert_allclose(*slopes, atol=1e-6)
    assert jnp.abs(slopes[0]).max() > 0.01


def test_who_can_learn_over_a_wire():
    assert {name: own.crosses_wire for name, own in ALL.items()} == {
        "gumbel-softmax": False,
        "straight-through": False,
        "reinforce": True,
    }
    slope = jax.grad(lambda z: (ALL["reinforce"].draw(jax.random.key(0), z, 0) * jnp.arange(3.0)).sum())(LOGITS)
    np.testing.assert_array_equal(slope, 0)


class Weighing(nnx.Module):
    """A critic without anything to learn: a score of 3 x s for symbol 1, 0 for symbol 0."""

    def codes(self, x, s):
        return 3 * x.reshape(len(x), -1)[:, :1], s.reshape(len(s), -1)[:, 1:2]

    def pairs(self, x, s):
        return (x * s).sum(-1)

    def table(self, x, s):
        return x @ s.T


@pytest.mark.parametrize("samples", [1, 4])
def test_reinforce_follows_the_exact_gradient(samples):
    x = jnp.linspace(0.2, 1.0, 12).reshape(6, 2)
    language = conversation(
        (2,),
        2,
        agents=1,
        view=observation.inversion(noise=0.0),
        generator=lambda rngs: generators.AllAtOnce((2,), length=1, vocabulary=2, hidden=(8,), rngs=rngs),
        critic=lambda rngs: Weighing(),
        estimator=estimators.reinforce(entropy=0.0, samples=samples),
    )
    group = language.init(jax.random.key(5))
    labels = jnp.zeros(6, int)

    def exact(params):
        """E over both symbols of log σ(T(x, s)) + log σ(−T(x', s)), by hand; x' is the neighbour's."""
        heads = params["generator"]["heads"]
        features = language.speak(group._replace(params=params), x).features[0]
        chance = jax.nn.softmax(features @ heads["kernel"][0] + heads["bias"][0])
        own, other = 3 * x[:, 0], 3 * jnp.roll(x[:, 0], 1)
        worth = [jax.nn.log_sigmoid(v * own) + jax.nn.log_sigmoid(-v * other) for v in (0, 1)]
        return -(chance * jnp.stack(worth, -1)).sum(-1).mean()

    def estimated(key):
        return jax.grad(lambda params: language.terms(key, group, params, x, labels).loss)(group.params)["generator"]

    count = 4000
    drawn = jax.jit(jax.vmap(estimated))(jax.random.split(jax.random.key(1), count))
    told = jax.grad(exact)(group.params)["generator"]
    largest = 0.0
    for own, expected in zip(jax.tree.leaves(drawn), jax.tree.leaves(told), strict=True):
        error = np.asarray(own.std(0)) / np.sqrt(count)
        np.testing.assert_array_less(np.abs(own.mean(0) - expected), 5 * error + 1e-6)
        largest = max(largest, float(jnp.abs(expected).max()), 0.0)
    assert largest > 0.02, "the exact gradient should not be zero"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: estimators.annealed(start=0.4), "temperatures from 0.4 to 0.5"),
        (lambda: estimators.annealed(floor=0.0), "give both above 0"),
        (lambda: estimators.annealed(decay=1.5), "decay 1.5 every 100 steps"),
        (lambda: estimators.annealed(every=0), "at least 1 step"),
        (lambda: estimators.reinforce(entropy=-1.0), "entropy -1.0"),
        (lambda: estimators.reinforce(samples=0), "0 samples"),
        (lambda: information.donsker_varadhan(decay=1.0), "decay is 1.0"),
    ],
)
def test_bad_estimators(make, words):
    with pytest.raises(PalaverError) as error:
        make()
    assert words in str(error.value)
