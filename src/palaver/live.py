"""What a run shows on the terminal: progress while it trains, tables when it is done."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from palaver.report import language, warning_lines
from palaver.report.files import Result, data_of, last_rounds
from palaver.report.tables import bits_table, results_table, rules_table, table_of
from palaver.report.teaching import costs_grid, gains_grid, is_teaching, larger_grid, lessons_grid, teachers_grid
from palaver.report.teaching import verdict as teaching_verdict


@contextmanager
def live(console: Console, stored: dict[str, Any]) -> Generator[Callable[[str, int, bool, dict[str, float]], None]]:
    """A bar a configuration, with the latest accuracies; on no terminal, one line a finished configuration."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[latest]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {
            row["configuration"]: bars.add_task(
                row["configuration"],
                total=row["settings"].get("rounds") or row["settings"].get("steps"),
                latest="",
                start=False,
            )
            for row in stored["rows"]
        }

        def progress(configuration: str, done: int, finished: bool, latest: dict[str, float]) -> None:
            said = "  ".join(f"{name.split('_')[0]} {100 * value:.1f} %" for name, value in sorted(latest.items()))
            bars.start_task(tasks[configuration])
            bars.update(tasks[configuration], completed=done, latest=said)
            if not console.is_terminal and finished:
                unit = {"teaching": "updates", "language": "steps"}.get(stored["kind"], "rounds")
                console.print(f"{configuration}: {done} {unit}, {said}")

        yield progress


def whole(console: Console, table: Table) -> None:
    """Prints a table with all of its columns; where the terminal is too narrow its lines break."""
    width = console.width
    console.width = max(width, console.measure(table).minimum)
    console.print(table, soft_wrap=True)
    console.width = width


def show(console: Console, result: Result) -> None:
    """The tables of a finished run."""
    summary = result.summary
    if is_teaching(summary):
        grids = (lessons_grid(summary), costs_grid(summary), gains_grid(result), larger_grid(result))
        for grid in (*grids, teachers_grid(summary)):
            if grid.rows:
                whole(console, table_of(grid))
        console.print(teaching_verdict(result))
        console.print(_spent(result))
        return
    if language.is_language(summary):
        for grid in (language.probes_grid(summary), language.gains_grid(result), language.messages_grid(summary)):
            if grid.rows:
                whole(console, table_of(grid))
        _diverged(console, summary)
        console.print(language.verdict(result))
        console.print(_spent(result))
        return
    for table in (results_table(summary, last_rounds(result)), rules_table(summary), bits_table(summary)):
        whole(console, table)
    _diverged(console, summary)
    for line in warning_lines(summary):
        console.print(line)
    console.print(_spent(result))


def _diverged(console: Console, summary: dict[str, Any]) -> None:
    for row in summary["rows"]:
        for seed, step in row["diverged"].items():
            console.print(f"{row['configuration']}: seed {seed} diverged at round {step}, so no mean is given")


def _spent(result: Result) -> str:
    summary = result.summary
    data = ", ".join(data_of(result))
    return f"{summary['seeds']} seeds on {data}, {summary['wall_seconds']:.0f} s on {summary['device']}"
