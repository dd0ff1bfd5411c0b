"""The colours of the page and its figures, for a light and a dark ground."""

from typing import NamedTuple


class Shade(NamedTuple):
    """One colour on both grounds, as ``#rrggbb`` in lower case, which is how matplotlib writes it."""

    light: str
    dark: str


SERIES = {
    "blue": Shade("#0072b2", "#4aa3df"),
    "orange": Shade("#d55e00", "#f07f2e"),
    "green": Shade("#009e73", "#1fc596"),
    "pink": Shade("#c0649a", "#e39bc4"),
    "black": Shade("#101418", "#f4f4f4"),
    "sky": Shade("#2f8fc9", "#9ad7ff"),
    "gold": Shade("#a87400", "#f2c14e"),
}
"""Okabe & Ito's palette without its yellow; those that were too pale for a line on white are darker.

Black is not quite so: matplotlib leaves out a fill of black, which would then stay black on a dark page.
"""

SHADES = {
    "ink": Shade("#1b1f24", "#e6e8eb"),
    "soft": Shade("#57606a", "#a4acb6"),
    "link": Shade("#8a8a8a", "#7d858e"),
    "line": Shade("#d5d9de", "#3a4048"),
    "grid": Shade("#e4e4e4", "#2c3138"),
    "back": Shade("#ffffff", "#15181c"),
    "card": Shade("#f5f6f8", "#1f2328"),
    "shadow": Shade("#8c959f", "#7d8896"),
    "warn": Shade("#fff4d6", "#3d3210"),
    "warn-ink": Shade("#5c4300", "#ffe3a0"),
} | SERIES
"""Every colour by the name of its CSS variable on the page. Figures are drawn with the light ones."""
