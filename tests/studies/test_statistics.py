"""Means and intervals against tables and closed forms."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palaver.exchange.report import metrics as collective
from palaver.language.report import metrics as language
from palaver.studies.findings import support_of
from palaver.studies.formats import count, human_bits, percent, points
from palaver.studies.statistics import interval, paired
from palaver.teaching.report import metrics as teaching

T2 = 4.302653
"""Student's t with two degrees of freedom at 0.975, from tables."""


def ends(values, support="real"):
    found = interval(values, support)
    return found["low"], found["mean"], found["high"]


def test_three_seeds_by_hand():
    # s = 1, so the half-width is 4.302653 / 1.732051.
    assert ends([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484138, 2.0, 2 + 2.484138), abs=1e-6)


def test_a_positive_quantity_by_hand():
    # h / m = 2.484138 / 2 on the logarithm's scale: a factor of e^1.242069 = 3.462771 down and up.
    assert ends([1.0, 2.0, 3.0], "positive") == pytest.approx((2 / 3.462771, 2.0, 2 * 3.462771), abs=1e-5)
    assert ends([1000.0, 2000.0, 3000.0], "positive")[0] == pytest.approx(577.572, abs=1e-2)


def test_a_fraction_by_hand():
    # The case: m = 0.85, s = 0.18, h = 0.447143; h / (0.85 · 0.15) = 3.507001, logit m = 1.734601.
    low, mean, high = ends([0.67, 0.85, 1.03 - 1e-12], "real")
    assert high > 1.29
    low, mean, high = ends([0.65, 0.90, 1.0], "fraction")
    h = T2 * math.sqrt((0.2**2 + 0.05**2 + 0.15**2) / 2) / math.sqrt(3)
    logit = math.log(0.85 / 0.15)
    expected = [1 / (1 + math.exp(-(logit + sign * h / (0.85 * 0.15)))) for sign in (-1, 0, 1)]
    assert (low, mean, high) == pytest.approx(expected, abs=1e-6)
    assert 0.14 < low < 0.15 and high < 0.996


def test_a_correlation_by_hand():
    h = T2 * 0.1 / math.sqrt(3)
    expected = [math.tanh(math.atanh(0.8) + sign * h / (1 - 0.64)) for sign in (-1, 0, 1)]
    assert ends([0.7, 0.8, 0.9], "correlation") == pytest.approx(expected, abs=1e-6)


def test_of_a_small_spread_all_scales_agree():
    values = [0.501, 0.500, 0.499, 0.5005, 0.4995]
    low, high = stats.t.interval(0.95, 4, loc=0.5, scale=stats.sem(values))
    for support in ("real", "positive", "fraction", "correlation"):
        assert ends(values, support) == pytest.approx((low, 0.5, high), abs=3e-6), support


@pytest.mark.parametrize(
    ("support", "values"),
    [("positive", [0.0] * 3), ("fraction", [0.0] * 3), ("fraction", [1.0] * 4), ("correlation", [-1.0] * 3),
     ("real", [0.7] * 3), ("positive", [0.1] * 3), ("fraction", [0.3] * 5)],
)  # fmt: skip
def test_equal_values_and_those_at_the_border_are_their_own_interval(support, values):
    assert ends(values, support) == (interval(values)["mean"],) * 3
    assert interval(values)["mean"] == pytest.approx(values[0], rel=1e-15)


@pytest.mark.parametrize(
    ("support", "values", "low", "high"),
    [
        ("fraction", [1.0, 1.0, 0.999], 0.97, 1),
        ("fraction", [0.0, 0.0, 1e-9], 0, 1e-7),
        ("fraction", [1.0, 1.0, 1 - 2**-53], 1 - 1e-15, 1),  # the mean is rounded to 1
        ("fraction", [0.0, 1.0, 0.0], 0, 1),
        ("positive", [0.0, 0.0, 5.0], 0, 5 / 3 * math.exp(T2) + 1e-4),
        ("positive", [0.0, 5e-324, 0.0], 0, 1e-320),
        ("correlation", [-1.0, -1.0, -0.999], -1, -0.97),
    ],
)
def test_values_next_to_the_border_stay_inside(support, values, low, high):
    found = ends(values, support)
    assert low <= found[0] <= found[1] <= found[2] <= high


RANGES = {"positive": (0, 1e100), "fraction": (0, 1), "correlation": (-1, 1), "real": (-1e100, 1e100)}


@pytest.mark.parametrize("support", RANGES)
def test_no_interval_leaves_the_range_or_its_mean(support):
    low, high = RANGES[support]

    @settings(deadline=None)
    @given(st.lists(st.floats(low, high), min_size=3, max_size=6))
    def check(values):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = interval(values, support)
        assert found["low"] <= found["mean"] <= found["high"]
        if support != "real":
            bottom, top = (low, math.inf) if support == "positive" else (low, high)
            assert bottom <= found["low"] and found["high"] <= top

    check()


@pytest.mark.parametrize(("support", "median"), [("positive", 1.0), ("fraction", 0.5)])
def test_it_covers_what_it_says(support, median):
    """Of 2,000 samples of five lognormal or uniform numbers, about 95 % of the intervals hold the true mean."""
    random = np.random.default_rng(0)
    samples = random.lognormal(0, 0.3, (2000, 5)) if support == "positive" else random.random((2000, 5))
    truth = math.exp(0.045) if support == "positive" else 0.5
    held = [low <= truth <= high for low, _, high in (ends(row.tolist(), support) for row in samples)]
    assert 0.93 < np.mean(held) < 0.97


def test_values_the_quantity_cannot_have_are_taken_as_they_are():
    assert ends([-1.0, 2.0, 3.0], "positive") == ends([-1.0, 2.0, 3.0])
    assert ends([0.5, 0.9, 1.1], "fraction") == ends([0.5, 0.9, 1.1])


@pytest.mark.parametrize("values", [[0.7], [0.4, 0.6]])
def test_one_or_two_values_have_no_interval(values):
    assert interval(values, "fraction") == {"mean": np.mean(values), "low": None, "high": None, "values": values}


def test_what_a_float_cannot_hold_has_no_mean_or_no_interval():
    assert interval([1e308] * 3) == {"mean": None, "low": None, "high": None, "values": [1e308] * 3}
    assert interval([1e308, -1e308, 0.0]) == {"mean": 0.0, "low": None, "high": None, "values": [1e308, -1e308, 0.0]}


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_a_seed_without_a_value_leaves_no_mean(lost):
    assert interval([0.7, lost, 0.8]) == {"mean": None, "low": None, "high": None, "values": [0.7, None, 0.8]}


def test_no_seed_at_all():
    assert interval([]) == {"mean": None, "low": None, "high": None, "values": []}


def test_pairs_are_of_the_same_seed():
    one, other = interval([3.0, 4.0, 5.0]), interval([1.0, 1.0, 2.0])
    # Differences 2, 3, 3: mean 8/3, s = 1/√3, half-width 4.302653 / 3.
    found = paired(one, other, lambda a, b: a - b)
    assert found["values"] == [2.0, 3.0, 3.0]
    assert found["high"] - found["mean"] == pytest.approx(T2 / 3, abs=1e-6)
    # Ratios 3, 4, 2.5: m = 3.166667, s = 0.763763, h / m = 0.599146.
    found = paired(one, other, lambda a, b: a / b, "positive")
    assert (found["low"], found["high"]) == pytest.approx((1.739388, 5.765119), abs=1e-5)


def test_pairs_with_a_missing_part_have_no_mean():
    ratios = paired(interval([3.0, 4.0, None]), interval([1.0, 0.0, 2.0]), lambda a, b: a / b)
    assert ratios == {"mean": None, "low": None, "high": None, "values": [3.0, None, None]}
    assert paired(None, interval([1.0]), lambda a, b: a) is None
    with pytest.raises(ValueError, match="shorter"):
        paired(interval([1.0, 2.0]), interval([1.0]), lambda a, b: a)


def test_every_metric_declares_what_it_can_be():
    supports = {percent: "fraction", human_bits: "positive", count: "positive", points: "real"}
    tables = (collective.METRICS, teaching.METRICS, teaching.COSTS, teaching.TEACHER, language.METRICS)
    for metric in [metric for table in tables for metric in table]:
        assert metric.support == supports.get(metric.form, metric.support), metric.name
    assert support_of(collective.METRICS, "elbo") == support_of(collective.METRICS, "unheard_of") == "real"
    assert support_of(collective.METRICS, "collective_accuracy.of_ones_own") == "fraction"
    assert support_of(collective.METRICS, "test_collective_accuracy.mean") == "fraction"
    assert support_of(language.METRICS, "message_entropy") == support_of(language.METRICS, "symbol_entropy")
    assert support_of(language.METRICS, "topographic_similarity.end") == "correlation"
