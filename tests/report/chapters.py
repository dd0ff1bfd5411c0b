"""Small synthetic result folders of students and of languages, with all the rows of their tables and random numbers."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from palaver import experiments
from palaver.language.report import metrics as of_language
from palaver.studies.record import SCHEMA
from palaver.studies.statistics import interval
from palaver.teaching.goals import COSTS
from palaver.teaching.report.metrics import TEACHER

SEEDS = 3
STEPS = (0, 20, 40, 60)
COMMAND = "palaver run {} --scale tiny --seeds 3"
DATE = "2026-03-04T05:06:07+00:00"


def make_language(folder: Path) -> Path:
    """Writes a result with the rows of Table 4.1, with messages of two symbols in its first row and 16 in its second.

    Args:
        folder: to make.

    Returns:
        The folder.

    """
    random = np.random.default_rng(0)
    last = [metric.name for metric in (*of_language.PROBES, *of_language.MESSAGES)]
    curves = [metric.name for metric in of_language.CURVES]

    def more(settings):
        return {"bits_available": settings.length, "crosses_wire": settings.estimator == "reinforce"}

    written = _write(folder, "table-4.1", last, curves, more, {}, random)
    held = {}
    for row, symbols in ((0, 2), (1, 16)):
        held[f"{row}/60/classes"] = random.dirichlet(np.ones(symbols), (2, 10, 8)).astype(np.float32)
        held[f"{row}/60/views"] = random.integers(0, 256, (4, 10, 8, 8), np.uint8)
        held[f"{row}/60/messages"] = random.integers(0, symbols, (2, 10, 8))
    np.savez(written / "pictures.npz", **held)
    return written


def make_teaching(folder: Path) -> Path:
    """Writes a result with the rows of Table 3.1 on digits.

    Args:
        folder: to make.

    Returns:
        The folder.

    """
    goals = [f"{percent} % of no teacher's best" for percent in (97, 98, 99)]
    last = ["test_accuracy", "updates_to_best", "validation_accuracy"]
    last += [f"{cost}_to.{goal}" for cost in COSTS for goal in goals]

    def more(settings):
        facts = {metric.name: 1.0 + settings.flipped for metric in TEACHER}
        return {"teacher": facts if settings.stack[0] > 1 else None}

    curves = ["validation_accuracy", *COSTS.values()]
    return _write(folder, "table-3.1", last, curves, more, {"goals": goals}, np.random.default_rng(0))


def _write(folder, experiment, last, curves, more, summary, random) -> Path:
    rows = [row.under() for row in experiments.rows(experiment, "tiny", {})]
    lines = [
        (row.name, seed, step, None, metric, (step + 1) / 61 * random.uniform(0.9, 1.0))
        for row in rows
        for metric in curves
        for seed in range(SEEDS)
        for step in STEPS
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(lines, schema=SCHEMA, orient="row").write_parquet(folder / "metrics.parquet")
    names = {"experiment": experiment, "chapter": experiments.EXPERIMENTS[experiment].chapter, "scale": "tiny"}
    stored = [{"configuration": row.name, "family": row.family, "settings": asdict(row.settings)} for row in rows]
    settings = names | {"command": COMMAND.format(experiment), "date": DATE, "rows": stored}
    (folder / "settings.json").write_text(json.dumps(settings))
    found = [
        {"configuration": row.name, "metrics": {name: interval(list(random.uniform(0.4, 0.9, SEEDS))) for name in last}}
        | more(row.settings)
        for row in rows
    ]
    facts = {"version": "0.0", "device": "cpu", "seeds": SEEDS, "wall_seconds": 83.4, "overrides": {}}
    (folder / "summary.json").write_text(json.dumps(names | facts | summary | {"rows": found}))
    return folder


SENDS = {
    "silent": 0.0,
    "own examples": 4e8,
    "outputs, plainest form": 3.5e7,
    "outputs, 4 bits": 9e6,
    "outputs, lean": 3e6,
    "outputs, labels": 1e6,
    "outputs": 2e7,
    "synchronous": 3e9,
    "asynchronous": 3.4e9,
    "FedAvg, every round": 1.7e9,
    "FedAvg, every 16": 1.6e8,
    "FedAvg, every 100": 2.5e7,
    "FedAvg, every 500": 5e6,
    "DiLoCo": 5e6,
    "gossip": 9e8,
}
"""Bits that a node sends, by what a configuration's name begins with."""
SKEWS = {"i.i.d.": 0.0, "by class": 1.0}


def make_versus(folder: Path) -> Path:
    """Writes a result with two families of the experiment of that name, at three learning rates.

    Outputs lose nothing by skew, methods that average and silent nodes lose up to 40 points. The second of the three
    rates is best, by two points.

    Args:
        folder: to make.

    Returns:
        The folder.

    """
    random, lines, found = np.random.default_rng(0), [], []
    rows = [row.under() for row in experiments.rows("versus", "tiny", {}) if row.family in SKEWS]
    for row in rows:
        what = row.name.removeprefix(f"{row.family}: ")
        bits = next((bits for name, bits in SENDS.items() if what.startswith(name)), 1e8) * random.uniform(0.9, 1.1)
        talks = what.startswith(("outputs", "own"))
        middle = 0.85 - SKEWS[row.family] * (0.05 if talks else 0.4) + random.normal(0, 0.02)
        middle -= 0.0 if row.settings.learning_rate == 0.001 else 0.02
        last = {}
        for name, accuracy in (("collective_accuracy", middle + 0.04), ("average_accuracy", middle)):
            last[name] = list(random.normal(accuracy, 0.008, SEEDS))
            last[f"test_{name}"] = list(random.normal(accuracy - 0.01, 0.008, SEEDS))
        last |= {f"collective_accuracy.{rule}": last["collective_accuracy"] for rule in ("confidence", "mean")}
        last |= {"bits.examples": [0.0] * SEEDS, "bits.indices": [0.0] * SEEDS, "bits.payload": [bits] * SEEDS}
        lines += [
            (row.name, seed, step, None, metric, values[seed] * step / STEPS[-1])
            for metric, values in last.items()
            for seed in range(SEEDS)
            for step in STEPS
        ]
        found.append({"configuration": row.name, "metrics": {name: interval(values) for name, values in last.items()}})
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(lines, schema=SCHEMA, orient="row").write_parquet(folder / "metrics.parquet")
    names = {"experiment": "versus", "chapter": "collective", "scale": "tiny"}
    stored = [{"configuration": row.name, "family": row.family, "settings": asdict(row.settings)} for row in rows]
    command = {"command": COMMAND.format("versus"), "date": DATE}
    (folder / "settings.json").write_text(json.dumps(names | command | {"rows": stored}))
    facts = {"version": "0.0", "device": "cpu", "seeds": SEEDS, "wall_seconds": 83.4, "overrides": {}, "target": 0.5}
    (folder / "summary.json").write_text(json.dumps(names | facts | {"rows": found}))
    return folder
