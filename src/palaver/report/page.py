"""The report: one offline page that says what a run found, rebuilt from its result files alone."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from palaver.report.colours import SHADES
from palaver.report.grids import overridden
from palaver.report.svg import inline, sheet
from palaver.studies.chapter import AnyChapter
from palaver.studies.files import write_text, writing
from palaver.studies.findings import Figure, Grid
from palaver.studies.formats import NOTHING, percent
from palaver.studies.results import Result, data_of, read_result, settings_of
from palaver.types import PalaverError

_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("palaver", "report"), autoescape=True, undefined=jinja2.StrictUndefined
)


_INTERVALS = (
    "Brackets and bands are 95 % intervals of the mean over seeds, by Student's t. Those of accuracies and other "
    "shares are taken on the logit scale, those of counts, bits, seconds and other numbers that cannot be negative on "
    "the logarithmic scale, by the delta method around the mean, so that no interval leaves the range of what is "
    "possible. Fewer than three seeds have no interval: the values of two stand in parentheses."
)


def write_report(folder: str | Path, chapters: Callable[[str], AnyChapter]) -> Path:
    """Rebuilds ``figures/*.svg`` and ``report.html`` of a result folder from its result files.

    The same files give the same bytes. Each file is replaced whole; figures of an older report that this one does not
    have are removed.

    Args:
        folder: a result folder.
        chapters: a chapter by its name (``palaver.experiments.chapter``).

    Returns:
        The page's path.

    Raises:
        PalaverError: as ``read_result``; the pictures cannot be read; or the folder cannot be written. Then nothing in
            it has been changed.
        MachineError: the disk is full or does not work.

    """
    result = read_result(folder, chapters)
    findings = chapters(result.summary["chapter"]).report(result)
    drawn = {figure: drawings for figure in findings.figures if (drawings := figure.draw())}
    families = {str(row["configuration"]): str(row.get("family") or "") for row in result.settings["rows"]}
    page = _PAGES.get_template("page.html.jinja").render(
        title=str(result.summary.get("experiment", "run")),
        facts=facts(result),
        command=result.settings.get("command"),
        findings=findings,
        notices=[*overridden(result), *findings.notices],
        drawn=[_shown(figure, drawings) for figure, drawings in drawn.items()],
        intervals=_INTERVALS,
        settings=_settings(result),
        split=_split,
        grouped=partial(_grouped, families),
        shades=SHADES,
    )
    files = {result.folder / "figures" / f"{figure.name}.svg": sheet(drawings) for figure, drawings in drawn.items()}
    _write(result.folder, files | {result.folder / "report.html": page + "\n"})
    return result.folder / "report.html"


def _write(folder: Path, files: Mapping[Path, str]) -> None:
    """Writes the files and removes figures that are not among them; first looks whether all of it can be done."""
    figures = folder / "figures"
    for path in (folder, figures):
        if os.path.lexists(path) and not (path.is_dir() and os.access(path, os.W_OK)):
            what = "is a folder that may not be written" if path.is_dir() else "is no folder"
            raise PalaverError(f"{path} {what}: the report's files go there; make it a folder that may be written")
    for path in (*files, *figures.glob("*.svg")):
        if path.is_dir():
            raise PalaverError(f"{path} is a folder: the report writes a file there; move it away")
    old = set(figures.glob("*.svg")) - files.keys()
    for path, text in files.items():
        write_text(path, text)
    for path in old:
        with writing(path):
            path.unlink()


def _shown(figure: Figure, drawings: Sequence[str]) -> dict[str, Any]:
    """A figure for the template, its drawings as elements of the page."""
    parts = [Markup(inline(svg, f"{figure.name}-{place}")) for place, svg in enumerate(drawings)]
    return figure._asdict() | {"drawings": parts}


def _grouped(families: Mapping[str, str], grid: Grid) -> list[tuple[str, list[tuple[str, ...]]]]:
    """A table's rows below the heading of their family; below none where all have the same."""
    of = [families.get(row[0], "") for row in grid.rows]
    if len(set(of)) < 2:
        return [("", list(grid.rows))]
    pairs = groupby(zip(of, grid.rows, strict=True), key=itemgetter(0))
    return [(family, [row for _, row in rows]) for family, rows in pairs]


def _split(cell: str) -> tuple[str, str]:
    """A number, and its interval or count of seeds."""
    for opening in (" [", " ("):
        if opening in cell:
            middle, rest = cell.split(opening, 1)
            return middle, opening[1] + rest
    return cell, ""


def facts(result: Result) -> str:
    """Data, scale, seeds, date, version, device, seconds and target in one line."""
    summary = result.summary | result.summary["timings"]
    forms = {"scale": "scale {}", "seeds": "seeds: {}", "version": "version {}", "device": "{}"}
    forms["wall_seconds"] = "{:,.0f} s"
    found = [f"data: {', '.join(data_of(result))}"] if data_of(result) else []
    found += [form.format(summary[key]) for key, form in forms.items() if summary.get(key) is not None]
    if result.settings.get("date"):
        found.append(f"{str(result.settings['date'])[:16].replace('T', ' ')} UTC")
    if summary.get("target") is not None:
        found.append(f"target {percent(summary['target'])} %")
    return " · ".join(found)


_NO_SETTINGS = {"rows", "graph", "command", "date"}
"""What ``settings.json`` holds that is shown elsewhere."""


def _settings(result: Result) -> list[tuple[str, Grid]]:
    """What all configurations share, and what tells them apart."""
    rows = settings_of(result)
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    shown = {name: [_value(row[key]) if key in row else NOTHING for key in keys] for name, row in rows.items()}
    differ = [place for place in range(len(keys)) if len({cells[place] for cells in shown.values()}) > 1]
    common = [(key, _value(value)) for key, value in result.settings.items() if key not in _NO_SETTINGS]
    first = next(iter(shown.values()), [])
    common += [(key, first[place]) for place, key in enumerate(keys) if place not in differ]
    shared = Grid("settings in common", ("setting", "value"), common, labels=2)
    found = [("The same in every configuration", shared)]
    if differ:
        headers = ("configuration", *(keys[place] for place in differ))
        lines = [(name, *(cells[place] for place in differ)) for name, cells in shown.items()]
        found.append(
            ("What tells the configurations apart", Grid("settings that differ", headers, lines, len(headers)))
        )
    return found


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
