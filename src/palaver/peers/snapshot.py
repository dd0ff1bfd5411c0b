"""What a site shows of itself and of the others, as JSON has it, and what it shows to other threads."""

import math
from typing import Any

from palaver.peers.site import Neighbour, Site

_EVERY = 1.0
"""Seconds between snapshots."""

_POINTS = 240
"""Of the curves, at most: past that every other one goes, and they come half as often."""

_FIGURES = ("accuracy", "silent", "agrees", "inbox", "bytes in", "bytes out", "lost", "refused")
"""What a beacon tells of a site, see ``palaver.peers.serve.Reporter``."""


def snapshot(site: Site, now: float) -> dict[str, Any]:
    """What a site knows: its own figures, those of the others by their beacons, and its packets to and from them.

    Args:
        site: at rest, or in its own thread.
        now: seconds on the clock of ``Site.cycle``.

    Returns:
        A new dictionary of JSON's types, which shares nothing that changes with the site. Accuracies and shares are in
        [0, 1]; ``None`` stands for what is not known.

    """
    names = site.peer.agreement.names
    return {
        "time": now,
        "name": site.name,
        "digest": site.collective.hex(),
        "rounds": site.conduct.rounds,
        "sites": [_own(site) if at == site.peer.me else _other(site, at) for at in range(len(names))],
        "links": [_link(site, at) for at in range(len(names)) if at != site.peer.me],
        "left": {kind: site.ledger.bytes[kind] for kind in ("packets", "beacons", "answers")},
        "refused": [
            {"peer": peer, "reason": reason, "packets": number}
            for (peer, reason), number in sorted(site.refused.items())
        ],
        "notice": site.notice,
        "certificate": site.standing._asdict(),
        "checkpoint": {
            "trouble": site.trouble,
            "seconds": None if site.written_at is None else max(0.0, now - site.written_at),
        },
    }


def _own(site: Site) -> dict[str, Any]:
    names = site.peer.agreement.names
    counted = {
        "inbox": len(site.peer.inbox) + len(site.peer.arrived),
        "bytes in": site.bytes_in,
        "bytes out": site.ledger.bytes.total(),
        "refused": site.refused.total(),
    }
    hears = [names[sender] for sender, seen in sorted(site.seen.items()) if seen.newest >= 0]
    return _row(site.name, site.state, site.peer.step, site.reported | counted, hears)


def _other(site: Site, at: int) -> dict[str, Any]:
    found = site.neighbours.get(at, Neighbour())
    return _row(site.peer.agreement.names[at], _state(site, at), found.step, found.report, list(found.hears))


def _row(name: str, state: str, step: int, report: dict[str, float], hears: list[str]) -> dict[str, Any]:
    figures = {of.replace(" ", "_"): report[of] if math.isfinite(report.get(of, math.nan)) else None for of in _FIGURES}
    return {"name": name, "state": state, "round": step} | figures | {"hears": hears}


def _state(site: Site, at: int) -> str:
    found = site.neighbours.get(at)
    return state_of(None if found is None else found.state, present=at in site.present, foreign=at in site.foreign)


def state_of(said: str | None, *, present: bool, foreign: bool) -> str:
    """The state of another site.

    >>> state_of("done", present=True, foreign=False), state_of(None, present=False, foreign=False)
    ('done', 'unseen')

    Args:
        said: what its latest beacon says; ``None``: none came.
        present: whether it can be reached.
        foreign: whether its latest beacon is of another collective or version.

    Returns:
        What it says itself, or what can be seen: ``starts`` (no beacon yet), ``gone``, ``unseen`` (never heard, and not
        there), ``refused``.

    """
    if not present:
        return "gone" if said or foreign else "unseen"
    if foreign:
        return "refused"
    return said or "starts"


def _link(site: Site, at: int) -> dict[str, Any]:
    """Packets to a site since this one started, and from it since that one did."""
    line, seen = site.outbox.lines.get(at), site.seen.get(at)
    return {
        "peer": site.peer.agreement.names[at],
        "present": at in site.present,
        "sent": line.seq if line else 0,
        "lost": line.lost if line else 0,
        "overflown": line.overflown if line else 0,
        "arrived": seen.arrived if seen else 0,
        "missing": seen.missing if seen else 0.0,
    }


class Board:
    """What other threads read of a site: objects that are replaced as a whole and never changed.

    Args:
        site: whose thread makes this object and calls ``look``.
        now: as for ``snapshot``.

    """

    def __init__(self, site: Site, now: float) -> None:
        self._site, self._between = site, _EVERY
        self.latest = snapshot(site, now)
        """The newest snapshot."""
        self.curves = (point(self.latest),)
        """Accuracies over time, oldest first, over the whole time since the start."""

    def look(self, now: float) -> None:
        """Takes a snapshot where the last one is a second old.

        Args:
            now: as for ``snapshot``.

        """
        if now < self.latest["time"] + _EVERY:
            return
        self.latest = snapshot(self._site, now)
        if now >= self.curves[-1]["time"] + self._between:
            self.curves = (*self.curves, point(self.latest))
            if len(self.curves) > _POINTS:
                self.curves, self._between = self.curves[::2], 2 * self._between


def point(found: dict[str, Any]) -> dict[str, Any]:
    """A snapshot's accuracies: of all sites in their order, and of the site's own silent twin.

    Args:
        found: of ``snapshot``.

    Returns:
        ``time``, ``accuracy`` and ``silent``.

    """
    (own,) = (row for row in found["sites"] if row["name"] == found["name"])
    return {
        "time": found["time"],
        "accuracy": [row["accuracy"] for row in found["sites"]],
        "silent": own["silent"],
    }
