"""Accuracy over bits of one family of configurations, with the Pareto front drawn and named."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from palaver.exchange.report.comparison import front
from palaver.exchange.report.entries import KINDS, MEASURES, Entry
from palaver.report.callouts import name_points
from palaver.report.colours import SERIES
from palaver.report.drawing import GREY, INK, MARKERS, STYLE, legend, panel
from palaver.report.svg import to_svg
from palaver.studies.formats import human_bits

_COLOURS = ("blue", "green", "black", "orange", "orange", "pink", "gold", "sky")
_MARKERS = f"{MARKERS}*"
_LOOKS = {kind: (SERIES[colour].light, marker) for kind, colour, marker in zip(KINDS, _COLOURS, _MARKERS, strict=True)}
_MOST_TICKS = 3


def over_bits(measures: Mapping[str, Sequence[Entry]], accuracy: str) -> list[str]:
    """A drawing for the collective and one for the average node, and what the markers mean.

    Args:
        measures: a family's entries by measure.
        accuracy: the name of the accuracy, for the axis.

    Returns:
        The drawings; none where nothing was sent.

    """
    shown = {measure: entries for measure, entries in measures.items() if any(entry.bits for entry in entries)}
    if not shown:
        return []
    found = {entry.kind for entries in shown.values() for entry in entries}
    with matplotlib.style.context(["default", STYLE]):
        handles = [
            Line2D([], [], color=_LOOKS[kind][0], marker=_LOOKS[kind][1], ls="", ms=5, label=words)
            for kind, words in KINDS.items()
            if kind in found
        ]
        handles.append(Line2D([], [], color=INK, lw=1.1, label="Pareto front"))
        drawings = [_drawn(entries, f"{accuracy} {MEASURES[measure]}, %") for measure, entries in shown.items()]
        return [*drawings, legend(handles)]


def _drawn(entries: Sequence[Entry], accuracy: str) -> str:
    best = front(entries)
    figure, axes = panel(2.9 + 0.16 * len(best))
    sent = np.log10([entry.bits for entry in entries if entry.bits])
    span = max(float(np.ptp(sent)), 1.0)
    nothing = float(sent.min()) - 0.28 * span  # where those that send nothing stand
    places = {
        entry.name: (float(np.log10(entry.bits)) if entry.bits else nothing, 100 * (entry.accuracy["mean"] or 0.0))
        for entry in entries
    }
    for entry in entries:
        _point(axes, entry, places[entry.name], first=entry in best)
    right = float(sent.max()) + 0.05 * span
    steps = [places[entry.name] for entry in best]
    corners = [steps[0], *(corner for one, other in pairwise(steps) for corner in ((other[0], one[1]), other))]
    line = np.array([*corners, (right, steps[-1][1])])
    axes.plot(*line.T, color=INK, lw=1.1, zorder=2)
    axes.set(xlim=(nothing - 0.05 * span, right), ylabel=accuracy, xlabel="sent per node")
    axes.set_ylim(axes.get_ylim())
    _bit_ticks(axes, sent, nothing if any(not entry.bits for entry in entries) else None)
    others = [place for name, place in places.items() if name not in {entry.name for entry in best}]
    name_points(axes, steps, [entry.label for entry in best], others=np.array(others).reshape(-1, 2), line=line)
    bottom, top = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= min(top, 100)])
    return to_svg(figure)


def _point(axes: Axes, entry: Entry, place: tuple[float, float], *, first: bool) -> None:
    """An entry with its interval, paler where it is not on the front."""
    x, y = place
    colour, marker = _LOOKS[entry.kind]
    low, high = entry.accuracy["low"], entry.accuracy["high"]
    ends = None if low is None or high is None else [[y - 100 * low], [100 * high - y]]
    style: dict[str, Any] = {"ms": 6, "zorder": 3, "elinewidth": 1.2}
    if not first:
        style = {"ms": 4, "zorder": 2, "elinewidth": 0.7, "alpha": 0.5}
    axes.errorbar(x, y, yerr=ends, fmt=marker, color=colour, capsize=0, **style)


def _bit_ticks(axes: Axes, sent: np.ndarray, nothing: float | None) -> None:
    """Ticks at powers of ten, and where nothing is sent one of its own beyond a break of the axis."""
    low, high = int(np.ceil(sent.min())), int(np.floor(sent.max()))
    ticks = list(range(low, high + 1, max(1, -(-(high - low) // (_MOST_TICKS - 1))))) or [float(sent.mean())]
    labels = [human_bits(10**tick) for tick in ticks]
    if nothing is not None:
        ticks, labels = [nothing, *ticks], ["0 bit", *labels]
        middle = (nothing + float(sent.min())) / 2
        half = 0.008 * float(np.ptp(axes.get_xlim()))
        ends, mark = [middle - half, middle + half], [(-1, -2), (1, 2)]
        axes.plot(
            *(ends, [0, 0]),
            transform=axes.get_xaxis_transform(),
            marker=mark,
            ls="",
            ms=7,
            color=INK,
            mew=1.0,
            clip_on=False,
        )
        axes.axvline(middle, color=GREY, lw=0.8, ls=(0, (1, 3)), zorder=1)
    axes.set_xticks(ticks, labels)
