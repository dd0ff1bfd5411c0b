"""Runs the configurations of an experiment one after the other, can be stopped at any time, and writes the results."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.studies.chapter import AnyChapter, Configuration, Study
from palaver.studies.files import write_atomically, write_json
from palaver.studies.folder import Checkpoints, Folder, publish, read_arrays
from palaver.studies.record import SCHEMA
from palaver.studies.settings import changed
from palaver.studies.stopping import graceful
from palaver.types import PalaverError
from palaver.version import __version__


class Interrupted(Exception):
    """The run was stopped and its state saved."""


Progress: TypeAlias = Callable[[str, int, bool, dict[str, float]], None]
"""``progress(configuration, steps_done, finished, latest)``."""


class Plan(NamedTuple):
    """All that a run needs; ``settings.json`` holds it."""

    experiment: str
    scale: str
    chapter: AnyChapter
    configurations: Sequence[Configuration]
    seeds: Sequence[int]
    devices: int
    overrides: Mapping[str, Any] = {}
    """Settings that were given in place of the experiment's own; a configuration keeps what makes it."""
    only: Sequence[str] = ()
    """Patterns that chose the configurations; none: all."""

    def to_json(self) -> dict[str, Any]:
        """The contents of ``settings.json``."""
        return {
            "version": __version__,
            "experiment": self.experiment,
            "chapter": self.chapter.name,
            "scale": self.scale,
            "seeds": list(self.seeds),
            "devices": self.devices,
            "overrides": dict(self.overrides),
            "only": list(self.only),
            "rows": [
                {"configuration": row.name, "settings": asdict(row.settings), "thesis": row.thesis}
                for row in self.configurations
            ],
        } | self.chapter.plan(self.configurations)


def stored_plan(folder: Folder, chapters: Callable[[str], AnyChapter]) -> Plan:
    """The plan of an interrupted run, from its ``settings.json``.

    Args:
        folder: of the run.
        chapters: a chapter by its name.

    Raises:
        PalaverError: if it cannot be read, another version of palaver wrote it, or a setting in it is not allowed.

    """
    path = folder.partial / "settings.json"
    try:
        stored = _read_json(path)
        chapter = chapters(stored["chapter"])
        rows = [_stored(chapter, row["configuration"], row["settings"], row["thesis"]) for row in stored["rows"]]
        if stored["version"] != __version__:
            raise ValueError(f"palaver {stored['version']} wrote it, this is {__version__}")
        names = ("seeds", "devices", "overrides", "only")
        return Plan(stored["experiment"], stored["scale"], chapter, rows, *(stored[name] for name in names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PalaverError(f"{path} cannot be resumed from ({type(error).__name__}: {error}): start anew") from None


def _stored(chapter: AnyChapter, name: str, settings: dict[str, Any], thesis: dict[str, float]) -> Configuration:
    missing = [field.name for field in fields(chapter.settings) if field.name not in settings]
    if missing:
        raise ValueError(f"“{name}” has no {missing[0]}")
    return Configuration(name, changed(chapter.scales["cpu"], settings, f"“{name}”: "), thesis)


def _device_name(devices: int) -> str:
    device = jax.devices()[0]
    return f"{devices} x {device.device_kind} ({device.platform})"


def run(
    plan: Plan,
    load: Callable[[str], Dataset],
    folder: Folder,
    *,
    report: Callable[[Path], object],
    progress: Progress = lambda *_: None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Runs a plan, or what is left of it, and publishes the result folder.

    Args:
        plan: what to run.
        load: gives a data set by its name.
        folder: from ``open_folder``.
        report: writes the report into a folder that holds all results (``palaver.report.write_report``).
        progress: called after every evaluation.
        checkpoint_seconds: at least so long between two checkpoints; an interrupt always leaves one.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        Interrupted: on Ctrl-C, once the state is saved.
        PalaverError: settings out of range; nothing has been written under the folder's final name.

    """
    if (folder.partial / "summary.json").exists():  # stopped between its last file and its name
        summary = _read_json(folder.partial / "summary.json")
        report(folder.partial)
        publish(folder)
        return summary
    started = time.monotonic()
    write_json(folder.partial / "settings.json", plan.to_json())
    finished, seconds = [], 0.0
    for number, row in enumerate(plan.configurations):
        done = folder.partial / "history" / f"{number}.json"
        if not done.exists():
            study = plan.chapter.prepare(row, plan.chapter.load(row.settings, load), plan.seeds, plan.devices)
            with graceful() as asked:
                of_row = _Row(number, row.name, study, folder.partial / "history" / str(number))
                _run_row(of_row, Checkpoints(folder, number), progress, asked, checkpoint_seconds)
        finished.append(_read_json(done))
        seconds += finished[-1].pop("seconds")
    summary = {
        "experiment": plan.experiment,
        "chapter": plan.chapter.name,
        "scale": plan.scale,
        "version": __version__,
        "device": _device_name(plan.devices),
        "seeds": len(plan.seeds),
        "overrides": dict(plan.overrides),
        "only": list(plan.only),
        "wall_seconds": round(max(seconds, time.monotonic() - started), 3),
    }
    _write_results(plan, folder.partial, summary, finished)
    report(folder.partial)
    publish(folder)
    return summary


def _write_results(plan: Plan, partial_folder: Path, summary: dict[str, Any], finished: list[dict[str, Any]]) -> None:
    """``metrics.parquet``, ``pictures.npz`` and ``summary.json`` from what every configuration has left."""
    files = [partial_folder / "history" / f"{number}.parquet" for number in range(len(finished))]
    history = pl.concat([pl.read_parquet(file) for file in files])
    _write_frame(partial_folder / "metrics.parquet", history)
    pictures = read_arrays(file.with_suffix(".npz") for file in files)
    if pictures:
        _write_arrays(partial_folder / "pictures.npz", pictures)
    summary |= plan.chapter.conclude(plan.configurations, finished, history)
    summary["rows"] = finished
    write_json(partial_folder / "summary.json", summary)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _write_frame(path: Path, frame: pl.DataFrame) -> None:
    write_atomically(path, frame.write_parquet)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_atomically(path, partial(np.savez, allow_pickle=False, **arrays))


class _Row(NamedTuple):
    """One configuration on its way."""

    number: int
    name: str
    study: Study
    pieces: Path
    """Folder of its history, a file per evaluation."""


def _run_row(
    row: _Row, checkpoints: Checkpoints, progress: Progress, asked: Callable[[], bool], checkpoint_seconds: float
) -> None:
    """One configuration from its start, or from its latest checkpoint, to its summary beside its pieces."""
    # An array of a program that has failed, of memory for example, raises its error here; int() of it waits for ever.
    state, finished, before = jax.block_until_ready(row.study.state), False, 0.0
    row.pieces.mkdir(parents=True, exist_ok=True)
    began = saved = time.monotonic()
    try:
        latest = checkpoints.latest()
        if latest is not None:
            state = checkpoints.restore(latest, state)
            stood = _read_json(row.pieces / f"{latest}.json")
            before, finished = stood["seconds"], stood["finished"]
        while not finished:
            state, evaluation = row.study.advance(state)
            finished, step = evaluation.finished, evaluation.step
            if evaluation.pictures:
                drawn = {f"{row.number}/{step}/{kind}": picture for kind, picture in evaluation.pictures.items()}
                _write_arrays(row.pieces / f"{step}.npz", drawn)
            _write_frame(row.pieces / f"{step}.parquet", evaluation.frame)
            progress(row.name, step, finished, evaluation.latest)
            if asked() or (time.monotonic() - saved > checkpoint_seconds and not finished):
                stands = {"seconds": before + time.monotonic() - began, "finished": finished}
                write_json(row.pieces / f"{step}.json", stands)
                checkpoints.save(step, state)
                saved = time.monotonic()
            if asked():
                raise Interrupted
        summary = row.study.summarise(state, _gather(row)) | {"seconds": before + time.monotonic() - began}
        write_json(row.pieces.with_suffix(".json"), summary)
    except BaseException:
        checkpoints.close()
        raise
    checkpoints.discard()


def _gather(row: _Row) -> pl.DataFrame:
    """The whole history of a finished configuration, from its pieces to one file beside them."""
    steps = sorted(int(file.stem) for file in row.pieces.glob("*.parquet"))
    frames = (pl.read_parquet(row.pieces / f"{step}.parquet") for step in steps)
    history = pl.concat([pl.DataFrame(schema=SCHEMA), *frames])
    pictures = read_arrays(sorted(row.pieces.glob("*.npz"), key=lambda file: int(file.stem)))
    _write_arrays(row.pieces.with_suffix(".npz"), pictures)
    _write_frame(row.pieces.with_suffix(".parquet"), history)
    return history
