"""What the figures share: colours, curves over rounds, legends, and SVG whose bytes depend on nothing else."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from palaver.report.files import Result
from palaver.report.interval import interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe & Ito's palette without its yellow, which is too pale for a line on white."""

MARKERS = "osD^vPX"
GREY = "#595959"
STYLE = {
    "svg.hashsalt": "palaver",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
}


def configurations(result: Result) -> list[str]:
    """Their names, in the order of the summary."""
    return [row["configuration"] for row in result.summary["rows"]]


def curve_of(result: Result, configuration: str, metric: str) -> tuple[np.ndarray, ...] | None:
    """Rounds, mean, low and high over seeds ``[R]``; NaN where a seed has no value, as in ``interval``."""
    of_it = (pl.col("configuration") == configuration) & (pl.col("metric") == metric) & pl.col("node").is_null()
    found = result.metrics.filter(of_it)
    return None if found.is_empty() else of_seeds(found, seeds_of(result, configuration))


def seeds_of(result: Result, configuration: str) -> int:
    """How many seeds a configuration has; one that diverged at once left no row at all, but the summary counts it."""
    found = result.metrics.filter(pl.col("configuration") == configuration)["seed"].n_unique()
    stated = result.summary.get("seeds")
    return max(found, stated) if isinstance(stated, int) else found


def of_seeds(frame: pl.DataFrame, seeds: int) -> tuple[np.ndarray, ...]:
    """Rounds, mean, low and high over seeds ``[R]`` of one ``value`` a ``seed`` and ``round``."""
    found = frame.group_by("round").agg(pl.col("value").sort_by("seed")).sort("round")
    points = [interval(values + [None] * (seeds - len(values))) for values in found["value"].to_list()]
    lines = (np.array([point[end] for point in points], float) for end in ("mean", "low", "high"))
    return found["round"].to_numpy(), *lines


def look_of(result: Result, configuration: str, among: Sequence[str] = ()) -> tuple[str, str]:
    """Colour and marker: the same for a configuration in every figure, or by its place ``among`` those drawn together.

    The pair repeats only after 49.
    """
    place = (among or configurations(result)).index(configuration)
    return COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def plain(text: str) -> str:
    """Dollar signs would start a formula."""
    return text.replace("$", r"\$")


def handle_of(result: Result, configuration: str, among: Sequence[str] = ()) -> Line2D:
    """Its entry in a legend."""
    colour, marker = look_of(result, configuration, among)
    label = plain(textwrap.shorten(configuration, 84, placeholder=" …"))
    return Line2D([], [], color=colour, marker=marker, markersize=5, lw=1.9, label=label)


def framed(height: float, handles: list[Any]) -> tuple[Figure, Axes]:
    """A ``canvas`` with one pair of axes."""
    figure = canvas(height, handles)
    return figure, figure.add_subplot()


def canvas(height: float, handles: list[Any]) -> Figure:
    """A figure 7 inches wide whose axes and legend below do not take room from each other."""
    lines = -(-len(handles) // _columns(handles))
    figure = Figure(figsize=(7, height + 0.19 * lines), layout="constrained")
    figure.legend(handles=handles, loc="outside lower left", ncols=_columns(handles), fontsize=9.5, handlelength=2.4)
    return figure


def _columns(handles: list[Any]) -> int:
    """As many columns as the longest label leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return 1 if longest > 38 else 2 if longest > 20 else 3 if longest > 8 else 5


def to_svg(figure: Figure) -> str:
    """The figure without a date or the name of a program in it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
