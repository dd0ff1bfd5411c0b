"""The command line as a user meets it: what it prints, its exit codes, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import numpy as np
import polars as pl
import pytest

import palaver as pv
from palaver.cli import main
from palaver.data import load
from palaver.exchange.build import make_collective
from palaver.exchange.settings import CollectiveSettings
from palaver.experiments import CHAPTERS, EXPERIMENTS
from palaver.studies.results import read_result


def bad(args, tmp_path, capsys, *words):
    """One line on stderr with all the words, exit code 2, and nothing written."""
    before = sorted(tmp_path.rglob("*"))
    assert main([*args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("palaver: ")
    for word in words:
        assert word in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "imagenet"], ["imagenet", "digits", "cifar10"]),
        (["--nodes", "5000"], ["5000", "1257"]),
        (["--topology", "ring", "--neighbours", "10"], ["neighbours is 10", "0 to 9"]),
        (["--topology", "random", "--nodes", "9", "--neighbours", "3"], ["9", "3", "even"]),
        (["--topology", "full", "--neighbours", "3"], ["full"]),
        (["--p-consume", "1.5"], ["p_consume is 1.5", "[0, 1]"]),
        (["--p-broadcast", "-0.5"], ["p_broadcast is -0.5"]),
        (["--channel", "logits", "--temperature", "0"], ["temperature is 0", "above 0"]),
        (["--channel", "labels+logits", "--mix", "2"], ["mix is 2"]),
        (["--split", "dirichlet", "--skew", "0"], ["skew is 0", "above 0"]),
        (["--model", "cnn", "--widths", "8", "8", "8", "8"], ["digits", "(8, 8)"]),
        (["--dropout", "1"], ["dropout is 1", "[0, 1)"]),
        (["--widths", "8", "0"], ["widths holds 0", "at least 1"]),
        (["--rounds", "0"], ["rounds is 0"]),
        (["--inbox", "0"], ["inbox is 0"]),
        (["--batch-size", "0"], ["batch_size is 0"]),
        (["--target", "85"], ["target is 85", "(0, 1)"]),
        (["--target", "nan"], ["target is nan", "finite"]),
        (["--graph-seed", "-1"], ["graph_seed is -1"]),
        (["--checkpoint-seconds", "-1"], ["checkpoint_seconds is -1"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--first-seed", "4294967296"], ["first_seed is 4294967296"]),
        (["--out", "/"], ["/"]),
        (["--devices", "0"], ["devices is 0"]),
        (["--nodes", "ten"], ["--nodes takes INT", "ten"]),
        (["--seeds"], ["--seeds needs a value"]),
        (["--only", "5 nodes*"], ["--only '5 nodes*' fits no configuration", "10 nodes, labels, full"]),
        (["--channel", "gradients"], ["gradients", "labels"]),
        (["--nodez", "3"], ["--nodez"]),
        (["--settings", "missing.toml"], ["missing.toml"]),
        (["--resume", "never-started"], ["nothing to resume", "never-started"]),
        (["--resume", "interrupted", "--nodes", "20"], ["--resume interrupted", "settings it was started with"]),
        (["--resume", "interrupted", "--seeds", "2"], ["--resume interrupted", "settings it was started with"]),
        (["--resume", "interrupted", "--only", "*"], ["--resume interrupted", "settings it was started with"]),
        (["--channel", "gaussian"], ["gaussian", "objective labels"]),
        (["--objective", "vae", "--channel", "logits"], ["logits", "none, features, gaussian"]),
        (["--objective", "bigan", "--channel", "gaussian"], ["gaussian", "none, features"]),
        (["--objective", "vae", "--channel", "none", "--beta", "-1"], ["beta is -1"]),
        (["--objective", "vae", "--channel", "none", "--latent", "0"], ["latent is 0"]),
        (["--objective", "vae", "--channel", "none", "--projection"], ["projection"]),
        (["--objective", "vae", "--channel", "none", "--calibrate"], ["calibrate"]),
        (["--burn-in", "-1"], ["burn_in is -1"]),
        (["--data", "npz:missing.npz"], ["missing.npz"]),
        (["--data", "idx:missing"], ["missing"]),
    ],
)
def test_bad_flags_get_one_line(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad(["run", "collective", *flags], tmp_path, capsys, *words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["table-2.1", "--only", "3 nodes*"],
            ["'3 nodes*' fits no configuration", "10 nodes, logits; 10 nodes, labels"],
        ),
        (["table-2.1", "--only", "10*", "--only", "x"], ["--only 'x' fits no configuration"]),
        (["table-2.1", "--resume", "x", "--rounds", "4"], ["--resume x", "settings it was started with"]),
        (["quickstart", "--nodez", "4"], ["--nodez", "palaver run quickstart"]),
        (["quickstart", "--p-consume", "2"], ["“10 sites, silent”: p_consume is 2", "[0, 1]"]),
        # All rows but one take it, or all of one family: that one is named.
        (["quickstart", "--examples", "9"], ["nodes is 10 for 7 training examples of digits (reference 0.25 of them)"]),
        (["table-2.3", "--beta", "2"], ["“BiGAN, 10 nodes, untrained”: beta is 2", "objective bigan"]),
        (["table-2.3", "--settings", "my.toml"], ["my.toml: “VAE, 10 nodes, untrained”: report_round is 100"]),
        (["table-4.1", "--steps", "9", "--length-cost", "1"], ["“none”: length_cost is 1", "variable_length"]),
    ],
)
def test_bad_flags_of_experiments_get_one_line(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("report-round = 100\n")
    bad(["run", *args], tmp_path, capsys, *words)


def test_bad_data_gets_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    x[17, 2] = np.nan
    np.savez("nan.npz", x=x, y=y)
    np.savez("wide.npz", x=np.nan_to_num(x), y=y)
    np.savez("labels.npz", x=np.nan_to_num(x), y=y - 1)
    bad(["run", "collective", "--data", "npz:nan.npz"], tmp_path, capsys, "non-finite", "17")
    pixels = ["run", "collective", "--data", "npz:wide.npz", "--objective", "vae", "--channel", "gaussian"]
    bad(pixels, tmp_path, capsys, "wide.npz", "in [0, 1]")
    bad(["run", "collective", "--data", "npz:labels.npz"], tmp_path, capsys, "label -1")


def test_a_corrupt_official_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "mnist" / f"{name}-ubyte.gz").write_bytes(b"not it")
    bad(["run", "collective", "--data", "mnist", "--data-root", "."], tmp_path, capsys, "-ubyte.gz", "f68b3c2dcbeaaa9f")


def test_an_existing_folder_is_kept(tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    bad(["run", "quickstart", "--scale", "tiny", "--out", str(out)], tmp_path, capsys, "exists", "--overwrite")
    assert (out / "thesis.txt").read_text() == "years of work"


def test_unknown_commands(tmp_path, capsys):
    bad(["dance"], tmp_path, capsys, "dance")
    bad(["run", "table-9"], tmp_path, capsys, "table-9", "quickstart", "table-2.1")
    bad(["report", str(tmp_path / "nothing")], tmp_path, capsys, "nothing")
    bad(["compare", str(tmp_path)], tmp_path, capsys, "two")


def test_list_shows_every_experiment(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in (*EXPERIMENTS, *CHAPTERS):
        assert f"\n{name} " in f"\n{printed}"


def test_listing_and_help_do_not_wait_for_jax():
    """JAX and its libraries take seconds to import."""
    commands = [["list"], ["--help"], ["run", "--help"], ["--version"], ["dance"], ["run", "table-9"]]
    program = f"""
import sys
from palaver.cli import main
codes = [main(args) for args in {commands}]
slow = {{"jax", "flax", "sklearn", "polars", "matplotlib"}} & {{*sys.modules}}
assert (codes, slow) == ([0, 0, 0, 0, 2, 2], set()), (codes, slow)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: palaver" in done.stdout and "table-4.1" in done.stdout and pv.__version__ in done.stdout


TOML = """nodes = 4
topology = "ring"
p-consume = 0.9
widths = [8]
rounds = 6
target = 0.1
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a file of settings and flags, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "my.toml").write_text(TOML)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        args = ["run", "collective", "--scale", "tiny", "--settings", "my.toml", "--eval-every", "3", "--seeds", "2"]
        # The folder is named like a flag, which must not count as that flag.
        assert main([*args, "--first-seed", "5", "--rounds", "9", "--out", "nodes"]) == 0
    return read_result(folder / "nodes")


def test_flags_override_the_settings_file(finished):
    (row,) = finished.settings["rows"]
    settings = row["settings"]
    for name, value in tomllib.loads(TOML).items():
        if name != "rounds":
            assert settings[name.replace("-", "_")] == value
    assert (settings["rounds"], settings["eval_every"], settings["examples"]) == (9, 3, 1000)
    assert finished.settings["seeds"] == [5, 6]
    assert row["configuration"] == "4 nodes, labels, ring"


def test_a_bad_settings_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for content, words in (
        ("nodez = 4", ["nodez is no setting", "nodes"]),
        ('nodes = "four"', ["nodes is 'four'", "a whole number"]),
        ('widths = [4, "x"]', ["widths holds 'x'", "whole numbers"]),
        ("p-consume = 0.1\np_consume = 0.2", ["p_consume twice"]),
        ("nodes = ", ["cannot be read"]),
    ):
        (tmp_path / "bad.toml").write_text(content)
        bad(["run", "collective", "--settings", "bad.toml"], tmp_path, capsys, "bad.toml", *words)


def test_python_and_the_command_line_give_the_same_numbers(finished):
    """Every metric of every evaluation, to the last bit; so also the summary with its intervals and bits."""
    settings = CollectiveSettings(**finished.settings["rows"][0]["settings"])
    data = settings.load(load)
    group = make_collective(settings, data)
    history = pv.train(group, data, rounds=9, seeds=[5, 6], eval_every=3, target=settings.target)
    (row,) = finished.summary["rows"]
    assert history.metrics.drop("configuration").equals(finished.metrics.drop("configuration"))
    for part in ("metrics", "diverged"):
        assert history.summary[part] == row[part]
    assert {"bits.examples", "bits.payload", "bits.ratio", "rounds_to_target"} <= set(row["metrics"])
    # By hand: a label of ten classes is 4 bits beside 64 pixels of 8, a ring has two neighbours, B is 32.
    of_seed = finished.metrics.filter((pl.col("seed") == 6) & (pl.col("round") == 9) & pl.col("node").is_null())
    last = dict(of_seed.select("metric", "value").iter_rows())
    assert last["sent"] == 2 * last["broadcast"] > 0
    assert last["bits.examples"] == last["sent"] * 32 * 64 * 8
    assert last["bits.payload"] == last["sent"] * 32 * 4
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    assert last["bits.gradient_exchange"] == 9 * 2 * 32 * parameters
    assert last["bits.ratio"] == last["bits.gradient_exchange"] / (last["bits.examples"] + last["bits.payload"])
    # The arrays are these metrics.
    np.testing.assert_array_equal(history.rounds, [3, 6, 9])
    assert history.nodes.shape == (3, 2, 4)
    np.testing.assert_allclose(history.nodes[-1].mean(1), row["metrics"]["average_accuracy"]["values"], rtol=1e-6)
    for rule, accuracy in history.rules.items():
        assert accuracy[-1].tolist() == row["metrics"][f"collective_accuracy.{rule}"]["values"]
