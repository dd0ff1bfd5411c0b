"""A loss that is no longer finite stops its seed, says where, and keeps the rest."""

from __future__ import annotations

import json

import numpy as np

from palaver.cli import main


def test_every_seed_diverges(tmp_path, capsys):
    args = ["run", "collective", "--scale", "tiny", "--learning-rate", "1e38", "--seeds", "2", "--nodes", "3"]
    assert main([*args, "--widths", "4", "--out", str(tmp_path / "run")]) == 0
    row = json.loads((tmp_path / "run" / "summary.json").read_text())["rows"][0]
    assert row["metrics"]["collective_accuracy"]["values"] == [None, None]
    assert row["metrics"]["average_accuracy"]["mean"] is None
    assert set(row["diverged"]) == {"0", "1"}
    assert all(0 < step < 20 for step in row["diverged"].values())
    where = " diverged: " + ", ".join(f"seed {seed} at round {step}" for seed, step in row["diverged"].items())
    assert where in " ".join(capsys.readouterr().out.split())
    assert where in (tmp_path / "run" / "report.html").read_text()


def test_one_poisoned_seed_leaves_the_others(tmp_path):
    """Inputs near the largest float overflow in the forward pass of whichever seed owns them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    x[100] = 3e38
    np.savez(tmp_path / "poison.npz", x=x, y=y)
    args = ["run", "collective", "--data", f"npz:{tmp_path / 'poison.npz'}", "--channel", "none", "--nodes", "2"]
    args += ["--widths", "4", "--rounds", "6", "--eval-every", "3", "--batch-size", "4", "--fraction", "0.2"]
    assert main([*args, "--seeds", "6", "--out", str(tmp_path / "run")]) == 0
    row = json.loads((tmp_path / "run" / "summary.json").read_text())["rows"][0]
    values = row["metrics"]["average_accuracy"]["values"]
    lost = {int(seed) for seed in row["diverged"]}
    assert 0 < len(lost) < 6
    for seed, value in enumerate(values):
        assert (value is None) == (seed in lost)
