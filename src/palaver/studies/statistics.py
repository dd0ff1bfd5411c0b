"""Means over seeds and how far they can be trusted, by scipy.stats."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np
from scipy import special

Support: TypeAlias = Literal["real", "positive", "fraction", "correlation"]
"""Which values a quantity can have: any; those of at least 0 (counts, seconds, bits); in [0, 1] (accuracies); or in
[-1, 1].
"""

COVERAGE = 0.95
"""Of every interval."""

ROUNDED = 1e-6
"""How far float32 may be beyond the end of a range."""

FEWEST = 3
"""Seeds that an interval needs: two values say too little about how far a third would be."""


class Interval(TypedDict):
    """What a result file holds for one metric of one configuration."""

    mean: float | None
    low: float | None
    high: float | None
    values: list[float | None]


class _Scale(NamedTuple):
    """A transformation of a support's inner values to all numbers."""

    low: float
    high: float
    to: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]
    """Of ``back``, as a function of the value."""


_SCALES: dict[Support, _Scale] = {
    "real": _Scale(-math.inf, math.inf, float, float, lambda m: 1.0),
    "positive": _Scale(0, math.inf, np.log, np.exp, lambda m: m),
    "fraction": _Scale(0, 1, special.logit, special.expit, lambda m: m * (1 - m)),
    "correlation": _Scale(-1, 1, np.arctanh, np.tanh, lambda m: 1 - m**2),
}


def interval(values: Sequence[float | None], support: Support = "real") -> Interval:
    """The mean over seeds and a two-sided 95 % interval that holds no value the quantity cannot have.

    With ``m`` the mean, ``s`` the sample's standard deviation and ``h = t(n − 1, 0.975) · s / √n``, the interval is
    Student's ``m ± h`` of a real quantity. Of others it is taken on a scale without ends, by the delta method around
    the mean: ``log m ± h / m`` of a positive quantity, ``logit m ± h / (m (1 − m))`` of a fraction,
    ``artanh m ± h / (1 − m²)`` of a correlation; its ends are transformed back.

    Fewer than three values have no interval. Where any seed has no value (null, NaN or infinite: it never reached the
    target, or it diverged) there is no mean either: a mean over only those seeds that got there would be too good.

    Args:
        values: one number per seed, or None.
        support: which values the quantity can have. Where one of the values is not among them, the interval is that
            of a real quantity.

    Returns:
        ``mean``, ``low`` and ``high`` (None as above) and ``values`` with every missing one as None. Of equal values
        the interval is the mean itself.

    >>> interval([1.0, 2.0, 3.0])["mean"]
    2.0
    >>> [round(interval([0.98, 0.99, 1.0], "fraction")[end], 3) for end in ("low", "mean", "high")]
    [0.89, 0.99, 0.999]
    >>> interval([0.5, None])
    {'mean': None, 'low': None, 'high': None, 'values': [0.5, None]}

    """
    kept = [float(value) if value is not None and math.isfinite(value) else None for value in values]
    known = [value for value in kept if value is not None]
    none: Interval = {"mean": None, "low": None, "high": None, "values": kept}
    if not known or len(known) < len(kept):
        return none
    try:
        mean = math.fsum(known) / len(known)
    except OverflowError:  # finite values whose sum is not: they have diverged all but in name
        return none
    low, high = (None, None) if len(known) < FEWEST else _ends(mean, known, support)
    return {"mean": mean, "low": low, "high": high, "values": kept}


def _ends(mean: float, values: Sequence[float], support: Support) -> tuple[float, float] | tuple[None, None]:
    """The interval's ends; None where they are too far for a float."""
    scale = _SCALES[support]
    if min(values) < scale.low - ROUNDED or max(values) > scale.high + ROUNDED:
        scale = _SCALES["real"]
    values = [min(max(value, scale.low), scale.high) for value in values]
    with np.errstate(over="ignore"):
        error = np.std(values, ddof=1) / math.sqrt(len(values))
    half, slope = special.stdtrit(len(values) - 1, (1 + COVERAGE) / 2) * error, scale.slope(mean)
    if min(values) == max(values) or slope == 0:  # the latter: all values next to an end, the mean rounded to it
        return mean, mean
    middle, half = scale.to(mean), half / slope
    low, high = min(float(scale.back(middle - half)), mean), max(float(scale.back(middle + half)), mean)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def paired(
    one: Mapping[str, Any] | None,
    other: Mapping[str, Any] | None,
    combine: Callable[[float, float], float],
    support: Support = "real",
) -> Interval | None:
    """The interval of ``combine(a, b)`` over seeds, for the values ``a`` and ``b`` of the same seed in two metrics.

    >>> paired(interval([3.0, 4.0]), interval([1.0, 1.0]), lambda a, b: a - b)["mean"]
    2.5

    Args:
        one: a metric with one value per seed, as from ``interval``; None: missing.
        other: another, with as many values.
        combine: a function of the two values of a seed.
        support: of what ``combine`` gives: "real" of a difference, "positive" of a ratio of positive numbers.

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

    return interval([value(a, b) for a, b in zip(one["values"], other["values"], strict=True)], support)
