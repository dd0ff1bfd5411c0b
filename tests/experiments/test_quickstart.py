"""The main job as shipped: 5 seeds on real handwriting, its result files, its page, and the claim it makes.

Of its six configurations four are run, with the settings as shipped.
"""

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

ONE, SILENT, LABELS, LOGITS = "1 node, everything", "10 nodes, silent", "10 nodes, labels", "10 nodes, logits"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The folder of a run on all cores, which takes a process of its own, and what that printed."""
    cwd = tmp_path_factory.mktemp("quickstart")
    only = [word for name in (ONE, SILENT, LABELS, LOGITS) for word in ("--only", name)]
    command = [sys.executable, "-m", "palaver", "run", "quickstart", *only, "--out", "run"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return cwd / "run", done.stdout


@pytest.fixture(scope="module")
def summary(quickstart):
    return json.loads((quickstart[0] / "summary.json").read_text())


@pytest.mark.parametrize(("scale", "rounds"), [("tiny", 40), ("cpu", 500), ("thesis", 5000)])
def test_the_six_configurations(scale, rounds):
    rows = {row.name: row.settings for row in configurations("quickstart", scale)}
    assert [name for name in rows if name not in (ONE, SILENT, LABELS, LOGITS)] == [
        "1 node, a tenth",
        "10 nodes, labels+logits",
    ]
    assert {own.rounds for own in rows.values()} == {rounds} and {own.data for own in rows.values()} == {"digits"}
    assert [own.nodes for own in rows.values()] == [1, 1, 10, 10, 10, 10]
    assert [own.channel for own in rows.values()] == ["none", "none", "none", "labels", "logits", "labels+logits"]
    assert [own.fraction for own in rows.values()] == [1, 0.1, 1, 1, 1, 1]
    assert {row.settings.data for row in configurations("quickstart", scale, data="mnist")} == {"mnist"}


def test_labels_beat_silence_under_every_rule(summary):
    rows = {row["configuration"]: row["metrics"] for row in summary["rows"]}
    for rule in RULES:
        metric = f"collective_accuracy.{rule}"
        assert rows[LABELS][metric]["mean"] > rows[SILENT][metric]["mean"], rule
    assert rows[LABELS]["average_accuracy"]["low"] > rows[SILENT]["average_accuracy"]["high"]


def test_summary_has_every_field(summary):
    assert set(summary) >= {"version", "device", "timings", "rows"}
    shown = {"experiment": "quickstart", "chapter": "collective", "scale": "cpu", "seeds": 5, "overrides": {}}
    assert {name: summary[name] for name in shown} == shown and summary["target"] == 0.95
    assert [row["configuration"] for row in summary["rows"]] == [ONE, SILENT, LABELS, LOGITS]
    names = {"average_accuracy", "collective_accuracy", "rounds_to_target"}
    names |= {f"collective_accuracy.{rule}" for rule in RULES}
    for row in summary["rows"]:
        assert names <= set(row["metrics"])
        for metric in row["metrics"].values():
            assert len(metric["values"]) == 5
        accuracy = row["metrics"]["collective_accuracy"]
        assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
        assert all(0.5 < value <= 1 for value in accuracy["values"])
        assert accuracy == row["metrics"]["collective_accuracy.confidence"]


def test_bits_are_counted_from_deliveries(quickstart, summary):
    metrics = pl.read_parquet(quickstart[0] / "metrics.parquet")
    for row in summary["rows"]:
        last = metrics.filter((pl.col("configuration") == row["configuration"]) & (pl.col("round") == 500))
        sent = np.array(last.filter(pl.col("metric") == "sent").sort("seed")["value"])
        bits = {name: row["metrics"][f"bits.{name}"] for name in ("examples", "payload", "gradient_exchange", "ratio")}
        assert (sent > 0).all() == (row["configuration"] in (LABELS, LOGITS))
        examples, payload = sent * 32 * 64 * 8, sent * 32 * {LABELS: 4, LOGITS: 320}.get(row["configuration"], 0)
        assert bits["examples"]["values"] == examples.tolist()
        assert bits["payload"]["values"] == payload.tolist()
        assert bits["examples"]["mean"] == pytest.approx(examples.mean())
        gradients = 0 if row["configuration"] == ONE else 500 * 64 * 3466
        assert bits["gradient_exchange"]["values"] == [gradients] * 5
        if sent.all():
            assert bits["ratio"]["values"] == pytest.approx(gradients / (examples + payload))
        else:
            assert bits["ratio"]["mean"] is None


def test_metrics_are_tidy(quickstart):
    metrics = pl.read_parquet(quickstart[0] / "metrics.parquet")
    assert metrics.columns == ["configuration", "seed", "round", "node", "metric", "value"]
    nodes = metrics.filter((pl.col("configuration") == LABELS) & (pl.col("metric") == "accuracy"))
    assert nodes.height == 5 * 20 * 10
    assert nodes["round"].unique().sort().to_list() == list(range(25, 501, 25))


def test_the_page_renders_and_is_silent(quickstart):
    checked = check_page(quickstart[0] / "report.html")
    assert len(checked["figures"]) == 5
    assert all(width > 0 and height > 0 for width, height in checked["figures"].values())
    assert checked["console"] == []


def test_report_and_compare_read_files_alone(quickstart, monkeypatch, capsys):
    folder, printed = quickstart
    assert "10 nodes, labels" in printed
    before = (folder / "report.html").read_bytes()
    monkeypatch.chdir(folder.parent)
    assert main(["report", "run"]) == 0
    assert (folder / "report.html").read_bytes() == before
    assert main(["compare", "run", "run"]) == 0
    assert LABELS in capsys.readouterr().out
