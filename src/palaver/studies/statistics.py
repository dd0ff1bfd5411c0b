"""Means over seeds and how far they can be trusted, by scipy.stats."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from scipy import stats

from palaver.types import PalaverError


class Interval(TypedDict):
    """What a result file holds for one metric of one configuration."""

    mean: float | None
    low: float | None
    high: float | None
    values: list[float | None]


def interval(values: Sequence[float | None], level: float = 0.95) -> Interval:
    """The mean over seeds and its two-sided Student-t interval.

    ``mean ± t(n − 1, (1 + level) / 2) · s / √n`` with ``s`` the sample's standard deviation.

    One value has no interval. Where any seed has no value (null, NaN or infinite: it never reached the target, or it
    diverged) there is no mean either: a mean over only those seeds that got there would be too good.

    Args:
        values: one number per seed, or None.
        level: the interval's coverage, above 0 and below 1.

    Returns:
        ``mean``, ``low`` and ``high`` (None as above) and ``values`` with every missing one as None.

    Raises:
        PalaverError: if ``level`` is not between 0 and 1.

    >>> interval([1.0, 2.0, 3.0])["mean"]
    2.0
    >>> interval([0.5, None])
    {'mean': None, 'low': None, 'high': None, 'values': [0.5, None]}

    """
    if not 0 < level < 1:
        raise PalaverError(f"level is {level}: give the interval's coverage, above 0 and below 1, such as 0.95")
    kept = [float(value) if value is not None and math.isfinite(value) else None for value in values]
    known = [value for value in kept if value is not None]
    if not known or len(known) < len(kept):
        return {"mean": None, "low": None, "high": None, "values": kept}
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return {"mean": mean, "low": None, "high": None, "values": kept}
    half = float(stats.t.ppf((1 + level) / 2, len(known) - 1) * stats.sem(known))
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": kept}


def paired(
    one: Mapping[str, Any] | None, other: Mapping[str, Any] | None, combine: Callable[[float, float], float]
) -> Interval | None:
    """The interval of ``combine(a, b)`` over seeds, for the values ``a`` and ``b`` of the same seed in two metrics.

    >>> paired(interval([3.0, 4.0]), interval([1.0, 1.0]), lambda a, b: a - b)["mean"]
    2.5

    Args:
        one: a metric with one value per seed, as from ``interval``; None: missing.
        other: another, with as many values.
        combine: a function of the two values of a seed.

    Returns:
        The 95 % interval; None where a metric is missing. A seed without one of the two values, or whose combination
        divides by 0, has no value.

    """
    if one is None or other is None:
        return None

    def value(a: float | None, b: float | None) -> float | None:
        try:
            return None if a is None or b is None else combine(a, b)
        except ZeroDivisionError:
            return None

    return interval([value(a, b) for a, b in zip(one["values"], other["values"], strict=True)])
