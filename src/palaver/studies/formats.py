"""Numbers as the text of a table's cell; every one takes None and numbers that are not finite for nothing."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

NOTHING = "–"
"""Stands where there is no number."""

Format: TypeAlias = Callable[[float | None], str]
"""A number as a cell's text."""

_LONG = 1e15
"""From here on numbers are shown as powers of ten."""

_BITS = ("bit", "kbit", "Mbit", "Gbit", "Tbit", "Pbit", "Ebit")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def decimals(places: int, *, factor: float = 1.0, sign: bool = False) -> Format:
    """A format of ``factor`` times the number with so many decimals, thousands marked; of 10¹⁵ and more, three digits.

    Args:
        places: decimals.
        factor: from the number to what is shown.
        sign: whether positive numbers are marked as such.

    >>> decimals(2)(1234.567)
    '1,234.57'

    """
    plus = "+" if sign else ""

    def text(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return NOTHING
        return f"{factor * value:{plus},.{places}f}" if abs(factor * value) < _LONG else f"{factor * value:{plus}.3g}"

    return text


percent = decimals(1, factor=100)
"""A fraction as percent with one decimal, without the sign: 0.8449 is 84.5."""

points = decimals(1, factor=100, sign=True)
"""A difference of fractions in percentage points: 0.012 is +1.2."""

count = decimals(0)
"""A whole number with thousands marked."""


def three_digits(value: float | None) -> str:
    """A number to three digits; a whole one where it has more, up to 10¹⁵.

    >>> three_digits(0.012345)
    '0.0123'
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if 999.5 <= abs(value) < _LONG else f"{value:.3g}"


def human_bits(bits: float | None) -> str:
    """Bits in decimal units.

    >>> human_bits(24_576_000)
    '24.6 Mbit'
    """
    return _scaled(bits, _BITS)


def human_bytes(size: float | None) -> str:
    """Bytes in decimal units.

    >>> human_bytes(24_576_000)
    '24.6 MB'
    """
    return _scaled(size, _BYTES)


def _scaled(value: float | None, units: Sequence[str]) -> str:
    """A number with the unit, each a thousand times the one before it, that leaves at most three digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    unit, value = 0, float(value)
    while abs(value) >= 999.5 and unit < len(units) - 1:
        unit, value = unit + 1, value / 1000
    return f"{three_digits(value)} {units[unit]}"


def plain(value: Any) -> str:
    """The value of a setting as it is given as a flag.

    >>> plain((32, 64)), plain(0.5)
    ('32 64', '0.5')
    """
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
