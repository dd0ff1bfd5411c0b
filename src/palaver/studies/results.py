"""Result folders: read whole and checked once, or refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from pydantic_core import from_json

from palaver.npz import read_npz
from palaver.studies.files import digest
from palaver.studies.findings import Metric, support_of
from palaver.studies.folder import PARTIAL
from palaver.studies.record import SCHEMA, TIMINGS
from palaver.studies.schema import FOREIGN, LARGEST, Schema, check
from palaver.studies.statistics import ROUNDED, Interval, interval
from palaver.types import PalaverError

if TYPE_CHECKING:
    from palaver.studies.chapter import AnyChapter

PICTURES = "pictures.npz"
"""Arrays by ``"{row}/{step}/{kind}"``: of a configuration's row in the settings, a step, and what is shown."""

_TRY = """
import contextlib, sys, polars
with contextlib.suppress(BaseException):
    polars.read_parquet(sys.argv[1], glob=False)
"""

_MOST_BYTES = 2**30
"""Of the arrays that are read from one file; a hundred times what a run writes."""


class Result(NamedTuple):
    """One run, as its files tell it."""

    folder: Path
    """Where it lies."""
    settings: dict[str, Any]
    """``settings.json``."""
    metrics: pl.DataFrame
    """``metrics.parquet`` and ``timings.parquet``, tidy: the columns of ``SCHEMA``."""
    summary: dict[str, Any]
    """``summary.json``. The timings of a row's metrics are among its metrics, its others are its ``timings``; where the
    chapter is known, intervals are taken from the values by seed, by this version's method.
    """


def read_result(folder: str | Path, chapters: Callable[[str], AnyChapter] | None = None) -> Result:
    """Reads a result folder and checks that its files hold what a report reads.

    Args:
        folder: its path.
        chapters: a chapter by its name (``palaver.experiments.chapter``), whose files are then checked for what its own
            report reads; None: for what every chapter's files hold.

    Returns:
        The contents of its files.

    Raises:
        PalaverError: if the folder is missing or is not a result folder, its chapter is not known, or a file in it
            cannot be read, is not as a run writes it, or does not belong to the others.

    """
    folder = Path(folder)
    complete = str(folder).removesuffix(PARTIAL)
    begun, done = (os.path.exists(f"{complete}{PARTIAL}/{name}") for name in ("settings.json", "summary.json"))
    if begun and not done and not os.path.exists(complete):
        raise PalaverError(f"{complete} is not complete: palaver run NAME --resume {complete} goes on with it")
    if not os.path.isdir(folder):
        raise PalaverError(f"{folder} is not a folder: give the result folder of a finished run")
    for name in ("settings.json", "metrics.parquet", "summary.json"):
        if not os.path.isfile(folder / name):
            what = "is a folder" if os.path.isdir(folder / name) else "is missing"
            raise PalaverError(f"{folder / name} {what}: give the result folder of a finished run")
    paths = folder / "settings.json", folder / "summary.json"
    settings, summary = (_read(path, lambda path: from_json(path.read_bytes())) for path in paths)
    chapter = None if chapters is None else _chapter(paths[1], summary, chapters)
    schema = Schema() if chapter is None else chapter.schema
    check(paths[0], settings, schema.settings)
    check(paths[1], summary, schema.summary)
    _check_names(paths, settings, summary)
    timings = summary.setdefault("timings", {})
    sums = (summary.get("checksums") or {}) | timings.get("checksums", {})
    _check_sums(folder, sums)
    names = ["metrics.parquet", *([TIMINGS] if os.path.lexists(folder / TIMINGS) else [])]
    for name in names:
        if name not in sums:  # from an older version
            _check_readable(folder / name)
    metrics = pl.concat([_metrics(folder / name) for name in names])
    for row in summary["rows"]:
        row["metrics"] |= timings.get("metrics", {}).get(row["configuration"], {})
        row["timings"] = timings.get("rows", {}).get(row["configuration"], {})
    result = Result(folder, settings, metrics, summary)
    if chapter is not None:
        _check_fractions(result, chapter.metrics)
        _renew_intervals(result, chapter.metrics)
    return result


def _chapter(path: Path, summary: Any, chapters: Callable[[str], AnyChapter]) -> AnyChapter:
    """The chapter that the summary names."""
    name = summary.get("chapter") if isinstance(summary, dict) else None
    if not isinstance(name, str):
        raise PalaverError(f"{path} names no chapter: {FOREIGN}")
    try:
        return chapters(name)
    except PalaverError as error:
        raise PalaverError(f"{path}: {error}") from None


def _check_names(paths: tuple[Path, Path], settings: dict[str, Any], summary: dict[str, Any]) -> None:
    """Raises ``PalaverError`` unless both files have the same configurations, each once."""
    planned, found = ([row["configuration"] for row in content["rows"]] for content in (settings, summary))
    twice = [name for place, name in enumerate(found) if name in found[:place]]
    if twice:
        raise PalaverError(f"{paths[1]} has the configuration {twice[0]!r} twice: {FOREIGN}")
    if planned != found:
        raise PalaverError(f"{paths[1]} has other configurations than {paths[0]}: they are not of one run; {FOREIGN}")


def _check_fractions(result: Result, metrics: Sequence[Metric]) -> None:
    """Raises ``PalaverError`` where an accuracy or another share is not in [0, 1], rounding apart."""
    names = result.metrics["metric"].unique()
    shares = [name for name in names if support_of(metrics, name) == "fraction"]
    of_shares = pl.col("metric").is_in(shares) & pl.col("value").is_finite()
    history = result.metrics.filter(of_shares & ~pl.col("value").is_between(-ROUNDED, 1 + ROUNDED))
    for name, value in history.select("metric", "value").head(1).iter_rows():
        raise PalaverError(f"{result.folder / 'metrics.parquet'}: {name} is {value}: it should be in [0, 1]; {FOREIGN}")
    for row in result.summary["rows"]:
        for name, metric in row["metrics"].items():
            beyond = [v for v in (metric["mean"], *metric["values"]) if not -ROUNDED <= (v or 0) <= 1 + ROUNDED]
            if beyond and support_of(metrics, name) == "fraction":
                where = f"{name} of “{row['configuration']}” is {beyond[0]}"
                raise PalaverError(f"{result.folder / 'summary.json'}: {where}: it should be in [0, 1]; {FOREIGN}")


def _renew_intervals(result: Result, metrics: Sequence[Metric]) -> None:
    """Takes the intervals again from the seeds' values: results of an older version may have them by another method."""
    for row in result.summary["rows"]:
        for name, found in row["metrics"].items():
            if found["values"]:
                row["metrics"][name] = found | interval(found["values"], support_of(metrics, name))


def _check_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Raises ``PalaverError`` for a file that is not the one that the run has written."""
    for name, written in sums.items():
        path = folder / Path(name).name
        found = checksum(path) if os.path.isfile(path) else None
        if found != written:
            raise PalaverError(
                f"{path} is {'missing' if found is None else 'not as the run wrote it'} (summary.json has its "
                "SHA-256): put the original there, or run the experiment again"
            )


def checksum(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        PalaverError: it cannot be read.

    """
    return _read(path, digest)


def _check_readable(path: Path) -> None:
    """Raises ``PalaverError`` for a damaged file at which polars ends its process: another one reads it first."""
    # Errors of Python's are told when it is read here. -P: no module is imported from the current folder.
    ended = subprocess.run([sys.executable, "-P", "-c", _TRY, str(path)], capture_output=True, check=False)
    if ended.returncode:
        raise PalaverError(f"cannot read {path} (it is damaged, or memory is short): run the experiment again")


def _metrics(path: Path) -> pl.DataFrame:
    """``metrics.parquet``, with exactly the types of ``SCHEMA``; columns beside them are left out."""
    found = _read(path, lambda path: pl.read_parquet(path, glob=False))
    for column, kind in SCHEMA.items():
        if column not in found.columns:
            raise PalaverError(f"{path} has no column {column}: {FOREIGN}")
        if found.schema[column] != kind:
            raise PalaverError(f"{path}: column {column} is {found.schema[column]}: it should be {kind}; {FOREIGN}")
        if column not in ("node", "value") and found[column].null_count():
            raise PalaverError(f"{path}: column {column} has nulls: only node and value may have them; {FOREIGN}")
    beyond = found.filter(pl.col("value").is_finite() & (pl.col("value").abs() > LARGEST))
    if beyond.height or found.filter(pl.col("round") < 0).height:
        raise PalaverError(
            f"{path} has a round below 0 or a value beyond {LARGEST:g}: rounds count from 0, values are at most "
            f"{LARGEST:g} in size, NaN or infinite; {FOREIGN}"
        )
    return found.select(list(SCHEMA))


def read_pictures(result: Result, choose: Callable[[list[str]], Iterable[str]] = lambda names: names) -> dict[str, Any]:
    """Arrays of ``pictures.npz``.

    Args:
        result: the run.
        choose: which of the arrays to read, from the names of all.

    Returns:
        The arrays by name; none where there is no such file.

    Raises:
        PalaverError: the file cannot be read, an array's header says something else than the file holds, or an array
            is of Python objects or larger than any run writes.

    """
    path = result.folder / PICTURES
    if not os.path.lexists(path):
        return {}

    return _read(path, partial(read_npz, choose=choose, most=_MOST_BYTES))


def check_tiles(path: Path, name: str, grid: np.ndarray) -> np.ndarray:
    """A grid of pictures, if it is one: uint8 ``[rows, columns, H, W]`` or ``[rows, columns, H, W, 3]``.

    Raises:
        PalaverError: it is something else, or empty.

    """
    tiles = grid.ndim == 4 or (grid.ndim == 5 and grid.shape[-1] == 3)
    if grid.dtype != np.uint8 or not tiles or not grid.size:
        raise PalaverError(
            f"{path} holds {grid.dtype} {list(grid.shape)} under {name!r}: it must be uint8 [rows, columns, H, W] or "
            "[rows, columns, H, W, 3]; run the experiment again"
        )
    return grid


def last_rounds(result: Result) -> dict[str, int]:
    """The last evaluated round of each configuration.

    A seed that never reached the target is known to need more than this.
    """
    last = result.metrics.group_by("configuration").agg(pl.col("round").max())
    return {str(name): int(number) for name, number in last.iter_rows() if number is not None}


def last_sums(result: Result, names: Sequence[str]) -> dict[str, float]:
    """The sum of some metrics of the whole collective at each configuration's last evaluated round, mean over seeds."""
    of_names = result.metrics.filter(pl.col("metric").is_in(names) & pl.col("node").is_null())
    last = of_names.filter(pl.col("round") == pl.col("round").max().over("configuration"))
    sums = last.group_by("configuration", "seed").agg(pl.col("value").sum())
    return dict(sums.group_by("configuration").agg(pl.col("value").mean()).iter_rows())


def data_of(result: Result) -> list[str]:
    """The names of its configurations' data sets, each once."""
    named = [row["settings"].get("data") for row in result.settings["rows"]]
    return list(dict.fromkeys(str(name) for name in named if name))


def settings_of(result: Result) -> dict[str, dict[str, Any]]:
    """The settings of each configuration, by its name."""
    return {str(row["configuration"]): row["settings"] for row in result.settings["rows"]}


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


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What the reader makes of a file; the libraries behind it fail in many ways."""
    try:
        return reader(path)
    except PalaverError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException) -> PalaverError:
    """The error to raise for a result file that cannot be read.

    Args:
        path: of the file.
        error: what reading it raised.

    Returns:
        A ``PalaverError`` of one line, not raised here.

    """
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return PalaverError(f"cannot read {path} ({reason}): run the experiment again")
