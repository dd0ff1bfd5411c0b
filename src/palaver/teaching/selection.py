"""Which examples of a full stack train the student (thesis §3.2.3.3), and rules that suit larger stacks.

A rule takes scores ``[K]`` (higher is harder), uniform random numbers ``[K]`` in (0, 1) and a count m, and returns m
different indices; with the same numbers every library chooses the same examples. A rule that is not random ignores the
random numbers. Among equal scores the lower index comes first. A rule raises ``PalaverError`` if m is not in 1 to K.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
from array_api_compat import is_jax_array

from palaver.arguments import count, instance, number, shown
from palaver.teaching.arrays import Array, namespace
from palaver.types import PalaverError

Selection: TypeAlias = Callable[[Array, Array, int], Array]
"""``rule(scores [K], uniforms [K], count) -> indices [count]``."""


def _check(count: int, size: int) -> None:
    if not 0 < count <= size:
        raise PalaverError(f"{count} examples to choose from a stack of {size}: give 1 to {size}")


def _highest(keys: Array, count: int) -> Array:
    """Indices of the highest keys, in descending order; of equal keys the lower index comes first."""
    _check(count, keys.shape[0])
    if is_jax_array(keys):
        return jax.lax.top_k(keys + 0.0, count)[1]  # as a stable sort orders (0.0 turns −0 into 0), at much less cost
    return namespace(keys).argsort(keys, descending=True, stable=True)[:count]


def _draw(pool: Array, uniforms: Array, count: int) -> Array:
    """Draws ``count`` of the indices in ``pool`` by the uniform numbers of all examples."""
    xp = namespace(pool, uniforms)
    return xp.take(pool, _highest(xp.take(uniforms, pool, axis=0), count), axis=0)


def top() -> Selection:
    """The m hardest, in descending order of difficulty (thesis §3.2.3.3).

    >>> import numpy as np
    >>> top()(np.array([0.5, 2.0, 0.5, 3.0]), np.zeros(4), 3).tolist()
    [3, 1, 0]

    Returns:
        A rule ``(scores [K], uniforms [K], m) -> indices [m]``, which raises ``PalaverError`` unless m is in 1 to K.

    """
    return lambda scores, uniforms, count: _highest(scores, count)


def uniform() -> Selection:
    """Draws m at random, each set of m with the same probability: random selection, a baseline of Table 3.1.

    >>> import numpy as np
    >>> uniform()(np.array([0.5, 2.0, 3.0]), np.array([0.6, 0.9, 0.1]), 2).tolist()
    [1, 0]

    Returns:
        A rule ``(scores [K], uniforms [K], m) -> indices [m]`` that does not use the scores; it raises
        ``PalaverError`` unless m is in 1 to K.

    """
    return lambda scores, uniforms, count: _highest(uniforms, count)


def proportional(*, temperature: float = 1.0) -> Selection:
    """Draws m one after the other without replacement, each with probability ``∝ score^(1/τ)``.

    The m highest of ``log(score)/τ + g``, with g standard Gumbel, are such a draw (Efraimidis & Spirakis 2006; Kool et
    al. 2019). A score of 0 or less is drawn only when no positive score is left.

    Args:
        temperature: τ above 0; as τ goes to 0 the rule approaches ``top``, as τ grows ``uniform``.

    Returns:
        A rule ``(scores [K], uniforms [K], m) -> indices [m]``, which raises ``PalaverError`` unless m is in 1 to K.

    Raises:
        PalaverError: τ is not above 0.

    """
    temperature = number("temperature", temperature, "(0, inf)")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        xp = namespace(scores, uniforms)
        gumbel = -xp.log(-xp.log(uniforms))
        log = xp.log(xp.clip(scores, min=xp.finfo(scores.dtype).smallest_normal))
        # The key of a positive score is above −90/τ − 3, and a Gumbel number is below 18.
        keys = xp.where(scores > 0, log / temperature, xp.full_like(log, -100 / temperature - 100))
        return _highest(keys + gumbel, count)

    return rule


def top_and_random(*, share: float = 0.25) -> Selection:
    """The hardest examples, and a share of m drawn at random from the others; not in the thesis.

    >>> import numpy as np
    >>> rule = top_and_random(share=0.5)
    >>> rule(np.array([0.5, 2.0, 1.0, 3.0]), np.array([0.6, 0.2, 0.9, 0.1]), 2).tolist()
    [3, 2]

    Args:
        share: of the m examples that are drawn at random, in [0, 1]; rounded to whole examples.

    Returns:
        A rule ``(scores [K], uniforms [K], m) -> indices [m]``, which raises ``PalaverError`` unless m is in 1 to K.

    Raises:
        PalaverError: the share is outside [0, 1].

    """
    share = number("share", share, "[0, 1]")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        xp = namespace(scores, uniforms)
        _check(count, scores.shape[0])
        hard = count - round(share * count)
        order = _highest(scores, scores.shape[0])
        if hard == count:
            return order[:hard]
        return xp.concat([order[:hard], _draw(order[hard:], uniforms, count - hard)])

    return rule


def from_hardest(*, share: float = 0.1) -> Selection:
    """Draws m at random from the hardest share of the stack, or from the m hardest if these are more.

    In a large stack ``top`` chooses the same few outliers again and again; this rule draws from more of the hard
    examples. It is not in the thesis.

    >>> import numpy as np
    >>> rule = from_hardest(share=0.75)
    >>> rule(np.array([0.5, 2.0, 1.0, 3.0]), np.array([0.6, 0.2, 0.9, 0.1]), 1).tolist()
    [2]

    Args:
        share: of the stack, in (0, 1]; rounded to whole examples.

    Returns:
        A rule ``(scores [K], uniforms [K], m) -> indices [m]``, which raises ``PalaverError`` unless m is in 1 to K.

    Raises:
        PalaverError: the share is outside (0, 1].

    """
    share = number("share", share, "(0, 1]")

    def rule(scores: Array, uniforms: Array, count: int) -> Array:
        _check(count, scores.shape[0])
        return _draw(_highest(scores, max(count, round(share * scores.shape[0]))), uniforms, count)

    return rule


class RuleEntry(NamedTuple):
    """How a selection rule is made from settings, and what it needs."""

    make: Callable[[Any], Selection]
    """Of settings with ``select_temperature`` and ``share``."""
    needs_scores: bool = True
    """Whether it uses the scores; without them neither student nor teacher predicts the stack."""


RULES = {
    "top": RuleEntry(lambda settings: top()),
    "uniform": RuleEntry(lambda settings: uniform(), needs_scores=False),
    "proportional": RuleEntry(lambda settings: proportional(temperature=settings.select_temperature)),
    "top-and-random": RuleEntry(lambda settings: top_and_random(share=settings.share)),
    "hardest": RuleEntry(lambda settings: from_hardest(share=settings.share)),
}
"""Every rule by its name, with what it needs; add your own before settings name it."""


def stages(sizes: Any) -> Callable[[int], int]:
    """The size of a stack that grows or shrinks: a function of the update, counted from 0.

    >>> size = stages({0: 20, 1000: 5})
    >>> size(999), size(1000)
    (20, 5)

    Args:
        sizes: a mapping: minibatches n by the first update that uses them.

    Returns:
        ``size(update) -> n``, as ``TeacherStack`` takes it.

    Raises:
        PalaverError: there is no size for update 0, an update is negative, or a size is below 1.

    """
    remedy = "{0: n, update: n, ...}, the size n from each update on"
    instance("sizes", sizes, Mapping, remedy)
    if 0 not in sizes:
        raise PalaverError(f"sizes is {shown(sizes)}: give {remedy}")
    steps = sorted((count("an update of sizes", at, least=0), count(f"sizes[{at}]", n)) for at, n in sizes.items())
    return lambda update: next(size for at, size in reversed(steps) if at <= update)
