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
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

import palaver
from palaver.data import Dataset
from palaver.engines.mesh import across
from palaver.engines.simulate import simulation
from palaver.engines.train import seed_keys, stretches
from palaver.experiments import record
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
from palaver.experiments.measure import measure
from palaver.experiments.settings import (
    CollectiveSettings,
    cut,
    make_collective,
    make_shards,
    make_topology,
)
from palaver.report import write_report
from palaver.types import NO_PEER, PalaverError

MOST_EDGES = 20_000
"""A larger graph is not stored for drawing."""


class Row(NamedTuple):
    """One configuration of an experiment."""

    configuration: str
    settings: CollectiveSettings
    thesis: dict[str, float]
    """The thesis's numbers for it, by metric name; accuracies as fractions."""


class Interrupted(Exception):
    """The run was stopped and its state saved."""


Progress = Callable[[str, int, int, dict[str, float]], None]
"""``progress(configuration, rounds_done, rounds, latest)``."""


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
    """Contents of ``settings.json``: all that is needed to go on with an interrupted run, and the graph to draw."""
    most = max(rows, key=lambda row: row.settings.nodes).settings
    neighbours = np.asarray(make_topology(most)(jax.numpy.int32(0)))
    edges = sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(neighbours) for j in row if j != NO_PEER})
    return {
        "experiment": experiment,
        "scale": scale,
        "seeds": seeds,
        "devices": devices,
        "rows": [
            {"configuration": row.configuration, "settings": asdict(row.settings), "thesis": row.thesis} for row in rows
        ],
        "graph": {"nodes": most.nodes, "edges": edges if len(edges) <= MOST_EDGES else []},
    }


def rows_of(stored: dict[str, Any]) -> list[Row]:
    """The configurations in a ``settings.json``."""
    return [
        Row(
            entry["configuration"],
            CollectiveSettings(**(entry["settings"] | {"widths": tuple(entry["settings"]["widths"])})),
            entry["thesis"],
        )
        for entry in stored["rows"]
    ]


def stored_plan(folder: Folder) -> dict[str, Any]:
    """The ``settings.json`` of an interrupted run.

    Raises:
        PalaverError: if it cannot be read, or another version of palaver wrote it.

    """
    path = folder.partial / "settings.json"
    try:
        stored = _read_json(path)
        rows_of(stored)
        return {key: stored[key] for key in ("experiment", "scale", "seeds", "devices", "rows", "graph")}
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
    finished, seconds = [], 0.0
    for number, row in enumerate(rows_of(stored)):
        done = folder.partial / "history" / f"{number}.json"
        if not done.exists():
            data = cut(row.settings, load(row.settings.data))
            with _graceful() as asked:
                summary = _run_row(number, row, stored, data, folder, progress, asked, checkpoint_seconds)
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
        "scale": stored["scale"],
        "version": palaver.__version__,
        "device": device_name(stored["devices"]),
        "seeds": len(seeds),
        "wall_seconds": round(max(seconds, time.monotonic() - started), 3),
    }
    if any(row["settings"]["objective"] != "labels" for row in stored["rows"]):
        summary["measure"] = "probe"
    else:
        summary["target"] = stored["rows"][0]["settings"]["target"]
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
    stored: dict[str, Any],
    data: Dataset,
    folder: Folder,
    progress: Progress,
    asked: Callable[[], bool],
    checkpoint_seconds: float,
) -> dict[str, Any]:
    """One configuration from its start, or from its latest checkpoint, to its summary."""
    settings, seeds, devices = row.settings, stored["seeds"], stored["devices"]
    group = make_collective(settings, data)
    sim = simulation(
        group, make_shards(settings, data, seeds), spread=across([count for _, count in group.groups], devices)
    )
    weights = record.sizes(group, data, sim.bits)
    look = measure(settings, data, sim, len(seeds))
    state, memory = sim.init(seed_keys(seeds)), look.memory
    pieces = folder.partial / "history" / str(number)
    pieces.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder, number)
    began = saved = time.monotonic()
    before = 0.0
    try:
        latest = checkpoints.latest()
        if latest is not None:
            state, memory = checkpoints.restore(latest, (state, memory))
            before = _read_json(pieces / f"{latest}.json")["seconds"]

        def save(step: int) -> None:
            write_json(pieces / f"{step}.json", {"seconds": before + time.monotonic() - began})
            checkpoints.save(step, (state, memory))

        done, reported = int(state.round), settings.report_round or settings.rounds
        for state in stretches(sim, state, settings.rounds, settings.eval_every, {reported}):  # noqa: B020
            step, done = int(state.round) - done, int(state.round)
            seen = look.look(state, memory, done in (reported, settings.rounds))
            memory = seen.memory
            bits = record.bits_per_node(state, weights, settings.batch_size)
            shared = {f"bits.{name}": value for name, value in bits.items()}
            shared |= {name: np.asarray(count, np.float64).mean(1) for name, count in state.counts._asdict().items()}
            node = seen.node | ({"loss": np.asarray(state.loss) / step} if step else {})
            frame = record.rows(row.configuration, seeds, state, node=node, collective=seen.collective | shared)
            if seen.pictures:
                drawn = {f"{number}/{done}/{kind}": picture for kind, picture in seen.pictures.items()}
                write_arrays(pieces / f"{done}.npz", drawn)
            write_frame(pieces / f"{done}.parquet", frame)
            progress(row.configuration, done, settings.rounds, _latest(frame))
            if (np.asarray(state.diverged) >= 0).all():
                break
            if asked():
                save(done)
                raise Interrupted
            if time.monotonic() - saved > checkpoint_seconds and done < settings.rounds:
                save(done)
                saved = time.monotonic()
    except BaseException:
        checkpoints.close()
        raise
    checkpoints.discard()
    evaluated = sorted(int(file.stem) for file in pieces.glob("*.parquet"))
    history = pl.concat([pl.DataFrame(schema=SCHEMA), *(pl.read_parquet(pieces / f"{at}.parquet") for at in evaluated)])
    pictures = read_arrays(sorted(pieces.glob("*.npz"), key=lambda file: int(file.stem)))
    write_arrays(folder.partial / "history" / f"{number}.npz", pictures)
    write_frame(folder.partial / "history" / f"{number}.parquet", history)
    diverged = {seed: int(at) for seed, at in zip(seeds, np.asarray(state.diverged), strict=True) if at >= 0}
    summary = record.summarise(
        row.configuration,
        seeds,
        history,
        rounds=reported,
        target=settings.target,
        thesis=row.thesis,
        diverged=diverged,
        probes=settings.objective != "labels",
    )
    return summary | {"seconds": before + time.monotonic() - began}


def _latest(frame: pl.DataFrame) -> dict[str, float]:
    """Seed means of the two headline numbers, for the progress display."""
    means = frame.filter(pl.col("metric").is_in(["average_accuracy", "collective_accuracy"]))
    return dict(means.group_by("metric").agg(pl.col("value").mean()).iter_rows())
