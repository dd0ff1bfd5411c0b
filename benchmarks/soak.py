"""(m) Ten sites on cables of 100 kbit/s for an hour: whether a link is ever lost, blocked or slow to answer.

Real ``palaver peer`` processes with certificates, each on a machine of its own (``benchmarks.namespaces``), talk as
much as their rate limit lets them. An operator on an eleventh machine asks all of them a question of one input every
ten seconds and reads their beacons. No cable is cut: every site that is said to be gone is said so falsely. Needs root,
Linux and iproute2. ``python -m benchmarks.soak FOLDER --minutes 60``
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.namespaces import Machine, machines, possible
from palaver.peers.provision import DEMO_OPERATOR, init
from palaver.peers.settings import SiteSettings
from palaver.peers.up import to_toml

SITES, KBIT, PACE, RATE = 10, 100.0, 5.0, 5000.0
"""Sites; of each cable; rounds a second; bytes a second that a site's packets take at most."""
TALK = {"payload_bits": 16, "top": 0, "neighbours": 9, "least_change": 0.0, "rounds": 10**6}
"""All classes at 16 bits to everybody, whether or not anything is new: more than the rate limit lets out."""
_LOOK = 5.0
"""Seconds between looks at the processes."""


def main() -> None:
    """Runs the sites and prints what happened to them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder, for keys, checkpoints and journals")
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    if not possible():
        parser.error("no network namespaces can be made here: run it as root on Linux, with iproute2")
    if given.folder.exists():
        parser.error(f"{given.folder} is there already: give a new folder")
    names = [f"site-{place}" for place in range(SITES)]
    with machines([*names, "operator"], KBIT) as made:
        ends = {machine.name: f"tls/{machine.address}:7447" for machine in made[:SITES]}
        init(given.folder / "keys", names, hosts=[machine.address for machine in made])
        for machine in made[:SITES]:
            settings = SiteSettings(
                name=machine.name,
                peers=ends,
                collective={"name": "soak", "data": "digits"} | TALK,
                credentials=str(given.folder.absolute() / "keys" / machine.name),
                operators=(DEMO_OPERATOR,),
                folder=str(given.folder.absolute() / machine.name),
                rate=RATE,
                pace=PACE,
            )
            (given.folder / f"{machine.name}.toml").write_text(to_toml(settings))
        with (given.folder / "out").open("wb") as out:
            files = [str(given.folder / f"{name}.toml") for name in names]
            sites = [_started(each, out, "palaver", "peer", file) for each, file in zip(made, files, strict=False)]
            operator = _started(
                made[SITES], out, "benchmarks.soak_operator", str(given.folder), str(given.minutes * 60)
            )
            try:
                figures = _watched(sites, made, given.folder / "operator.jsonl", operator)
            finally:
                for process in (operator, *sites):
                    process.send_signal(signal.SIGTERM)
                codes = [site.wait() for site in sites]
    _say(given.folder, names, figures | {"exit codes": sorted(set(codes))})


def _started(machine: Machine, out: Any, module: str, *args: str) -> subprocess.Popen[bytes]:
    one = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    command = machine.command(sys.executable, "-m", module, *args)
    return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | one)


def _watched(
    sites: list[subprocess.Popen[bytes]], made: list[Machine], notes: Path, operator: subprocess.Popen[bytes]
) -> dict[str, Any]:
    """Memory and traffic, from the operator's first note to its last."""
    samples = []
    while operator.poll() is None:
        time.sleep(_LOOK)
        ended = [site for site in sites if site.poll() is not None]
        if ended:
            raise ChildProcessError(f"{len(ended)} sites ended by themselves")
        if operator.poll() is None and notes.exists() and notes.stat().st_size:
            memory = sum(psutil.Process(site.pid).memory_info().rss for site in sites)
            samples.append((time.monotonic(), memory, np.array([machine.traffic() for machine in made[:SITES]])))
    if operator.returncode or len(samples) < 2:
        raise ChildProcessError(f"the operator ended with {operator.returncode}")
    first, middle, last = samples[0], samples[len(samples) // 2], samples[-1]
    rate = (last[2] - first[2]) * 8 / (last[0] - first[0]) / 1000
    return {
        "minutes": (last[0] - first[0]) / 60,
        "kbit/s that a site sends, mean and most": f"{rate[:, 0].mean():.1f}, {rate[:, 0].max():.1f}",
        "kbit/s that a site receives, mean and most": f"{rate[:, 1].mean():.1f}, {rate[:, 1].max():.1f}",
        "MB of a site, at first, at half-time, at the end": ", ".join(
            f"{memory / SITES / 1e6:.1f}" for _, memory, _ in (first, middle, last)
        ),
    }


def _say(folder: Path, names: list[str], figures: dict[str, Any]) -> None:
    journals = {
        name: [json.loads(line) for line in (folder / name / "journal.jsonl").read_text().splitlines()]
        for name in names
    }
    operator = [json.loads(line) for line in (folder / "operator.jsonl").read_text().splitlines()]
    began, until = operator[0]["time"], operator[-1]["time"]
    left = [line for lines in journals.values() for line in lines if line["event"] == "left"]
    packets = [to for line in left for to in line.get("packets", {}).values()]
    early = [each for lines in journals.values() for each in lines if each["event"] == "gone" and each["time"] < began]
    gone = [
        f"{name}: {each['peer']}"
        for name, lines in journals.items()
        for each in lines
        if each["event"] == "gone" and began <= each["time"] < until
    ]
    asked = [each for each in operator if each["event"] == "asked"]
    answers = np.array([ms for each in asked for ms in each["milliseconds"].values() if ms is not None])
    gaps = np.array([each["seconds"] for each in operator if each["event"] == "beacon"])
    figures |= {
        "sites falsely taken for gone": len(gone),
        "and before all sites had begun, while programs were compiled": len(early),
        "questions": len(asked),
        "answers, of all that were wanted": f"{len(answers)} of {len(asked) * SITES}",
        "milliseconds of an answer, median, 99 %, most": ", ".join(
            f"{of:.0f}" for of in (*np.percentile(answers, [50, 99]), answers.max())
        ),
        "packets sent, of all sites": sum(to["number"] for to in packets),
        "packets refused, of all sites": sum(
            line["packets"] for lines in journals.values() for line in lines if line["event"] == "refused"
        ),
        "beacons": len(gaps),
        "seconds between two beacons of a site, median, most": f"{np.median(gaps):.2f}, {gaps.max():.2f}",
    }
    table = Table("what", describe(), title=f"{SITES} sites on {KBIT:g} kbit/s")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    Console(width=120).print(table)
    for each in gone:
        print(f"taken for gone: {each}")


if __name__ == "__main__":
    main()
