"""Table 2.3: its rows, and nodes that learn digits without labels, end to end."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from palaver.cli import main
from palaver.data import load
from palaver.decision import RULES
from palaver.exchange.build import make_collective
from tables import configurations

DIGITS = load("digits")

THESIS = {
    "VAE, 1 node": {"average_accuracy": 0.418},
    "VAE, 10 nodes, silent": {"average_accuracy": 0.416, "collective_accuracy": 0.452},
    "VAE, 10 nodes, gaussian": {"average_accuracy": 0.415, "collective_accuracy": 0.427},
    "BiGAN, 1 node": {"average_accuracy": 0.469},
    "BiGAN, 10 nodes, silent": {"average_accuracy": 0.445, "collective_accuracy": 0.499},
    "BiGAN, 10 nodes, features": {"average_accuracy": 0.443, "collective_accuracy": 0.462},
}


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
def test_rows_are_the_thesiss_the_untrained_and_the_remedies(scale):
    rows = {row.name: row for row in configurations("table-2.3", scale)}
    assert {name: row.thesis for name, row in rows.items() if row.thesis} == THESIS
    assert len(rows) == 17
    assert [name for name, row in rows.items() if row.settings.rounds == 0] == [
        "VAE, 10 nodes, untrained",
        "BiGAN, 10 nodes, untrained",
    ]
    for talk in ("VAE, gaussian", "BiGAN, features"):
        plain = rows[talk.replace(", ", ", 10 nodes, ")].settings
        assert 0 < rows[f"{talk} after burn-in"].settings.burn_in < plain.rounds
        assert rows[f"{talk}, projected"].settings.projection
        assert rows[f"{talk}, reference set"].settings.refers
        assert (plain.burn_in, plain.projection, plain.refers) == (0, False, False)
    squared = rows["VAE, 10 nodes, features"].settings
    assert (squared.objective, squared.channel) == ("vae", "features")
    on_digits = configurations("table-2.3", scale, data="digits")
    assert not any(row.thesis for row in on_digits)
    for row in on_digits:
        assert make_collective(row.settings, DIGITS).nodes == row.settings.nodes


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
    assert found["elbo"]["mean"] > -28.5  # untrained: about 64 log 2, -44
    assert found["average_accuracy"]["mean"] > 0.8
    for payload, examples in zip(found["bits.payload"]["values"], found["bits.examples"]["values"], strict=True):
        assert payload == examples * (2 * 8 * 32) / (64 * 8) > 0
    # The headline is each node's test accuracy at its best stage by validation.
    stages = metrics.filter((pl.col("metric") == "probe_accuracy") & (pl.col("seed") == 0)).sort("round")
    best = stages.group_by("node").agg(pl.col("value").max())["value"].mean()
    at_best = metrics.filter((pl.col("metric") == "validation_average_accuracy") & (pl.col("seed") == 0)).sort("round")
    np.testing.assert_allclose(at_best["value"][-1], best, rtol=1e-6)
    # The test accuracy is that of the best stage too, not of the last.
    of_nodes = metrics.filter(pl.col("node").is_not_null()).pivot(
        "metric", index=["seed", "node", "round"], values="value"
    )
    for stage in of_nodes.sort("round").partition_by("seed", "node"):
        first, last = stage.select("probe_accuracy", "accuracy").rows()
        assert last[1] == first[1] or last[0] > first[0]
    # Pictures over training: the originals stay, their reconstructions come nearer.
    first, last = (pictures[f"0/{at}/reconstructions"].astype(float) for at in (200, 400))
    assert first.shape == (2, 8, 8, 8)
    np.testing.assert_array_equal(first[0], last[0])
    np.testing.assert_array_equal(first[0], DIGITS.x_validation[:8])
    assert ((last[1] - last[0]) ** 2).mean() < ((first[1] - first[0]) ** 2).mean()


def test_bigan_nodes_train_and_warnings_are_shown(tmp_path, capsys):
    more = ("--rounds", "60", "--eval-every", "30", "--learning-rate", "0.0002", "--adam-beta1", "0.5")
    summary, metrics, pictures = run("bigan", "features", tmp_path, "--projection", "--burn-in", "30", *more)
    (row,) = summary["rows"]
    assert {"discriminator_accuracy", "feature_variance", "sample_variance"} <= set(row["metrics"])
    assert pictures["0/60/samples"].shape == (2, 8, 8, 8)

    # At round 30 nothing had been sent: it does not count as a stage, even where its probe was the better one.
    def at(round, metric):
        seeds = metrics.filter((pl.col("round") == round) & (pl.col("metric") == metric)).group_by("seed")
        return seeds.agg(pl.col("value").mean()).sort("seed")["value"]

    np.testing.assert_allclose(at(60, "validation_average_accuracy"), at(60, "probe_accuracy"), rtol=1e-6)
    signs = metrics.filter(pl.col("node").is_not_null() & (pl.col("round") == 60)).pivot(
        "metric", index=["seed", "node"], values="value"
    )
    assert row["collapsed"] == {}
    lost = signs.filter(signs["discriminator_accuracy"] > 0.99).select("seed", "node").rows()
    assert lost  # after sixty steps on digits some are certain
    assert row["certain"] == {str(seed): sorted(n for s, n in lost if s == seed) for seed in {s for s, _ in lost}}
    assert "discriminators that are right on more than 99 %" in capsys.readouterr().out


def test_untrained_nodes_are_evaluated_once(tmp_path):
    summary, metrics, pictures = run("vae", "none", tmp_path, "--rounds", "0")
    assert metrics["round"].unique().to_list() == [0]
    assert "loss" not in metrics["metric"].unique().to_list()
    assert "0/0/samples" in pictures
    (row,) = summary["rows"]
    assert 0.5 < row["metrics"]["average_accuracy"]["mean"] < 0.95
    assert "collapsed" not in row


@pytest.mark.parametrize(("shape", "drawn"), [((64,), False), ((8, 8, 1), True), ((8, 8, 2), False)])
def test_inputs_that_are_no_images_have_no_pictures(tmp_path, shape, drawn):
    rng, file = np.random.default_rng(0), tmp_path / "own.npz"
    np.savez(file, x=rng.random((200, *shape), np.float32), y=np.arange(200) % 4)
    out = tmp_path / "run"
    args = ["run", "collective", "--objective", "vae", "--channel", "none", "--data", f"npz:{file}", "--nodes", "2"]
    assert main([*args, "--widths", "4", "--rounds", "0", "--seeds", "1", "--out", str(out)]) == 0
    assert (out / "report.html").exists()
    assert (out / "pictures.npz").exists() == drawn


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--burn-in", "20", "--rounds", "20"), "burn_in is 20: give 0 to 19, before round 20"),
        (("--dropout", "0.5"), "dropout is 0.5: give 0 for objective vae"),
        (("--eval-examples", "9"), "eval_examples is 9: give 0 for objective vae"),
        (("--examples", "6", "--nodes", "2"), "digits has 1 validation examples here"),
        (("--beta", "inf"), "beta is inf: give a finite number of at least 0"),
    ],
)
def test_bad_settings_without_labels(flags, told, tmp_path, capsys):
    args = ["run", "collective", "--objective", "vae", "--channel", "gaussian", "--out", str(tmp_path / "x")]
    assert main([*args, *flags]) == 2
    complaint = capsys.readouterr().err
    assert told in complaint and complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
