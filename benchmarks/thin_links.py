"""(l) Ten sites on thin links: accuracy over time and bytes, for peers and for those that average weights or gradients.

Each site is a process on a machine of its own (``benchmarks.namespaces``), whose cable carries so much and no more, in
either direction. Peers talk about a reference set or send their own examples; the others average gradients in every
round, or weights every so many rounds, by PyTorch's gloo, whose ring sends the least that is possible. Model, shards
(Dirichlet 0.1), minibatches and optimiser are the same. Ten sites share this machine's cores, which slows down peers
more than those that wait for their links. Needs root, Linux and iproute2.

``python -m benchmarks.thin_links FOLDER`` runs what FOLDER does not hold yet, a part of it by ``--only PATTERN``, and
writes the table and ``thin-links.svg``.
"""

import argparse
import fnmatch
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.machine import describe
from benchmarks.namespaces import Machine, machines, possible
from benchmarks.thin_curves import curve, draw, table
from benchmarks.thin_site import SITES, Run, write

SHARE = 0.9
"""Of the best accuracy of peers that talk about a reference set: what all methods have to reach."""

_GRACE = 20.0
"""Seconds that a method goes on after it has reached it."""
_POLL = 1.0
_PATIENCE = 600.0
"""Seconds until all sites are ready, at most."""


class Task(NamedTuple):
    """A data set with a model."""

    settings: dict[str, Any]
    seconds: float
    """For which peers run."""
    limit: float
    """For which the others run at most."""
    methods: tuple[tuple[str, int], ...]
    """With the rounds between two averages."""
    cables: tuple[str, ...]
    look_every: float = 1.0


CABLES = {"free": None, "1 Mbit/s": 1000.0, "100 kbit/s": 100.0}
"""Names and kbit/s."""

_MNIST = {"data": "mnist", "reference": 0.03}
_CNN = {"data": "cifar10", "reference": 0.03, "model": "cnn", "widths": [32, 64, 128], "norm": "group"}
_PEERS = (("reference", 0), ("own", 0))
_AVERAGES = (("all-reduce", 1), ("fedavg", 16), ("fedavg", 100), ("fedavg", 500), ("diloco", 100), ("diloco", 500))
_FEW = (("reference", 0), ("all-reduce", 1), ("fedavg", 100))
_IMAGES = (*_PEERS, ("all-reduce", 1), ("fedavg", 100), ("fedavg", 500), ("diloco", 500))
_SLOW = ("1 Mbit/s", "100 kbit/s")

TASKS = {
    "MNIST": Task(_MNIST | {"widths": [200, 140]}, 120, 400, (*_PEERS, *_AVERAGES), tuple(CABLES)),
    "MNIST, small model": Task(_MNIST | {"widths": [32, 32]}, 90, 600, _FEW, tuple(CABLES)),
    "MNIST, large model": Task(_MNIST | {"widths": [1000, 200]}, 240, 600, _FEW, tuple(CABLES)),
    "CIFAR-10": Task(_CNN, 600, 1800, _IMAGES, _SLOW, 15.0),
}


class Plan(NamedTuple):
    """One run, by its name."""

    task: Task
    cable: str
    method: str
    period: int


def plans() -> dict[str, Plan]:
    """Every run: data set, cable, method, those first that the others are measured by."""
    found = {}
    for name, task in TASKS.items():
        for cable in task.cables:
            for method, period in task.methods:
                if method == "own" and cable == "free":
                    continue
                every = f" every {period}" if period > 1 else ""
                found[f"{name}: {cable}: {method}{every}"] = Plan(task, cable, method, period)
    return found


def start(plan: Plan, folder: Path, addresses: Sequence[str]) -> Run:
    """What the sites of a run read."""
    kbit = CABLES[plan.cable]
    settings = plan.task.settings | {"rounds": 10**6, "p_broadcast": 0.3}
    if plan.method == "own":  # images, in packets of at most 64 KiB
        own = {"reference": 0.0, "channel": "labels", "combine": "latest", "weighted": False, "least_change": 0.0}
        own |= {"payload_bits": 32, "top": 0, "batch_size": 16 if plan.task.settings["data"] == "cifar10" else 32}
        settings |= own
    rate = 0.0 if kbit is None else 0.6 * kbit * 1000 / 8  # below the link, so that nothing waits in front of it
    return Run(str(folder), tuple(addresses), plan.method, settings, max(1, plan.period), rate, plan.task.look_every)


def measure(plan: Plan, folder: Path, target: float | None) -> None:
    """Runs one plan; its logs are in the folder when it is done.

    Args:
        plan: what is run.
        folder: for its files, made anew.
        target: test accuracy at which it may end; ``None``: there is none.

    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    limit = plan.task.seconds if plan.method == "reference" else plan.task.limit
    with machines([f"site-{rank}" for rank in range(SITES)], CABLES[plan.cable]) as made:
        run = start(plan, folder, [machine.address for machine in made])
        path = write(run)
        sites = list[subprocess.Popen[bytes]]()
        try:
            for rank, machine in enumerate(made):
                # The first alone, whose programs the others find in the cache; then two at a time.
                _wait(sites, run, [run.path(each, "compiled") for each in range(max(rank - 1, min(rank, 1)))])
                sites.append(_process(machine, run, path, rank))
            _wait(sites, run, [run.path(rank, "ready") for rank in range(SITES)])
            began = time.monotonic() + 1.0
            (folder / "go.new").write_text(str(began))
            (folder / "go.new").rename(folder / "go")
            reached = None
            while time.monotonic() < began + limit and (reached is None or time.monotonic() < reached + _GRACE):
                time.sleep(_POLL)
                _alive(sites, run)
                if target is not None and reached is None:
                    now = curve(folder, plan.method, latest=True)
                    reached = time.monotonic() if now is not None and now.together[-1] >= target else None
        finally:
            for site in sites:
                site.send_signal(signal.SIGKILL)
            for site in sites:
                site.wait()
    shutil.rmtree(folder / "programs", ignore_errors=True)
    (folder / "done").touch()


def _process(machine: Machine, run: Run, path: Path, rank: int) -> subprocess.Popen[bytes]:
    one = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
    one["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    one["JAX_COMPILATION_CACHE_DIR"] = str(Path(run.folder).absolute() / "programs")
    one |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    command = machine.command(sys.executable, "-m", "benchmarks.thin_site", str(path), str(rank))
    with run.path(rank, "out").open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | one)


def _wait(sites: Sequence[subprocess.Popen[bytes]], run: Run, files: Sequence[Path]) -> None:
    until = time.monotonic() + _PATIENCE
    while not all(file.exists() for file in files):
        _alive(sites, run)
        if time.monotonic() > until:
            raise TimeoutError(f"the sites of {run.folder} have not begun after {_PATIENCE:.0f} s")
        time.sleep(0.1)


def _alive(sites: Sequence[subprocess.Popen[bytes]], run: Run) -> None:
    for rank, site in enumerate(sites):
        if site.poll() is not None:
            raise ChildProcessError(f"site {rank} ended by itself: {run.path(rank, 'out').read_text()[-2000:]}")


def main() -> None:
    """Runs what is missing, and shows all there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the runs; those that it holds are not run again")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="names of runs, such as 'MNIST: 100 *'")
    given = parser.parse_args()
    every = plans()
    wanted = [name for name in every if any(fnmatch.fnmatchcase(name, each) for each in given.only or ["*"])]
    if not wanted:
        parser.error(f"--only {given.only} names no run: give some of {'; '.join(every)}")
    plain = str.maketrans({"/": None, ",": None, ":": "/", " ": "-"})
    places = {name: given.folder / name.replace(": ", ":").translate(plain) for name in every}
    for name in wanted:
        if (places[name] / "done").exists():
            continue
        if not possible():
            parser.error("no network namespaces can be made here: run it as root on Linux, with iproute2")
        plan = every[name]
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        measure(plan, places[name], None if plan.method == "reference" else _target(plan, every, places))
    done = {name: place for name, place in places.items() if (place / "done").exists()}
    curves = {name: curve(place, every[name].method) for name, place in done.items()}
    targets = {name: _target(every[name], every, places) for name in done}
    console = Console(width=140)
    console.print(f"{describe()}; targets are {100 * SHARE:.0f} % of the best of reference")
    console.print(table(curves, targets))
    for path in draw(curves, targets, given.folder):
        console.print(f"wrote {path}")


def _target(plan: Plan, every: dict[str, Plan], places: dict[str, Path]) -> float | None:
    """What all methods on this cable have to reach: a share of the best of peers that talk about a reference set."""
    for name, other in every.items():
        if other.method == "reference" and (other.task, other.cable) == (plan.task, plan.cable):
            found = curve(places[name], other.method) if (places[name] / "done").exists() else None
            return None if found is None else SHARE * float(found.together.max())
    return None


if __name__ == "__main__":
    main()
