"""Numbers as text."""

import math

import pytest

from palaver.studies.formats import NOTHING, count, decimals, human_bits, percent, points, three_digits


@pytest.mark.parametrize(
    ("bits", "text"),
    [(0, "0 bit"), (999, "999 bit"), (1000, "1 kbit"), (24_576_000, "24.6 Mbit"), (999_999_999, "1 Gbit"),
     (9.6e9, "9.6 Gbit"), (5e21, "5,000 Ebit")],
)  # fmt: skip
def test_bits_for_people(bits, text):
    assert human_bits(bits) == text


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (percent, 0.8449, "84.5"),
        (points, 0.012, "+1.2"),
        (points, -0.012, "-1.2"),
        (count, 12_800.4, "12,800"),
        (decimals(2), -1234.567, "-1,234.57"),
        (decimals(0, factor=1000, sign=True), 1.5, "+1,500"),
        (three_digits, 0.012345, "0.0123"),
        (three_digits, 80.81, "80.8"),
        (three_digits, 999.4, "999"),
        (three_digits, 12_345.6, "12,346"),
        (three_digits, -0.5, "-0.5"),
        (three_digits, 1e100, "1e+100"),
        (count, 999_999_999_999_999, "999,999,999,999,999"),
        (count, 1e15, "1e+15"),
        (points, -1e98, "-1e+100"),
    ],
)
def test_numbers(form, value, text):
    assert form(value) == text


@pytest.mark.parametrize("form", [percent, points, count, decimals(3), three_digits, human_bits])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_nothing(form, value):
    assert form(value) == NOTHING
