"""A run's tables: the cells are made once, as text, and shown by rich here and as HTML by the page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from palaver.report.files import Result, last_rounds
from palaver.report.measure import accuracy_name, is_probe
from palaver.types import PalaverError

NOTHING = "–"
"""Stands where a file has no number."""

RULES = ("confidence", "entropy_as_printed", "majority", "mean", "product")
"""The decision rules a run is evaluated under; the first is the default, the one ``collective_accuracy`` holds."""

_MOST_RUNS = 5
_UNITS = ("bit", "kbit", "Mbit", "Gbit", "Tbit", "Pbit", "Ebit")


class Grid(NamedTuple):
    """A table as text."""

    title: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    """One tuple a row, as long as ``headers``."""
    labels: int = 1
    """So many leading columns are words, set left; the others are numbers, set right."""


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, without the sign.

    >>> percent(0.8449)
    '84.5'
    """
    return NOTHING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def count(number: float | None) -> str:
    """A whole number with thousands marked."""
    return NOTHING if number is None or not math.isfinite(number) else f"{number:,.0f}"


def human_bits(bits: float | None) -> str:
    """Bits in decimal units.

    >>> human_bits(24_576_000)
    '24.6 Mbit'
    """
    if bits is None or not math.isfinite(bits):
        return NOTHING
    unit, value = 0, float(bits)
    while value >= 999.5 and unit < len(_UNITS) - 1:
        unit, value = unit + 1, value / 1000
    return f"{three_digits(value)} {_UNITS[unit]}"


def three_digits(value: float | None) -> str:
    """A number to three digits; a whole one where it has more.

    >>> three_digits(0.012345)
    '0.0123'
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _seeds(values: Sequence[float | None]) -> str:
    return f"({sum(value is not None for value in values)} of {len(values)} seeds)"


def _spread(metric: Mapping[str, Any], form: Callable[[float | None], str]) -> str:
    low, high = metric.get("low"), metric.get("high")
    return form(metric["mean"]) + ("" if low is None or high is None else f" [{form(low)}, {form(high)}]")


def accuracy_cell(metric: Mapping[str, Any] | None) -> str:
    """Mean and interval in percent; without a mean, how many seeds have a value.

    >>> accuracy_cell({"mean": 0.845, "low": 0.839, "high": 0.851, "values": [0.84, 0.85]})
    '84.5 [83.9, 85.1]'
    """
    return measured_cell(metric, percent)


def measured_cell(metric: Mapping[str, Any] | None, form: Callable[[float | None], str]) -> str:
    """``accuracy_cell`` for any quantity: ``form`` makes text of a number."""
    if not metric:
        return NOTHING
    if metric.get("mean") is not None:
        return _spread(metric, form)
    values = metric.get("values") or []
    return f"{NOTHING} {_seeds(values)}" if any(value is not None for value in values) else NOTHING


def rounds_cell(metric: Mapping[str, Any] | None, last: int | None = None) -> str:
    """Rounds to the target; where a seed never got there, that it takes more than the ``last`` round and how many did.

    >>> rounds_cell({"mean": None, "values": [700.0, 900.0, None]}, 1000)
    '> 1,000 (2 of 3 seeds)'
    """
    if not metric:
        return NOTHING
    if metric.get("mean") is not None:
        return _spread(metric, count)
    values = metric.get("values") or []
    return f"> {'end' if last is None else count(last)} {_seeds(values)}" if values else NOTHING


def results_grid(summary: Mapping[str, Any], rounds: Mapping[str, int] | None = None, *, average: bool = False) -> Grid:
    """Accuracy and rounds to target of every configuration, the thesis's numbers beside ours where a row has any.

    ``average`` adds the rounds until the average node reached the target. A run measured by a linear probe has no
    rounds to a target.
    """
    target = summary.get("target")
    to_target = "to target" if target is None else f"to {100 * target:g} %"
    columns = [
        ("average_accuracy", "average %", percent),
        ("collective_accuracy", "collective %", percent),
        ("rounds_to_target", f"rounds {to_target}", count),
    ]
    if is_probe(summary):
        columns = columns[:2]
    elif average and any("rounds_to_target.average" in (row.get("metrics") or {}) for row in summary["rows"]):
        columns.insert(2, ("rounds_to_target.average", f"average: rounds {to_target}", count))
        columns[3] = ("rounds_to_target", f"collective: rounds {to_target}", count)
    told = {name for row in summary["rows"] for name in row.get("thesis") or {}}
    headers, lines = ["configuration"], [[str(row["configuration"])] for row in summary["rows"]]
    for name, header, form in columns:
        headers += [header, "thesis"] if name in told else [header]
        for line, row in zip(lines, summary["rows"], strict=True):
            metric = (row.get("metrics") or {}).get(name)
            last = (rounds or {}).get(row["configuration"])
            line.append(accuracy_cell(metric) if form is percent else rounds_cell(metric, last))
            if name in told:
                line.append(form((row.get("thesis") or {}).get(name)))
    return Grid(_title(summary, accuracy_name(summary)), tuple(headers), [tuple(line) for line in lines])


def held_out_grid(summary: Mapping[str, Any]) -> Grid:
    """Accuracy on the test set after the last round."""
    names = ("test_average_accuracy", "test_collective_accuracy")
    return _accuracies(summary, "test accuracy", dict(zip(names, ("average %", "collective %"), strict=True)))


def rules_grid(summary: Mapping[str, Any]) -> Grid:
    """Collective accuracy under every decision rule, of every configuration."""
    names = {f"collective_accuracy.{rule}": rule.replace("_", " ") + " %" for rule in RULES}
    return _accuracies(summary, "collective accuracy by decision rule", names)


def bits_grid(summary: Mapping[str, Any]) -> Grid:
    """What a node sent, beside what gradient exchange would have sent in the same rounds."""
    rows = []
    for row in summary["rows"]:
        bits = row.get("bits_per_node") or {}
        parts = [bits.get(name) for name in ("examples", "payload", "gradient_exchange")]
        sent, gradients = sent_bits(row), parts[-1]
        ratio = f"{three_digits(gradients / sent)} ×" if sent and gradients is not None else NOTHING
        rows.append((str(row["configuration"]), *map(human_bits, parts), ratio, _dropped(row)))
    headers = ("configuration", "examples", "payload", "gradient exchange", "gradients / sent", "dropped %")
    return Grid(_title(summary, "bits sent per node"), headers, rows)


def _dropped(row: Mapping[str, Any]) -> str:
    """The share of deliveries that met a full inbox."""
    sent, dropped = (((row.get("metrics") or {}).get(name) or {}).get("mean") for name in ("sent", "dropped"))
    return f"{100 * dropped / sent:.1f}" if sent and dropped is not None else NOTHING


def compare_grid(results: Sequence[Result]) -> Grid:
    """Several runs side by side: configurations downwards, runs across.

    Raises:
        PalaverError: if there is no run, or more than a terminal has room for.

    """
    if not 1 <= len(results) <= _MOST_RUNS:
        raise PalaverError(f"{len(results)} runs to compare: give 1 to {_MOST_RUNS} at a time")
    kinds = {str(result.summary.get("kind", "collective")) for result in results}
    forms: dict[str, str] = {}
    if "teaching" in kinds:
        forms |= {"test_accuracy": "test %", "updates_to_96": "updates to 96 %", "seconds_to_96": "seconds to 96 %"}
    if "language" in kinds:
        forms |= {"probe_accuracy": "features %", "message_probe_accuracy": "messages %"}
    if "collective" in kinds:
        forms |= {"average_accuracy": "average %", "collective_accuracy": "collective %"}
        if not all(is_probe(result.summary) for result in results):
            forms["rounds_to_target"] = "to target"
    runs = [({row["configuration"]: row for row in result.summary["rows"]}, last_rounds(result)) for result in results]
    lines = []
    for name in dict.fromkeys(name for rows, _ in runs for name in rows):
        for metric, label in forms.items():
            found = [((rows.get(name) or {}).get("metrics") or {}).get(metric) for rows, _ in runs]
            if metric == "rounds_to_target":
                cells = [rounds_cell(each, last.get(name)) for each, (_, last) in zip(found, runs, strict=True)]
            elif metric.endswith("accuracy"):
                cells = [accuracy_cell(each) for each in found]
            else:
                cells = [measured_cell(each, count if metric.startswith("updates") else three_digits) for each in found]
            lines.append((str(name) if metric == next(iter(forms)) else "", label, *cells))
    headers = [f"{result.folder.resolve().name}\n{_scale(result.summary)}" for result in results]
    return Grid("runs side by side", ("configuration", "", *headers), lines, labels=2)


def results_table(summary: Mapping[str, Any], rounds: Mapping[str, int] | None = None) -> Table:
    """``results_grid`` for the terminal.

    Args:
        summary: a result's ``summary.json``.
        rounds: the last round of each configuration (``last_rounds``), for the ``> R`` of a target not reached;
            without it the cell says ``> end``.

    """
    return _rich(results_grid(summary, rounds))


def rules_table(summary: Mapping[str, Any]) -> Table:
    """``rules_grid`` for the terminal, intervals below their means."""
    return _rich(rules_grid(summary), stacked=True)


def bits_table(summary: Mapping[str, Any]) -> Table:
    """``bits_grid`` for the terminal."""
    return _rich(bits_grid(summary))


def table_of(grid: Grid) -> Table:
    """Any grid for the terminal, intervals below their means."""
    return _rich(grid, stacked=True)


def compare_table(results: Sequence[Result]) -> Table:
    """``compare_grid`` for the terminal; from four runs on, intervals go below their means (five: 120 columns)."""
    return _rich(compare_grid(results), stacked=len(results) > 3)


def sent_bits(row: Mapping[str, Any]) -> float | None:
    """Examples and payload together, or None where the row does not say."""
    bits = row.get("bits_per_node") or {}
    parts = [bits[name] for name in ("examples", "payload") if bits.get(name) is not None]
    return sum(parts) if parts else None


def _accuracies(summary: Mapping[str, Any], title: str, names: Mapping[str, str]) -> Grid:
    rows = []
    for row in summary["rows"]:
        metrics = row.get("metrics") or {}
        rows.append((str(row["configuration"]), *(accuracy_cell(metrics.get(name)) for name in names)))
    return Grid(_title(summary, title), ("configuration", *names.values()), rows)


def _scale(summary: Mapping[str, Any]) -> str:
    seeds = summary.get("seeds")
    parts = (summary.get("scale"), None if seeds is None else f"{seeds} seed{'' if seeds == 1 else 's'}")
    return ", ".join(str(part) for part in parts if part is not None)


def _title(summary: Mapping[str, Any], what: str) -> str:
    return f"{summary.get('experiment', 'run')} ({_scale(summary)}): {what}"


def _rich(grid: Grid, stacked: bool = False) -> Table:
    """A table that fits a terminal 100 columns wide: words fold, numbers keep together."""
    table = Table(title=Text(grid.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = [tuple(_broken(cell, stacked) for cell in row) for row in grid.rows]
    for column, header in enumerate(grid.headers):
        longest = max((len(line) for row in rows for line in row[column].split("\n")), default=1)
        words = column == 0
        table.add_column(
            Text(header if column < grid.labels else _folded(header, max(longest, 12))),
            justify="left" if column < grid.labels else "right",
            no_wrap=not words,
            overflow="fold",
            min_width=min(18, longest) if words else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _folded(header: str, width: int) -> str:
    """A header no wider than its numbers."""
    return "\n".join(piece for line in header.split("\n") for piece in textwrap.wrap(line, width))


def _broken(cell: str, stacked: bool) -> str:
    """Two lines of a cell that is too wide for one: a count of seeds always, an interval where the caller says so."""
    cell = cell.replace(" [", "\n[") if stacked else cell
    return cell.replace(" (", "\n(") if cell.endswith("seeds)") else cell
