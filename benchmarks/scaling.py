"""(i) Weak scaling: what a node's round costs where every device has as many nodes, on 1 to 8 devices and on two hosts.

MLP 64-32-32-10, batch 16, logits, random inputs, a ring of 500 nodes a device, as in ``growth``. A CPU shows as many
devices as it is told to; each number of them is a process of its own, and two hosts are two processes of one device.
All take turns; each number is the least of all turns. Where there are fewer cores than devices, a round takes longer on
the clock the more nodes there are, so the processor time of a node-round is what says whether devices cost each other
anything: it would stay the same if they did not.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe

NODES, ROUNDS, REPEATS, TURNS = 500, 16, 5, 2
"""Nodes a device; rounds that are timed at once; how often in a process; how many processes."""
SIDES = {"1 device": (1, 1), "2 devices": (2, 1), "2 hosts, 1 device each": (1, 2), "4 devices": (4, 1)}
SIDES |= {"8 devices": (8, 1)}
"""Devices of each host, and hosts."""


def turn(devices: int, hosts: int) -> tuple[float, float]:
    """Seconds on the clock, and processor seconds of all hosts, of ``ROUNDS`` rounds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.scaling", str(hosts), f"127.0.0.1:{port}"]
    children = [
        subprocess.Popen([*command, str(host)], env=environment, stdout=subprocess.PIPE) for host in range(hosts)
    ]
    wrote = [child.communicate()[0] for child in children]
    return tuple(json.loads(wrote[0].splitlines()[-1]))


def measure(hosts: int, coordinator: str, host: int) -> None:
    """Prints what ``turn`` returns; on every host."""
    import jax
    import numpy as np

    from benchmarks.growth import inputs
    from benchmarks.measure import Prepared
    from palaver.exchange.settings import CollectiveSettings
    from palaver.studies.hosts import gather, join, leave

    if hosts > 1:
        join(hosts, host, coordinator)
    nodes = NODES * len(jax.devices())
    settings = CollectiveSettings(nodes=nodes, topology="ring", neighbours=2, channel="logits", batch_size=16)
    prepared, took = Prepared(settings, inputs(), ROUNDS), []
    for _ in range(1 + REPEATS):
        clock, processor = time.perf_counter(), time.process_time()
        prepared.advance()
        took.append((time.perf_counter() - clock, time.process_time() - processor))
    best = gather(np.array(took[1:])).sum(0).min(0)  # the first compiles
    print(json.dumps([float(best[0]) / hosts, float(best[1])]))
    leave()


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(TURNS):
        for name, side in SIDES.items():
            found[name].append(turn(*side))
    table = Table("devices", "nodes", "ms a round", "µs of processor a node-round", "/ that of 1", title=describe())
    costs = {}
    for name, (devices, hosts) in SIDES.items():
        clock, processor = (min(values) for values in zip(*found[name], strict=True))
        nodes = NODES * devices * hosts
        costs[name] = 1e6 * processor / (nodes * ROUNDS)
        ratio = costs[name] / costs["1 device"]
        table.add_row(name, f"{nodes:,}", f"{1e3 * clock / ROUNDS:.1f}", f"{costs[name]:.1f}", f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else:
        main()
