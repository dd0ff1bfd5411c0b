"""A mean over seeds and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from scipy.special import stdtrit

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
    diverged) there is no mean either: a mean over only those seeds that got there would flatter.

    Args:
        values: one number a seed, or None.
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
    count = len(known)
    mean = math.fsum(known) / count
    if count == 1:
        return {"mean": mean, "low": None, "high": None, "values": kept}
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    # The quantile of scipy.stats.t, without that package's slow import.
    half = float(stdtrit(count - 1, (1 + level) / 2)) * deviation / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": kept}
