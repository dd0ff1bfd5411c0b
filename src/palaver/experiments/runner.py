"""Runs the configurations of an experiment one after the other, can be stopped at any time, and writes the results."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import polars as pl

import palaver
from palaver.data import Dataset
from palaver.experiments.folder import (
    SCHEMA,
    Checkpoints,
    Folder,
    publish,
    read_arrays,
    write_arrays,
    write_frame,
    write_json,
)
from palaver.experiments.kinds import KINDS, kind_of, rows_of
from palaver.experiments.study import Row, Study
from palaver.report import write_report
from palaver.types import PalaverError


class Interrupted(Exception):
    """The run was stopped and its state saved."""


Progress = Callable[[str, int, bool, dict[str, float]], None]
"""``progress(configuration, rounds_done, finished, latest)``."""


@contextmanager
def _graceful() -> Generator[Callable[[], bool]]:
    """While open, the first Ctrl-C or SIGTERM only asks to stop; a second one ends at once."""
    asked = False

    def ask(number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("palaver: stopping after this stretch of rounds; once more to stop at once", file=sys.stderr)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def device_name(devices: int) -> str:
    """What the run computed on, for the record."""
    device = jax.devices()[0]
    return f"{devices} x {device.device_kind} ({device.platform})"


def plan(experiment: str, scale: str, rows: list[Row], seeds: list[int], devices: int) -> dict[str, Any]:
    """Contents of ``settings.json``: all that is needed to go on with an interrupted run."""
    kind = kind_of(rows)
    return {
        "experiment": experiment,
        "kind": kind,
        "scale": scale,
        "seeds": seeds,
        "devices": devices,
        "rows": [
            {"configuration": row.configuration, "settings": asdict(row.settings), "thesis": row.thesis} for row in rows
        ],
    } | KINDS[kind].plan(rows)


def stored_plan(folder: Folder) -> dict[str, Any]:
    """The ``settings.json`` of an interrupted run.

    Raises:
        PalaverError: if it cannot be read, or another version of palaver wrote it.

    """
    path = folder.partial / "settings.json"
    try:
        stored = _read_json(path)
        rows_of(stored)
        return {key: stored[key] for key in ("experiment", "scale", "seeds", "devices")} | stored
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PalaverError(f"{path} cannot be resumed from ({type(error).__name__}: {error}): start anew") from None


def run(
    stored: dict[str, Any],
    load: Callable[[str], Dataset],
    folder: Folder,
    *,
    progress: Progress = lambda *_: None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Runs what ``plan`` describes, or what is left of it, and publishes the result folder.

    Args:
        stored: from ``plan``, or the ``settings.json`` of an interrupted run.
        load: gives a data set by its name.
        folder: from ``open_folder``.
        progress: called after every evaluation.
        checkpoint_seconds: at least so long between two checkpoints; the interrupt always leaves one.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        Interrupted: on Ctrl-C, once the state is saved.
        PalaverError: settings out of range; nothing has been written under the folder's final name.

    """
    if (folder.partial / "summary.json").exists():  # stopped between its last file and its name
        summary = _read_json(folder.partial / "summary.json")
        write_report(folder.partial)
        publish(folder)
        return summary
    started = time.monotonic()
    write_json(folder.partial / "settings.json", stored)
    seeds: list[int] = stored["seeds"]
    kind, rows = KINDS[stored["kind"]], rows_of(stored)
    finished, seconds = [], 0.0
    for number, row in enumerate(rows):
        done = folder.partial / "history" / f"{number}.json"
        if not done.exists():
            study = kind.prepare(row, kind.load(row.settings, load), seeds, stored["devices"])
            with _graceful() as asked:
                summary = _run_row(number, row, study, folder, progress, asked, checkpoint_seconds)
            write_json(done, summary)
        finished.append(_read_json(done))
        seconds += finished[-1].pop("seconds")
    files = [folder.partial / "history" / f"{number}.parquet" for number in range(len(finished))]
    write_frame(folder.partial / "metrics.parquet", pl.concat([pl.read_parquet(file) for file in files]))
    pictures = read_arrays(file.with_suffix(".npz") for file in files)
    if pictures:
        write_arrays(folder.partial / "pictures.npz", pictures)
    summary = {
        "experiment": stored["experiment"],
        "kind": stored["kind"],
        "scale": stored["scale"],
        "version": palaver.__version__,
        "device": device_name(stored["devices"]),
        "seeds": len(seeds),
        "wall_seconds": round(max(seconds, time.monotonic() - started), 3),
    }
    summary |= kind.head(rows)
    summary["rows"] = finished
    write_json(folder.partial / "summary.json", summary)
    write_report(folder.partial)
    publish(folder)
    return summary


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _run_row(
    number: int,
    row: Row,
    study: Study,
    folder: Folder,
    progress: Progress,
    asked: Callable[[], bool],
    checkpoint_seconds: float,
) -> dict[str, Any]:
    """One configuration from its start, or from its latest checkpoint, to its summary."""
    state, finished = study.state, False
    pieces = folder.partial / "history" / str(number)
    pieces.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder, number)
    began = saved = time.monotonic()
    before = 0.0
    try:
        latest = checkpoints.latest()
        if latest is not None:
            state = checkpoints.restore(latest, state)
            stood = _read_json(pieces / f"{latest}.json")
            before, finished = stood["seconds"], stood["finished"]
        while not finished:
            state, seen = study.advance(state)
            finished = seen.finished
            if seen.pictures:
                drawn = {f"{number}/{seen.round}/{kind}": picture for kind, picture in seen.pictures.items()}
                write_arrays(pieces / f"{seen.round}.npz", drawn)
            write_frame(pieces / f"{seen.round}.parquet", seen.frame)
            progress(row.configuration, seen.round, finished, seen.latest)
            if asked() or (time.monotonic() - saved > checkpoint_seconds and not finished):
                stands = {"seconds": before + time.monotonic() - began, "finished": finished}
                write_json(pieces / f"{seen.round}.json", stands)
                checkpoints.save(seen.round, state)
                saved = time.monotonic()
            if asked():
                raise Interrupted
    except BaseException:
        checkpoints.close()
        raise
    checkpoints.discard()
    evaluated = sorted(int(file.stem) for file in pieces.glob("*.parquet"))
    history = pl.concat([pl.DataFrame(schema=SCHEMA), *(pl.read_parquet(pieces / f"{at}.parquet") for at in evaluated)])
    pictures = read_arrays(sorted(pieces.glob("*.npz"), key=lambda file: int(file.stem)))
    write_arrays(folder.partial / "history" / f"{number}.npz", pictures)
    write_frame(folder.partial / "history" / f"{number}.parquet", history)
    return study.summarise(state, history) | {"seconds": before + time.monotonic() - began}
