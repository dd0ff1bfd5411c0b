"""Runs the configurations of an experiment one after the other, can be stopped at any time, and writes the results."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.errors import MachineError, PalaverError
from palaver.studies import hosts
from palaver.studies.ahead import in_turn
from palaver.studies.chapter import Configuration, Evaluation, Study
from palaver.studies.checkpoints import Checkpoints
from palaver.studies.files import DamagedError, check_digests, digest, write_arrays, write_frame, write_json
from palaver.studies.folder import Folder, clear_drafts, publish, recoverable
from palaver.studies.history import History
from palaver.studies.plan import Plan, store_plan
from palaver.studies.record import TIMINGS, apart, take_timings
from palaver.studies.results import PICTURES
from palaver.studies.stopping import graceful
from palaver.types import PyTree
from palaver.version import __version__

Progress: TypeAlias = Callable[[str, int, bool, dict[str, float]], None]
"""``progress(configuration, steps_done, finished, latest)``."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
    ahead: int = 0,
) -> dict[str, Any]:
    """Runs a plan, or what is left of it, and publishes the result folder; the other hosts ``follow``.

    Args:
        plan: what to run.
        load: gives a data set by its name.
        folder: from ``open_folder``, still open.
        report: writes the report into a folder that holds all results (``palaver.report.write_report``).
        progress: called after every evaluation.
        checkpoint_seconds: at least so long between two checkpoints; an interrupt always leaves one.
        ahead: how many of the next configurations are made ready and compiled while one trains.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once the state is saved.
        PalaverError: settings out of range, or what an interrupted run has left is damaged; nothing has been written
            under the folder's final name.
        MachineError: a file cannot be written; the run can be resumed, or has left nothing.

    """
    with recoverable(folder, f"palaver run {plan.experiment} --resume {folder.final} goes on"):
        clear_drafts(folder)
        complete = folder.partial / "summary.json"
        if complete.exists() and not folder.history.exists():  # stopped between its last file and its name
            hosts.share(b"[]")
            report(folder.partial)
        else:
            _run(plan, load, folder, progress, checkpoint_seconds, ahead)
            try:
                report(folder.partial)
            except PalaverError:  # of a chapter of one's own: its results are whole all the same
                publish(folder)
                raise
        publish(folder)
    return json.loads((folder.final / "summary.json").read_bytes())


def follow(plan: Plan, load: Callable[[str], Dataset]) -> None:
    """Trains with host 0, which runs the plan, what is left of it; writes nothing.

    Args:
        plan: host 0's.
        load: gives a data set by its name.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM at any host, once host 0 has saved the state.

    """
    for number in json.loads(hosts.share()):
        row = plan.configurations[number]
        study = _ready(plan, row, load)
        with graceful() as asked:
            _train(row.name, study, Checkpoints(Path()), lambda _: {}, asked=asked)


def _run(
    plan: Plan,
    load: Callable[[str], Dataset],
    folder: Folder,
    progress: Progress,
    checkpoint_seconds: float,
    ahead: int,
) -> None:
    """Trains what is left of a plan, and writes all result files."""
    started = time.monotonic()
    if not folder.settings.exists():
        store_plan(plan._replace(date=_now()), folder)
    histories = [History(folder.history, number) for number in range(len(plan.configurations))]
    finished = {number: found for number, history in enumerate(histories) if (found := history.finished()) is not None}
    left = [number for number in range(len(histories)) if number not in finished]
    hosts.share(json.dumps(left).encode())
    jobs = [partial(_ready, plan, plan.configurations[number], load) for number in left]
    if jax.process_count() > 1:  # arrays are put on all hosts' devices, by all hosts in the same order
        ahead = 0
    with closing(in_turn(jobs, ahead)) as studies:
        for number, study in zip(left, studies, strict=True):
            row, history = plan.configurations[number], histories[number]
            with graceful() as asked:
                on_its_way = _Row(row.name, study, history, Checkpoints(folder.checkpoints(history.row)))
                finished[number] = _run_row(on_its_way, progress, asked, checkpoint_seconds)
    seconds = sum(found["seconds"] for found in finished.values())
    summary = {
        "experiment": plan.experiment,
        "chapter": plan.chapter.name,
        "scale": plan.scale,
        "version": __version__,
        "device": _device_name(plan.devices),
        "seeds": len(plan.seeds),
        "overrides": dict(plan.overrides),
        "only": list(plan.only),
    }
    wall_seconds = round(max(seconds, time.monotonic() - started), 3)
    summaries = [finished[number]["summary"] for number in range(len(histories))]
    _write_results(plan, folder.partial, summary, wall_seconds, summaries, [history.read() for history in histories])


def _ready(plan: Plan, row: Configuration, load: Callable[[str], Dataset]) -> Study:
    study = plan.chapter.prepare(row, plan.chapter.load(row.settings, load), plan.seeds, plan.devices)
    study.compile()
    return study


def _write_results(
    plan: Plan,
    partial_folder: Path,
    summary: dict[str, Any],
    wall_seconds: float,
    finished: list[dict[str, Any]],
    histories: Sequence[tuple[pl.DataFrame, dict[str, np.ndarray]]],
) -> None:
    """The result files from what every configuration has left, readings of the clock apart from all others."""
    rows = pl.concat([rows for rows, _ in histories])
    measured, timings = apart(rows)
    write_frame(partial_folder / "metrics.parquet", measured)
    if not timings.is_empty():
        write_frame(partial_folder / TIMINGS, timings)
    pictures = {name: array for _, own in histories for name, array in own.items()}
    if pictures:
        write_arrays(partial_folder / PICTURES, pictures)
    summary |= plan.chapter.conclude(plan.configurations, finished, rows)
    seconds = {row["configuration"]: take_timings(row.get("metrics", {})) for row in finished}
    others = {row["configuration"]: row.pop("timings", {}) for row in finished}
    summary["rows"] = finished
    summary["checksums"] = _digests(partial_folder, "metrics.parquet", PICTURES)
    summary["timings"] = {
        "wall_seconds": wall_seconds,
        "metrics": {name: own for name, own in seconds.items() if own},
        "rows": {name: own for name, own in others.items() if own},
        "checksums": _digests(partial_folder, TIMINGS),
    }
    write_json(partial_folder / "summary.json", summary)


def _digests(folder: Path, *names: str) -> dict[str, str]:
    return {name: digest(folder / name) for name in names if (folder / name).exists()}


class _Row(NamedTuple):
    """One configuration on its way."""

    name: str
    study: Study
    history: History
    checkpoints: Checkpoints


def _run_row(row: _Row, progress: Progress, asked: Callable[[], bool], checkpoint_seconds: float) -> dict[str, Any]:
    """One configuration from its start, or from its latest whole checkpoint, to its summary and how long it took."""

    def keep(evaluation: Evaluation) -> dict[str, str]:
        written = row.history.add(evaluation)
        progress(row.name, evaluation.step, evaluation.finished, evaluation.latest)
        return written

    def check(about: Mapping[str, Any]) -> None:
        check_digests(row.history.pieces, about["pieces"])

    trained = _train(
        row.name, row.study, row.checkpoints, keep, check=check, asked=asked, checkpoint_seconds=checkpoint_seconds
    )
    try:
        rows, pictures = row.history.gather(trained.pieces)
    except DamagedError as error:  # since this process or its checkpoint saw it whole
        raise MachineError(f"{error}: mend its disk") from None
    summary = row.study.summarise(trained.state, rows)
    found = {"summary": summary, "seconds": time.monotonic() - trained.began}
    row.history.finish(rows, pictures, found)
    row.checkpoints.discard()
    return found


class _Trained(NamedTuple):
    """A configuration at the end of its training."""

    state: PyTree
    began: float
    """When it began by this process's clock, had it never been interrupted."""
    pieces: dict[str, str]
    """Digests of its history's files by their names."""


def _train(
    name: str,
    study: Study,
    checkpoints: Checkpoints,
    keep: Callable[[Evaluation], dict[str, str]],
    *,
    check: Callable[[Mapping[str, Any]], None] = lambda _: None,
    asked: Callable[[], bool],
    checkpoint_seconds: float = math.inf,
) -> _Trained:
    """Trains a configuration, or what is left of it, on all hosts together.

    Args:
        name: of the configuration.
        study: made ready.
        checkpoints: its states.
        keep: keeps an evaluation; gives the digests of its files by their names.
        check: for ``Checkpoints.restore``.
        asked: whether this host is to stop; all hosts stop where one is.
        checkpoint_seconds: as in ``run``; host 0's counts.

    Raises:
        KeyboardInterrupt: a host was asked to stop, and the state is saved.

    """
    # An array of a program that has failed, of memory for example, raises its error here; int() of it waits for ever.
    state = jax.block_until_ready(study.begin())
    if hosts.first() and hosts.undivided(state):
        why = "its nodes cannot be divided among them, or are too little work for it"
        print(f"palaver: every host trains all of “{name}”: {why}", file=sys.stderr)
    finished, before, pieces = False, 0.0, dict[str, str]()
    began = saved = time.monotonic()
    latest = checkpoints.restore(state, check)
    if latest is not None:
        state, (before, finished, pieces) = latest.state, (latest.about[name] for name in _SAVED)
    while not finished:
        state, evaluation = study.advance(state)
        finished = evaluation.finished
        pieces |= keep(evaluation)
        stop, due = _agreed(asked(), time.monotonic() - saved > checkpoint_seconds and not finished)
        if stop or due:
            stands = (before + time.monotonic() - began, finished, pieces)
            checkpoints.save(evaluation.step, state, dict(zip(_SAVED, stands, strict=True)))
            saved = time.monotonic()
        if stop:
            hosts.leave()
            raise KeyboardInterrupt
    return _Trained(state, began - before, pieces)


def _agreed(asked: bool, due: bool) -> tuple[bool, bool]:
    """Whether any host was asked to stop, and whether host 0 finds that a checkpoint is due."""
    votes = hosts.gather(np.array([asked, due]))
    return bool(votes[:, 0].any()), bool(votes[0, 1])


_SAVED = ("seconds", "finished", "pieces")
"""With a state: how long training took so far, whether it is over, and the digests of the history until then."""
