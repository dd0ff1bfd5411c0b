"""A peer: one node of a collective on its own, without network, clock or files.

It is Algorithm 2 of the thesis for one node with a real queue, from the functions of ``palaver.exchange.protocol``.
Where every packet arrives between two rounds, peers make the simulation's every decision (``palaver.peers.lockstep``).
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.channels import pack, unpack
from palaver.exchange import protocol, reference
from palaver.exchange.protocol import Coins, Protocol
from palaver.peers.agreement import Agreement
from palaver.peers.judge import Judge
from palaver.peers.learners import Learner, foreign
from palaver.peers.memory import Arrival, Memory
from palaver.peers.wire import RefusedError, Said, array
from palaver.types import NO_LABEL, NO_PACKET, NO_PEER, Array, PalaverError, PyTree

_DRAWN = 16
"""Rounds whose random draws are made at once."""

_WAITING = 16
"""Packets of one sender that wait at most to be remembered; the oldest are dropped."""

_LARGEST = 1e4
"""Magnitude of what is learnt from others at most, features; distributions are within it."""

_confidence = jax.jit(reference.confidence)


class Draws(NamedTuple):
    """A peer's random draws of some rounds, NumPy arrays with the rounds as leading axis."""

    consume: np.ndarray
    broadcast: np.ndarray
    seed: np.ndarray
    """``[rounds, 2]`` uint32: of the training step."""
    now: np.ndarray
    """First of the rows of the reference set that are talked about."""
    own: np.ndarray
    """First of the rows that the peer itself turns to, where it remembers what it hears."""
    to: np.ndarray
    """``[rounds, P]``: its neighbours, padded with ``NO_PEER``."""


class Packet(NamedTuple):
    """What waits in an inbox."""

    sender: int
    step: int
    x: np.ndarray
    """``[B, ...]``."""
    labels: np.ndarray
    """``[B]`` int32, ``NO_LABEL`` where the payload gives none."""
    received: PyTree
    """Decoded."""


class Outgoing(NamedTuple):
    """What is to be sent to one neighbour."""

    to: int
    step: int
    start: int
    payload: bytes
    x: bytes

    def message(self, collective: bytes, epoch: int, seq: int) -> Said:
        """The packet as it travels.

        Args:
            collective: digest of what was agreed on.
            epoch: of the sender.
            seq: how many packets it sent to this neighbour before.

        Returns:
            The message.

        """
        return Said(collective, epoch, seq, self.step, self.start, self.payload, self.x)


class Turn(NamedTuple):
    """What a peer did in a round."""

    sender: int
    """Whose packet it read; ``NO_PACKET``: nobody's, or it remembers what it hears."""
    step: int
    """The round of that packet's sender; -1 for nobody's."""
    consumed: bool
    """Whether it learned from others."""
    x: np.ndarray
    """``[B, ...]``: the inputs that it trained on."""
    outgoing: list[Outgoing]


@dataclass
class Counts:
    """Since the start."""

    consumed: int = 0
    broadcast: int = 0
    sent: int = 0
    """Packets times neighbours."""
    dropped: int = 0
    """Packets lost to a full inbox."""


@dataclass
class Peer:
    """A peer's whole state but for its learner's."""

    agreement: Agreement
    me: int
    """Its id."""
    learner: Learner
    x: np.ndarray
    """``[L, ...]``: its own inputs."""
    y: np.ndarray
    """``[L]`` int32: their labels."""
    labelled: int | None = None
    """So many of its own examples have a label, the first; ``None``: all."""
    judge: Judge | None = None
    """Whom it believes, where the agreement has a gate; ``None``: everybody."""
    step: int = 0
    """Rounds done."""
    position: int = 0
    """Own examples read."""
    counts: Counts = field(default_factory=Counts)
    refused: Counter[tuple[int, str]] = field(default_factory=Counter)
    """What was received well and not used after all, by sender and reason, see ``refusals``."""
    inbox: deque[Packet] = field(default_factory=deque)
    arrived: list[Arrival] = field(default_factory=list)
    memory: Memory | None = None
    said: np.ndarray | None = None
    """``[R, ...]``: what it last said about each row of the reference set, decoded."""

    def __post_init__(self) -> None:
        deal = self.agreement
        if not len(self.y):
            raise PalaverError(f"{deal.names[self.me]} has no example: give it at least one")
        self._shapes, self._decode = deal.payload(), deal.decode()
        self._draws: tuple[int, Draws] | None = None
        self._key = protocol.node_key(deal.key, jnp.int32(self.me))
        if (deal.talk.gate == "twin") != (self.judge is not None):
            raise PalaverError(f"the gate is {deal.talk.gate}: give a judge for twin, and none otherwise")
        if deal.reference is not None:
            blank = self._decode(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self._shapes))
            if deal.talk.combine == "mean" and self.memory is None:
                self.memory = Memory(len(deal.reference), blank.shape[1:])
            if deal.talk.least_change and self.said is None:
                self.said = np.zeros((len(deal.reference), *blank.shape[1:]), np.float32)

    def receive(self, sender: int, said: Said) -> None:
        """Takes a packet in: into the inbox, or into the memory at the next round.

        Args:
            sender: id of the peer that sent it, as the transport knows it.
            said: the packet.

        Raises:
            RefusedError: it is not such a packet as was agreed on; nothing has changed then.

        """
        deal = self.agreement
        x = self._inputs(said)
        try:
            payload = unpack(self._shapes, said.payload)
        except PalaverError as error:
            raise RefusedError("payload", str(error)) from None
        received = self._decode(payload)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((payload, received)) if leaf.dtype.kind == "f"):
            raise RefusedError("not finite", "of a payload")
        for leaf in jax.tree.leaves(received):
            _check_range(leaf, _LARGEST)
        if self.memory is not None:
            ones = np.ones(deal.protocol.batch_size, np.float32)
            weight = np.asarray(_confidence(received)) if deal.talk.weighted else ones
            self._wait(Arrival(said.start, received, weight, sender))
            return
        labels = np.full(deal.protocol.batch_size, NO_LABEL, np.int32)
        if deal.channel.labels_of is not None:
            labels = np.asarray(deal.channel.labels_of(payload)).astype(np.int32)
        self._store(Packet(sender, said.step, x, labels, received))

    def _inputs(self, said: Said) -> np.ndarray:
        """The inputs that a packet is about."""
        deal, rows = self.agreement, self.agreement.protocol.batch_size
        if deal.talk.examples == "own":
            x = array(said.x, (rows, *deal.shape), deal.dtype)
            _check_range(x, deal.largest)
            return x
        assert deal.reference is not None
        last = len(deal.reference) - rows
        if said.x or said.start > last or (said.start % rows and said.start != last):  # see reference_start
            raise RefusedError("rows", f"{rows} from {said.start} on, of {len(deal.reference)}")
        return deal.reference[said.start : said.start + rows]

    def _wait(self, arrival: Arrival) -> None:
        """Until the next round, in which a sender counts once about the same rows, by what it said last."""
        self.arrived = [each for each in self.arrived if (each.sender, each.start) != (arrival.sender, arrival.start)]
        of_sender = [each for each in self.arrived if each.sender == arrival.sender]
        if len(of_sender) == _WAITING:
            self.arrived = [each for each in self.arrived if each is not of_sender[0]]
        self.arrived.append(arrival)

    def _store(self, packet: Packet) -> None:
        """Into the inbox, by the policy of full ones."""
        if len(self.inbox) == self.agreement.capacity:
            self.counts.dropped += 1
            if self.agreement.overflow == "drop_newest":
                return
            self.inbox.popleft()
        self.inbox.append(packet)

    def turn(self, reached: Collection[int] | None = None) -> Turn:
        """A round: one training step, and what is to be sent afterwards.

        Args:
            reached: ids of the peers that can be reached now; ``None``: all.

        Returns:
            What was done, and what is to be sent.

        """
        deal, draws = self.agreement, self._drawn()
        self.absorb()
        if self.memory is not None:
            mean, waiting = self.memory.recall(int(draws.own), deal.protocol.batch_size)
        else:
            mean, waiting = None, len(self.inbox)
        coins: Any = draws[:3]
        decided = _decide(deal.protocol, Coins(*coins), self.step, waiting)
        read = self._read(int(draws.own), mean) if decided.consume else None
        x, labels, received = self._own() if read is None else read[2:]
        if self.judge is not None and read is None:
            self.judge.twin.learn(x, labels, None, seed=draws.seed)
        to = [int(peer) for peer in draws.to if peer != NO_PEER and (reached is None or peer in reached)]
        speaks = bool(decided.broadcast and to)
        say = speaks and deal.talk.examples == "own"
        if read is None:
            payload = self.learner.learn(x, labels, received, seed=draws.seed, say=say)
        else:
            try:
                with foreign("what was received"):
                    payload = self.learner.learn(x, labels, received, seed=draws.seed, say=say)
            except RefusedError as error:
                self.refused[read.sender, error.reason] += 1
                payload, speaks = None, speaks and not say
        outgoing = self._speak(x, payload, int(draws.now), to) if speaks else []
        sender, step = (NO_PACKET, -1) if read is None else (read.sender, read.step)
        self.step += 1
        self.counts.consumed += read is not None
        self.counts.broadcast += bool(outgoing)
        self.counts.sent += len(outgoing)
        return Turn(sender, step, read is not None, x, outgoing)

    def skip(self) -> None:
        """A round in which it takes no part."""
        self.absorb()
        self.step += 1

    def absorb(self) -> None:
        """Adds what has arrived to what it remembers; every round begins with it."""
        if self.memory is not None:
            arrived = self.arrived
            if self.judge is not None and arrived:
                assert self.agreement.reference is not None
                arrived, muted = self.judge.judged(arrived, self.agreement.reference, self._decode)
                self.refused.update((sender, "muted") for sender in muted)
            self.memory.add(arrived, self.agreement.talk.decay)
            self.arrived.clear()

    def _read(self, start: int, mean: np.ndarray | None) -> Packet:
        """The oldest packet of the inbox, or what is remembered about some rows."""
        if mean is None:
            return self.inbox.popleft()
        assert self.agreement.reference is not None
        rows = self.agreement.reference[start : start + len(mean)]
        return Packet(NO_PACKET, -1, rows, np.full(len(mean), NO_LABEL, np.int32), mean)

    def _own(self) -> tuple[np.ndarray, np.ndarray, None]:
        """The next minibatch of its own: inputs, labels, and nothing received."""
        deal = self.agreement
        labelled = len(self.y) if self.labelled is None else self.labelled
        sends_own = deal.talk.examples == "own" and deal.protocol.p_broadcast > 0
        size = len(self.y) if sends_own else labelled
        places = np.asarray(_local_batch(deal.protocol, self._key, np.int32(self.position), np.int32(size)))
        self.position += deal.protocol.batch_size
        return self.x[places], np.where(places < labelled, self.y[places], NO_LABEL).astype(np.int32), None

    def _speak(self, x: np.ndarray, payload: PyTree | None, start: int, to: list[int]) -> list[Outgoing]:
        """What it says in this round to those whom it reaches; nothing where it has nothing new to say."""
        deal = self.agreement
        if deal.talk.examples == "own":
            return [Outgoing(peer, self.step, 0, pack(payload), _bytes(x, deal.dtype)) for peer in to]
        assert deal.reference is not None
        rows = slice(start, start + deal.protocol.batch_size)
        payload = self.learner.encode(deal.reference[rows])
        if self.said is not None:
            now = self._decode(payload)
            if change(self.said[rows], now) < deal.talk.least_change:
                return []
            self.said[rows] = now
        return [Outgoing(peer, self.step, start, pack(payload), b"") for peer in to]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of its state and its learner's, by name."""
        found = {f"learner.{name}": array for name, array in self.learner.arrays().items()}
        if self.memory is not None:
            self.absorb()
            found |= {"memory.total": self.memory.total, "memory.weight": self.memory.weight}
        if self.judge is not None:
            found |= {f"judge.{name}": array for name, array in self.judge.arrays().items()}
        if self.said is not None:
            found["said"] = self.said
        for place, packet in enumerate(self.inbox):
            leaves = jax.tree.leaves(packet.received)
            parts = {"x": packet.x, "labels": packet.labels} | {str(n): leaf for n, leaf in enumerate(leaves)}
            found |= {f"inbox.{place}.{name}": part for name, part in parts.items()}
        return found

    def about(self) -> dict[str, Any]:
        """The numbers of its state, as JSON has them."""
        waiting = [(packet.sender, packet.step) for packet in self.inbox]
        return {"step": self.step, "position": self.position, "counts": vars(self.counts).copy(), "inbox": waiting}

    def restore(self, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Takes up what ``arrays`` and ``about`` gave.

        Raises:
            ValueError: these are another peer's, with another model for example.

        """
        parts = {name.removeprefix("learner."): a for name, a in arrays.items() if name.startswith("learner.")}
        self.learner.restore(parts)
        if self.judge is not None:
            self.judge.restore({n.removeprefix("judge."): a for n, a in arrays.items() if n.startswith("judge.")})
        if self.memory is not None:
            self.memory.total, self.memory.weight = arrays["memory.total"].copy(), arrays["memory.weight"].copy()
        if self.said is not None:
            self.said = arrays["said"].copy()
        tree = jax.tree.structure(self._decode(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self._shapes)))
        self.inbox.clear()
        for place, (sender, step) in enumerate(about["inbox"]):
            received = jax.tree.unflatten(tree, [arrays[f"inbox.{place}.{n}"] for n in range(tree.num_leaves)])
            at = f"inbox.{place}."
            self.inbox.append(Packet(sender, step, arrays[at + "x"], arrays[at + "labels"], received))
        self.step, self.position, self.counts = about["step"], about["position"], Counts(**about["counts"])

    def _drawn(self) -> Draws:
        """The random draws of this round."""
        first, place = self.step - self.step % _DRAWN, self.step % _DRAWN
        if self._draws is None or self._draws[0] != first:
            deal = self.agreement
            size = 0 if deal.reference is None else len(deal.reference)
            steps = first + np.arange(_DRAWN, dtype=np.int32)
            drawn = _draw(deal.protocol, size, deal.key, self._key, steps)
            to = [np.asarray(deal.topology(step))[self.me] for step in jnp.asarray(steps)]
            self._draws = first, Draws(*map(np.asarray, (*drawn, to)))
        return Draws(*(part[place] for part in self._draws[1]))


@partial(jax.jit, static_argnums=(0, 1))
def _draw(how: Protocol, size: int, key: Array, own: Array, steps: Array) -> tuple[Array, ...]:
    """See ``Draws``; R rows of a reference set, 0: there is none."""
    coins = jax.vmap(lambda step: protocol.toss(how, own, step))(steps)
    starts = [jnp.zeros_like(steps)] * 2
    if size:
        starts = [
            jax.vmap(lambda step, key=key: protocol.reference_start(how, key, step, size))(steps) for key in (key, own)
        ]
    return coins.consume, coins.broadcast, jax.random.key_data(coins.key), *starts


_decide: Callable[..., protocol.Decision] = protocol.decide
"""Of NumPy's scalars, which need no compiled program."""

_local_batch: Callable[..., Array] = jax.jit(protocol.local_batch, static_argnums=0)


def change(before: np.ndarray, now: np.ndarray) -> float:
    """The total variation ``½ Σ |p − p′|`` of what is said now and was said before, mean over the rows.

    It is 1, as far as distributions can be from each other, for a row of which nothing was said.

    Args:
        before: ``[B, ...]``, 0 about rows of which nothing was said.
        now: ``[B, ...]``.

    Returns:
        In [0, 1].

    """
    rows = (len(now), math.prod(now.shape[1:]))
    silent = ~before.reshape(rows).any(-1)
    return float(np.where(silent, 1, 0.5 * np.abs(now - before).reshape(rows).sum(-1)).mean(dtype=np.float32))


def magnitude(x: np.ndarray) -> float:
    """The largest number of an array without its sign; 0 of an empty one."""
    return max(float(x.max(initial=0)), -float(x.min(initial=0)))


def _check_range(x: np.ndarray, largest: float) -> None:
    """Refuses numbers of which a single step would leave a model's parameters infinite."""
    if magnitude(x) > largest:
        raise RefusedError("range", f"numbers beyond {largest:g}")


def _bytes(x: np.ndarray, dtype: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(x, dtype.newbyteorder("<")).tobytes()
