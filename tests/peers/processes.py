"""Sites as real processes, on this machine or each in a network namespace, and what the tests see of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from palaver.peers.settings import SiteSettings
from palaver.peers.up import to_toml

_FETCH = """
import sys, urllib.request
data = sys.stdin.buffer.read() or None
request = urllib.request.Request(sys.argv[1], data, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=60) as answer:
    print(answer.readline().decode())
"""


@dataclass
class Process:
    """``palaver peer`` with its file."""

    settings: SiteSettings
    machine: object = None
    """Of ``benchmarks.namespaces``; ``None``: this one."""
    process: subprocess.Popen | None = None

    @property
    def name(self):
        return self.settings.name

    @property
    def folder(self):
        return Path(self.settings.folder)

    def command(self, *args):
        return [*args] if self.machine is None else self.machine.command(*args)

    def write(self, **changes):
        """Its file, with changes that the process itself does not know of."""
        path = self.folder.with_suffix(".toml")
        path.write_text(to_toml(SiteSettings(**(vars(self.settings) | changes))))
        return path

    def start(self, **changes):
        """Starts, or starts again."""
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(sys.executable, "-m", "palaver", "peer", str(self.write(**changes))),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"},
            )
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Ends in order, at most; gives the exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def said(self):
        """What it printed, in all its lives."""
        return self.folder.with_suffix(".log").read_text()

    def journal(self, event=None, since=0.0):
        """Entries of its journal, from this Unix time on."""
        try:
            lines = (self.folder / "journal.jsonl").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        found = map(json.loads, lines)
        return [entry for entry in found if event in (None, entry["event"]) and entry["time"] >= since]

    def step(self):
        """Rounds done."""
        look = self.look()
        return next(row["round"] for row in look["sites"] if row["name"] == self.name)

    def state(self):
        """Its state."""
        look = self.look()
        return next(row["state"] for row in look["sites"] if row["name"] == self.name)

    def fetch(self, path, asked=None):
        """The first line of what it serves over HTTP; ``None``: it serves nothing now."""
        done = subprocess.run(
            self.command(sys.executable, "-ISc", _FETCH, f"http://{self.settings.http}/{path}"),
            input="" if asked is None else json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout.strip().removeprefix("data: ")) if done.returncode == 0 else None

    def look(self):
        """Its snapshot, at most a second old; waits until it serves one."""

        def served():
            assert self.process.poll() is None, f"{self.name} has ended: {self.said()}"
            return self.fetch("events")

        return until(served)

    def link(self, peer):
        """What it knows of the link to a peer."""
        (found,) = (link for link in self.look()["links"] if link["peer"] == peer)
        return found

    def present(self):
        """Names of those whom it reaches."""
        return {link["peer"] for link in self.look()["links"] if link["present"]}

    def refused(self):
        """How many it refused by sender and reason."""
        return {(row["peer"], row["reason"]): row["packets"] for row in self.look()["refused"]}

    def pace(self, since, seconds):
        """Rounds a second over at least so many seconds from a Unix time on, by its journal; waits for them."""
        entries = until(
            lambda: (found := self.journal("left", since)) and found[-1]["time"] >= found[0]["time"] + seconds and found
        )
        first, last = entries[0], entries[-1]
        return (last["step"] - first["step"]) / (last["time"] - first["time"])

    def resident(self):
        """Bytes of memory that it holds."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmRSS"))
        return 1024 * int(line.split()[1])


def until(condition, seconds=240.0):
    """Waits until something is so, and gives what it is.

    Args:
        condition: a function without arguments.
        seconds: after which the test fails; far more than is needed, since the machine may be slow.

    """
    last = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < last, "it did not become so"
        time.sleep(0.1)
    return found


def free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def ended(processes):
    """Ends all processes when it is left, whatever happened."""
    try:
        yield
    finally:
        for each in processes:
            if each.process is not None and each.process.poll() is None:
                each.end()
