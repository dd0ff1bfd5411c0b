"""Views: fixed masks, halves, windows, noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.language import observation
from palaver.types import PalaverError

X = jax.random.uniform(jax.random.key(0), (5, 28, 28))


def views(view, agents=3, x=X, key=1):
    fixed = view.init(jax.random.key(7), agents, x.shape[1:])
    keys = jax.random.split(jax.random.key(key), agents)
    return fixed, jax.vmap(view.see, in_axes=(0, 0, None))(keys, fixed, x)


def test_inverted_pixels_are_an_agents_own_and_stay():
    fixed, seen = views(observation.inversion(noise=0.1))
    assert fixed.shape == (3, 28, 28)
    # Binomial(784, 0.1): mean 78.4, deviation 8.4.
    np.testing.assert_array_less(np.abs(np.asarray(fixed).sum((1, 2)) - 78.4), 5 * 8.4)
    assert not (fixed[0] == fixed[1]).all()
    for agent in range(3):
        np.testing.assert_array_equal(seen[agent], np.where(fixed[agent], 1 - X, X))
    _, again = views(observation.inversion(noise=0.1), key=2)
    np.testing.assert_array_equal(seen, again)


def test_halves_alternate_and_cover_the_image():
    _, seen = views(observation.halves())
    np.testing.assert_array_equal(seen[0] + seen[1], X)
    np.testing.assert_array_equal(seen[0][:, :, :14], X[:, :, :14])
    assert (seen[0][:, :, 14:] == 0).all() and (seen[0] == seen[2]).all()
    odd = jnp.ones((2, 4, 5, 3))
    _, seen = views(observation.halves(), x=odd)
    assert seen[0][:, :, :2].all() and not seen[0][:, :, 2:].any() and seen[1][:, :, 2:].all()


def test_a_window_of_the_given_size_is_placed_anew_each_time():
    ones = jnp.ones((400, 28, 28))
    _, seen = views(observation.crops(size=0.75), agents=1, x=ones)
    rows, columns = np.asarray(seen[0]).any(2), np.asarray(seen[0]).any(1)
    assert (rows.sum(1) == 21).all() and (columns.sum(1) == 21).all()
    assert (np.asarray(seen[0]).sum((1, 2)) == 21 * 21).all()
    assert set(rows.argmax(1)) == set(range(8)) and set(columns.argmax(1)) == set(range(8))
    _, other = views(observation.crops(size=0.75), agents=1, x=ones, key=2)
    assert not (other == seen).all()
    _, whole = views(observation.crops(size=1.0))
    np.testing.assert_array_equal(whole[0], X)


def test_additive_noise_has_the_deviation():
    _, seen = views(observation.additive(deviation=0.3))
    noise = np.asarray(seen[0] - X)
    # 3,920 numbers: the deviation's own standard error is 0.3 / √7,840.
    assert abs(noise.std() - 0.3) < 5 * 0.3 / np.sqrt(2 * noise.size) and abs(noise.mean()) < 5 * 0.3 / np.sqrt(
        noise.size
    )
    _, still = views(observation.additive(deviation=0.0))
    np.testing.assert_array_equal(still[0], X)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: observation.inversion(noise=1.1), "noise is 1.1: give a number in [0, 1]"),
        (lambda: observation.inversion(noise=float("nan")), "noise is nan"),
        (lambda: observation.crops(size=0.0), "size is 0.0: give a number in (0, 1]"),
        (lambda: observation.additive(deviation=-1.0), "deviation is -1.0: give a finite number, 0 or more"),
        (lambda: observation.halves().init(jax.random.key(0), 2, (64,)), "halves of inputs of shape (64,)"),
        (lambda: observation.crops().init(jax.random.key(0), 2, (64,)), "crops of inputs of shape (64,)"),
    ],
)
def test_bad_views(make, words):
    with pytest.raises(PalaverError) as error:
        make()
    assert words in str(error.value)
