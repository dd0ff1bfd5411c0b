"""A site of a collective: a peer with its links, beacons, answers, checkpoints and journal, on any transport and clock.

``Site.cycle`` does everything that is due and returns at once, so that a test can play hours of many sites on a virtual
clock, and a process calls it in a loop.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palaver.errors import MachineError
from palaver.peers import checkpoint
from palaver.peers.agreement import digest
from palaver.peers.core import Peer
from palaver.peers.learners import foreign
from palaver.peers.ledger import UNKNOWN, Ledger
from palaver.peers.links import AROUND, Outbox, Seen
from palaver.peers.saving import saved
from palaver.peers.transport import Arrived, Transport
from palaver.peers.wire import REASON, ROOM, Answer, Ask, Beacon, RefusedError, Said, State, array, decode, encode

_SHARE = 0.25
"""Of the rate, what beacons take at most, beside it. They acknowledge, so that with fewer of them a window of packets
would be what holds a thin link back."""

_SOON = 0.05
"""Seconds between acknowledgements at least. These go to the senders alone: to all sites, whoever sends four packets
would make a site send more bytes than it got."""

_ENOUGH = 4
"""Packets of one sender that are acknowledged before the next beacon is due."""


_RENEWED = 60.0
"""Seconds between epochs that a site begins because of what others say."""


class Conduct(NamedTuple):
    """What a site does beside learning."""

    rounds: int
    """After which it no longer trains, but goes on to answer."""
    pace: float = 0.0
    """Rounds in a second at most; 0: as fast as the machine does them."""
    beacon_every: float = 1.0
    """Seconds between beacons, less where packets wait to be acknowledged, more where the rate is low."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""
    folder: Path | None = None
    """Of its checkpoints; ``None``: none are kept."""


class Neighbour(NamedTuple):
    """What a site knows of another one, from its beacons."""

    epoch: int = -1
    step: int = 0
    state: State = "joining"
    report: dict[str, float] = {}  # noqa: RUF012
    hears: tuple[str, ...] = ()
    """Names of those whose packets it has received."""


class Standing(NamedTuple):
    """Of a site's certificate and its list of refusals, see ``palaver.peers.renewal``."""

    days_left: float | None = None
    """Until its certificate ends; negative: it has ended; ``None``: it does without."""
    renewals: int = 0
    """How often new ones were taken up since the start."""
    trouble: str | None = None
    """Why the newest files are not used."""


@dataclass
class Site:
    """A site; ``cycle`` is all that has to be called."""

    collective: bytes
    """Digest of what was agreed on."""
    peer: Peer
    outbox: Outbox
    transport: Transport
    conduct: Conduct
    twin: Peer | None = None
    """The same node in silence: what it would have learnt alone."""
    journal: Callable[[dict[str, Any]], None] = lambda entry: None
    """Notes what left, what was refused, who came and went."""
    report: Callable[["Site"], dict[str, float]] = lambda site: {}
    """What its beacons tell about it."""
    temperature: Callable[[Peer], float] = lambda peer: 1.0
    """Of its model or of its silent twin, fitted on validation examples."""
    later: Callable[[int], int | None] = lambda heard: None
    """An epoch after the one that others know of, saved; ``None``: that one cannot be right."""
    present: set[int] = field(default_factory=set)
    """Ids of those that can be reached."""
    seen: dict[int, Seen] = field(default_factory=dict)
    """Packets of each sender."""
    neighbours: dict[int, Neighbour] = field(default_factory=dict)
    foreign: dict[int, str] = field(default_factory=dict)
    """Of whom the latest beacon is of another collective or version, and what was wrong with it."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many by sender and reason; whoever is no peer counts as ``?``."""
    bytes_in: int = 0
    """Of all that came in."""
    ledger: Ledger = field(default_factory=Ledger)
    """All that left."""
    trouble: str | None = None
    """Why the latest checkpoint could not be written."""
    leaving: bool = False
    standing: Standing = field(default_factory=Standing)
    written_at: float | None = None
    """When the latest checkpoint was written, on the clock of ``cycle``."""
    reported: dict[str, float] = field(default_factory=dict)
    """What its latest regular beacon told about it."""
    _turn_at: float = -math.inf
    _beacon_at: float = -math.inf
    _soon_at: float = -math.inf
    _free_at: float = -math.inf
    _saved_at: float | None = None
    _saved_step: int = -1
    _renewed_at: float = -math.inf

    def __post_init__(self) -> None:
        self._ids = {name: place for place, name in enumerate(self.peer.agreement.names)}
        self._noted = Counter[tuple[str, str]]()
        self._acknowledged = dict[int, int]()
        self._noted_present, self._noted_at = set[int](), dict[int, float]()
        self.examples = digest({"labelled": self.peer.labelled}, self.peer.x, self.peer.y).hex()

    @property
    def name(self) -> str:
        """Of this site."""
        return self.peer.agreement.names[self.peer.me]

    @property
    def trains(self) -> bool:
        """Whether there are rounds left."""
        return self.peer.step < self.conduct.rounds

    @property
    def state(self) -> State:
        """What it says of itself in its beacons.

        ``leaving``: it ends in order. ``refused``: all that it reaches are of another collective or version. ``done``:
        no rounds are left, and it only answers. ``alone``: it trains, and reaches nobody. ``joining``: it has heard
        nobody yet of those whom it reaches. Else ``burn-in`` or ``talking``.
        """
        if self.leaving:
            return "leaving"
        if self.present and self.present <= self.foreign.keys():
            return "refused"
        if not self.trains:
            return "done"
        if not self.present:
            return "alone"
        if self.present.isdisjoint(self.neighbours):
            return "joining"
        return "burn-in" if self.peer.step < self.peer.agreement.protocol.burn_in else "talking"

    @property
    def notice(self) -> str | None:
        """Why it is ``refused`` and what to do, in one line; ``None``: it is not."""
        if self.state != "refused":
            return None
        names = self.peer.agreement.names
        others = "; ".join(f"{names[at]}: {why}" for at, why in sorted(self.foreign.items()) if at in self.present)
        return (
            f"every site that {self.name} reaches has other settings, another reference set or another version of "
            f"palaver ({others}): compare what palaver peer --check prints at each"
        )

    def cycle(self, now: float) -> None:
        """Everything that is due: what came in, a round of training, what may leave, a beacon, a checkpoint.

        Args:
            now: seconds on a clock that never goes back.

        """
        names = self.peer.agreement.names
        for arrived in self.transport.poll():
            self.take(arrived)
        if self.trains and now >= self._turn_at:
            pace = self.conduct.pace
            self._turn_at = max(self._turn_at + 1 / pace, now) if pace else now
            for packet in self.peer.turn(self.present).outgoing:
                self.outbox.offer(packet)
            if self.twin is not None:
                self.twin.turn()
        elif not self.trains:
            self.peer.absorb()
        self._note_presence(now)
        for (sender, reason), number in self.peer.refused.items():
            self.refused[names[sender] if sender >= 0 else "?", reason] += number
        self.peer.refused.clear()
        self._send(now)
        if self.conduct.folder is not None and self._saved_at is None:
            self._saved_at = now
        due = self._saved_at is not None and now >= self._saved_at + self.conduct.checkpoint_every
        if due and self.peer.step != self._saved_step:
            self.save()
            self._saved_at = now
            self.written_at = self.written_at if self.trouble else now

    def due(self, now: float) -> float:
        """When there will be something to do even if nothing comes in.

        Args:
            now: as for ``cycle``.

        Returns:
            On the same clock.

        """
        soonest = min(max(self._beacon_at, self._free_at), self._turn_at if self.trains else math.inf)
        return now if soonest <= now else soonest

    def rest(self, seconds: float) -> None:
        """Waits until something comes in, at most so many seconds, and takes it in."""
        for arrived in self.transport.poll(seconds):
            self.take(arrived)

    def take(self, arrived: Arrived) -> None:
        """Takes something in; what is not as it must be is counted, and changes nothing else.

        Args:
            arrived: from the transport.

        """
        self.bytes_in += len(arrived.data)
        known = arrived.sender if self._ids.get(arrived.sender, self.peer.me) != self.peer.me else "?"
        try:
            if arrived.kind == "ask":
                self._answer(arrived)
            elif known == "?":
                raise RefusedError("stranger", arrived.sender[:64])
            else:
                self._of_peer(self._ids[known], arrived)
        except RefusedError as error:
            self.refused[known, error.reason] += 1
            if arrived.refuse is not None:
                reason = f"{self.name} refuses the question: {error}"[:REASON]
                arrived.refuse(reason)
                self.ledger.add("answers", UNKNOWN, len(reason.encode()))

    def _of_peer(self, sender: int, arrived: Arrived) -> None:
        match arrived.kind, arrived.data:
            case "here", _:
                self.present.add(sender)
            case "gone", _:
                self.present.discard(sender)
                self.foreign.pop(sender, None)
            case "packet", data:
                message = decode(data, self.collective)
                if not isinstance(message, Said):
                    raise RefusedError("malformed", f"a {type(message).__name__} in place of a packet")
                seen = self.seen.get(sender, Seen())
                seen.check(message)
                self.peer.receive(sender, message)
                seen.add(message)
                self.seen[sender] = seen
            case "ack", data:
                message = decode(data, self.collective)
                if not isinstance(message, Beacon):
                    raise RefusedError("malformed", f"a {type(message).__name__} in place of an acknowledgement")
                self._acknowledgement(sender, message)
            case _, data:
                try:
                    message = decode(data, self.collective)
                except RefusedError as error:
                    if error.reason in ("collective", "version"):
                        self.foreign[sender] = str(error)
                    raise
                if not isinstance(message, Beacon):
                    raise RefusedError("malformed", f"a {type(message).__name__} in place of a beacon")
                self._beacon(sender, message)

    def _note_presence(self, now: float) -> None:
        """Tells the journal who came and went, of each at most once a second."""
        for sender in sorted(self.present ^ self._noted_present):
            if now >= self._noted_at.get(sender, -math.inf) + 1:
                event = "here" if sender in self.present else "gone"
                self.journal({"event": event, "peer": self.peer.agreement.names[sender]})
                self._noted_present ^= {sender}
                self._noted_at[sender] = now

    def _beacon(self, sender: int, beacon: Beacon) -> None:
        if beacon.epoch < self.neighbours.get(sender, Neighbour()).epoch:
            raise RefusedError("replayed", f"a beacon of epoch {beacon.epoch}")
        report = {name: value for name, value in beacon.report.items() if math.isfinite(value)}
        before = self.neighbours.get(sender, Neighbour()).report
        hears = tuple(name for name in self._ids if name in beacon.received)
        self.neighbours[sender] = Neighbour(beacon.epoch, beacon.step, beacon.state, report or before, hears)
        self.foreign.pop(sender, None)
        self._acknowledgement(sender, beacon)

    def _acknowledgement(self, sender: int, beacon: Beacon) -> None:
        if beacon.epoch < self.neighbours.get(sender, Neighbour()).epoch:
            raise RefusedError("replayed", f"an acknowledgement of epoch {beacon.epoch}")
        received = beacon.received.get(self.name)
        if received is not None and received[0] > self.outbox.epoch:
            self._renew(received[0])
        self.outbox.heard_from(sender, received)

    def _renew(self, heard: int) -> None:
        """Begins a later life than the one that others know of, at most once in so many seconds."""
        now = self.outbox.at or 0.0
        if now < self._renewed_at + _RENEWED:
            return
        self._renewed_at = now
        try:
            epoch = self.later(heard)
        except MachineError as error:
            self.journal({"event": "trouble", "what": str(error)})
            return
        if epoch is not None:
            self.outbox.begin(epoch)
            self.journal({"event": "epoch", "epoch": epoch})

    def _answer(self, arrived: Arrived) -> None:
        deal = self.peer.agreement
        assert arrived.reply is not None
        if not arrived.data:  # who is there, and what it has agreed on
            answer = self._own({**self.reported, "classes": float(deal.classes)})
            arrived.reply(answer)
            self.ledger.add("answers", UNKNOWN, len(answer))
            return
        message = decode(arrived.data, self.collective)
        if not isinstance(message, Ask):
            raise RefusedError("malformed", f"a {type(message).__name__} in place of a question")
        if 4 * message.rows * deal.classes > ROOM:
            raise RefusedError("rows", f"{message.rows} of {deal.classes} classes: an answer has at most {ROOM} bytes")
        if (message.dtype, message.shape) != (deal.dtype.name, deal.shape):
            raise RefusedError(
                "payload",
                f"the collective has inputs {list(deal.shape)} of {deal.dtype.name}; x holds {list(message.shape)} of "
                f"{message.dtype}",
            )
        x = array(message.x, (message.rows, *deal.shape), deal.dtype)
        of = self.twin if message.silent and self.twin is not None else self.peer
        with foreign("a question's inputs"):
            logits = np.asarray(of.learner.predict(x).logits, "<f4")
        answer = encode(Answer(self.collective, of.step, logits.tobytes(), self.temperature(of)))
        arrived.reply(answer)
        self.ledger.add("answers", UNKNOWN, len(answer), message.rows)

    def _send(self, now: float) -> None:
        deal, names = self.peer.agreement, self.peer.agreement.names
        for to, data, start in self.outbox.take(now):
            self.transport.send(names[to], data)
            about = start if deal.talk.examples == "reference" else None
            self.ledger.add("packets", names[to], len(data), deal.protocol.batch_size, about)
        due = now >= max(self._beacon_at, self._free_at)
        waiting = {at: seen.arrived - self._acknowledged.get(at, 0) for at, seen in self.seen.items()}
        if due:
            self.reported = self.report(self)
            spent = (self._tell(self.reported) + AROUND) * (len(names) - 1)
            self._acknowledged = {sender: seen.arrived for sender, seen in self.seen.items()}
            self._beacon_at = now + self.conduct.beacon_every
            self.note()
        elif now >= max(self._soon_at, self._free_at) and max(waiting.values(), default=0) >= _ENOUGH:
            spent = sum(self._acknowledge(sender) + AROUND for sender, number in waiting.items() if number > 0)
        else:
            return
        self._soon_at, self._free_at = now + _SOON, now + spent / (_SHARE * self.outbox.rate)

    def _acknowledge(self, sender: int) -> int:
        """Tells one sender what arrived of it, with fewer bytes than its packets have; gives them."""
        name, seen = self.peer.agreement.names[sender], self.seen[sender]
        self._acknowledged[sender] = seen.arrived
        received = {name: (seen.epoch, seen.newest)}
        data = encode(Beacon(self.collective, self.outbox.epoch, self.peer.step, self.state, received))
        self.transport.acknowledge(name, data)
        self.ledger.add("beacons", name, len(data))
        return len(data)

    def _tell(self, report: dict[str, float]) -> int:
        """Sends a beacon; gives its bytes."""
        names, data = self.peer.agreement.names, self._own(report)
        self.transport.beacon(data)
        for at in sorted(self.present):
            self.ledger.add("beacons", names[at], len(data))
        return len(data)

    def _own(self, report: dict[str, float]) -> bytes:
        """Its beacon."""
        names = self.peer.agreement.names
        received = {names[sender]: (seen.epoch, seen.newest) for sender, seen in self.seen.items() if seen.newest >= 0}
        return encode(Beacon(self.collective, self.outbox.epoch, self.peer.step, self.state, received, report))

    def leave(self) -> None:
        """Ends in order: answers what has come, says in a last beacon that it leaves, and writes a checkpoint."""
        self.rest(0)
        self.leaving = True
        self._tell({})
        self.note()
        if self.conduct.folder is not None:
            self.save()

    def note(self) -> None:
        """Tells the journal what has left and was refused since the last time."""
        refused = self.refused - self._noted
        self._noted = self.refused.copy()
        if left := self.ledger.entry():
            own = self.peer.agreement.talk.examples == "own"
            what = {"packets hold": "own examples" if own else "outputs about the reference set"}
            self.journal({"event": "left", "step": self.peer.step} | (what if "packets" in left else {}) | left)
        for (sender, reason), number in refused.items():
            self.journal({"event": "refused", "peer": sender, "reason": reason, "packets": number})

    def save(self) -> None:
        """Writes a checkpoint; where that fails, the site goes on, and says so in ``trouble``."""
        assert self.conduct.folder is not None
        try:
            checkpoint.save(self.conduct.folder, self.peer.step, saved(self))
            self.trouble, self._saved_step = None, self.peer.step
        except MachineError as error:
            self.trouble = str(error)
            self.journal({"event": "trouble", "what": self.trouble})
