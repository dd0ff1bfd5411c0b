"""What sites send and keep: bytes of real messages, bytes a second from them, and a run that checks the sums.

All is with the default settings. Memory and checkpoints are those of processes of ``palaver peer``. The run is of five
sites with certificates in network namespaces, whose network cards count every byte; it needs root and is left out
without.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.namespaces import Machine, machines, possible
from palaver.peers import provision
from palaver.peers.build import Material, make_material
from palaver.peers.core import Outgoing
from palaver.peers.links import Outbox, Seen
from palaver.peers.serve import Reporter
from palaver.peers.settings import SiteSettings
from palaver.peers.site import Conduct, Site
from palaver.peers.transport import Arrived, Network
from palaver.peers.wire import encode, question

DATA, SITES, PACES = ("digits", "mnist", "cifar10"), (5, 10, 50, 100), (1, 10)
RUN_PACE, SECONDS = 10, 40
"""Rounds a second, and seconds that are measured, of the run of ``SITES[0]`` sites."""
LINK = 100_000 / 8
"""Bytes a second of a link of 100 kbit/s."""


class Sizes(NamedTuple):
    """Bytes of messages, and how many packets there are at most."""

    packet: int
    question: int
    """About one input."""
    answer: int
    beacon: int
    """Of a site that has heard all others."""
    rows: int
    """Of the reference set."""
    fan: float
    """Packets in a round of a site at most, mean over the rounds."""


class Kept(NamedTuple):
    """What a process of a site takes at most, in bytes."""

    memory: int
    checkpoint: int
    """One of the two that are kept."""


class Measured(NamedTuple):
    """Means over the sites, in a second."""

    packets: float
    packet_bytes: float
    beacons: float
    """To all others together."""
    message_bytes: float
    """Of messages that came in, by the sites' own count."""
    sent: float
    """Bytes by the network card, as ``received``."""
    received: float


def names(sites: int) -> list[str]:
    return [f"site-{place:02}" for place in range(sites)]


def material(data: str, sites: int) -> Material:
    ends = {name: f"tcp/127.0.0.1:{place + 1}" for place, name in enumerate(names(sites))}
    return make_material(SiteSettings(name="site-00", peers=ends, collective={"data": data}))


def sizes(of: Material) -> Sizes:
    """Of what a site sends that has learnt for some rounds and has heard all others."""
    deal, network, epoch = of.peer.agreement, Network(), int(time.time())
    assert deal.reference is not None
    box, end = Outbox(of.digest, epoch), network.join(deal.names[0])
    other = network.join(deal.names[1])
    said = list[Outgoing]()
    while not said:
        said = of.peer.turn().outgoing
    site = Site(of.digest, of.peer, box, end, Conduct(rounds=0), report=Reporter(of))
    site.seen |= {place: Seen(epoch, 500, 1, 500) for place in range(1, len(deal.names))}
    site.cycle(0.0)
    (beacon,) = (len(each.data) for each in other.poll() if each.kind == "beacon")
    asked, answers = encode(question(of.digest, deal.reference[:1])), list[bytes]()
    site.take(Arrived("ask", "", asked, answers.append))
    packet = encode(said[0].message(of.digest, epoch, 500))
    neighbours = int((np.asarray(deal.topology(0))[0] >= 0).sum())
    fan = deal.protocol.p_broadcast * neighbours
    return Sizes(len(packet), len(asked), len(answers[0]), beacon, len(deal.reference), fan)


def toml(site: SiteSettings) -> str:
    fields = ("name", "credentials", "folder", "http", "pace", "checkpoint_seconds")
    lines = [f"{name} = {json.dumps(getattr(site, name))}" for name in fields if getattr(site, name)]
    for table, content in (("peers", site.peers), ("collective", site.collective)):
        lines += [f"[{table}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in content.items())]
    return "\n".join(lines)


def started(settings: SiteSettings, folder: Path, on: Iterable[str] = ()) -> subprocess.Popen[bytes]:
    path = folder / f"{settings.name}.toml"
    path.write_text(toml(settings))
    return subprocess.Popen([*on, sys.executable, "-m", "palaver", "peer", str(path)], stdout=subprocess.DEVNULL)


def noted(folder: Path, event: str) -> list[dict[str, Any]]:
    """Entries of a site's journal."""
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def wait(done: Any, process: subprocess.Popen[bytes]) -> None:
    while not done():
        assert process.poll() is None
        time.sleep(0.5)


def kept(data: str) -> Kept:
    """By a site that nobody else is there for, after 50 rounds."""
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        ends = {name: f"tcp/127.0.0.1:{17_000 + place}" for place, name in enumerate(names(5))}
        how: dict[str, Any] = {"pace": 10, "checkpoint_seconds": 2.0, "collective": {"data": data}}
        process = started(SiteSettings(name="site-00", peers=ends, folder=str(folder / "run"), **how), folder)
        wait(lambda: any(int(path.stem) >= 50 for path in (folder / "run").glob("*.npz")), process)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        process.wait()
        memory = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        step = max((path for path in (folder / "run").glob("*.npz")), key=lambda path: int(path.stem))
        return Kept(memory, step.stat().st_size + step.with_suffix(".json").stat().st_size)


def counted(machine: Machine) -> tuple[float, ...]:
    """Bytes that a site's machine sent and received, and those of the messages that came in."""
    look = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
    found = subprocess.run(machine.command(sys.executable, "-c", look), check=True, capture_output=True, text=True)
    (came,) = (line for line in found.stdout.splitlines() if line.startswith("palaver_received_bytes_total"))
    return *machine.traffic(), float(came.split()[1])


def measured(sites: int) -> Measured:
    """In a run over TLS, of sites that have heard each other for a while."""
    with tempfile.TemporaryDirectory() as at, machines(names(sites)) as made:
        folder = Path(at)
        provision.init(folder / "keys", names(sites), hosts=[machine.address for machine in made])
        ends = {machine.name: f"tls/{machine.address}:7447" for machine in made}
        processes = [
            started(
                SiteSettings(
                    name=machine.name,
                    peers=ends,
                    credentials=str(folder / "keys" / machine.name),
                    folder=str(folder / machine.name),
                    http="127.0.0.1:8000",
                    pace=RUN_PACE,
                    collective={"rounds": 100_000},
                ),
                folder,
                machine.command(),
            )
            for machine in made
        ]
        try:
            for machine, process in zip(made, processes, strict=True):
                wait(lambda at=folder / machine.name: len(noted(at, "here")) == sites - 1, process)
            time.sleep(10)  # what is said at the beginning is all new
            before, began = [counted(machine) for machine in made], time.time()
            time.sleep(SECONDS)
            after, ended = [counted(machine) for machine in made], time.time()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()
        sent, received, came = (np.subtract(after, before).mean(0) / (ended - began)).tolist()
        found = []
        for machine in made:
            within = [entry for entry in noted(folder / machine.name, "left") if began <= entry["time"] <= ended]
            passed = within[-1]["time"] - within[0]["time"]
            left = [of for entry in within[1:] for of in entry.get("packets", {}).values()]
            beacons = [of for entry in within[1:] for of in entry.get("beacons", {}).values()]
            found.append([sum(of["number"] for of in left), sum(of["bytes"] for of in left)])
            found[-1].append(sum(of["number"] for of in beacons))
            found[-1] = [each / passed for each in found[-1]]
        return Measured(*np.mean(found, 0).tolist(), came, sent, received)


def main() -> None:
    """Prints bytes by data set, by number of sites, and of the run."""
    console, by = Console(width=120), {data: sizes(material(data, SITES[0])) for data in DATA}
    console.print(describe())
    table = Table("bytes", *DATA)
    for name in ("packet", "question", "answer"):
        table.add_row(name, *(f"{getattr(by[data], name):,}" for data in DATA))
    table.add_row("rows of the reference set", *(f"{by[data].rows:,}" for data in DATA))
    takes = {data: kept(data) for data in DATA}
    table.add_row("a checkpoint, kB", *(f"{takes[data].checkpoint / 1e3:,.0f}" for data in DATA))
    table.add_row("memory of a process, MB", *(f"{takes[data].memory / 1e6:,.0f}" for data in DATA))
    console.print(table)
    table = Table("sites", "beacon", "beacons, B/s", *(f"packets at {pace}/s, B/s" for pace in PACES), "B/s in all")
    for sites in SITES:
        of = sizes(material("digits", sites))
        beacons, packets = of.beacon * (sites - 1), [pace * of.fan * of.packet for pace in PACES]
        cells = f"{of.beacon:,}", f"{beacons:,}", *(f"{each:,.0f}" for each in packets)
        table.add_row(str(sites), *cells, f"{beacons + packets[-1]:,.0f}")
    console.print(table)
    if not possible():
        print("the run is left out: network namespaces need Linux, root and iproute2")
        return
    found, of = measured(SITES[0]), sizes(material("digits", SITES[0]))
    messages = found.packet_bytes + found.beacons * of.beacon
    number = found.packets + found.beacons
    print(f"{SITES[0]} sites at {RUN_PACE} rounds/s, a second and site:")
    print(f"  packets {found.packets:.2f} (at most {RUN_PACE * of.fan:.2f}), {found.packet_bytes:.0f} B")
    print(f"  beacons {found.beacons:.2f}, {found.beacons * of.beacon:.0f} B")
    counted_bytes = f"{found.message_bytes:.0f} B by the sites' own count of what came in"
    print(f"  messages {messages:.0f} B by the sizes above, {counted_bytes}")
    print(f"  on the wire {found.sent:.0f} B sent, {found.received:.0f} B received")
    print(f"  around a message {(found.sent - messages) / number:.0f} B")


if __name__ == "__main__":
    main()
