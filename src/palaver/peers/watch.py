"""A collective as it is seen from outside: its beacons, its answers, and a table of them."""

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import zenoh
from rich.table import Table

from palaver.peers.questions import put
from palaver.peers.snapshot import state_of
from palaver.peers.wire import Beacon, RefusedError, decode
from palaver.studies.formats import percent

_TIMEOUT = 3.0
"""Seconds for answers to come."""


class Watched(NamedTuple):
    """What was seen of a peer."""

    step: int = 0
    state: str = "starts"
    """What it says itself."""
    report: Mapping[str, float] = {}
    heard: tuple[str, ...] = ()


class Asked(NamedTuple):
    """Accuracies in [0, 1]."""

    together: float | None
    """``None``: nobody answered in time."""
    alone: dict[str, float]
    """By the name of those who answered in time."""


class Watcher:
    """Looks at a collective from outside, and asks it.

    Args:
        session: that has links to the sites.
        at: beginning of the collective's keys, ``palaver/NAME``.
        names: of the sites.
        digest: of what they agreed on.
        classes: that they tell apart.
        heard: beacons that were heard already, by name.

    """

    def __init__(
        self,
        session: zenoh.Session,
        at: str,
        names: Sequence[str],
        digest: bytes,
        classes: int,
        heard: Mapping[str, bytes] = {},
    ) -> None:
        self.session, self.at, self.names, self.digest, self.classes = session, at, tuple(names), digest, classes
        self.seen: Mapping[str, Watched] = {}
        """Replaced as a whole and never changed, since Zenoh's threads do it while others read."""
        self._present, self._foreign, self._lock = set[str](), set[str](), threading.Lock()
        for name, data in heard.items():
            self._take(name, data)
        alive = self.session.liveliness().declare_subscriber(f"{self.at}/alive/*", self._here, history=True)
        self._declared = alive, self.session.declare_subscriber(f"{self.at}/state/*", self._beacon)

    def _here(self, sample: Any) -> None:
        name = str(sample.key_expr).rpartition("/")[2]
        (self._present.add if sample.kind == zenoh.SampleKind.PUT else self._present.discard)(name)

    def _beacon(self, sample: Any) -> None:
        self._take(str(sample.key_expr).rpartition("/")[2], bytes(sample.payload))

    def _take(self, name: str, data: bytes) -> None:
        try:
            beacon = decode(data, self.digest)
        except RefusedError as error:
            if error.reason in ("collective", "version"):
                self._foreign.add(name)
            return
        self._foreign.discard(name)
        if isinstance(beacon, Beacon) and name in self.names:
            with self._lock:
                report = beacon.report or self.seen.get(name, Watched()).report
                watched = Watched(beacon.step, beacon.state, report, tuple(beacon.received))
                self.seen = {**self.seen, name: watched}

    def state(self, name: str) -> str:
        """What a site says of itself, or what can be seen of it, see ``state_of``."""
        said = self.seen[name].state if name in self.seen else None
        return state_of(said, present=name in self._present, foreign=name in self._foreign)

    def to_json(self) -> dict[str, Any]:
        """What was seen, by name, as JSON has it; ``None`` stands for what is not known."""
        return {
            name: seen._asdict()
            | {
                "state": self.state(name),
                "report": {key: value if math.isfinite(value) else None for key, value in seen.report.items()},
            }
            for name, seen in self.seen.items()
        }

    def asked(self, x: np.ndarray, y: np.ndarray, *, silent: bool = False, timeout: float = _TIMEOUT) -> Asked:
        """What the collective decides about inputs whose labels are known, within so many seconds."""
        how: Any = {"classes": self.classes, "timeout": timeout, "silent": silent}
        found = put(self.session, self.at, self.digest, x, self.names, **how)
        right = (found.logits.argmax(-1) == y).mean(-1)
        there = {name: place for place, name in enumerate(self.names) if found.voices[name].status == "answered"}
        return Asked(
            None if found.nobody else float((found.distribution.argmax(-1) == y).mean()),
            {name: float(right[place]) for name, place in there.items()},
        )


def table(watcher: Watcher, killed: Collection[str] = (), together: float | None = None) -> Table:
    """What is known of every site.

    Args:
        watcher: of the collective.
        killed: names of sites that were killed.
        together: the accuracy in [0, 1] of the collective's decision, if it is known.

    Returns:
        A table for the terminal.

    """
    caption = None if together is None else f"together {100 * together:.1f} %"
    grid = Table(title="accuracy on validation examples", caption=caption)
    days = ["cert. days"] if any("days left" in seen.report for seen in watcher.seen.values()) else []
    grid.add_column("", justify="right")
    grid.add_column("site")
    grid.add_column("state")
    for heading in ("round", "alone %", "silent %", "agrees %", "inbox", "kB in", "kB out", "lost %"):
        grid.add_column(heading, justify="right")
    grid.add_column("hears", max_width=20, no_wrap=True)
    for heading in ("refused", *days):
        grid.add_column(heading, justify="right")
    places = {name: place for place, name in enumerate(watcher.names)}
    for name, place in places.items():
        seen = watcher.seen.get(name)
        state = "killed" if name in killed else watcher.state(name)
        left = math.nan if seen is None else seen.report.get("days left", math.nan)
        heard = [] if seen is None else sorted(places[each] for each in seen.heard if each in places)
        grid.add_row(str(place), name, state, *_cells(seen, " ".join(map(str, heard))), *(f"{left:.1f}" for _ in days))
    return grid


def _cells(seen: Watched | None, heard: str) -> list[str]:
    if seen is None:
        return ["–"] * 10
    of = seen.report
    return [
        str(seen.step),
        *(percent(of.get(name)) for name in ("accuracy", "silent", "agrees")),
        f"{of.get('inbox', 0):.0f}",
        *(f"{of.get(name, 0) / 1000:.1f}" for name in ("bytes in", "bytes out")),
        f"{100 * of.get('lost', 0):.1f}",
        heard,
        f"{of.get('refused', 0):.0f}",
    ]
