"""Means and Student-t intervals against tables and closed forms."""

import math

import pytest
from scipy import stats

from palaver.studies.statistics import interval, paired
from palaver.types import PalaverError


def test_three_seeds_by_hand():
    # s = 1, so the half-width is t(2, 0.975) / √3 = 4.302653 / 1.732051.
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["high"] - 2.0 == pytest.approx(2.484138, abs=1e-6)
    assert 2.0 - found["low"] == pytest.approx(2.484138, abs=1e-6)


def test_two_seeds_have_a_closed_form():
    # With one degree of freedom t is Cauchy: its quantile is tan(π (q − ½)), and s / √2 is half the distance.
    found = interval([0.4, 0.6], level=0.9)
    assert found["high"] - found["mean"] == pytest.approx(0.1 * math.tan(math.pi * 0.45), rel=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_agrees_with_scipy(level):
    values = [0.81, 0.84, 0.79, 0.85, 0.83]
    low, high = stats.t.interval(level, 4, loc=sum(values) / 5, scale=stats.sem(values))
    found = interval(values, level)
    assert (found["low"], found["high"]) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))


def test_one_value_has_no_interval():
    assert interval([0.7]) == {"mean": 0.7, "low": None, "high": None, "values": [0.7]}


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_a_seed_without_a_value_leaves_no_mean(lost):
    assert interval([0.7, lost, 0.8]) == {"mean": None, "low": None, "high": None, "values": [0.7, None, 0.8]}


def test_no_seed_at_all():
    assert interval([]) == {"mean": None, "low": None, "high": None, "values": []}


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_fraction(level):
    with pytest.raises(PalaverError, match=f"level is {level}: "):
        interval([1.0, 2.0], level)


def test_pairs_are_of_the_same_seed():
    one, other = interval([3.0, 4.0, 5.0]), interval([1.0, 1.0, 2.0])
    # Differences 2, 3, 3: mean 8/3, s = 1/√3, half-width 4.302653 / 3.
    found = paired(one, other, lambda a, b: a - b)
    assert found["values"] == [2.0, 3.0, 3.0]
    assert found["high"] - found["mean"] == pytest.approx(4.302653 / 3, abs=1e-6)


def test_pairs_with_a_missing_part_have_no_mean():
    ratios = paired(interval([3.0, 4.0, None]), interval([1.0, 0.0, 2.0]), lambda a, b: a / b)
    assert ratios == {"mean": None, "low": None, "high": None, "values": [3.0, None, None]}
    assert paired(None, interval([1.0]), lambda a, b: a) is None
    with pytest.raises(ValueError, match="shorter"):
        paired(interval([1.0, 2.0]), interval([1.0]), lambda a, b: a)
