"""Tables 2.1 and 2.2 at the scale for tests, on CIFAR-10 where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

from palaver.cli import main

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
    "20 nodes, labels": {"collective_accuracy": 0.877, "rounds_to_target": 2700},
}


def test_tiny_table_has_the_thesis_beside_ours(tmp_path, capsys):
    args = ["run", "table-2.1", "--scale", "tiny", "--seeds", "2", "--out", str(tmp_path / "run")]
    real = (Path(os.environ.get("PALAVER_DATA", "none")) / "cifar-10-batches-bin").is_dir()
    if not real:
        print("CIFAR-10 is not under PALAVER_DATA: the tiny table is made on digits")
        args += ["--data", "digits"]
    assert main(args) == 0
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["configuration"] for row in summary["rows"]] == list(THESIS)
    for row in summary["rows"]:
        assert row["thesis"] == (THESIS[row["configuration"]] if real else {})
        assert all(0 < value < 1 for value in row["metrics"]["average_accuracy"]["values"])
        silent = "no sharing" in row["configuration"]
        assert (row["bits_per_node"]["examples"] == 0) == silent
    if real:
        assert "84.5" in said
        assert "86.8" in said
        # 2 layers of 8 and 16 channels: 3·16·8 + 8·16·16 + 2·(8 + 16) + 8·8·16·10 + 10 parameters, 64 bits, 8 rounds
        parameters = 3 * 16 * 8 + 8 * 16 * 16 + 2 * (8 + 16) + 8 * 8 * 16 * 10 + 10
        assert summary["rows"][3]["bits_per_node"]["gradient_exchange"] == 8 * 64 * parameters
    else:
        assert "10 nodes, labels" in said
