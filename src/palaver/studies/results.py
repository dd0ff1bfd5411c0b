"""Result folders: read whole, or refused in one line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from palaver.studies.record import SCHEMA, TIMINGS
from palaver.studies.statistics import Interval
from palaver.types import PalaverError

PICTURES = "pictures.npz"
"""Arrays by ``"{row}/{step}/{kind}"``: of a configuration's row in the settings, a step, and what is shown."""

_FOREIGN = "it is not a result file of this version; run the experiment again"


class Result(NamedTuple):
    """One run, as its files tell it."""

    folder: Path
    """Where it lies."""
    settings: dict[str, Any]
    """``settings.json``."""
    metrics: pl.DataFrame
    """``metrics.parquet`` and ``timings.parquet``, tidy: the columns of ``SCHEMA``."""
    summary: dict[str, Any]
    """``summary.json``; the timings of a row's metrics are among its metrics."""


def read_result(folder: str | Path) -> Result:
    """Reads a result folder.

    Args:
        folder: its path.

    Returns:
        The contents of its files.

    Raises:
        PalaverError: if the folder is missing, is not a result folder, or a file in it cannot be read.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PalaverError(f"{folder} is not a folder: give the result folder of a finished run")
    for name in ("settings.json", "metrics.parquet", "summary.json"):
        if not (folder / name).is_file():
            raise PalaverError(f"{folder} has no {name}: give the result folder of a finished run")
    settings, summary = (_rows(folder / name) for name in ("settings.json", "summary.json"))
    if not isinstance(summary.get("chapter"), str):
        raise PalaverError(f"{folder / 'summary.json'} names no chapter: {_FOREIGN}")
    metrics = _tidy(folder / "metrics.parquet")
    if (folder / TIMINGS).is_file():
        metrics = pl.concat([metrics, _tidy(folder / TIMINGS)])
    timings = summary.setdefault("timings", {})
    if not isinstance(timings, dict) or not isinstance(timings.setdefault("metrics", {}), dict):
        raise PalaverError(f"{folder / 'summary.json'} has timings that are no object: {_FOREIGN}")
    for row in summary["rows"]:
        if own := timings["metrics"].get(str(row["configuration"])):
            row["metrics"] = (row.get("metrics") or {}) | own
    return Result(folder, settings, metrics, summary)


def last_rounds(result: Result) -> dict[str, int]:
    """The last evaluated round of each configuration.

    A seed that never reached the target is known to need more than this.
    """
    last = result.metrics.group_by("configuration").agg(pl.col("round").max())
    return {str(name): int(number) for name, number in last.iter_rows() if number is not None}


def data_of(result: Result) -> list[str]:
    """The names of its configurations' data sets, each once."""
    named = [(row.get("settings") or {}).get("data") for row in result.settings["rows"]]
    return list(dict.fromkeys(str(name) for name in named if name))


def settings_of(result: Result) -> dict[str, dict[str, Any]]:
    """The settings of each configuration, by its name."""
    return {str(row["configuration"]): row.get("settings") or {} for row in result.settings["rows"]}


def metric_of(row: Mapping[str, Any], name: str) -> Interval | None:
    """A metric of one configuration.

    Args:
        row: the configuration's entry in ``summary.json``.
        name: of the metric.

    Returns:
        Its mean, interval and values; None where the row does not have it.

    """
    return (row.get("metrics") or {}).get(name)


def metrics_of(result: Result, name: str) -> dict[str, Interval | None]:
    """A metric of every configuration.

    Args:
        result: the run.
        name: of the metric.

    Returns:
        Its mean, interval and values by the configuration's name; None where one does not have it.

    """
    return {str(row["configuration"]): metric_of(row, name) for row in result.summary["rows"]}


def _rows(path: Path) -> dict[str, Any]:
    """A JSON object whose ``rows`` each name their ``configuration``."""
    found = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")))
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "configuration" in row for row in rows):
        raise PalaverError(f"{path} has no list 'rows' of configurations: {_FOREIGN}")
    return found


def _tidy(path: Path) -> pl.DataFrame:
    """A Parquet file with the columns of ``SCHEMA``."""
    found = _read(path, pl.read_parquet)
    missing = [column for column in SCHEMA if column not in found.columns]
    if missing:
        raise PalaverError(f"{path} has no column {', '.join(missing)}: {_FOREIGN}")
    return found.select(list(SCHEMA))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> PalaverError:
    """The error to raise for a result file that cannot be read.

    Args:
        path: of the file.
        error: what reading it raised.

    Returns:
        A ``PalaverError`` of one line, not raised here.

    """
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return PalaverError(f"cannot read {path} ({reason}): run the experiment again")
