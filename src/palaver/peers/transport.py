"""What carries messages between peers; and one that only hands them over in memory, where faults can be made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Arrived(NamedTuple):
    """Something that came in."""

    kind: str
    """``packet``, ``beacon``, ``ack``, ``ask``; or ``here`` and ``gone``: a peer can be reached, or no more."""
    sender: str
    """Name of the peer, as the transport knows it; of an ``ask``, who asks or nothing."""
    data: bytes = b""
    reply: Callable[[bytes], None] | None = None
    """Answers an ``ask``; called once."""
    refuse: Callable[[str], None] | None = None
    """Says why an ``ask`` is refused, in place of an answer."""


class Transport(Protocol):
    """What a site needs of a network. Nothing here waits, but for ``poll`` if it is asked to."""

    def send(self, to: str, data: bytes) -> None:
        """Sends a packet to one peer; it may be lost."""
        ...

    def beacon(self, data: bytes) -> None:
        """Sends a beacon to all peers; it may be lost."""
        ...

    def acknowledge(self, to: str, data: bytes) -> None:
        """Sends an acknowledgement to one peer; it may be lost."""
        ...

    def poll(self, wait: float = 0.0) -> list[Arrived]:
        """What came in since the last call, oldest first; waits so many seconds at most where there is nothing yet."""
        ...

    def close(self) -> None:
        """Leaves; the others see that the peer is gone."""
        ...


@dataclass
class Network:
    """A network in memory, on a virtual clock.

    ``carry`` decides about each message: it gives the times at which it arrives, none for one that is lost, two for one
    that arrives twice. A peer that is cut off is gone for the others after ``lease`` seconds.
    """

    carry: Callable[[str, str, str, float], list[float]] = lambda kind, sender, to, now: [now]
    lease: float = 3.0
    now: float = 0.0
    cut: set[frozenset[str]] = field(default_factory=set)
    """Pairs of peers between which nothing passes."""
    ends: dict[str, "End"] = field(default_factory=dict)
    order: int = 0

    def join(self, name: str) -> "End":
        """A peer's end of the network; one with the same name that was there before is gone."""
        if name in self.ends:
            self.ends[name].vanish()
        end = End(self, name)
        self.ends[name] = end
        return end

    def pass_on(self, kind: str, sender: str, to: str, data: bytes) -> None:
        """A message on its way."""
        if to in self.ends and frozenset((sender, to)) not in self.cut:
            for when in self.carry(kind, sender, to, self.now):
                self.order += 1
                self.ends[to].coming.append((when, self.order, Arrived(kind, sender, data)))


@dataclass
class End:
    """A ``Transport`` of one peer on a ``Network``."""

    network: Network
    name: str
    coming: list[tuple[float, int, Arrived]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """Those that this peer takes for present."""
    since: dict[str, float] = field(default_factory=dict)
    """When a peer that is taken for present stopped to be reached."""

    def send(self, to: str, data: bytes) -> None:
        """See ``Transport.send``."""
        self.network.pass_on("packet", self.name, to, data)

    def beacon(self, data: bytes) -> None:
        """See ``Transport.beacon``."""
        for to in self.network.ends:
            if to != self.name:
                self.network.pass_on("beacon", self.name, to, data)

    def acknowledge(self, to: str, data: bytes) -> None:
        """See ``Transport.acknowledge``."""
        self.network.pass_on("ack", self.name, to, data)

    def poll(self, wait: float = 0.0) -> list[Arrived]:
        """See ``Transport.poll``; it never waits."""
        found, now = self._presence(), self.network.now
        ready = sorted(each for each in self.coming if each[0] <= now)
        self.coming = [each for each in self.coming if each[0] > now]
        return [*found, *(arrived for _, _, arrived in ready)]

    def _presence(self) -> list[Arrived]:
        """Who has come and who is gone."""
        network, found = self.network, list[Arrived]()
        there = {n for n in network.ends if n != self.name}
        reached = {n for n in there if frozenset((n, self.name)) not in network.cut}
        for name in sorted(reached - self.known):
            found.append(Arrived("here", name))
        self.known |= reached
        for name in sorted(self.known - reached):
            first = self.since.setdefault(name, network.now)
            if name not in there or network.now - first >= network.lease:  # a process that ends is noticed at once
                found.append(Arrived("gone", name))
                self.known.discard(name)
        self.since = {n: t for n, t in self.since.items() if n in self.known - reached}
        return found

    def ask(self, to: str, data: bytes) -> None:
        """Puts a question to one peer; the answer comes in as a message of kind ``answer``."""
        reply = lambda answer: self.network.pass_on("answer", to, self.name, answer)  # noqa: E731
        self.network.order += 1
        self.network.ends[to].coming.append(
            (self.network.now, self.network.order, Arrived("ask", self.name, data, reply))
        )

    def close(self) -> None:
        """See ``Transport.close``."""
        self.vanish()

    def vanish(self) -> None:
        """As a killed process: it is gone without a word."""
        if self.network.ends.get(self.name) is self:
            del self.network.ends[self.name]
