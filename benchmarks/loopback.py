"""(k) Five real peers over loopback against the simulation with the same settings: test accuracy, 5 seeds.

``palaver up`` for each seed, and ``palaver run collective`` for all of them, with the leanest packets.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from operator import sub
from pathlib import Path

from rich.console import Console
from rich.table import Table

from palaver.peers.settings import LEAN, few_neighbours
from palaver.report.grids import percent_cell
from palaver.studies.statistics import interval

SEEDS, PEERS = 5, 5
FIELDS = (
    *("split", "skew", "reference", "learning_rate", "channel", "combine", "payload_bits", "top", "topology"),
    *("redraw_every", "p_broadcast", "least_change", "rounds"),
)


def palaver(*args: str) -> str:
    return subprocess.run([sys.executable, "-m", "palaver", *args], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Prints what a site is worth alone and together, as a peer and in the simulation, and the difference by seed."""
    peers = [json.loads(palaver("up", "--peers", str(PEERS), "--json", "--seed", str(seed))) for seed in range(SEEDS)]
    lean = dataclasses.asdict(LEAN)
    flags = [part for name in FIELDS for part in (f"--{name.replace('_', '-')}", str(lean[name]))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "simulation"
        size = ["--nodes", str(PEERS), "--neighbours", str(few_neighbours(PEERS)), "--seeds", str(SEEDS)]
        palaver("run", "collective", *flags, "--weighted", *size, "--out", str(out))
        metrics = json.loads((out / "summary.json").read_text())["rows"][0]["metrics"]
    table = Table("test accuracy", "peers %", "simulation %", "difference, points")
    for measure, key in (("alone", "test_average_accuracy"), ("together", "test_collective_accuracy")):
        ours, theirs = [each[measure] for each in peers], metrics[key]["values"]
        apart = interval(list(map(sub, ours, theirs)))
        low, high = (100 * apart[bound] for bound in ("low", "high"))
        found = f"{100 * apart['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
        table.add_row(measure, *(percent_cell(interval(each, "fraction")) for each in (ours, theirs)), found)
    for measure in ("silent_alone", "silent_together"):
        table.add_row(
            measure.replace("_", ", "), percent_cell(interval([p[measure] for p in peers], "fraction")), "", ""
        )
    sent = [peer["packet_bytes"] for each in peers for peer in each["peers"].values()]
    Console(width=120).print(table)
    print(f"sent by a peer: {sum(sent) / len(sent) / 1000:.1f} kB of packets")


if __name__ == "__main__":
    main()
