"""The main job as shipped: 5 seeds on real handwriting, its result files, its page, and the claim it makes."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest

from browser import check_page
from palaver.decision import RULES

SILENT, LABELS = "10 nodes, silent", "10 nodes, labels"


def palaver(*args, cwd):
    return subprocess.run([sys.executable, "-m", "palaver.cli", *args], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("quickstart")
    done = palaver("run", "quickstart", "--out", "run", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "run", done.stdout


@pytest.fixture(scope="module")
def summary(quickstart):
    return json.loads((quickstart[0] / "summary.json").read_text())


def test_labels_beat_silence_under_every_rule(summary):
    rows = {row["configuration"]: row["metrics"] for row in summary["rows"]}
    for rule in RULES:
        metric = f"collective_accuracy.{rule}"
        assert rows[LABELS][metric]["mean"] > rows[SILENT][metric]["mean"], rule
    assert rows[LABELS]["average_accuracy"]["low"] > rows[SILENT]["average_accuracy"]["high"]


def test_summary_has_every_field(summary):
    assert set(summary) >= {"experiment", "scale", "version", "device", "seeds", "wall_seconds", "rows"}
    assert (summary["experiment"], summary["scale"], summary["seeds"]) == ("quickstart", "cpu", 5)
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
    folder, _ = quickstart
    metrics = pl.read_parquet(folder / "metrics.parquet")
    for row in summary["rows"]:
        last = metrics.filter((pl.col("configuration") == row["configuration"]) & (pl.col("round") == 500))
        sent = last.filter(pl.col("metric") == "sent")["value"].mean()
        bits = row["bits_per_node"]
        assert bits["examples"] == pytest.approx(sent * 32 * 64 * 8)
        said = {LABELS: 8, "10 nodes, logits": 320, "10 nodes, labels+logits": 328}.get(row["configuration"], 0)
        assert bits["payload"] == pytest.approx(sent * 32 * said)
        one = row["configuration"].startswith("1 node,")
        assert bits["gradient_exchange"] == (0 if one else 500 * 64 * 3466)


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


def test_report_and_compare_read_files_alone(quickstart):
    folder, said = quickstart
    assert "10 nodes, labels" in said
    before = (folder / "report.html").read_bytes()
    assert palaver("report", "run", cwd=folder.parent).returncode == 0
    assert (folder / "report.html").read_bytes() == before
    compared = palaver("compare", "run", "run", cwd=folder.parent)
    assert compared.returncode == 0
    assert LABELS in compared.stdout
