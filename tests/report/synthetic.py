"""Small synthetic result folders: what runs leave behind, with numbers chosen by hand."""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl

from palaver.exchange.chapter import CHAPTER
from palaver.studies.record import SCHEMA
from palaver.studies.statistics import interval
from palaver.teaching.goals import COSTS

SEEDS = 3
RULES = {"confidence": 0.0, "entropy_as_printed": -0.015, "majority": -0.01, "mean": -0.004, "product": 0.003}
ROUNDS = tuple(range(0, 1001, 50))
TARGET = 0.6
GRADIENT_BITS_A_ROUND = 2 * 32 * 150_000
# name: settings, last average and collective accuracy, bits a round (examples, payload), the thesis's numbers
CONFIGURATIONS = {
    "1 node, all the data": ({"nodes": 1, "channel": None}, 0.62, 0.62, (0, 0), {"average_accuracy": 0.845}),
    "10 nodes, silent": (
        {"nodes": 10, "channel": None},
        *(0.484, 0.591, (0, 0)),
        {"average_accuracy": 0.711, "collective_accuracy": 0.729},
    ),
    "10 nodes, labels <b>& all</b>": (
        {"nodes": 10, "channel": "labels", "neighbours": 2},
        *(0.547, 0.633, (98_304, 256)),
        {
            "average_accuracy": 0.818,
            "collective_accuracy": 0.868,
            "rounds_to_target": 3100,
            "rounds_to_target.average": 12_800,
        },
    ),
    "10 nodes, logits": (
        {"nodes": 10, "channel": "logits", "neighbours": 2, "temperature": 1.0},
        *(0.534, 0.611, (98_304, 20_480)),
        {"average_accuracy": 0.79, "collective_accuracy": 0.848, "rounds_to_target": 5300},
    ),
    "10 nodes, features": (
        {"nodes": 10, "channel": "features", "neighbours": 2},
        *(0.49, 0.575, (98_304, 262_144)),
        {"average_accuracy": 0.72, "collective_accuracy": 0.801},
    ),
}
STAGES = (0, 100, 200, 300, 400, 500, 600)
"""Rounds of nodes without labels."""
# name: objective, nodes, bits sent, last average and collective test accuracy
UNLABELLED = {
    "VAE, 1 node": ("vae", 1, 0, 0.418, 0.418),
    "VAE, 10 nodes, silent": ("vae", 10, 0, 0.416, 0.452),
    "VAE, 10 nodes, features": ("vae", 10, 5_000_000, 0.415, 0.427),
    "BiGAN, 1 node": ("bigan", 1, 0, 0.469, 0.469),
    "BiGAN, 10 nodes, silent": ("bigan", 10, 0, 0.445, 0.449),
    "BiGAN, 10 nodes, features": ("bigan", 10, 5_000_000, 0.443, 0.512),
}
LATENT = {
    "vae": {"probe_accuracy": 0.42, "elbo": -104.3, "reconstruction": 79.1, "kl": 25.2, "active_units": 14.0},
    "bigan": {"probe_accuracy": 0.46, "feature_variance": 0.87, "discriminator_accuracy": 0.645},
}
"""The means over nodes and seeds at the last round."""
LATENT["bigan"] |= {"reconstruction_error": 0.0312, "sample_variance": 0.914}


def make_result(folder: Path, **changes) -> Path:
    """Writes a result of nodes that learn labels; ``changes`` go to the summary."""
    lines, rows = [], []
    for name, (_, average, collective, (examples, payload), thesis) in CONFIGURATIONS.items():
        lasts = {"average_accuracy": average, "collective_accuracy": collective}
        lasts |= {f"collective_accuracy.{rule}": collective + shift for rule, shift in RULES.items()}
        sizes = {"examples": examples, "indices": 0, "payload": payload, "gradient_exchange": GRADIENT_BITS_A_ROUND}
        ratio = GRADIENT_BITS_A_ROUND / examples_and_payload if (examples_and_payload := examples + payload) else np.inf
        values: dict[str, list] = {}
        for seed in range(SEEDS):
            series = {metric: _series(last, seed) for metric, last in lasts.items()}
            series |= {f"bits.{kind}": {r: float(size * r) for r in ROUNDS} for kind, size in sizes.items()}
            series |= {"bits.ratio": dict.fromkeys(ROUNDS, ratio)}
            series |= {"dropped_share": dict.fromkeys(ROUNDS, 0.05 if payload else np.nan)}
            lines += [(name, seed, r, None, m, v) for m, each in series.items() for r, v in each.items()]
            spent = {r: float((examples + payload) * r) for r in ROUNDS}
            lines += [(name, seed, r, 0, "loss", 2.3 - r / 1000) for r in ROUNDS]
            last = {metric: each[ROUNDS[-1]] for metric, each in series.items()}
            for suffix, measured in (("", "collective_accuracy"), (".average", "average_accuracy")):
                reached = [r for r, v in series[measured].items() if v >= TARGET]
                last[f"rounds_to_target{suffix}"] = float(reached[0]) if reached else None
                last[f"bits_to_target{suffix}"] = spent[reached[0]] if reached else None
            last |= {"own_accuracy": average + 0.1, "worst_accuracy": average - 0.1, "spread_accuracy": 0.05}
            last |= {f"subset_accuracy.{percent}": collective - 1 / percent for percent in (10, 25, 50)}
            last |= {"test_average_accuracy": average - 0.02, "test_collective_accuracy": collective - 0.02}
            for metric, value in last.items():
                values.setdefault(metric, []).append(value)
        rows.append(_row(name, values, thesis))
    settings = {
        "rows": [
            {"configuration": n, "settings": {"data": "digits", "rounds": 1000, **s[0]}}
            for n, s in CONFIGURATIONS.items()
        ],
        "graph": {"nodes": 10, "edges": [[i, (i + d) % 10] for i in range(10) for d in (1, 9)]},
    }
    return _write(folder, "exchange <tiny>", lines, settings, {"target": TARGET, "rows": rows, **changes})


def make_unlabelled(folder: Path, **changes) -> Path:
    """Writes a result of nodes that learn without labels, VAEs and BiGANs; ``changes`` go to the summary."""
    lines, rows = [], []
    for name, (objective, _, bits, average, collective) in UNLABELLED.items():
        values: dict[str, list[float]] = {}
        for seed in range(SEEDS):
            for step in STAGES:
                share = (step / STAGES[-1]) ** 0.4
                last = {"average_accuracy": average, "collective_accuracy": collective}
                last |= {f"collective_accuracy.{rule}": collective for rule in RULES}
                last = {metric: 0.1 + (value + 0.01 * (seed - 1) - 0.1) * share for metric, value in last.items()}
                last |= {"bits.examples": 0.0, "bits.payload": bits * step / STAGES[-1]}
                # seeds differ by a twentieth up and down
                of_seed = (1 + 0.05 * (seed - 1)) * (0.5 + 0.5 * share)
                last |= {metric: value * of_seed for metric, value in LATENT[objective].items()}
                lines += [(name, seed, step, None, metric, value) for metric, value in last.items()]
            for metric, value in last.items():
                values.setdefault(metric, []).append(value)
        rows.append(_row(name, values, {}))
    settings = {
        "rows": [
            {"configuration": name, "settings": {"objective": objective, "nodes": nodes, "rounds": STAGES[-1]}}
            for name, (objective, nodes, *_) in UNLABELLED.items()
        ],
        "graph": {"nodes": 10, "edges": [[i, (i + 1) % 10] for i in range(10)]},
    }
    return _write(folder, "table-2.3", lines, settings, {"measure": "probe", "rows": rows, **changes})


def make_teaching(folder: Path) -> Path:
    """Writes a result of students, one without a teacher and one with."""
    lines, rows, settings = [], [], []
    for name, stack in (("no teacher", 1), ("n=5", 5)):
        teacher = {"test_accuracy": 0.98, "epochs": 20, "training_seconds": 3.0, "training_flops": 1e12}
        taught = {"stack": [stack], "select": "top", "difficulty": "cross-entropy", "flipped": 0.0, "known": 1.0}
        taught |= {"target": "true" if stack == 1 else "soft", "data": "digits"}
        accuracies = [0.95, 0.96, 0.97]
        for seed, step in itertools.product(range(SEEDS), (10, 20, 30)):
            lines.append((name, seed, step, None, "validation_accuracy", accuracies[seed] - 1 / step))
            lines += [(name, seed, step, None, cost, float(step * stack)) for cost in COSTS.values()]
        metrics = {"test_accuracy": accuracies, "validation_accuracy": accuracies, "updates_to_best": [30.0] * SEEDS}
        metrics |= {f"{cost}_to.96 %": [10.0 * stack, 20.0, 30.0] for cost in COSTS}
        row = _row(name, metrics, {"test_accuracy": 0.96})
        rows.append(row | {"teacher": None if stack == 1 else teacher | {"table_seconds": 0.1}})
        settings.append({"configuration": name, "settings": taught})
    return _write(folder, "taught", lines, {"rows": settings}, {"goals": ["96 %"], "rows": rows}, "teaching")


def make_language(folder: Path) -> Path:
    """Writes a result of agents, without communication and with, and their pictures."""
    lines, rows, settings = [], [], []
    names = ("probe_accuracy", "message_probe_accuracy", "message_probe_accuracy.end", "message_entropy.end")
    for name, level in (("alone", "none"), ("together", "both")):
        for seed, step, metric in itertools.product(range(SEEDS), (10, 20), ("agreement", "validation_probe_accuracy")):
            lines.append((name, seed, step, None, metric, 0.5 + step / 100 + seed / 50))
        row = _row(name, {metric: [0.5, 0.6, 0.7] for metric in names}, {})
        rows.append(row | {"bits_available": 32, "crosses_wire": level == "both"})
        settings.append({"configuration": name, "settings": {"level": level, "vocabulary": 2, "data": "digits"}})
    _write(folder, "talk", lines, {"rows": settings}, {"rows": rows}, "language")
    pictures = {"views": np.zeros((4, 3, 8, 8), np.uint8), "messages": np.zeros((2, 3, 4), np.int32)}
    pictures["classes"] = np.full((2, 10, 4, 2), 0.5, np.float32)
    np.savez(folder / "pictures.npz", **{f"1/20/{kind}": array for kind, array in pictures.items()})
    return folder


def write_pictures(folder: Path, side: int = 8, *, colour: bool = False, columns: int = 8, rows=(0, 4)) -> dict:
    """Writes ``pictures.npz`` with discs and noise of a fixed seed; what it holds is returned."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    held = {}
    for row in rows:
        for step in STAGES:
            for kind, lines in (("reconstructions", 2), ("samples", 3), ("interpolations", 3)):
                radius = random.uniform(0.15, 0.5, (lines, columns, 1, 1))
                tiles = 255 * np.clip(1.4 - np.hypot(x, y) / radius, 0, 1)
                tiles = np.clip(tiles + random.uniform(0, 60, tiles.shape), 0, 255).astype(np.uint8)
                if colour:
                    tiles = np.stack([tiles, tiles // 2, 255 - tiles], axis=-1)
                held[f"{row}/{step}/{kind}"] = tiles
    np.savez(folder / "pictures.npz", **held)
    return held


def edited(result, summary=lambda _: None, settings=lambda _: None):
    """The result as if its files had been edited so."""
    result = result._replace(summary=copy.deepcopy(result.summary), settings=copy.deepcopy(result.settings))
    summary(result.summary)
    settings(result.settings)
    return result


def with_figures(keep):
    """Chapters, of whose figures only those are drawn for which ``keep(figure)``."""

    def report(result):
        findings = CHAPTER.report(result)
        return findings._replace(figures=[figure for figure in findings.figures if keep(figure)])

    return lambda _: CHAPTER._replace(report=report)


def _series(last: float, seed: int) -> dict[int, float]:
    """Chance at round 0, ``last`` at the end (one point up or down with the seed)."""
    return {r: 0.1 + (last + 0.01 * (seed - 1) - 0.1) * (r / ROUNDS[-1]) ** 0.3 for r in ROUNDS}


def _row(name: str, values: dict, thesis: dict) -> dict:
    metrics = {metric: interval(each) for metric, each in values.items()}
    return {"configuration": name, "metrics": metrics, "thesis": thesis, "diverged": {}}


def _write(
    folder: Path, experiment: str, lines: list, settings: dict, summary: dict, chapter: str = "collective"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(lines, schema=SCHEMA, orient="row").write_parquet(folder / "metrics.parquet")
    shared = {"experiment": experiment, "chapter": chapter, "scale": "tiny"}
    (folder / "settings.json").write_text(json.dumps(shared | settings))
    shared |= {"version": "0.0", "device": "cpu", "seeds": SEEDS, "timings": {"wall_seconds": 83.4}, "overrides": {}}
    (folder / "summary.json").write_text(json.dumps(shared | summary))
    return folder
