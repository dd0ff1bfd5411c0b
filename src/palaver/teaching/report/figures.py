"""Figures of a run of students: accuracy over every cost, and updates over the size of the stack."""

from collections.abc import Sequence
from operator import itemgetter

import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from palaver.report.drawing import GREY, STYLE, curve_of, draw_curve, handle_of, legend, look_of, panel
from palaver.report.svg import to_svg
from palaver.studies.findings import Metric
from palaver.studies.results import Result, metrics_of, settings_of
from palaver.studies.statistics import Interval
from palaver.teaching import goals
from palaver.teaching.report.metrics import COSTS


def curves(result: Result, names: Sequence[str]) -> list[str]:
    """Validation accuracy in percent over every cost: Figure 3.1 is the first, over updates.

    Args:
        result: the run.
        names: of the configurations to draw.

    Returns:
        A drawing for each cost, and the legend; none where none of the configurations has a curve whose every cost is
        known.

    """
    found, spent = {}, {}
    for name in names:
        curve = _accuracy_of(result, name)
        if curve is not None and np.isfinite(curve[1]).any():
            costs = {cost.name: _cost_at(result, name, cost, curve[0]) for cost in COSTS}
            if all(np.isfinite(own).all() for own in costs.values()):
                found[name], spent[name] = curve, costs
    if not found:
        return []
    drawings = []
    with matplotlib.style.context(["default", STYLE]):
        top = 100 * max(float(np.nanmax(line)) for _, line, _, _ in found.values())
        for cost in COSTS:
            figure, axes = panel(2.4)
            costs = {name: spent[name][cost.name] for name in found}
            furthest = max(float(costs[name][_near_its_best(middle)]) for name, (_, middle, *_) in found.items())
            for name, (_, middle, low, high) in found.items():
                x = costs[name]
                # A cost may stand still while accuracy rises: the teacher predicts each example once.
                last = min(max(int(np.searchsorted(x, furthest)), _near_its_best(middle)), len(x) - 1)
                shown = np.unique(np.linspace(0, last, _POINTS).astype(int))
                x, line, under, above = (values[shown] for values in (x, 100 * middle, 100 * low, 100 * high))
                draw_curve(axes, (x, line, under, above), look_of(result, name), alpha=0.1, lw=1.3)
            axes.set(xlabel=cost.unit, ylabel="validation accuracy, %")
            axes.set(xlim=(0, furthest or 1.0), ylim=(max(0.0, top - 8), top + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            drawings.append(to_svg(figure))
        return [*drawings, legend([handle_of(result, name) for name in found])]


def _accuracy_of(result: Result, name: str) -> tuple[np.ndarray, ...] | None:
    return curve_of(result, name, "validation_accuracy", "fraction")


_POINTS = 80
"""Of a curve that are drawn."""


def _near_its_best(middle: np.ndarray) -> int:
    """The first place within a fifth of a point of the highest mean, of which there is one."""
    return int(np.argmax(middle >= np.nanmax(middle) - 0.002))


def _cost_at(result: Result, name: str, cost: Metric, rounds: np.ndarray) -> np.ndarray:
    """The cost at each of these rounds, in its axis's unit: the same for all seeds but for seconds of stopped ones."""
    of_it = (pl.col("configuration") == name) & (pl.col("metric") == goals.COSTS[cost.name])
    found = dict(result.metrics.filter(of_it).group_by("round").agg(pl.col("value").max()).iter_rows())
    return cost.factor * np.array([found.get(number) for number in rounds], float)


def scaling(result: Result, goal: str) -> list[str]:
    """Updates to the goal over the stack's size: the thesis's rule as a line, others as marks of their own.

    Args:
        result: the run; configurations with wrong or missing labels are left out.
        goal: its name in the summary.

    Returns:
        The drawing and its legend; none where fewer than three configurations reached the goal with every seed.

    """
    updates = metrics_of(result, f"updates_to.{goal}")
    points: dict[str, tuple[int, Interval]] = {}
    by_rule: list[str] = []
    for name, own in settings_of(result).items():
        found, size = updates.get(name), max(own.get("stack") or [1])
        if found and found["mean"] is not None and not own.get("flipped") and own.get("known") == 1:
            points[name] = (size, found)
            target = own["target"] if size > 1 else "soft"
            if (own["select"], own["difficulty"], target) == ("top", "cross-entropy", "soft"):
                by_rule.append(name)
    if len(points) < 3:
        return []
    with matplotlib.style.context(["default", STYLE]):
        others = [name for name in points if name not in by_rule]
        line = Line2D([], [], color=GREY, marker="o", lw=1.6, label="the hardest by cross-entropy, soft targets")
        figure, axes = panel(2.8)
        ordered = sorted((points[name] for name in by_rule), key=itemgetter(0))
        axes.plot([size for size, _ in ordered], [found["mean"] or 0.0 for _, found in ordered], color=GREY, lw=1.6)
        for name, (size, found) in points.items():
            colour, marker = (GREY, "o") if name in by_rule else look_of(result, name)
            middle = found["mean"] or 0.0
            ends = [[middle - (found["low"] or middle)], [(found["high"] or middle) - middle]]
            axes.errorbar([size], [middle], yerr=ends, color=colour, marker=marker, ms=5, capsize=2, lw=1.2)
        axes.set(xscale="log", xlabel="minibatches on the stack n", ylabel=f"updates to {goal}")
        axes.xaxis.set_major_formatter(lambda n, _: f"{n:g}")
        axes.set_xticks(sorted({size for size, _ in points.values()}))
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        return [to_svg(figure), legend([line, *(handle_of(result, name) for name in others)])]
