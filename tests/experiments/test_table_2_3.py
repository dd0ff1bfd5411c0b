"""Table 2.3: its rows, and nodes that learn digits without labels, end to end."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from palaver.cli import main
from palaver.data import load
from palaver.decision import RULES
from palaver.experiments import EXPERIMENTS
from palaver.experiments.settings import make_collective

THESIS = {
    "VAE, 1 node": {"average_accuracy": 0.418},
    "VAE, 10 nodes, silent": {"average_accuracy": 0.416, "collective_accuracy": 0.452},
    "VAE, 10 nodes, gaussian": {"average_accuracy": 0.415, "collective_accuracy": 0.427},
    "BiGAN, 1 node": {"average_accuracy": 0.469},
    "BiGAN, 10 nodes, silent": {"average_accuracy": 0.445, "collective_accuracy": 0.499},
    "BiGAN, 10 nodes, features": {"average_accuracy": 0.443, "collective_accuracy": 0.462},
}


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
def test_rows_are_the_thesiss_and_two_remedies_each(scale):
    rows = {row.configuration: row for row in EXPERIMENTS["table-2.3"].rows(scale, None)}
    assert {name: row.thesis for name, row in rows.items() if row.thesis} == THESIS
    assert len(rows) == 10
    for row in rows.values():
        row.settings.check()
    for talk in ("VAE, gaussian", "BiGAN, features"):
        plain = rows[talk.replace(", ", ", 10 nodes, ")].settings
        assert 0 < rows[f"{talk} after burn-in"].settings.burn_in < plain.rounds
        assert rows[f"{talk}, projected"].settings.projection
        assert (plain.burn_in, plain.projection) == (0, False)
    on_digits = EXPERIMENTS["table-2.3"].rows(scale, "digits")
    assert not any(row.thesis for row in on_digits)
    make_collective(on_digits[2].settings, load("digits"))


def run(objective, channel, tmp_path, *more):
    out = tmp_path / objective
    args = ["run", "collective", "--objective", objective, "--channel", channel, "--nodes", "3", "--latent", "8"]
    args += ["--widths", "64", "--batch-size", "64", "--seeds", "2", "--out", str(out), *more]
    assert main(args) == 0
    summary = json.loads((out / "summary.json").read_text())
    return summary, pl.read_parquet(out / "metrics.parquet"), np.load(out / "pictures.npz")


def test_vae_nodes_learn_digits(tmp_path):
    summary, metrics, pictures = run("vae", "gaussian", tmp_path, "--rounds", "400", "--eval-every", "200")
    (row,) = summary["rows"]
    found = row["metrics"]
    assert summary["measure"] == "probe"
    assert "target" not in summary
    assert not {name for name in found if "rounds_to_target" in name}
    assert {"average_accuracy", *(f"collective_accuracy.{rule}" for rule in RULES)} <= set(found)
    np.testing.assert_allclose(found["elbo"]["mean"], -found["reconstruction"]["mean"] - found["kl"]["mean"], rtol=1e-4)
    assert found["average_accuracy"]["mean"] > 0.8
    assert row["bits_per_node"]["payload"] == row["bits_per_node"]["examples"] * (2 * 8 * 32) / (64 * 8)
    # The headline is each node's test accuracy at its best stage by validation.
    stages = metrics.filter((pl.col("metric") == "probe_accuracy") & (pl.col("seed") == 0)).sort("round")
    best = stages.group_by("node").agg(pl.col("value").max())["value"].mean()
    at_best = metrics.filter((pl.col("metric") == "validation_average_accuracy") & (pl.col("seed") == 0)).sort("round")
    np.testing.assert_allclose(at_best["value"][-1], best, rtol=1e-6)
    # Pictures over training: the originals stay, their reconstructions come nearer.
    first, last = (pictures[f"0/{at}/reconstructions"].astype(float) for at in (200, 400))
    assert first.shape == (2, 8, 8, 8)
    np.testing.assert_array_equal(first[0], last[0])
    np.testing.assert_array_equal(first[0], load("digits").x_validation[:8])
    assert ((last[1] - last[0]) ** 2).mean() < ((first[1] - first[0]) ** 2).mean()


def test_bigan_nodes_play_and_are_watched(tmp_path, capsys):
    more = ("--rounds", "60", "--eval-every", "30", "--learning-rate", "0.0002", "--adam-beta1", "0.5")
    summary, metrics, pictures = run("bigan", "features", tmp_path, "--projection", "--burn-in", "30", *more)
    (row,) = summary["rows"]
    assert {"discriminator_accuracy", "feature_variance", "sample_variance"} <= set(row["metrics"])
    assert row["metrics"]["average_accuracy"]["mean"] > 0.5
    assert pictures["0/60/samples"].shape == (2, 8, 8, 8)

    # Round 30 is before anyone spoke: it is no stage of the talking, even where its probe was the better one.
    def at(round, metric):
        seeds = metrics.filter((pl.col("round") == round) & (pl.col("metric") == metric)).group_by("seed")
        return seeds.agg(pl.col("value").mean()).sort("seed")["value"]

    np.testing.assert_allclose(at(60, "validation_average_accuracy"), at(60, "probe_accuracy"), rtol=1e-6)
    signs = metrics.filter(pl.col("node").is_not_null() & (pl.col("round") == 60)).pivot(
        "metric", index=["seed", "node"], values="value"
    )
    still = (signs["feature_variance"] < 0.01) | (signs["sample_variance"] < 0.01)
    lost = signs.filter(still | (signs["discriminator_accuracy"] > 0.99)).select("seed", "node").rows()
    assert row["collapsed"] == {str(seed): sorted(n for s, n in lost if s == seed) for seed in {s for s, _ in lost}}
    assert ("collapsed" in capsys.readouterr().out) == bool(lost)
