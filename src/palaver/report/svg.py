"""Drawings as SVG: small ones that a page sets one beside the other, or one below the other where it is narrow."""

import io
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from matplotlib.figure import Figure

from palaver.report.colours import SHADES

_SHEET, _GAP = 735.0, 12.0
"""Width of a file at most, and room between its drawings, in points: 980 and 16 pixels."""

_VARIABLES = {shade.light: f"var(--{name})" for name, shade in SHADES.items()}


def to_svg(figure: Figure) -> str:
    """The figure as SVG, text as text, without a date or the name of a program in it.

    Ids that matplotlib counts are left out; those that remain name contents, so that two drawings with the same id
    have the same thing under it.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg[svg.index("<svg") :])
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def sheet(drawings: Sequence[str]) -> str:
    """Drawings as one file: side by side as far as there is room, then below.

    Args:
        drawings: from ``to_svg``, at least one.

    Returns:
        One SVG with the drawings inside it.

    """
    placed, left, top, tall, right = [], 0.0, 0.0, 0.0, 0.0
    for drawing in drawings:
        width, height = size(drawing)
        if left and left + width > _SHEET:
            left, top, tall = 0.0, top + tall + _GAP, 0.0
        # Inside, a unit of the sheet is a point; a length "in pt" would be 4/3 of it.
        inside = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', drawing, count=2)
        placed.append(inside.replace("<svg", f'<svg x="{left:g}" y="{top:g}"', 1))
        right, tall, left = max(right, left + width), max(tall, height), left + width + _GAP
    high = top + tall
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{right:g}pt" height="{high:g}pt" '
            f'viewBox="0 0 {right:g} {high:g}">',
            f'<rect width="{right:g}" height="{high:g}" fill="#ffffff"/>',
            *placed,
            "</svg>",
        ]
    )


def size(drawing: str) -> tuple[float, float]:
    """Width and height of a drawing from ``to_svg``, in points."""
    *_, width, height = ElementTree.fromstring(drawing).attrib["viewBox"].split()
    return float(width), float(height)


def inline(drawing: str, prefix: str) -> str:
    """A drawing as a part of a page, whose colours it takes.

    Args:
        drawing: from ``to_svg``.
        prefix: put before its ids, so that those of two drawings never meet.

    Returns:
        The ``svg`` element; its colours are the page's CSS variables.

    """
    drawing = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", drawing)
    drawing = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawing, count=1, flags=re.DOTALL)
    drawing = re.sub(r' id="|href="#|url\(#', rf"\g<0>{prefix}-", drawing)
    return re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), drawing)
