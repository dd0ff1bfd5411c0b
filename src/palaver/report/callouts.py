"""Names beside the points of a drawing, where they hide neither a point nor each other."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from palaver.report.colours import SHADES
from palaver.report.drawing import GREY, plain

_LETTERS = 22
"""In a line of a name."""
_ROOM = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.5)
"""Room above the highest point for names, in heights of the axes' contents; the first that is enough is taken."""
_GAP, _STEP, _FAR = 4.0, 3.0, 12.0
"""Points between a point and its name, between two places that are tried, and beyond which a line joins the two, as it
does where another named point is nearer."""
_STEPS = 90
"""Places above each other that are tried."""
_ORDERS = "near", "left", "right"
"""How names are placed: each as near as can be; or all on one side, from that side on, each above those before. What is
above a front is free, so that the lines from such names to their points cross no other name. As a last resort
``crowded``: such lines may cross names."""


def name_points(
    axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], *, others: np.ndarray, line: np.ndarray
) -> None:
    """Writes names beside points, as near as there is room, and raises the upper end of the axes where there is none.

    Where there is not enough even so, names may hide the line and the points that have none.

    Args:
        axes: with everything else drawn and both limits set.
        points: to name, in data coordinates.
        names: theirs, broken into lines where they are long.
        others: ``[K, 2]`` more points, in data coordinates, that names must not hide.
        line: ``[V, 2]`` the corners of a line, in data coordinates, that names must not hide either.

    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure)
    bottom, top = axes.get_ylim()
    texts, boxes = [_text(axes, name) for name in names], list[Bbox | None]()
    for room, order in product(_ROOM, _ORDERS):
        axes.set_ylim(bottom, top + room * (top - bottom))
        figure.draw_without_rendering()
        boxes = _places(axes, points, texts, others, line, order)
        if None not in boxes:
            break
    else:
        boxes = _places(axes, points, texts, others[:0], line[:1], "crowded")
    inverse, at = axes.transAxes.inverted(), axes.transData.transform(points)
    for place, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        if box is None:
            text.remove()
            continue
        x, y = inverse.transform((box.x0 + box.width / 2, box.y0 + box.height / 2))
        text.set_position((float(x), float(y)))
        nearest = np.clip(at, box.min, box.max)
        far = np.hypot(*(nearest - at).T)
        if far[place] > min(_FAR * figure.dpi / 72, *far):
            ends = inverse.transform([at[place], nearest[place]])
            axes.plot(*ends.T, transform=axes.transAxes, color=GREY, lw=0.7, zorder=2.5, clip_on=False)


def _text(axes: Axes, name: str) -> Text:
    """A name, not yet in its place, on the ground's colour."""
    text = axes.text(
        *(0.5, 0.5, plain(textwrap.fill(name, _LETTERS))),
        transform=axes.transAxes,
        ha="center",
        va="center",
        linespacing=1.05,
        zorder=4,
        bbox={"facecolor": SHADES["back"].light, "edgecolor": "none", "pad": 0.6},
    )
    text.set_in_layout(False)
    return text


def _places(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[Text],
    others: np.ndarray,
    line: np.ndarray,
    order: str,
) -> list[Bbox | None]:
    """A box of pixels for each name, in the order of the points; None where there is no room."""
    scale, inside = axes.figure.dpi / 72, axes.get_window_extent()
    at = axes.transData.transform(np.array([*points, *others]).reshape(-1, 2))
    taken = [np.hstack([at - 4 * scale, at + 4 * scale])]
    taken += [_along(*ends) for ends in pairwise(axes.transData.transform(line))]
    found, written = dict[int, Bbox | None](), np.zeros((0, 4))
    for place in sorted(range(len(points)), key=lambda place: points[place], reverse=order == "right"):
        extent = texts[place].get_window_extent()
        size = np.array([extent.width + 3 * scale, extent.height + 2 * scale])
        boxes = _candidates(at[place], size, scale, inside, order)
        fits = (boxes[:, :2] >= inside.min).all(1) & (boxes[:, 2:] <= inside.max).all(1)
        free = boxes[fits & ~_meet(boxes, np.vstack(taken))]
        crowded = order == "crowded"
        led = (box for box in free if crowded or not _meet(_leader(at[place], box, scale), written).any())
        if (box := next(led, None)) is not None:
            written = np.vstack([written, box])
            taken += [box[None], _leader(at[place], box, scale)]
        found[place] = None if box is None else Bbox.from_extents(*box)
    return [found[place] for place in range(len(points))]


def _meet(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``[K]``: which of the boxes ``[K, 4]`` overlap one of the others ``[L, 4]``."""
    return np.any(np.all((boxes[:, None, :2] < others[:, 2:]) & (boxes[:, None, 2:] > others[:, :2]), axis=-1), axis=-1)


def _leader(at: np.ndarray, box: np.ndarray, scale: float) -> np.ndarray:
    """Boxes ``[K, 4]`` along the line that joins a point and its name; none where they are beside each other."""
    nearest = np.clip(at, box[:2], box[2:])
    far = np.hypot(*(nearest - at)) > _FAR * scale
    return _along(at, nearest) if far else np.zeros((0, 4))


def _along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Boxes ``[K, 4]`` of two pixels along a line, at most four pixels apart."""
    middles = np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 4))
    return np.hstack([middles - 1, middles + 1])


def _candidates(at: np.ndarray, size: np.ndarray, scale: float, inside: Bbox, order: str) -> np.ndarray:
    """Boxes ``[K, 4]`` above a point, on its left, in the middle, on its right; then those below it."""
    (x, y), (width, height), gap = at, size, _GAP * scale
    left, right = max(x - width - gap, inside.x0), min(x + gap, inside.x1 - width)
    between = x - width / 2, x - 0.8 * width, x - 0.2 * width
    lefts = (right, *between, left) if order == "right" else (left, *between, right)
    further = _STEP * scale * np.arange(_STEPS)
    ups, downs = y + gap + further, y - gap - height - further
    above = product(ups, lefts) if order in ("near", "crowded") else ((up, left) for left, up in product(lefts, ups))
    low = np.array([(left, up) for up, left in (*above, *product(downs, lefts))])
    return np.hstack([low, low + size])
