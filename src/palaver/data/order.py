"""The order in which a node goes through its shard, computed where it is needed instead of stored."""

import jax
import jax.numpy as jnp

from palaver.types import Array

ROUNDS = 16
"""Of the Feistel network: each half is changed eight times. Fewer leave pairs of positions in small shards uneven."""

_GOLDEN = 0x9E3779B9


def shuffled(words: Array, position: Array, size: Array) -> Array:
    """Element ``position`` of an endless stream of shuffled passes over ``0 .. size - 1``.

    Pass ``position // size`` is a pseudo-random permutation of its own, evaluated at ``position % size``: every
    example comes once per pass, in an order drawn anew, with no permutation stored.

    The permutation is a generalised Feistel network on ``Z_a x Z_b`` with ``a = ceil(sqrt(size))`` and
    ``b = ceil(size / a)``: the two halves take turns in ``left, right = right, (left + F(right)) mod (a or b)``. A
    result outside the range is encrypted again until it is inside ("cycle-walking"). ``F`` hashes the half, the key,
    the pass and the round with MurmurHash3's 32-bit finaliser; it is not cryptographic.

    At every position each example is as likely as any other, and pairs of positions are as likely as they should be.

    All arguments broadcast against each other, and each element is computed on its own.

    >>> words = jnp.array([1, 2], jnp.uint32)
    >>> sorted(shuffled(words, jnp.arange(5, 10), jnp.int32(5)).tolist())
    [0, 1, 2, 3, 4]

    Args:
        words: ``[..., 2]`` uint32: the stream's key.
        position: ``[...]`` int32, at least 0.
        size: ``[...]`` int32, at least 1 (less is read as 1) and at most about ``10**6``.

    Returns:
        ``[...]`` int32 in ``0 .. size - 1``.

    Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains", CT-RSA (their method 3, and the
    cycle-walking of method 2).

    """
    words = jnp.asarray(words, jnp.uint32)
    position = jnp.asarray(position).astype(jnp.uint32)
    size = jnp.maximum(jnp.asarray(size), 1).astype(jnp.uint32)
    position, size, first, second = jnp.broadcast_arrays(position, size, words[..., 0], words[..., 1])
    first = _mix(first ^ _mix(position // size + jnp.uint32(_GOLDEN)))
    second = _mix(second + first)
    a = _ceil_sqrt(size)
    b = (size + a - 1) // a

    def walk(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        value, inside = carry
        value = jnp.where(inside, value, _feistel(value, a, b, first, second))
        return value, value < size

    start = position % size, jnp.zeros(size.shape, bool)
    value, _ = jax.lax.while_loop(lambda carry: ~carry[1].all(), walk, start)
    return value.astype(jnp.int32)


def _feistel(value: Array, a: Array, b: Array, first: Array, second: Array) -> Array:
    """One permutation of ``0 .. a * b - 1``; ``first`` and ``second`` hold the key and the pass."""

    def turn(number: Array, modulus: Array, left: Array, right: Array) -> tuple[Array, Array]:
        random = _mix(_mix((right + number * jnp.uint32(_GOLDEN)) ^ first) + second)
        moved = left + _below(random, modulus)
        return right, jnp.where(moved < modulus, moved, moved - modulus)

    def both(pair: Array, halves: tuple[Array, Array]) -> tuple[Array, Array]:
        number = 2 * pair.astype(jnp.uint32)
        return turn(number + 1, b, *turn(number, a, *halves))

    # A loop, not unrolled: it runs as fast and compiles in a fraction of the time.
    left, right = jax.lax.fori_loop(0, ROUNDS // 2, both, (value % a, value // a))
    return right * a + left


def _below(random: Array, limit: Array) -> Array:
    """Maps 32 random bits to ``0 .. limit - 1`` for ``limit`` below 2**16, without the slow division (Lemire 2019).

    It is the upper word of the 64-bit product ``random * limit``.
    """
    return ((random >> 16) * limit + ((random & 0xFFFF) * limit >> 16)) >> 16


def _mix(h: Array) -> Array:
    """MurmurHash3's 32-bit finaliser (Appleby 2011): a bijection in which each bit in moves each bit out."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _ceil_sqrt(n: Array) -> Array:
    """``ceil(sqrt(n))`` exactly: the float32 root, at most one off, then corrected in integers."""
    root = jnp.ceil(jnp.sqrt(n.astype(jnp.float32))).astype(jnp.uint32)
    root = jnp.where(root * root < n, root + 1, root)
    return jnp.where((root - 1) * (root - 1) >= n, root - 1, root)
