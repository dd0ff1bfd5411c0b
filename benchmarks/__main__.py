"""Runs every benchmark in a process of its own, prints a table, writes ``benchmarks/latest.json``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe

BENCHMARKS = ("mlp", "cnn", "vae", "teach", "language", "thousand", "growth", "reference")


def main() -> int:
    results: dict[str, dict[str, float | str]] = {}
    for name in BENCHMARKS:
        run = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=True
        )
        results |= json.loads(run.stdout.splitlines()[-1])
    table = Table("benchmark", "ours", "theirs or bound", "ratio (> 1: ours is better)", "unit", title=describe())
    for name, entry in results.items():
        table.add_row(
            name, f"{entry['ours']:,.4g}", f"{entry['theirs']:,.4g}", f"{entry['ratio']:.2f}", str(entry["unit"])
        )
    Console(width=130).print(table)
    (Path(__file__).parent / "latest.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
