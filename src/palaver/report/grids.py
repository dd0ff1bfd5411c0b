"""Tables of a run's metrics: the cells are made once, as text, and shown by rich and by the page."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from palaver.studies.findings import Grid, Metric
from palaver.studies.formats import NOTHING, Format, percent, plain
from palaver.studies.results import Result, last_rounds, last_sums, metric_of
from palaver.types import PalaverError

_BETTER = {"higher": " ↑", "lower": " ↓", "": ""}
_MOST_RUNS = 5


def measured_cell(metric: Mapping[str, Any] | None, form: Format, *, beyond: str = NOTHING) -> str:
    """A metric as a table's cell: mean and interval, or without a mean ``beyond`` and how many seeds have a value.

    Two seeds have no interval, so that their values are shown.

    >>> from palaver.studies.formats import percent
    >>> measured_cell({"mean": 0.845, "low": 0.839, "high": 0.851, "values": [0.84, 0.85]}, percent)
    '84.5 [83.9, 85.1]'
    >>> measured_cell({"mean": 0.845, "low": None, "high": None, "values": [0.84, 0.85]}, percent)
    '84.5 (84.0, 85.0)'
    >>> measured_cell({"mean": None, "values": [700.0, 900.0, None]}, percent, beyond="> 1,000")
    '> 1,000 (2 of 3 seeds)'

    Args:
        metric: mean, interval and values, as from ``interval``; None: missing.
        form: makes text of a number.
        beyond: stands where there is no mean.

    Returns:
        The cell's text; an interval whose bounds are equal is left out, and so are two equal values.

    """
    if not metric:
        return NOTHING
    values = metric.get("values") or []
    if metric.get("mean") is not None:
        low, high = metric.get("low"), metric.get("high")
        if low is None or high is None:
            return form(metric["mean"]) + (f" ({form(values[0])}, {form(values[1])})" if _differ(values) else "")
        # Of equal values the bounds may differ in their last digits.
        return form(metric["mean"]) + ("" if math.isclose(low, high) else f" [{form(low)}, {form(high)}]")
    known = sum(value is not None for value in values)
    if not values or (not known and beyond == NOTHING):
        return NOTHING
    return f"{beyond} ({known} of {len(values)} seeds)"


def percent_cell(metric: Mapping[str, Any] | None) -> str:
    """A fraction for a sentence, in percent.

    >>> percent_cell({"mean": 0.845, "low": 0.839, "high": 0.851, "values": []})
    '84.5 % [83.9, 85.1]'

    Args:
        metric: as in ``measured_cell``.

    Returns:
        Its mean and interval, or the dash where there is no mean.

    """
    middle, _, ends = measured_cell(metric, percent).partition(" ")
    return f"{middle} % {ends}".strip()


def _differ(values: Sequence[float | None]) -> bool:
    """Whether these are the values of two seeds, and not the same."""
    return len(values) == 2 and None not in values and values[0] != values[1]


def expand(metrics: Sequence[Metric], summary: Mapping[str, Any]) -> list[Metric]:
    """The metrics that some row of a summary has; one that ends in ``.*`` becomes those that it stands for.

    Args:
        metrics: as declared by a chapter.
        summary: with ``rows`` whose ``metrics`` are values by name.

    Returns:
        The metrics, in the order given.

    """
    names = dict.fromkeys(name for row in summary["rows"] for name in row.get("metrics") or {})
    found: list[Metric] = []
    for metric in metrics:
        if metric.name.endswith(".*"):
            stem = metric.name.removesuffix("*")
            rests = [name.removeprefix(stem) for name in names if name.startswith(stem)]
            found += [
                metric._replace(name=stem + rest, label=metric.label.format(rest.replace("_", " "))) for rest in rests
            ]
        elif metric.name in names:
            found.append(metric)
    return found


def metric_grid(
    result: Result, what: str, metrics: Sequence[Metric], *, only: Sequence[str] | None = None, suffix: str = ""
) -> Grid:
    """A table of these metrics: configurations downwards, and the thesis's numbers beside ours where it has any.

    Args:
        result: the run.
        what: what the table is of, for its title.
        metrics: its columns; those that no configuration has are left out.
        only: names of the configurations; None: all.
        suffix: put behind every metric's name.

    Returns:
        The table; without rows where no configuration has any of the metrics.

    """
    summary = result.summary
    rows = [row for row in summary["rows"] if only is None or row["configuration"] in only]
    shown = expand([metric._replace(name=metric.name + suffix) for metric in metrics], {"rows": rows})
    compared = {name for row in rows for name in row.get("thesis") or {}}
    last = _ends(result, shown)
    headers, lines = ["configuration"], [[str(row["configuration"])] for row in rows]
    for metric in shown:
        headers += [metric.label, thesis_header(summary)] if metric.name in compared else [metric.label]
        for line, row in zip(lines, rows, strict=True):
            line.append(_cell(row, metric, last))
            if metric.name in compared:
                line.append(metric.form((row.get("thesis") or {}).get(metric.name)))
    return Grid(titled(summary, what), tuple(headers), [tuple(line) for line in lines] if shown else [])


_Ends: TypeAlias = Mapping[str, Mapping[str, float]]
"""By metric and configuration how far it had come at its last evaluation: what it did not reach needs more."""


def _ends(result: Result, metrics: Sequence[Metric]) -> _Ends:
    return {
        metric.name: last_sums(result, metric.spent) if metric.spent else last_rounds(result)
        for metric in metrics
        if metric.reached
    }


def _cell(row: Mapping[str, Any], metric: Metric, ends: _Ends) -> str:
    """A metric of a summary's row; of one that was not reached in every seed, the end until which it was not."""
    end = ends.get(metric.name, {}).get(row.get("configuration", ""))
    return measured_cell(metric_of(row, metric.name), metric.form, beyond=f"> {metric.form(end)}" if end else NOTHING)


def thesis_header(summary: Mapping[str, Any]) -> str:
    """The header of a column of the thesis's numbers; it says if the run's settings are not the experiment's own."""
    return "thesis (its own settings)" if summary.get("overrides") else "thesis"


def overridden(result: Result) -> list[str]:
    """Lines on the settings that were given in place of the experiment's own, and on configurations left out."""
    lines, rows = [], result.settings["rows"]
    given: dict[str, Any] = result.summary.get("overrides") or {}
    if given:
        words = ", ".join(f"{name} {plain(value)}{_except(rows, name, value)}" for name, value in given.items())
        thesis = any(row.get("thesis") for row in result.summary["rows"])
        end = " The thesis's numbers are of its own settings." if thesis else ""
        lines.append(f"Under other settings than the experiment's own: {words}.{end}")
    if result.summary.get("only"):
        lines.append(f"Only configurations whose names fit {' or '.join(result.summary['only'])} were run.")
    return lines


def _except(rows: Sequence[Mapping[str, Any]], name: str, value: Any) -> str:
    """How many configurations have a value of their own."""
    own = sum(plain(row["settings"].get(name, value)) != plain(value) for row in rows)
    return f" (but {own} of {len(rows)} configurations, which have their own)" if own else ""


def titled(summary: Mapping[str, Any], what: str) -> str:
    """The title of a table: the experiment, its scale and seeds, and what the table is of.

    Args:
        summary: of the run.
        what: what the table is of.

    Returns:
        The title.

    """
    return f"{summary.get('experiment', 'run')} ({_scale(summary)}): {what}"


def _scale(summary: Mapping[str, Any]) -> str:
    seeds = summary.get("seeds")
    parts = (summary.get("scale"), None if seeds is None else f"{seeds} seed{'' if seeds == 1 else 's'}")
    return ", ".join(str(part) for part in parts if part is not None)


def compare_grid(results: Sequence[Result], metrics: Sequence[Metric]) -> Grid:
    """Several runs side by side: configurations downwards, runs across.

    Args:
        results: at most five.
        metrics: those of the runs' chapters that are compared; those that no run has are left out. An arrow shows in
            which direction one is better.

    Returns:
        The table, with one line per configuration and metric.

    Raises:
        PalaverError: if there is no run, or more than a terminal has room for.

    """
    if not 1 <= len(results) <= _MOST_RUNS:
        raise PalaverError(f"{len(results)} runs to compare: give 1 to {_MOST_RUNS} at a time")
    shown = expand(metrics, {"rows": [row for result in results for row in result.summary["rows"]]})
    runs = [({row["configuration"]: row for row in result.summary["rows"]}, _ends(result, shown)) for result in results]
    lines = []
    for name in dict.fromkeys(name for rows, _ in runs for name in rows):
        for place, metric in enumerate(shown):
            cells = [_cell(rows.get(name) or {}, metric, last) for rows, last in runs]
            lines.append(
                (str(name) if place == 0 else "", textwrap.fill(metric.label + _BETTER[metric.better], 13), *cells)
            )
    headers = [f"{result.folder.resolve().name}\n{_scale(result.summary)}" for result in results]
    return Grid("runs side by side", ("configuration", "", *headers), lines, labels=2)


def diverged_lines(summary: Mapping[str, Any], unit: str) -> list[str]:
    """Sentences on seeds whose loss was no longer finite, and from when on.

    Args:
        summary: of the run.
        unit: of progress, in the singular.

    Returns:
        One line per configuration with such seeds.

    """
    lines = []
    for row in summary["rows"]:
        seeds = [f"seed {seed} at {unit} {number:,}" for seed, number in (row.get("diverged") or {}).items()]
        if seeds:
            lines.append(
                f"“{row['configuration']}” diverged: {', '.join(seeds)}. It has no mean where a seed has no value: a "
                "mean over the other seeds would be too good."
            )
    return lines
