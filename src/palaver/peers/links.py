"""How packets leave and arrive, without network or clock: paced to what a link takes, and each used once at most.

A thin link is kept usable by never giving it more than it takes. At most ``window`` packets to a neighbour are on their
way; the neighbour's beacons say what has arrived. What a peer says meanwhile waits in a short queue that drops the
oldest: what a peer said earlier is worth less than what it says now. There is no time-out: a packet is taken for lost
when the neighbour's beacons have gone on without it.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from palaver.peers.core import Outgoing
from palaver.peers.wire import RefusedError, Said, encode

PATIENCE = 3
"""A packet is taken for lost after so many beacons of its receiver that say nothing new."""

_APART = 1.0
"""Seconds between beacons that count for this: those that only acknowledge come faster than a thin link carries."""

AROUND = 300
"""Bytes that TLS, TCP, IP and Ethernet put around a message, its acknowledgement included: what ``python -m
benchmarks.packets`` measures, less what keeps links alive."""

REMEMBERED = 64
"""Packets of a sender below the newest that can still arrive, each once."""


class Departure(NamedTuple):
    """A packet that leaves."""

    to: int
    """Id of the neighbour."""
    data: bytes
    start: int
    """The first of the rows of the reference set that it is about."""


@dataclass
class Line:
    """Packets on their way to one neighbour."""

    waiting: deque[Outgoing]
    seq: int = 0
    """Of the next packet."""
    arrived: int = -1
    """The largest seq that the neighbour has received, or that is taken for lost."""
    idle: int = 0
    """Beacons since something arrived that count."""
    idle_at: float = -math.inf
    """When the latest of them came, or the latest acknowledgement."""
    overflown: int = 0
    """Packets that never left."""
    lost: int = 0
    """Packets that left and are taken for lost."""

    @property
    def flying(self) -> int:
        """Packets that left and are not known to have arrived."""
        return self.seq - 1 - self.arrived


@dataclass
class Outbox:
    """What a peer sends, a line to each neighbour, with one rate for all of them.

    Args:
        collective: digest of what was agreed on.
        epoch: of the peer.
        window: W, packets to a neighbour on their way at most.
        queue: packets to a neighbour that wait at most.
        rate: bytes in a second of all packets together, each with ``AROUND``; infinite: no limit.

    """

    collective: bytes
    epoch: int
    window: int = 4
    queue: int = 4
    rate: float = math.inf
    lines: dict[int, Line] = field(default_factory=dict)
    bytes_out: int = 0
    """Of all packets."""
    credit: float = 0.0
    """Bytes that may leave now."""
    at: float | None = None
    """When the credit was computed, in seconds."""

    def begin(self, epoch: int) -> None:
        """Begins another life, in which packets are counted anew.

        Args:
            epoch: of it, larger than the one before.

        """
        self.epoch = epoch
        for line in self.lines.values():
            line.seq, line.arrived, line.idle = 0, -1, 0

    def offer(self, packet: Outgoing) -> None:
        """Puts a packet in the queue to its neighbour; a full queue drops its oldest."""
        line = self.lines.setdefault(packet.to, Line(deque(maxlen=self.queue)))
        line.overflown += len(line.waiting) == self.queue
        line.waiting.append(packet)

    def take(self, now: float) -> list[Departure]:
        """The packets that may leave now, neighbours in turn.

        Args:
            now: seconds on a clock that never goes back.

        Returns:
            A message for each.

        """
        self._earn(now)
        found = list[Departure]()
        ready = deque(peer for peer, line in self.lines.items() if line.waiting and line.flying < self.window)
        while ready and self.credit > 0:
            peer = ready.popleft()
            line = self.lines.pop(peer)
            self.lines[peer] = line  # it comes last the next time
            packet = line.waiting.popleft()
            data = encode(packet.message(self.collective, self.epoch, line.seq))
            line.seq += 1
            self.credit -= len(data) + AROUND
            self.bytes_out += len(data)
            found.append(Departure(peer, data, packet.start))
            if line.waiting and line.flying < self.window:
                ready.append(peer)
        return found

    def _earn(self, now: float) -> None:
        """At most a second's worth is saved up; a packet larger than what there is leaves a debt."""
        if self.rate == math.inf:
            self.credit = math.inf
        else:
            passed = 1.0 if self.at is None else max(0.0, now - self.at)
            self.credit = min(self.credit + passed * self.rate, self.rate)
        self.at = now

    def heard_from(self, peer: int, received: tuple[int, int] | None) -> None:
        """Takes a neighbour's beacon in.

        Args:
            peer: id of the neighbour.
            received: epoch and largest seq that it has received of this peer; ``None``: nothing.

        """
        line, now = self.lines.get(peer), self.at
        if line is None or now is None or not line.flying:
            return
        if received is not None and received[0] == self.epoch and line.arrived < received[1] < line.seq:
            line.arrived, line.idle, line.idle_at = received[1], 0, now
            return
        if now < line.idle_at + _APART:
            return
        line.idle, line.idle_at = line.idle + 1, now
        if line.idle >= PATIENCE:
            line.lost += line.flying
            line.arrived, line.idle = line.seq - 1, 0


@dataclass
class Seen:
    """Which packets of one sender have arrived: each is used once, in any order within ``REMEMBERED``."""

    epoch: int = -1
    newest: int = -1
    bits: int = 0
    """Bit ``i``: packet ``newest - i`` has arrived."""
    arrived: int = 0
    """Packets in this epoch."""

    def check(self, said: Said) -> None:
        """Checks that a packet is new.

        Args:
            said: the packet.

        Raises:
            RefusedError: it arrived before, is too old to tell, or is from an earlier life of its sender.

        """
        if said.epoch < self.epoch:
            raise RefusedError("replayed", f"of epoch {said.epoch}: its sender is in {self.epoch}")
        back = self.newest - said.seq
        if said.epoch > self.epoch:
            return
        if back >= REMEMBERED or (back >= 0 and self.bits >> back & 1):
            raise RefusedError("replayed", f"packet {said.seq}: the newest is {self.newest}")

    def add(self, said: Said) -> None:
        """Notes a packet that is new, and was taken in."""
        if said.epoch > self.epoch:
            self.epoch, self.newest, self.bits, self.arrived = said.epoch, -1, 0, 0
        back = self.newest - said.seq
        if back >= 0:
            self.bits |= 1 << back
        else:
            older = self.bits << -back if -back < REMEMBERED else 0
            self.bits, self.newest = (older | 1) & (1 << REMEMBERED) - 1, said.seq
        self.arrived += 1

    @property
    def missing(self) -> float:
        """Share of this epoch's packets, up to the newest, that have not arrived."""
        return 1 - self.arrived / (self.newest + 1) if self.newest >= 0 else 0.0

    def to_json(self) -> list[Any]:
        """For a checkpoint: epoch, newest, bits as hexadecimal digits, arrived."""
        return [self.epoch, self.newest, f"{self.bits:x}", self.arrived]

    @classmethod
    def from_json(cls, found: list[Any]) -> "Seen":
        """What ``to_json`` gave."""
        epoch, newest, bits, arrived = found
        return cls(epoch, newest, int(bits, 16), arrived)
