"""Accuracy over the one number in which a family's configurations differ."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from palaver.exchange.report.entries import families_of, is_tested
from palaver.report.drawing import COLOURS, STYLE, legend, panel
from palaver.report.svg import to_svg
from palaver.studies.formats import plain
from palaver.studies.results import Result, metric_of, settings_of

_FEWEST = 3
_MEASURES = {"collective_accuracy": ("together", "-", "o"), "average_accuracy": ("the average node", (0, (4, 2)), "s")}


class Sweep(NamedTuple):
    """A family of configurations that differ in one number alone."""

    family: str
    setting: str
    points: tuple[tuple[float, str], ...]
    """The number and the configuration's name, from the smallest number on."""


def sweeps(result: Result) -> list[Sweep]:
    """The families of a run that differ in one number alone, three configurations or more.

    Args:
        result: the run.

    Returns:
        In the order of the run.

    """
    settings, by_family = settings_of(result), dict[str, list[str]]()
    present = {str(row["configuration"]) for row in result.summary["rows"]}
    for name, family in families_of(result).items():
        if family and name in present:
            by_family.setdefault(family, []).append(name)
    found = []
    for family, names in by_family.items():
        setting = _differs([settings[name] for name in names])
        if setting and len(names) >= _FEWEST:
            points = sorted((float(settings[name][setting]), name) for name in names)
            found.append(Sweep(family, setting, tuple(points)))
    return found


def _differs(settings: Sequence[Mapping[str, Any]]) -> str:
    """The setting that is a number of its own in each; empty: there is none, or another differs too."""
    names = [name for name in settings[0] if len({str(own.get(name)) for own in settings}) > 1]
    if len(names) != 1:
        return ""
    values = [own[names[0]] for own in settings]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return names[0] if numbers and len(set(values)) == len(values) else ""


def drawn(result: Result, sweep: Sweep) -> list[str]:
    """The family's accuracies with their intervals, and what the lines mean.

    Args:
        result: the run.
        sweep: of ``sweeps``.

    Returns:
        Two drawings; none where nothing has a mean.

    """
    rows = {str(row["configuration"]): row for row in result.summary["rows"]}
    prefix = "test_" if is_tested(result) else ""
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = panel(2.6)
        handles = []
        for place, (measure, (words, dashes, marker)) in enumerate(_MEASURES.items()):
            points = [(x, *_ends(metric_of(rows[name], prefix + measure))) for x, name in sweep.points]
            known = np.array([point for point in points if point[1] is not None], float)
            if not len(known):
                continue
            x, middle, low, high = known.T * [[1], [100], [100], [100]]
            ends = [middle - low, high - middle]
            style: Any = {"color": COLOURS[place], "ls": dashes, "marker": marker, "ms": 4.5, "lw": 1.6}
            axes.errorbar(x, middle, yerr=ends, capsize=2, elinewidth=1.0, **style)
            handles.append(Line2D([], [], label=words, **style))
        if not handles:
            return []
        numbers = [x for x, _ in sweep.points]
        if min(numbers) > 0 and max(numbers) / min(numbers) > 10:
            axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(numbers, [plain(int(x) if x.is_integer() else x) for x in numbers])
        kind = "test" if prefix else "validation"
        axes.set(xlabel=sweep.setting.replace("_", " "), ylabel=f"{kind} accuracy, %")
        return [to_svg(figure), legend(handles)]


def _ends(metric: Mapping[str, Any] | None) -> tuple[float | None, float | None, float | None]:
    """Mean, low and high; without an interval the mean in their place."""
    if metric is None or metric["mean"] is None:
        return None, None, None
    low, high = metric["low"], metric["high"]
    return metric["mean"], metric["mean"] if low is None else low, metric["mean"] if high is None else high
