"""The computed order: exact permutations, and as even as random ones. All keys and seeds are fixed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from palaver.data.order import _below, _ceil_sqrt, shuffled

_shuffled = jax.jit(shuffled)

GOLDEN = [[5, 6, 1, 2, 0, 4, 3], [4, 1, 2, 3, 0, 6, 5], [2, 0, 3, 6, 1, 4, 5]]
"""Three passes of key (1, 2) over 7 examples: a change here changes every run."""


CHUNK = 1 << 14


def _words(*numbers):
    return jnp.array(numbers, jnp.uint32)


def _passes(words, passes, size):
    """``[passes, size]``: the first passes of one stream, one a row."""
    return _at(words, np.arange(passes * size).reshape(passes, size), size)


def _at(words, position, size):
    """``shuffled`` in chunks of one shape, so that all tests share one compilation."""
    flat = np.zeros(-(-position.size // CHUNK) * CHUNK, np.int32)
    flat[: position.size] = position.ravel()
    keys = np.zeros((flat.size, 2), np.uint32)
    keys[: position.size] = np.broadcast_to(words, (*position.shape, 2)).reshape(-1, 2)
    chunks = zip(keys.reshape(-1, CHUNK, 2), flat.reshape(-1, CHUNK), strict=True)
    out = np.concatenate([np.asarray(_shuffled(key, at, jnp.int32(size))) for key, at in chunks])
    return out[: position.size].reshape(position.shape)


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 100, 126, 450, 1257])
def test_every_pass_is_a_permutation(size):
    for words in (_words(0, 0), _words(1, 2**32 - 1)):
        order = _passes(words, 4, size)
        assert np.array_equal(np.sort(order, 1), np.tile(np.arange(size), (4, 1)))


@pytest.mark.parametrize("size", [45_000, 1_000_000])
def test_large_shards(size):
    order = _passes(_words(5, 6), 1, size)[0]
    assert np.array_equal(np.sort(order), np.arange(size))
    # Spearman's correlation with the natural order has standard deviation 1 / sqrt(size - 1) for a random one.
    assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 4 / math.sqrt(size)


def test_passes_and_keys_differ():
    order = _passes(_words(1, 2), 6, 126)
    others = [_passes(words, 1, 126)[0] for words in (_words(1, 3), _words(2, 2), _words(2, 1), _words(0, 0))]
    rows = [*order, *others]
    for i, one in enumerate(rows):
        for other in rows[:i]:
            # Two random permutations agree in Poisson(1) places: 8 or more in one of 45 pairs has probability 5e-4.
            assert (one == other).sum() < 8


def test_known_values():
    assert _passes(_words(1, 2), 3, 7).tolist() == GOLDEN


@pytest.mark.parametrize("size", [2, 3, 5, 16, 126])
def test_each_position_is_uniform_over_the_examples(size):
    draws = 10_000 if size < 100 else 2_000
    order = _passes(_words(3, 7), draws, size)
    expected = draws / size
    for position in range(size):
        counts = np.bincount(order[:, position], minlength=size)
        assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-3 / size, size - 1)


@pytest.mark.parametrize("size", [2, 3, 5, 16, 126])
def test_each_position_is_uniform_over_keys_too(size):
    draws = 10_000 if size < 100 else 2_000
    words = np.stack([np.zeros(draws), np.arange(draws)], -1).astype(np.uint32)[:, None]
    order = _at(words, np.tile(np.arange(size), (draws, 1)), size)
    expected = draws / size
    for position in range(size):
        counts = np.bincount(order[:, position], minlength=size)
        assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-3 / size, size - 1)


@pytest.mark.parametrize(("size", "tolerance"), [(2, 0.02), (3, 0.02), (5, 0.03), (16, 0.02), (126, 0.03)])
def test_either_of_two_comes_first_as_often(size, tolerance):
    draws = 10_000 if size < 100 else 4_000
    place = np.argsort(_passes(_words(8, 9), draws, size), 1)
    for first in range(min(size, 4)):
        for second in range(first + 1, min(size, 8)):
            assert (place[:, first] < place[:, second]).mean() == pytest.approx(0.5, abs=tolerance)


def test_two_positions_together_are_nearly_uniform():
    draws, size = 40_000, 16
    order = _passes(_words(4, 4), draws, size)
    counts = np.bincount(order[:, 0] * size + order[:, 1], minlength=size * size).reshape(size, size)
    assert np.trace(counts) == 0
    relative = counts[~np.eye(size, dtype=bool)] / (draws / (size * (size - 1))) - 1
    noise = size * (size - 1) / draws
    assert math.sqrt(max(0.0, (relative**2).mean() - noise)) < 0.04


def test_elementwise_jit_and_vmap_agree():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, (3, 4, 2), np.uint32)
    size = rng.integers(1, 60, (3, 4)).astype(np.int32)
    position = rng.integers(0, 10_000, (3, 4)).astype(np.int32)
    together = np.asarray(_shuffled(words, position, size))
    assert together.dtype == np.int32
    alone = [[int(_shuffled(words[i, j], position[i, j], size[i, j])) for j in range(4)] for i in range(3)]
    assert together.tolist() == alone
    assert np.asarray(shuffled(words, position, size)).tolist() == alone
    assert np.asarray(jax.vmap(jax.vmap(shuffled))(words, position, size)).tolist() == alone
    over_rows = jax.jit(jax.vmap(lambda w, p, s: shuffled(w[None], p, s[None]), in_axes=(0, None, 0)))
    column = over_rows(words[:, 0], position[0], size[:, 0])
    assert np.asarray(column).tolist() == np.asarray(_shuffled(words[:, :1], position[:1], size[:, :1])).tolist()


def test_sizes_and_positions_do_not_compile_anew():
    traced = []

    @jax.jit
    def function(words, position, size):
        traced.append(1)
        return shuffled(words, position, size)

    for size in (3, 17, 400):
        function(_words(1, 2), jnp.arange(size, size + 8), jnp.int32(size))
    assert len(traced) == 1


def test_size_zero_gives_zero_instead_of_hanging():
    assert int(_shuffled(_words(1, 2), jnp.int32(5), jnp.int32(0))) == 0


def test_integer_root_and_range_are_exact():
    n = np.unique(np.concatenate([np.arange(1, 2000), *(np.arange(2, 1100) ** 2 + d for d in (-1, 0, 1))]))
    roots = np.asarray(_ceil_sqrt(jnp.asarray(n, jnp.uint32)))
    assert roots.tolist() == [math.isqrt(int(m) - 1) + 1 for m in n]
    random = np.array([0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 123456789], np.uint32)
    for limit in (1, 2, 3, 7, 1000, 65535):
        assert _below(jnp.asarray(random), jnp.uint32(limit)).tolist() == [int(r) * limit >> 32 for r in random]
