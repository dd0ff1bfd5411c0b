"""Machines that are network namespaces of this one, each on a cable of a given rate to one switch.

Needs Linux, root and iproute2. Nothing leaves the namespaces, which are gone with the context.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from typing import NamedTuple

_NET = "10.77.0"
"""First three bytes of the machines' addresses."""

_BURST = 5000
"""Bytes that leave at once at most: three whole Ethernet frames, more than the largest single one."""

_LATENCY = 1000
"""Milliseconds of what waits in front of a cable at most; what comes then is dropped."""


class Machine(NamedTuple):
    """A namespace with one network card."""

    name: str
    address: str
    namespace: str
    switch: str
    """The switch's namespace."""
    port: str
    """Its cable's end there."""

    def command(self, *args: str) -> list[str]:
        """A command that runs on this machine.

        Args:
            *args: of the command.

        Returns:
            What ``subprocess`` takes.

        """
        return ["ip", "netns", "exec", self.namespace, *args]

    def cut(self) -> None:
        """Cuts the cable: nothing comes or goes, and no connection is told so."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def mend(self) -> None:
        """Undoes ``cut``."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def traffic(self) -> tuple[int, int]:
        """Bytes that the machine sent and received since it was made, with all headers from Ethernet's up."""
        found = subprocess.run(
            self.command("cat", "/sys/class/net/eth0/statistics/tx_bytes", "/sys/class/net/eth0/statistics/rx_bytes"),
            check=True,
            capture_output=True,
            text=True,
        )
        sent, received = map(int, found.stdout.split())
        return sent, received


def possible() -> bool:
    """Whether namespaces can be made here."""
    if os.name != "posix" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        return False
    tried = f"palaver-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", tried], capture_output=True, check=False).returncode:
        return False
    _ip("netns", "delete", tried)
    return True


@contextlib.contextmanager
def machines(names: Sequence[str], kbit: float | None = None) -> Generator[list[Machine]]:
    """Machines on one switch.

    Args:
        names: of the machines, at most 250.
        kbit: rate of each cable in kbit/s, in either direction; ``None``: as fast as this machine is.

    Yields:
        The machines, in the order of their names.

    Raises:
        CalledProcessError: a namespace, a cable or its rate cannot be made.

    """
    assert len(names) <= 250
    stem = f"palaver-{os.getpid()}"
    switch = f"{stem}-switch"
    made = [
        Machine(name, f"{_NET}.{place + 1}", f"{stem}-{place}", switch, f"port{place}")
        for place, name in enumerate(names)
    ]
    with contextlib.ExitStack() as stack:
        for namespace in (switch, *(machine.namespace for machine in made)):
            _ip("netns", "add", namespace)
            stack.callback(_ip, "netns", "delete", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for machine in made:
            there = machine.namespace
            _ip("link", "add", machine.port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", there)
            _ip("-n", switch, "link", "set", machine.port, "master", "bridge", "up")
            _ip("-n", there, "address", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", there, "link", "set", "eth0", "up")
            if kbit is not None:
                _shape(there, "eth0", kbit)
                _shape(switch, machine.port, kbit)
        yield made


def _shape(namespace: str, card: str, kbit: float) -> None:
    limits = ["rate", f"{kbit:g}kbit", "burst", str(_BURST), "latency", f"{_LATENCY}ms"]
    _run("tc", "-n", namespace, "qdisc", "add", "dev", card, "root", "tbf", *limits)


def _ip(*args: str) -> None:
    _run("ip", *args)


def _run(*args: str) -> None:
    subprocess.run(args, check=True, capture_output=True, text=True)
