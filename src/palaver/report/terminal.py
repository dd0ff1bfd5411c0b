"""What a run shows on the terminal: progress while it trains, tables when it is done."""

import textwrap
from collections.abc import Generator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from palaver.report.grids import overridden
from palaver.studies.findings import Findings, Grid
from palaver.studies.plan import Plan
from palaver.studies.results import Result, data_of
from palaver.studies.runner import Progress as Report


@contextmanager
def live(console: Console, plan: Plan) -> Generator[Report]:
    """A progress display: one bar per configuration, with its latest headline metrics.

    Where the output is no terminal, it is one line per finished configuration.

    Args:
        console: to print on.
        plan: what is run.

    Yields:
        The function that the runner reports progress to.

    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[latest]}"),
        TimeElapsedColumn(),
    )
    headlines = {metric.name: metric for metric in plan.chapter.metrics if metric.headline}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {
            row.name: bars.add_task(row.name, total=plan.chapter.length(row.settings), latest="", start=False)
            for row in plan.configurations
        }

        def progress(configuration: str, done: int, finished: bool, latest: dict[str, float]) -> None:
            shown = [(headlines[name], value) for name, value in latest.items() if name in headlines]
            words = "  ".join(f"{metric.headline.format(metric.form(value))}" for metric, value in shown)
            bars.start_task(tasks[configuration])
            bars.update(tasks[configuration], completed=done, latest=words)
            if not console.is_terminal and finished:
                console.print(f"{configuration}: {done} {plan.chapter.unit}, {words}")

        yield progress


def show(console: Console, result: Result, findings: Findings) -> None:
    """Prints the tables, notices and verdict of a finished run.

    Args:
        console: to print on.
        result: the run.
        findings: what its chapter's report found.

    """
    for section in findings.sections:
        for grid in section.grids if section.terminal else ():
            print_table(console, to_table(grid, stacked=True))
    for line in (*overridden(result), *findings.notices, *findings.verdict):
        console.print(line)
    summary = result.summary | result.summary["timings"]
    data = ", ".join(data_of(result)) or "no data set"
    seeds = f"{summary['seeds']} seed{'' if summary['seeds'] == 1 else 's'}"
    console.print(f"{seeds} on {data}, {summary['wall_seconds']:.0f} s on {summary['device']}")


def print_table(console: Console, table: Table) -> None:
    """Prints a table with all of its columns; where the terminal is too narrow its lines break.

    Args:
        console: to print on.
        table: from ``to_table``.

    """
    width = console.width
    console.width = max(width, console.measure(table, options=console.options.update(max_width=10_000)).minimum)
    console.print(table, soft_wrap=True)
    console.width = width


def to_table(grid: Grid, *, stacked: bool = False) -> Table:
    """A table for the terminal, in which words may wrap and numbers do not.

    Args:
        grid: the table as text.
        stacked: whether an interval, or the values of two seeds, go below their mean.

    Returns:
        The table as rich prints it.

    """
    table = Table(title=Text(grid.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = [row[: grid.labels] + tuple(_broken(cell, stacked) for cell in row[grid.labels :]) for row in grid.rows]
    for column, header in enumerate(grid.headers):
        longest = max((len(line) for row in rows for line in row[column].split("\n")), default=1)
        words = column == 0
        header = header if column < grid.labels else _folded(header, max(longest, 12))
        widest = max(longest, *map(len, header.split("\n")))
        table.add_column(
            Text(header),
            justify="left" if column < grid.labels else "right",
            no_wrap=not words,
            overflow="fold",
            min_width=min(18, widest) if words else widest,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _folded(header: str, width: int) -> str:
    """A header no wider than its numbers."""
    return "\n".join(piece for line in header.split("\n") for piece in textwrap.wrap(line, width))


def _broken(cell: str, stacked: bool) -> str:
    """Two lines of a number that is too wide for one: a count of seeds always, an interval or the values of two seeds
    where the caller says so.
    """
    cell = cell.replace(" [", "\n[") if stacked else cell
    return cell.replace(" (", "\n(") if stacked or cell.endswith("seeds)") else cell
