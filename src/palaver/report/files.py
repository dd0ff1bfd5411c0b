"""Result folders: read whole or refused in one line; written so that no reader sees half a file."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from palaver.types import PalaverError

COLUMNS = ("configuration", "seed", "round", "node", "metric", "value")
"""What ``metrics.parquet`` holds."""


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


def reported_rounds(result: Result) -> dict[str, int]:
    """The round at which each configuration's accuracies in the summary were taken.

    It is the settings' ``report_round`` where they have one, else the last round.
    """
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    last = last_rounds(result)
    return {name: settings.get(name, {}).get("report_round") or number for name, number in last.items()}


def data_of(result: Result) -> list[str]:
    """The data sets of its configurations, each once."""
    named = [(row.get("settings") or {}).get("data") for row in result.settings["rows"]]
    return list(dict.fromkeys(str(name) for name in named if name))


def nodes_of(settings: dict[str, Any]) -> dict[str, int]:
    """How many nodes each configuration has, where its settings say so."""
    found = {row["configuration"]: row.get("settings", {}).get("nodes") for row in settings["rows"]}
    return {name: nodes for name, nodes in found.items() if isinstance(nodes, int)}


def write_text(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and rename: whoever reads sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


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
