"""What the figures share: curves over rounds, legends, and drawings whose bytes depend on nothing else."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from palaver.report.colours import SERIES, SHADES
from palaver.report.grids import expand
from palaver.report.svg import to_svg
from palaver.studies.findings import Metric
from palaver.studies.results import Result
from palaver.studies.statistics import Support, interval

COLOURS = tuple(shade.light for shade in SERIES.values())
MARKERS = "osD^vPX"
INK, GREY, GRID = (SHADES[name].light for name in ("ink", "soft", "grid"))
WIDTH = 3.5
"""Of a drawing, in inches: as many pixels as the narrowest window has (336), so that text is legible everywhere."""

STYLE = {
    "svg.hashsalt": "palaver",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
}


def configurations(result: Result) -> list[str]:
    """The names of a result's configurations, in the order of the summary."""
    return [row["configuration"] for row in result.summary["rows"]]


def curve_of(
    result: Result, configuration: str, metric: str, support: Support = "real"
) -> tuple[np.ndarray, ...] | None:
    """A metric of the whole collective over the unit of progress.

    Args:
        result: the run.
        configuration: its name.
        metric: its name.
        support: which values it can have.

    Returns:
        Rounds, mean, low and high over seeds, each ``[R]``, as ``of_seeds``; None where nothing was measured.

    """
    of_it = (pl.col("configuration") == configuration) & (pl.col("metric") == metric) & pl.col("node").is_null()
    found = result.metrics.filter(of_it)
    return None if found.is_empty() else of_seeds(found, seeds_of(result, configuration), support)


def seeds_of(result: Result, configuration: str) -> int:
    """How many seeds a configuration has; one that diverged at once left no row at all, but the summary counts it.

    Args:
        result: the run.
        configuration: its name.

    Returns:
        The number S.

    """
    found = result.metrics.filter(pl.col("configuration") == configuration)["seed"].n_unique()
    stated = result.summary.get("seeds")
    return max(found, stated) if isinstance(stated, int) else found


def of_seeds(frame: pl.DataFrame, seeds: int, support: Support = "real") -> tuple[np.ndarray, ...]:
    """Means and 95 % intervals over seeds.

    Args:
        frame: one ``value`` per ``seed`` and ``round``.
        seeds: S; a round with fewer values has no mean.
        support: which values there can be.

    Returns:
        Rounds, mean, low and high, each ``[R]``; NaN where ``interval`` gives None.

    """
    found = frame.group_by("round").agg(pl.col("value").sort_by("seed")).sort("round")
    points = [interval(values + [None] * (len(values) < seeds), support) for values in found["value"].to_list()]
    lines = (np.array([point[end] for point in points], float) for end in ("mean", "low", "high"))
    return found["round"].to_numpy(), *lines


def look_of(result: Result, configuration: str, among: Sequence[str] = ()) -> tuple[str, str]:
    """Colour and marker of a configuration.

    The pair repeats only after 49 configurations.

    Args:
        result: the run.
        configuration: its name.
        among: the names of those drawn in one figure, whose order gives the look; empty: all of the result, so that the
            look is the same in every figure.

    Returns:
        Colour and marker, as matplotlib takes them.

    """
    place = (among or configurations(result)).index(configuration)
    return COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def plain(text: str) -> str:
    """A text for matplotlib that shows ``$`` as it is, where it would otherwise start a formula."""
    return text.replace("$", r"\$")


def handle_of(result: Result, configuration: str, among: Sequence[str] = ()) -> Line2D:
    """A configuration's entry in a legend.

    Args:
        result: the run.
        configuration: its name.
        among: as in ``look_of``.

    Returns:
        A line in the configuration's colour and marker, labelled with its name, shortened to two lines.

    """
    colour, marker = look_of(result, configuration, among)
    label = plain(textwrap.shorten(configuration, 2 * _LINE, placeholder=" …"))
    return Line2D([], [], color=colour, marker=marker, markersize=5, lw=1.9, label=label)


def panel(height: float) -> tuple[Figure, Axes]:
    """A drawing of one pair of axes.

    Args:
        height: of the drawing, in inches.

    Returns:
        The figure, ``WIDTH`` inches wide, and its axes.

    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(handles: Sequence[Any]) -> str:
    """A legend as a drawing of its own.

    Args:
        handles: its entries, at least one.

    Returns:
        The SVG.

    """
    labels = [textwrap.fill(str(handle.get_label()), _LINE) for handle in handles]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = 1 if longest > 16 else 2 if longest > 8 else 3
    rows = [labels[start : start + columns] for start in range(0, len(labels), columns)]
    height = 0.1 + sum(0.06 + 0.14 * max(label.count("\n") + 1 for label in row) for row in rows)
    figure = Figure(figsize=(WIDTH, height))
    figure.legend(handles, labels, loc="upper left", ncols=columns, handlelength=2.4, borderpad=0, borderaxespad=0.2)
    return to_svg(figure)


_LINE = 36
"""Letters in a line of a legend."""


def draw_curve(
    axes: Axes,
    curve: tuple[np.ndarray, ...],
    look: tuple[str, str],
    *,
    factor: float = 1.0,
    alpha: float = 0.12,
    **line: Any,
) -> None:
    """A mean over seeds as a line with markers, and its interval as a band.

    Args:
        axes: to draw on.
        curve: x, mean, low and high ``[R]``, as of ``curve_of``.
        look: colour and marker.
        factor: from the numbers to the axis.
        alpha: opacity of the band.
        line: more of matplotlib's settings of a line.

    """
    x, middle, low, high = curve
    colour, marker = look
    style: dict[str, Any] = {"lw": 1.4, "marker": marker, "markersize": 3, "markevery": max(1, len(x) // 6)} | line
    axes.plot(x, factor * middle, color=colour, **style)
    axes.fill_between(x, factor * low, factor * high, color=colour, alpha=alpha, linewidth=0)


def panels(result: Result, names: Sequence[str], metrics: Sequence[Metric], unit: str) -> list[str]:
    """Curves of several metrics over the unit of progress, one drawing each: mean over seeds with the 95 % band.

    Args:
        result: the run.
        names: of the configurations to draw.
        metrics: those with a ``panel`` are drawn as far as the result has them.
        unit: of progress, in the singular or plural, below the axes.

    Returns:
        A drawing for each metric, and the legend; none where there is nothing to draw.

    """
    shown = [metric for metric in expand(metrics, _measured(result)) if metric.panel]
    curves = {
        metric: {
            name: curve for name in names if (curve := curve_of(result, name, metric.name, metric.support)) is not None
        }
        for metric in shown
    }
    drawn = [name for name in names if any(name in found for found in curves.values())]
    if not drawn:
        return []
    with matplotlib.style.context(["default", STYLE]):
        drawings = [
            _curves(result, names, metric, found, unit, 0.14 if len(drawn) <= 6 else 0.08)
            for metric, found in curves.items()
            if found
        ]
        return [*drawings, legend([handle_of(result, name, names) for name in drawn])]


def _curves(
    result: Result,
    names: Sequence[str],
    metric: Metric,
    found: Mapping[str, tuple[np.ndarray, ...]],
    unit: str,
    alpha: float,
) -> str:
    """One metric's curves by configuration."""
    figure, axes = panel(2.3)
    for name, curve in found.items():
        draw_curve(axes, curve, look_of(result, name, names), factor=metric.factor, alpha=alpha)
    axes.set(title=metric.panel, ylabel=metric.unit, xlabel=unit)
    axes.set_gid(f"panel-{metric.name}")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    return to_svg(figure)


def _measured(result: Result) -> dict[str, Any]:
    """The names of the metrics in ``metrics.parquet``, in the form that ``expand`` takes."""
    return {"rows": [{"metrics": dict.fromkeys(result.metrics["metric"].unique(maintain_order=True))}]}


def raster(grid: np.ndarray) -> np.ndarray:
    """A grid of tiles as one picture, with a white pixel between neighbouring tiles.

    Args:
        grid: uint8 ``[rows, columns, H, W]`` (grey) or ``[rows, columns, H, W, 3]``.

    Returns:
        uint8 ``[rows · (H + 1) − 1, columns · (W + 1) − 1, 3]``.

    """
    tiles = grid if grid.ndim == 5 else np.repeat(grid[..., None], 3, axis=-1)
    rows, columns, height, width, _ = tiles.shape
    framed = np.full((rows, columns, height + 1, width + 1, 3), 255, np.uint8)
    framed[:, :, :-1, :-1] = tiles
    whole = framed.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), columns * (width + 1), 3)
    return np.ascontiguousarray(whole[:-1, :-1])
