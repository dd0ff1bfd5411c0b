"""Selection rules: by hand, ties, and rates."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.teaching import selection
from palaver.types import PalaverError

SCORES = np.array([0.5, 2.0, 0.5, 3.0, 2.0, 0.0], np.float32)
NOISE = np.array([0.2, 0.4, 0.6, 0.1, 0.9, 0.8], np.float32)
SETTINGS = SimpleNamespace(select_temperature=0.5, share=0.5)
RULES = {name: entry.make(SETTINGS) for name, entry in selection.RULES.items()}


def chosen(rule, array, count):
    return np.asarray(rule(array(SCORES), array(NOISE), count)).tolist()


def test_top_takes_the_hardest_and_of_equals_the_lower_index(array):
    assert chosen(RULES["top"], array, 4) == [3, 1, 4, 0]
    assert chosen(RULES["top"], array, 6) == [3, 1, 4, 0, 2, 5]
    assert np.asarray(selection.top()(array(np.ones(5, np.float32)), array(NOISE[:5]), 3)).tolist() == [0, 1, 2]


def test_uniform_depends_on_the_noise_alone(array):
    assert chosen(RULES["uniform"], array, 3) == [4, 5, 2]


def test_a_share_is_random_and_never_one_of_the_hardest(array):
    # The two hardest; then the two with the most noise among the others 4 (0.9), 0 (0.2), 2 (0.6), 5 (0.8).
    assert chosen(RULES["top-and-random"], array, 4) == [3, 1, 4, 5]
    assert chosen(selection.top_and_random(share=0.0), array, 3) == chosen(RULES["top"], array, 3)
    assert chosen(selection.top_and_random(share=1.0), array, 3) == chosen(RULES["uniform"], array, 3)


def test_the_hardest_share_is_drawn_from_at_random(array):
    # The hardest half is 3 (0.1), 1 (0.4), 4 (0.9), with the noise in brackets.
    assert chosen(RULES["hardest"], array, 2) == [4, 1]
    assert chosen(RULES["hardest"], array, 4) == [4, 1, 0, 3]  # more than half: the four hardest
    assert chosen(selection.from_hardest(share=1.0), array, 3) == chosen(RULES["uniform"], array, 3)


def test_proportional_by_hand(array):
    # log(score) / τ − log(−log u), τ = ½
    keys = np.where(SCORES > 0, 2 * np.log(np.maximum(SCORES, 1e-9)), -1e9) - np.log(-np.log(NOISE))
    assert chosen(RULES["proportional"], array, 6) == np.argsort(-keys).tolist()
    assert chosen(RULES["proportional"], array, 6)[-1] == 5  # a score of 0 comes last, whatever its random number


@pytest.mark.parametrize("temperature", [0.01, 1.0, 50.0])
def test_proportional_never_prefers_a_score_of_zero(array, temperature):
    scores = np.array([0.0, 1e-30, -np.inf, 5.0, -2.0], np.float32)
    noise = np.array([0.9999999, 0.0001, 0.9999999, 0.0001, 0.9999999], np.float32)
    found = np.asarray(selection.proportional(temperature=temperature)(array(scores), array(noise), 3)).tolist()
    assert {*found[:2]} == {1, 3} and found[2] in (0, 2, 4)


def test_zero_and_minus_zero_are_equals(array):
    scores = np.array([-0.0, 0.0, -0.0], np.float32)
    assert np.asarray(selection.top()(array(scores), array(NOISE[:3]), 3)).tolist() == [0, 1, 2]


def test_proportional_draws_at_the_stated_rates():
    rule = selection.proportional(temperature=2.0)
    scores = jnp.array([1.0, 4.0, 9.0, 16.0])
    noise = jax.random.uniform(jax.random.key(0), (40_000, 4), minval=1e-7)
    first = np.asarray(jax.vmap(lambda u: rule(scores, u, 2))(noise))
    rates = np.bincount(first[:, 0], minlength=4) / len(first)
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4], atol=4 * np.sqrt(0.25 / len(first)))
    # Without replacement: after 3 the others keep their proportions 1 : 2 : 3.
    second = first[first[:, 0] == 3][:, 1]
    rates = np.bincount(second, minlength=4) / len(second)
    np.testing.assert_allclose(rates, [1 / 6, 1 / 3, 1 / 2, 0], atol=4 * np.sqrt(0.25 / len(second)))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_different_indices_and_jits(name):
    compiled = jax.jit(RULES[name], static_argnums=2)
    for count in (1, 3, 6):
        found = compiled(jnp.asarray(SCORES), jnp.asarray(NOISE), count).tolist()
        assert len(set(found)) == count
        assert found == chosen(RULES[name], np.asarray, count)


@pytest.mark.parametrize("name", RULES)
def test_more_than_there_are_is_refused(array, name):
    for count in (0, 7):
        with pytest.raises(PalaverError, match=f"{count} examples to choose from a stack of 6"):
            RULES[name](array(SCORES), array(NOISE), count)


def test_bad_hyper_parameters():
    with pytest.raises(PalaverError, match="temperature is 0"):
        selection.proportional(temperature=0)
    with pytest.raises(PalaverError, match=r"share is 1\.5"):
        selection.top_and_random(share=1.5)
    with pytest.raises(PalaverError, match="share is 0"):
        selection.from_hardest(share=0)
    for sizes, words in (
        ({5: 1}, r"sizes is \{5: 1\}: give \{0: n"),
        ({0: 0}, r"sizes\[0\] is 0: give at least 1"),
        ({0: 2, -1: 3}, "an update of sizes is -1: give at least 0"),
    ):
        with pytest.raises(PalaverError, match=words):
            selection.stages(sizes)


def test_stages():
    size = selection.stages({0: 20, 10: 5, 3: 7})
    assert [size(update) for update in (0, 2, 3, 9, 10, 500)] == [20, 20, 7, 7, 5, 5]
