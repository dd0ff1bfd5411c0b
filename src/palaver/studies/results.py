"""Result folders: read whole, or refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from palaver.studies.statistics import Interval
from palaver.types import PalaverError

COLUMNS = ("configuration", "seed", "round", "node", "metric", "value")
"""What ``metrics.parquet`` holds."""


PICTURES = "pictures.npz"
"""Arrays by ``"{row}/{step}/{kind}"``: of a configuration's row in the settings, a step, and what is shown."""


class Result(NamedTuple):
    """One run, as its files tell it."""

    folder: Path
    """Where it lies."""
    settings: dict[str, Any]
    """``settings.json``."""
    metrics: pl.DataFrame
    """``metrics.parquet``, tidy: the columns of ``COLUMNS``."""
    summary: dict[str, Any]
    """``summary.json``."""


def read_result(folder: str | Path) -> Result:
    """Read a result folder.

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
    return Result(folder, settings, _metrics(folder / "metrics.parquet"), summary)


def last_rounds(result: Result) -> dict[str, int]:
    """The last evaluated round of each configuration.

    A seed that never reached the target is known to need more than this.
    """
    last = result.metrics.group_by("configuration").agg(pl.col("round").max())
    return {str(name): int(number) for name, number in last.iter_rows() if number is not None}


def data_of(result: Result) -> list[str]:
    """The data sets of its configurations, each once."""
    named = [(row.get("settings") or {}).get("data") for row in result.settings["rows"]]
    return list(dict.fromkeys(str(name) for name in named if name))


def settings_of(result: Result) -> dict[str, dict[str, Any]]:
    """The settings of each configuration, by its name."""
    return {str(row["configuration"]): row.get("settings") or {} for row in result.settings["rows"]}


def metric_of(row: Mapping[str, Any], name: str) -> Interval | None:
    """A metric of a summary's row, where it has it."""
    return (row.get("metrics") or {}).get(name)


def metrics_of(result: Result, name: str) -> dict[str, Interval | None]:
    """A metric of every configuration of the summary, by the configuration's name."""
    return {str(row["configuration"]): metric_of(row, name) for row in result.summary["rows"]}


def _rows(path: Path) -> dict[str, Any]:
    """A JSON object whose ``rows`` each name their ``configuration``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PalaverError(f"cannot read {path} ({_line(error)}): run the experiment again") from error
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "configuration" in row for row in rows):
        raise PalaverError(f"{path} has no list 'rows' of configurations: it is not a result file of this library")
    return found


def _metrics(path: Path) -> pl.DataFrame:
    try:
        metrics = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PalaverError(f"cannot read {path} ({_line(error)}): run the experiment again") from error
    missing = [column for column in COLUMNS if column not in metrics.columns]
    if missing:
        raise PalaverError(f"{path} has no column {', '.join(missing)}: it is not a result file of this library")
    return metrics


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
