"""A small synthetic result folder: what a run leaves behind, with numbers chosen by hand."""

import json
from pathlib import Path

import polars as pl

from palaver.report import interval

RULES = {"confidence": 0.0, "entropy_as_printed": -0.015, "majority": -0.01, "mean": -0.004, "product": 0.003}
ROUNDS = tuple(range(0, 1001, 50))
SEEDS = 3
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
GRADIENT_BITS_A_ROUND = 2 * 32 * 150_000
TARGET = 0.6


def _series(last: float, seed: int) -> dict[int, float]:
    """Chance at round 0, ``last`` at the end (one point up or down with the seed)."""
    return {r: 0.1 + (last + 0.01 * (seed - 1) - 0.1) * (r / ROUNDS[-1]) ** 0.3 for r in ROUNDS}


def make_result(folder: Path, **changes) -> Path:
    """Write a result's three files into ``folder``; ``changes`` go to the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, rows = [], []
    for name, (_settings, average, collective, bits, thesis) in CONFIGURATIONS.items():
        values: dict[str, list] = {}
        for seed in range(SEEDS):
            series = {"average_accuracy": _series(average, seed), "collective_accuracy": _series(collective, seed)}
            for rule, shift in RULES.items():
                series[f"collective_accuracy.{rule}"] = _series(collective + shift, seed)
            sizes = dict(zip(("examples", "payload", "gradient_exchange"), (*bits, GRADIENT_BITS_A_ROUND), strict=True))
            for kind, size in sizes.items():
                series[f"bits.{kind}"] = {r: float(size * r) for r in ROUNDS}
            lines += [(name, seed, r, None, m, v) for m, each in series.items() for r, v in each.items()]
            lines += [(name, seed, r, 0, "loss", 2.3 - r / 1000) for r in ROUNDS]
            for suffix, measured in (("", "collective_accuracy"), (".average", "average_accuracy")):
                reached = [r for r, v in series[measured].items() if v >= TARGET]
                values.setdefault(f"rounds_to_target{suffix}", []).append(float(reached[0]) if reached else None)
            for metric, each in series.items():
                if not metric.startswith("bits."):
                    values.setdefault(metric, []).append(each[ROUNDS[-1]])
            values.setdefault("test_average_accuracy", []).append(average - 0.02)
            values.setdefault("test_collective_accuracy", []).append(collective - 0.02)
        rows.append(
            {
                "configuration": name,
                "metrics": {metric: interval(each) for metric, each in values.items()},
                "thesis": thesis,
                "bits_per_node": {kind: size * ROUNDS[-1] for kind, size in sizes.items()},
                "diverged": {},
            }
        )
    columns = {"configuration": pl.String, "seed": pl.Int64, "round": pl.Int64, "node": pl.Int64}
    columns |= {"metric": pl.String, "value": pl.Float64}
    pl.DataFrame(lines, schema=columns, orient="row").write_parquet(folder / "metrics.parquet")
    settings = {
        "experiment": "exchange <tiny>",
        "scale": "smoke",
        "rows": [
            {"configuration": n, "settings": {"data": "digits", "rounds": 1000, **s[0]}}
            for n, s in CONFIGURATIONS.items()
        ],
        "graph": {"nodes": 10, "edges": [[i, (i + d) % 10] for i in range(10) for d in (1, 9)]},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    summary = {"experiment": "exchange <tiny>", "scale": "smoke", "version": "0.0", "device": "cpu"}
    summary |= {"seeds": SEEDS, "wall_seconds": 83.4, "target": TARGET, "rows": rows, **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
