"""A small synthetic result of nodes that learn without labels: VAEs and BiGANs, with numbers chosen by hand."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from palaver.report import interval

RULES = ("confidence", "entropy_as_printed", "majority", "mean", "product")
ROUNDS = (0, 100, 200, 300, 400, 500, 600)
SEEDS = 3
# name: objective, nodes, bits sent, last average and collective test accuracy
CONFIGURATIONS = {
    "VAE, 1 node": ("vae", 1, 0, 0.418, 0.418),
    "VAE, 10 nodes, silent": ("vae", 10, 0, 0.416, 0.452),
    "VAE, 10 nodes, features": ("vae", 10, 5_000_000, 0.415, 0.427),
    "BiGAN, 1 node": ("bigan", 1, 0, 0.469, 0.469),
    "BiGAN, 10 nodes, silent": ("bigan", 10, 0, 0.445, 0.449),
    "BiGAN, 10 nodes, features": ("bigan", 10, 5_000_000, 0.443, 0.512),
}
# the values of a node at the last round, in the mean over nodes and seeds
LATENT = {
    "vae": {"probe_accuracy": 0.42, "elbo": -104.3, "reconstruction": 79.1, "kl": 25.2, "active_units": 14.0},
    "bigan": {"probe_accuracy": 0.46, "feature_variance": 0.87, "discriminator_accuracy": 0.645},
}
LATENT["bigan"] |= {"reconstruction_error": 0.0312, "sample_variance": 0.914}


def make_unlabelled(folder: Path, **changes) -> Path:
    """Write a result's three files into ``folder``; ``changes`` go to the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, rows = [], []
    for name, (objective, nodes, bits, average, collective) in CONFIGURATIONS.items():
        metrics: dict[str, list[float]] = {}
        for seed in range(SEEDS):
            for step in ROUNDS:
                share = (step / ROUNDS[-1]) ** 0.4
                whole = {"average_accuracy": average, "collective_accuracy": collective}
                whole |= {f"collective_accuracy.{rule}": collective for rule in RULES}
                whole = {metric: 0.1 + (value + 0.01 * (seed - 1) - 0.1) * share for metric, value in whole.items()}
                whole |= {"bits.examples": 0.0, "bits.payload": bits * step / ROUNDS[-1]}
                lines += [(name, seed, step, None, metric, value) for metric, value in whole.items()]
                for metric, last in LATENT[objective].items():
                    # nodes differ by a tenth up and down around the mean, seeds by a twentieth
                    for node in range(nodes):
                        off = 1 + 0.05 * (seed - 1) + (0.1 * (-1) ** node if nodes > 1 else 0)
                        lines.append((name, seed, step, node, metric, last * off * (0.5 + 0.5 * share)))
            for metric, value in whole.items():
                metrics.setdefault(metric, []).append(value)
        sent = {"examples": 0, "payload": bits, "gradient_exchange": 50_000_000 if nodes > 1 else 0}
        told = {metric: interval(values) for metric, values in metrics.items()}
        rows.append({"configuration": name, "metrics": told, "thesis": {}, "bits_per_node": sent, "diverged": {}})
    columns = {"configuration": pl.String, "seed": pl.Int64, "round": pl.Int64, "node": pl.Int64}
    columns |= {"metric": pl.String, "value": pl.Float64}
    pl.DataFrame(lines, schema=columns, orient="row").write_parquet(folder / "metrics.parquet")
    settings = {
        "experiment": "table-2.3",
        "scale": "tiny",
        "rows": [
            {"configuration": name, "settings": {"objective": objective, "nodes": nodes, "rounds": ROUNDS[-1]}}
            for name, (objective, nodes, *_) in CONFIGURATIONS.items()
        ],
        "graph": {"nodes": 10, "edges": [[i, (i + 1) % 10] for i in range(10)]},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    summary = {"experiment": "table-2.3", "scale": "tiny", "version": "0.0", "device": "cpu", "measure": "probe"}
    summary |= {"seeds": SEEDS, "wall_seconds": 83.4, "rows": rows, **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_pictures(folder: Path, side: int = 8, *, colour: bool = False, columns: int = 8, rows=None) -> dict:
    """Write ``pictures.npz`` with discs and noise of a fixed seed; what it holds is returned."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    held = {}
    for row in range(len(CONFIGURATIONS)) if rows is None else rows:
        for step in ROUNDS:
            for kind, lines in (("reconstructions", 2), ("samples", 3), ("interpolations", 3)):
                radius = random.uniform(0.15, 0.5, (lines, columns, 1, 1))
                tiles = 255 * np.clip(1.4 - np.hypot(x, y) / radius, 0, 1)
                tiles = np.clip(tiles + random.uniform(0, 60, tiles.shape), 0, 255).astype(np.uint8)
                if colour:
                    tiles = np.stack([tiles, tiles // 2, 255 - tiles], axis=-1)
                held[f"{row}/{step}/{kind}"] = tiles
    np.savez(folder / "pictures.npz", **held)
    return held
