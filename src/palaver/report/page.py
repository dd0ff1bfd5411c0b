"""The report: one offline page that says what a run found, rebuilt from its result files alone."""

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from palaver.report.grids import overridden
from palaver.studies.chapter import AnyChapter
from palaver.studies.files import write_text
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
            it has been changed, unless a disk fails.

    """
    result = read_result(folder, chapters)
    findings = chapters(result.summary["chapter"]).report(result)
    drawn = {figure: svg for figure in findings.figures if (svg := figure.draw()) is not None}
    page = _PAGES.get_template("page.html.jinja").render(
        title=str(result.summary.get("experiment", "run")),
        facts=facts(result),
        findings=findings,
        notices=[*overridden(result), *findings.notices],
        drawn=[_shown(figure, svg) for figure, svg in drawn.items()],
        intervals=_INTERVALS,
        settings=_settings(result),
        split=_split,
    )
    files = {result.folder / "figures" / f"{figure.name}.svg": svg for figure, svg in drawn.items()}
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
    try:
        for path in set(figures.glob("*.svg")) - files.keys():
            path.unlink()
        for path, text in files.items():
            write_text(path, text)
    except OSError as error:
        reason = f"the report cannot be written ({error.strerror})"
        raise PalaverError(f"{folder}: {reason}: mend that, then palaver report {folder}") from error


def _shown(figure: Figure, svg: str) -> dict[str, Any]:
    """A figure for the template, the drawing as an image of its own, so that ids of two drawings never meet."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return figure._asdict() | {"source": source}


def _split(cell: str) -> tuple[str, str]:
    """A number, and its interval or count of seeds."""
    for opening in (" [", " ("):
        if opening in cell:
            middle, rest = cell.split(opening, 1)
            return middle, opening[1] + rest
    return cell, ""


def facts(result: Result) -> str:
    """Data, scale, seeds, version, device, seconds and target in one line."""
    summary = result.summary | result.summary["timings"]
    forms = {"scale": "scale {}", "seeds": "seeds: {}", "version": "version {}", "device": "{}"}
    forms["wall_seconds"] = "{:,.0f} s"
    found = [f"data: {', '.join(data_of(result))}"] if data_of(result) else []
    found += [form.format(summary[key]) for key, form in forms.items() if summary.get(key) is not None]
    if summary.get("target") is not None:
        found.append(f"target {percent(summary['target'])} %")
    return " · ".join(found)


def _settings(result: Result) -> list[tuple[str, Grid]]:
    """What all configurations share, and what tells them apart."""
    rows = settings_of(result)
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    shown = {name: [_value(row[key]) if key in row else NOTHING for key in keys] for name, row in rows.items()}
    differ = [place for place in range(len(keys)) if len({cells[place] for cells in shown.values()}) > 1]
    common = [(key, _value(value)) for key, value in result.settings.items() if key not in ("rows", "graph")]
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
