"""The command line as a user meets it: what it prints, its exit codes, and what it leaves behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from palaver.cli import main


def bad(args, tmp_path, capsys, *words):
    """One line on stderr with all the words, exit code 2, and nothing written."""
    before = sorted(tmp_path.rglob("*"))
    assert main([*args]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("palaver: ")
    for word in words:
        assert word in said.err
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
        (["--split", "dirichlet", "--skew", "0"], ["alpha"]),
        (["--model", "cnn", "--widths", "8", "8", "8", "8"], ["digits", "(8, 8)"]),
        (["--dropout", "1"], ["dropout"]),
        (["--rounds", "0"], ["rounds is 0"]),
        (["--inbox", "0"], ["inbox is 0"]),
        (["--batch-size", "0"], ["batch_size is 0"]),
        (["--target", "85"], ["target is 85"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--first-seed", "4294967296"], ["first_seed is 4294967296"]),
        (["--out", "/"], ["/"]),
        (["--devices", "0"], ["devices is 0"]),
        (["--nodes", "ten"], ["--nodes", "ten"]),
        (["--channel", "gradients"], ["gradients", "labels"]),
        (["--nodez", "3"], ["--nodez"]),
        (["--settings", "missing.toml"], ["missing.toml"]),
        (["--resume", "never-started"], ["nothing to resume", "never-started"]),
        (["--resume", "interrupted", "--nodes", "20"], ["--resume interrupted", "settings it was started with"]),
        (["--resume", "interrupted", "--seeds", "2"], ["--resume interrupted", "settings it was started with"]),
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
    said = capsys.readouterr().out
    for name in ("quickstart", "table-2.1", "collective"):
        assert name in said


def test_settings_file_and_flags(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text('nodes = 4\ntopology = "ring"\np-consume = 0.25\nwidths = [8]\nrounds = 6\n')
    args = ["run", "collective", "--scale", "tiny", "--settings", "my.toml", "--eval-every", "3", "--seeds", "2"]
    assert main([*args, "--rounds", "9", "--out", "run"]) == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["rows"][0]["settings"]
    assert (settings["nodes"], settings["topology"], settings["p_consume"]) == (4, "ring", 0.25)
    assert (settings["rounds"], settings["eval_every"], settings["widths"]) == (9, 3, [8])
    (tmp_path / "bad.toml").write_text("nodez = 4\n")
    capsys.readouterr()
    bad(["run", "collective", "--settings", "bad.toml"], tmp_path, capsys, "nodez")
    (tmp_path / "bad.toml").write_text('nodes = "four"\n')
    bad(["run", "collective", "--settings", "bad.toml"], tmp_path, capsys, "four", "int")
