"""Which examples of a full stack train the student (thesis §3.2.3.3), and rules that make larger stacks pay.

A rule takes scores ``[K]`` (higher is harder), uniform random numbers ``[K]`` in (0, 1) and a count m, and returns m
different indices; with the same numbers every library chooses the same examples. Where no coin is needed the random
numbers are ignored. Among equal scores the first come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from array_api_compat import is_jax_array

from palaver.teaching.arrays import namespace
from palaver.types import PalaverError

Array: TypeAlias = Any
Selection: TypeAlias = Callable[[Array, Array, int], Array]
"""``rule(scores, uniforms, count) -> indices``."""


def _check(count: int, size: int) -> None:
    if not 0 < count <= size:
        raise PalaverError(f"{count} examples to choose from a stack of {size}: give 1 to {size}")


def _highest(keys: Array, count: int) -> Array:
    """Indices of the highest keys, the highest first, the first of equals first."""
    _check(count, keys.shape[0])
    if is_jax_array(keys):
        return jax.lax.top_k(keys + 0.0, count)[1]  # the same order (−0 made 0); much cheaper than a sort
    return namespace(keys).argsort(keys, descending=True, stable=True)[:count]


def top() -> Selection:
    """The m hardest, as in the thesis."""
    return lambda scores, uniforms, count: _highest(scores, count)


def uniform() -> Selection:
    """Any m, each set as likely as another: the thesis's baseline of random selection."""
    return lambda scores, uniforms, count: _highest(uniforms, count)


def proportional(*, temperature: float = 1.0) -> Selection:
    """Draws m one after the other without replacement, each with probability ``∝ score^(1/τ)``.

    Drawn at once: the m highest of ``log(score)/τ + g`` with g standard Gumbel (Efraimidis & Spirakis 2006; Kool et
    al. 2019). A score of 0 or less is drawn only when no other is left.

    Args:
        temperature: τ above 0; towards 0 it becomes ``top``, with τ large ``uniform``.

    Raises:
        PalaverError: τ is not above 0.

    """
    if not 0 < temperature < math.inf:
        raise PalaverError(f"temperature is {temperature}: give a number above 0")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        xp = namespace(scores, uniforms)
        gumbel = -xp.log(-xp.log(uniforms))
        log = xp.log(xp.clip(scores, min=xp.finfo(scores.dtype).smallest_normal))
        # No positive score comes below −90/τ − 3, and a Gumbel number is below 18.
        keys = xp.where(scores > 0, log / temperature, xp.full_like(log, -100 / temperature - 100))
        return _highest(keys + gumbel, count)

    return rule


def top_and_random(*, share: float = 0.25) -> Selection:
    """The hardest, and a share of m drawn at random from all the others (rounded to whole examples).

    Args:
        share: of the m examples that are random, in [0, 1].

    Raises:
        PalaverError: the share is outside [0, 1].

    """
    if not 0 <= share <= 1:
        raise PalaverError(f"share is {share}: give a fraction in [0, 1]")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        xp = namespace(scores, uniforms)
        _check(count, scores.shape[0])
        hard = count - round(share * count)
        order = _highest(scores, scores.shape[0])
        rest = order[hard:]
        if hard == count:
            return order[:hard]
        drawn = _highest(xp.take(uniforms, rest, axis=0), count - hard)
        return xp.concat([order[:hard], xp.take(rest, drawn, axis=0)])

    return rule


def from_hardest(*, share: float = 0.1) -> Selection:
    """Draws m at random from the hardest share of the stack, or from the m hardest if these are more.

    ``top`` of a large stack is the same few outliers again and again; this draws from more of the hard ones.

    Args:
        share: of the stack, in (0, 1].

    Raises:
        PalaverError: the share is outside (0, 1].

    """
    if not 0 < share <= 1:
        raise PalaverError(f"share is {share}: give a fraction in (0, 1]")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        xp = namespace(scores, uniforms)
        _check(count, scores.shape[0])
        pool = _highest(scores, max(count, round(share * scores.shape[0])))
        return xp.take(pool, _highest(xp.take(uniforms, pool, axis=0), count), axis=0)

    return rule


def stages(sizes: dict[int, int]) -> Callable[[int], int]:
    """A stack that grows or shrinks: ``{0: 20, 1000: 5}`` holds 20 minibatches, from update 1,000 on 5.

    Args:
        sizes: minibatches n by the update (counted from 0) from which they hold.

    Raises:
        PalaverError: nothing holds from update 0, or an update is negative or a size below 1.

    """
    if 0 not in sizes or any(at < 0 or size < 1 for at, size in sizes.items()):
        raise PalaverError(
            f"stages are {sizes}: give {{0: n, update: n, ...}} with updates of 0 or more and n at least 1"
        )
    steps = sorted(sizes.items())
    return lambda update: next(size for at, size in reversed(steps) if at <= update)
