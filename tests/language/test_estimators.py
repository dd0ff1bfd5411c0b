"""Gradients through symbols: how often each is drawn, and the score function against the exact gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from palaver.language import estimators, generators, information, language_game, observation
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


def test_straight_through_draws_hard_symbols_with_the_soft_ones_gradient():
    soft, through = ALL["gumbel-softmax"], ALL["straight-through"]
    symbols = through.draw(jax.random.key(3), LOGITS, 0)
    np.testing.assert_allclose(jnp.sort(symbols), [0, 0, 1], atol=1e-6)
    grads = [jax.jacobian(lambda z, own=own: own.draw(jax.random.key(3), z, 0))(LOGITS) for own in (soft, through)]
    np.testing.assert_allclose(*grads, atol=1e-6)
    assert jnp.abs(grads[0]).max() > 0.01


def test_which_estimators_need_no_gradients_from_receivers():
    assert {name: own.crosses_wire for name, own in ALL.items()} == {
        "gumbel-softmax": False,
        "straight-through": False,
        "reinforce": True,
    }
    grad = jax.grad(lambda z: (ALL["reinforce"].draw(jax.random.key(0), z, 0) * jnp.arange(3.0)).sum())(LOGITS)
    np.testing.assert_array_equal(grad, 0)


class Weighing(nnx.Module):
    """A critic without parameters: scores grow with the input and with the symbols, with later ones more."""

    def codes(self, x, s):
        ids = s.reshape(len(s), -1, 2)[..., 1]
        return 3 * x.reshape(len(x), -1)[:, :1], ids @ (1.0 + jnp.arange(ids.shape[1]))[:, None]

    def pairs(self, x, s):
        return (x * s).sum(-1)

    def table(self, x, s):
        return x @ s.T


WEIGHT, ENTROPY, COST, LENGTH = 0.3, 0.2, 0.4, 2
X = jnp.linspace(0.2, 1.0, 6).reshape(3, 2)
OBJECTIVES = {
    "jensen-shannon": information.jensen_shannon(),
    "donsker-varadhan": information.donsker_varadhan(decay=0.5),
    "info-nce": information.info_nce(),
}


def exact(params, generator, objective, memory):
    """The loss of two agents, summed over every message of two symbols; 1 receives from 0 and reports its loss.

    No message is a function of another example, so a share's expectation is over that example's message alone; the
    normaliser of Donsker and Varadhan's bound is the moving average.
    """
    messages = jax.nn.one_hot(jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    variable = isinstance(generator, generators.Recurrent)
    structure = nnx.split(generator)[0]
    total, logs, chances = 0.0, [], []
    for agent in (0, 1):
        own = nnx.merge(structure, jax.tree.map(lambda leaf: leaf[agent], params["generator"]))  # noqa: B023
        features = own.features(X)
        # [4, B, L, V]: of each message.
        logs_of = jnp.stack([jax.nn.log_softmax(own.logits(features, jnp.stack([m] * 3))) for m in messages])
        # Where the first symbol is END the second is END too, with certainty, and does not count.
        masks = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]) if variable else jnp.ones((4, 2))
        chosen = (logs_of * messages[:, None]).sum(-1) * masks[:, None]
        chance = jnp.exp(chosen.sum(-1))  # [4, B]
        if variable:
            chance = chance.at[1].set(0.0)  # END, then another symbol: impossible
        entropy = (-(jnp.exp(logs_of) * logs_of).sum(-1) * masks[:, None]).sum(-1)
        critic = Weighing()
        shares = []
        for message in messages:
            s = jnp.stack([message] * 3)
            positives, negatives = information.scores(critic, X, s, all_pairs=objective.all_pairs)
            if memory is None:
                shares.append(objective.objective(positives, negatives, jnp.float32(jnp.inf))[0])
            else:
                shares.append(positives - jnp.exp(negatives - memory).mean(0))
        share = jnp.stack(shares)
        total += (chance * (-share - ENTROPY * entropy + COST * masks.sum(-1)[:, None] * variable)).sum(0).mean()
        logs.append(chosen.sum(-1))
        chances.append(chance)
    # E over the sender's messages of −log p(s_A | x_B): the receiver's gradient, and the sender's reward.
    return total - WEIGHT * (chances[0] * logs[1]).sum(0).mean()


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_reinforce_follows_the_exact_gradient(name, variable, samples):
    """Two agents, feedback, entropy bonus and length cost, against the sum over all messages."""
    how = {"length": LENGTH, "vocabulary": 2, "hidden": (3,)}

    def generator(rngs):
        kind = partial(generators.Recurrent, variable=True) if variable else generators.AllAtOnce
        return kind((2,), **how, rngs=rngs)

    objective = OBJECTIVES[name]
    game = language_game(
        (2,),
        2,
        view=observation.inversion(noise=0.0),
        generator=generator,
        critic=lambda rngs: Weighing(),
        objective=objective,
        estimator=estimators.reinforce(entropy=ENTROPY, samples=samples),
        level="feedback",
        weight=WEIGHT,
        length_cost=COST if variable else 0.0,
    )
    state = game.init(jax.random.key(5))
    memory = None
    if name == "donsker-varadhan":
        # So much larger than a batch's own mean that the average hardly moves with what is drawn.
        memory = jnp.float32(20.0)
        state = state._replace(memory=jnp.full(2, memory))
        memory = memory + jnp.log(0.5)

    def estimated(key):
        labels = jnp.zeros(3, int)
        return jax.grad(lambda params: game.terms(key, state, params, X, labels).loss)(state.params)["generator"]

    count = 5_000
    drawn = jax.jit(lambda keys: jax.lax.map(estimated, keys, batch_size=500))(
        jax.random.split(jax.random.key(1), count)
    )
    right = jax.grad(exact)(state.params, generator(nnx.Rngs(0)), objective, memory)["generator"]
    apart, largest = [], 0.0
    for own, expected in zip(jax.tree.leaves(drawn), jax.tree.leaves(right), strict=True):
        error = np.asarray(own.std(0)) / np.sqrt(count)
        apart.append((np.abs(own.mean(0) - expected) / (error + 1e-6)).ravel())
        largest = max(largest, float(jnp.abs(expected).max()))
    assert largest > 0.05, "the exact gradient should not be zero"
    # A hundred numbers: the largest of as many standard normal ones is below 5 but once in 17,000 times.
    assert np.concatenate(apart).max() < 5, np.concatenate(apart).max()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: estimators.annealed(start=0.4), "floor is 0.5: give a number in (0, 0.4]"),
        (lambda: estimators.annealed(floor=0.0), "floor is 0.0: give a number in (0, 4.0]"),
        (lambda: estimators.annealed(decay=1.5), "decay is 1.5: give a number in (0, 1]"),
        (lambda: estimators.annealed(every=0), "at least 1 step"),
        (lambda: estimators.reinforce(entropy=-1.0), "entropy is -1.0"),
        (lambda: estimators.reinforce(samples=0), "samples is 0: give at least 1"),
        (lambda: information.donsker_varadhan(decay=1.0), "decay is 1.0"),
    ],
)
def test_bad_estimators(make, words):
    with pytest.raises(PalaverError) as error:
        make()
    assert words in str(error.value)
