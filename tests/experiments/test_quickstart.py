"""The main job as shipped: 5 seeds on real handwriting, its result files, its page, and the claim it makes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from browser import check_page
from palaver.cli import main
from palaver.decision import RULES
from tables import configurations

SILENT, AVERAGED = "10 sites, silent", "10 sites, averaged weights (FedAvg, every 100)"
OUTPUTS, LABELS = "10 sites, outputs on a reference set", "10 sites, own examples and labels"
ONE = "1 model with everything"
NAMES = [SILENT, AVERAGED, OUTPUTS, LABELS, ONE]
PARAMETERS = 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The folder of a run on all cores, which takes a process of its own, and what that printed."""
    cwd = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, "-m", "palaver", "run", "quickstart", "--out", "run"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return cwd / "run", done.stdout


@pytest.fixture(scope="module")
def summary(quickstart):
    return json.loads((quickstart[0] / "summary.json").read_text())


@pytest.fixture(scope="module")
def rows(summary):
    return {row["configuration"]: row["metrics"] for row in summary["rows"]}


@pytest.mark.parametrize(("scale", "rounds"), [("tiny", 40), ("cpu", 1000), ("thesis", 5000)])
def test_the_five_configurations(scale, rounds):
    rows = {row.name: row.settings for row in configurations("quickstart", scale)}
    assert list(rows) == [name.replace("every 100", f"every {min(rounds, 100)}") for name in NAMES]
    assert {own.rounds for own in rows.values()} == {rounds} and {own.data for own in rows.values()} == {"digits"}
    assert [own.nodes for own in rows.values()] == [10, 10, 10, 10, 1]
    assert [own.method for own in rows.values()] == ["exchange", "fedavg", "exchange", "exchange", "exchange"]
    assert [own.refers for own in rows.values()] == [True, True, True, False, True]
    assert {own.skew for own in rows.values()} == {0.1} and {own.split for own in rows.values()} == {"dirichlet"}
    # All have as many labelled examples.
    assert {own.fraction * (1 - own.reference) for own in rows.values()} == {0.75}
    assert {row.settings.split for row in configurations("quickstart", scale, split="iid")} == {"iid"}


def test_talking_beats_silence_and_averaging_at_fewer_bits(rows):
    for name in (SILENT, AVERAGED):
        assert rows[OUTPUTS]["collective_accuracy"]["low"] > rows[name]["collective_accuracy"]["high"]
    assert rows[OUTPUTS]["average_accuracy"]["low"] > rows[SILENT]["average_accuracy"]["high"]
    assert 10 * rows[OUTPUTS]["bits.payload"]["high"] < rows[AVERAGED]["bits.payload"]["low"]
    assert rows[OUTPUTS]["bits.examples"]["values"] == [0] * 5


def test_summary_has_every_field(summary):
    assert set(summary) >= {"version", "device", "timings", "rows"}
    shown = {"experiment": "quickstart", "chapter": "collective", "scale": "cpu", "seeds": 5, "overrides": {}}
    assert {name: summary[name] for name in shown} == shown and summary["target"] == 0.85
    assert [row["configuration"] for row in summary["rows"]] == NAMES
    names = {"average_accuracy", "collective_accuracy", "rounds_to_target"}
    names |= {f"collective_accuracy.{rule}" for rule in RULES}
    for row in summary["rows"]:
        assert names <= set(row["metrics"])
        for metric in row["metrics"].values():
            assert len(metric["values"]) == 5
        accuracy = row["metrics"]["collective_accuracy"]
        assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
        assert accuracy == row["metrics"]["collective_accuracy.confidence"]


def test_bits_are_counted_from_deliveries(quickstart, rows):
    metrics = pl.read_parquet(quickstart[0] / "metrics.parquet").filter(pl.col("round") == 1000)
    for name, example, index, payload in ((LABELS, 64 * 8, 0, 4), (OUTPUTS, 0, 32, 2 * (4 + 4)), (SILENT, 0, 0, 0)):
        last = metrics.filter((pl.col("configuration") == name) & (pl.col("metric") == "sent"))
        sent = np.array(last.sort("seed")["value"])
        assert (sent > 0).all() == (name != SILENT)
        bits = {part: rows[name][f"bits.{part}"]["values"] for part in ("examples", "indices", "payload")}
        assert bits["examples"] == (sent * 32 * example).tolist()
        assert bits["indices"] == (sent * index).tolist()
        assert bits["payload"] == (sent * 32 * payload).tolist()
        gradients = 1000 * 64 * PARAMETERS
        assert rows[name]["bits.gradient_exchange"]["values"] == [gradients] * 5
        if sent.all():
            assert rows[name]["bits.ratio"]["values"] == pytest.approx(
                gradients / sum(np.array(b) for b in bits.values())
            )
        else:
            assert rows[name]["bits.ratio"]["mean"] is None
    assert rows[AVERAGED]["bits.payload"]["values"] == [10 * 64 * PARAMETERS] * 5  # every 100 rounds, up and down


def test_metrics_are_tidy(quickstart):
    metrics = pl.read_parquet(quickstart[0] / "metrics.parquet")
    assert metrics.columns == ["configuration", "seed", "round", "node", "metric", "value"]
    nodes = metrics.filter((pl.col("configuration") == LABELS) & (pl.col("metric") == "accuracy"))
    assert nodes.height == 5 * 10 * 10
    assert nodes["round"].unique().sort().to_list() == list(range(100, 1001, 100))


def test_the_page_renders_and_is_silent(quickstart):
    checked = check_page(quickstart[0] / "report.html")
    assert len(checked["figures"]) == 5
    assert all(width > 0 and height > 0 for width, height in checked["figures"].values())
    assert checked["console"] == []


def test_report_and_compare_read_files_alone(quickstart, monkeypatch, capsys):
    folder, printed = quickstart
    assert LABELS in printed
    before = (folder / "report.html").read_bytes()
    monkeypatch.chdir(folder.parent)
    assert main(["report", "run"]) == 0
    assert (folder / "report.html").read_bytes() == before
    assert main(["compare", "run", "run"]) == 0
    assert LABELS in capsys.readouterr().out
