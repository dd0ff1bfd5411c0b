"""Tables 2.1 and 2.2 at the scale for tests, on CIFAR-10 where it is at hand, and settings given in place of theirs."""

from __future__ import annotations

import contextlib
import html
import io
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from palaver import commands
from palaver.cli import main
from palaver.data import Dataset
from palaver.exchange.build import make_collective
from palaver.studies.results import read_result
from tables import configurations

THESIS = {
    "1 node, no sharing": {"average_accuracy": 0.845, "rounds_to_target.average": 5900},
    "10 nodes, no sharing": {"average_accuracy": 0.711, "collective_accuracy": 0.729},
    "10 nodes, logits": {"average_accuracy": 0.790, "collective_accuracy": 0.848, "rounds_to_target": 5300},
    "10 nodes, labels": {
        "average_accuracy": 0.818,
        "collective_accuracy": 0.868,
        "rounds_to_target.average": 12_800,
        "rounds_to_target": 3100,
    },
    "10 nodes, features": {"average_accuracy": 0.720, "collective_accuracy": 0.801},
    "10 nodes, features, weight 0.1": {},
    "10 nodes, features, weight 0.01": {},
    "20 nodes, labels": {"collective_accuracy": 0.877, "rounds_to_target": 2700},
}


def pictures(name: str, _root: Path | None = None) -> Dataset:
    """Random pictures with the shape of CIFAR-10, under the name that is asked for."""
    rng = np.random.default_rng(0)
    parts = [
        (rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n, dtype=np.int32) % 10)
        for n in (1000, 250, 80)
    ]
    return Dataset(name, *(array for part in parts for array in part), classes=10)


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
def test_rows(scale):
    rows = {row.name: row for row in configurations("table-2.1", scale)}
    assert {name: row.thesis for name, row in rows.items()} == THESIS
    for name, row in rows.items():
        own = row.settings
        assert make_collective(own, pictures(own.data)).nodes == own.nodes == int(name.split()[0])
        assert own.silent == ("no sharing" in name) and (own.silent or own.channel == name.split(", ")[1])
    # Of the thesis's 13,000 rounds the accuracies are those of the 5,000th.
    own = rows["10 nodes, logits"].settings
    assert own.temperature == 0.5
    assert scale != "thesis" or (own.rounds, own.report_round, own.target, own.widths) == (13_000, 5_000, 0.85, ())
    assert not any(row.thesis for row in configurations("table-2.1", scale, data="digits"))


def test_tiny_table_has_the_thesis_beside_ours(tmp_path, capsys):
    chosen = ["10 nodes, no sharing", "10 nodes, labels"]
    args = ["run", "table-2.1", "--scale", "tiny", "--seeds", "2", "--out", str(tmp_path / "run")]
    args += [word for name in chosen for word in ("--only", name)]
    real = (Path(os.environ.get("PALAVER_DATA", "none")) / "cifar-10-batches-bin").is_dir()
    if not real:
        print("CIFAR-10 is not under PALAVER_DATA: the tiny table is made on digits")
        args += ["--data", "digits"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    summary = read_result(tmp_path / "run").summary
    assert [row["configuration"] for row in summary["rows"]] == chosen
    for row in summary["rows"]:
        assert row["thesis"] == (THESIS[row["configuration"]] if real else {})
        assert all(0 < value < 1 for value in row["metrics"]["average_accuracy"]["values"])
        silent = "no sharing" in row["configuration"]
        assert (row["metrics"]["bits.examples"]["mean"] == 0) == silent
    if real:
        for number in ("71.1", "72.9", "81.8", "86.8", "12,800", "3,100"):
            assert f" {number} " in printed
        assert "its own" not in printed and summary["overrides"] == {}
        # 2 layers of 8 and 16 channels: 3·16·8 + 8·16·16 + 2·(8 + 16) + 8·8·16·10 + 10 parameters, 64 bits, 8 rounds
        parameters = 3 * 16 * 8 + 8 * 16 * 16 + 2 * (8 + 16) + 8 * 8 * 16 * 10 + 10
        assert summary["rows"][1]["metrics"]["bits.gradient_exchange"]["values"] == [8 * 64 * parameters] * 2
    else:
        assert "10 nodes, labels" in printed


GIVEN = {"eval_every": 2, "model": "mlp", "widths": [4, 8], "rounds": 4}


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Two rows of the table with settings of a file and of flags in place of its own, and what was printed."""
    folder = tmp_path_factory.mktemp("changed")
    (folder / "my.toml").write_text("eval-every = 2\nrounds = 6\n")
    args = ["run", "table-2.1", "--scale", "tiny", "--seeds", "2", "--settings", str(folder / "my.toml")]
    args += ["--rounds", "4", "--model", "mlp", "--widths", "4", "8", "--only", "10 nodes, labels", "--only", "*logits"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(commands, "load", pictures)
        assert main([*args, "--out", str(folder / "run")]) == 0
    return read_result(folder / "run"), printed.getvalue()


def test_settings_in_place_of_an_experiments_own(changed):
    result, _ = changed
    assert [row["configuration"] for row in result.settings["rows"]] == ["10 nodes, logits", "10 nodes, labels"]
    own = {row.name: row.settings for row in configurations("table-2.1", "tiny")}
    for row in result.settings["rows"]:
        expected = asdict(own[row["configuration"]]) | {"group": []} | GIVEN
        assert row["settings"] == expected
    assert result.settings["overrides"] == result.summary["overrides"] == GIVEN
    assert result.metrics["round"].unique().sort().to_list() == [2, 4]
    parameters = 3072 * 4 + 4 + 4 * 8 + 8 + 8 * 10 + 10
    for row in result.summary["rows"]:
        assert row["metrics"]["bits.gradient_exchange"]["values"] == [4 * 64 * parameters] * 2
        assert row["thesis"] == THESIS[row["configuration"]]


def test_the_report_says_which_settings_were_given(changed):
    result, printed = changed
    told = (
        "Under other settings than the experiment's own: eval_every 2, rounds 4, model mlp, "
        "widths 4 8. The thesis's numbers are of its own settings."
    )
    page = result.folder / "report.html"
    words = html.unescape(page.read_text())
    assert told in words and told in " ".join(printed.split())
    # The thesis's columns stay, under another head.
    assert words.count(">thesis (its own settings)<") == 4 and ">thesis<" not in words
    assert "thesis (its" in printed
    for number in ("79.0", "84.8", "81.8", "86.8", "5,300", "3,100", "12,800"):
        assert f"<span>{number}</span>" in words and f" {number} " in printed
    before = page.read_bytes()
    assert main(["report", str(result.folder)]) == 0
    assert page.read_bytes() == before
