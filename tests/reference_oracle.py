"""Talk about a reference set, node after node: queues or a list of everything heard, and who is there when.

Nothing here is shared with the simulation but its random numbers: the coins, the permutations of a keyed order, and the
draws of who sleeps. What nodes say is a function of the caller's.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from oracle import NO_NODE, Shard, one_pass
from palaver.exchange.liars import Liars
from palaver.exchange.presence import Presence

BLOCKS, RANKS, SLEEP, LIARS, CLASS = 2**32 - 1, 2**32 - 2, 2**31 - 2, 2**32 - 4, 2**32 - 5
"""What the simulation folds into a seed's or a node's key to draw an order of blocks, ranks, sleep, who lies, and the
class that liars agreed on."""


class Rules(NamedTuple):
    """What the nodes of a collective do, beside their coins."""

    batch_size: int
    combine: str
    decay: float
    weighted: bool
    least_change: float
    rebroadcast: bool
    capacity: int
    overflow: str
    presence: Presence
    gate: str
    liars: Liars


class Message(NamedTuple):
    sender: int
    step: int
    rows: tuple[int, ...]
    said: np.ndarray


class Heard(NamedTuple):
    """One thing that a node heard about one row."""

    step: int
    weight: float
    value: np.ndarray


class Event(NamedTuple):
    """What happened to one node in one round."""

    sender: int
    step: int
    broadcast: bool
    sent: int
    dropped: int


@dataclass
class Opinion:
    """What a node thinks of a sender."""

    scores: list[float] = field(default_factory=list)
    state: str = "PROBATION"
    weight: float = 0.0

    @property
    def mean(self) -> float:
        """The first twenty packets count the same; from then on the latest counts one twentieth."""
        found = sum(self.scores[:20]) / len(self.scores[:20])
        for score in self.scores[20:]:
            found = 0.95 * found + 0.05 * score
        return found


class Lesson(NamedTuple):
    """What a node trained on: rows of its own, or others' and what was received about them."""

    rows: tuple[int, ...]
    received: np.ndarray | None


@dataclass
class Node:
    """One node and all that it remembers; the places of the reference set are ``0 .. R - 1``."""

    own: Shard
    calendar: Calendar
    blocks: Blocks
    inbox: deque[Message] = field(default_factory=deque)
    heard: dict[int, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    said: dict[int, np.ndarray] = field(default_factory=dict)
    opinions: dict[int, Opinion] = field(default_factory=lambda: defaultdict(Opinion))
    lie: Callable[[np.ndarray], np.ndarray] | None = None
    lessons: list[Lesson] = field(default_factory=list)


@dataclass
class Blocks:
    """The beginnings of the blocks of a reference set, pass after pass in an order of their own."""

    words: np.ndarray
    size: int
    batch_size: int
    passes: dict[int, list[int]] = field(default_factory=dict)

    def rows(self, step: int) -> range:
        starts = [min(start, self.size - self.batch_size) for start in range(0, self.size, self.batch_size)]
        number, place = divmod(step, len(starts))
        if number not in self.passes:
            self.passes[number] = one_pass(self.words, number, len(starts))
        start = starts[self.passes[number][place]]
        return range(start, start + self.batch_size)


@dataclass
class Calendar:
    """When one node is awake and when it is active."""

    presence: Presence
    key: jax.Array
    rank: int
    nodes: int
    first: int | None = None
    nights: dict[int, bool] = field(default_factory=dict)

    def awake(self, step: int) -> bool:
        if self.rank < self.presence.vanish and step >= self.presence.vanish_at:
            return False
        if not self.presence.asleep:
            return True
        if self.first is None:
            self.first = int(jax.random.randint(self.key, (), 0, self.presence.asleep_rounds))
        stretch = (step + self.first) // self.presence.asleep_rounds
        if stretch not in self.nights:
            draw = jax.random.bernoulli(jax.random.fold_in(self.key, stretch), self.presence.asleep)
            self.nights[stretch] = bool(draw)
        return not self.nights[stretch]

    def active(self, step: int) -> bool:
        slow = self.rank >= self.nodes - self.presence.slow
        return self.awake(step) and (not slow or (step + self.rank) % self.presence.slow_every == 0)


def words_of(key: jax.Array, number: int) -> np.ndarray:
    return np.asarray(jax.random.bits(jax.random.fold_in(key, number), (2,)))


def make_nodes(key: jax.Array, own: list[Shard], rules: Rules, size: int) -> list[Node]:
    """All nodes before the first round, for the key of one seed and R rows of a reference set."""
    ranks, nodes = one_pass(words_of(key, RANKS), 0, len(own)), []
    for number, shard in enumerate(own):
        own_key = jax.random.fold_in(key, number)
        calendar = Calendar(rules.presence, jax.random.fold_in(own_key, SLEEP), ranks[number], len(own))
        nodes.append(Node(shard, calendar, Blocks(words_of(own_key, BLOCKS), size, rules.batch_size)))
    order = one_pass(words_of(key, LIARS), 0, len(own))
    for node, rank in zip(nodes, order, strict=True):
        if rank < rules.liars.count:
            node.lie = LIES[rules.liars.lie](key)
    return nodes


def flipped(_: jax.Array) -> Callable[[np.ndarray], np.ndarray]:
    return lambda p: np.eye(len(p))[p.argmin()]


def constant(key: jax.Array) -> Callable[[np.ndarray], np.ndarray]:
    return lambda p: np.eye(len(p))[int(jax.random.randint(jax.random.fold_in(key, CLASS), (), 0, len(p)))]


def mimicry(_: jax.Array) -> Callable[[np.ndarray], np.ndarray]:
    def lie(p: np.ndarray) -> np.ndarray:
        *_, second, first = np.argsort(p)
        told = p.copy()
        told[first], told[second] = p[second], p[first]
        return told

    return lie


LIES = {"flipped": flipped, "constant": constant, "mimicry": mimicry}


def kappa(twin: list[np.ndarray], said: list[np.ndarray]) -> float:
    """Cohen's κ of two raters whose votes are distributions; rows count by the first one's certainty."""
    certain = [(confidence(t) / math.log(len(t))) ** 3 for t in twin]
    observed = np.average([float(t @ s) for t, s in zip(twin, said, strict=True)], weights=certain)
    chance = float(np.average(twin, 0, certain) @ np.average(said, 0, certain))
    return (observed - chance) / (1 - chance)


def judge(node: Node, heard: dict[int, float]) -> None:
    """Puts every sender into its state, after the agreements of those who were heard in this round."""
    for sender, agreed in heard.items():
        node.opinions[sender].scores.append(agreed)
    known = {sender: opinion for sender, opinion in node.opinions.items() if len(opinion.scores) >= 4}
    if not known:
        return
    median = float(np.median([opinion.mean for opinion in known.values()]))
    for opinion in known.values():
        limit = max(0.01, (0.6 if opinion.state == "MUTED" else 0.5) * median)
        assert abs(opinion.mean - limit) > 1e-6, "too close to the limit to be compared with float32: choose another"
        opinion.state = "TRUSTED" if opinion.mean >= limit else "MUTED"
    for opinion in known.values():
        opinion.weight = min(1.0, opinion.mean / max(median, 0.01)) if opinion.state == "TRUSTED" else 0.0


def confidence(p: np.ndarray) -> float:
    """``log C`` minus the entropy."""
    return math.log(len(p)) + sum(each * math.log(each) for each in p.tolist() if each)


def mean(heard: list[Heard], decay: float) -> np.ndarray:
    """The mean of what was heard about a row: once for every later round in which more was heard, it counts less."""
    rounds = sorted({each.step for each in heard})
    weights = [each.weight * decay ** (len(rounds) - 1 - rounds.index(each.step)) for each in heard]
    return sum(w * each.value for w, each in zip(weights, heard, strict=True)) / sum(weights)


def play(
    key: jax.Array,
    coins: Sequence[tuple[Sequence[bool], Sequence[bool]]],
    own: list[Shard],
    topology: Callable[[jax.Array], jax.Array],
    reference: list[int],
    outputs: Callable[[int, int, int], np.ndarray],
    rules: Rules,
    *,
    start: int = 0,
) -> tuple[list[list[Event]], list[Node]]:
    """Plays the rounds from ``start`` for which there are coins.

    ``outputs(node, lessons, row)`` is a node's distribution about a row after so many training steps.
    """
    nodes = make_nodes(key, own, rules, len(reference))
    agenda = Blocks(words_of(key, BLOCKS), len(reference), rules.batch_size)
    rounds = []
    for step, (consume, broadcast) in enumerate(coins, start):
        peers = np.asarray(topology(jnp.int32(step))).tolist()
        active = [node.calendar.active(step) for node in nodes]
        read: list[tuple[int, int] | None] = []
        for node, wants, acts in zip(nodes, consume, active, strict=True):
            found = _reads(node, step, reference, rules) if acts and wants else None
            if found is None:
                read.append(None)
                if acts:
                    node.lessons.append(Lesson(node.own.read(rules.batch_size), None))
            else:
                lesson, origin = found
                read.append(origin)
                node.lessons.append(lesson)

        sent, dropped = [0] * len(nodes), [0] * len(nodes)
        told: list[dict[int, dict[int, np.ndarray]]] = [{} for _ in nodes]
        for number, node in enumerate(nodes):
            if not (active[number] and broadcast[number]) or (read[number] is not None and not rules.rebroadcast):
                continue
            reached = [peer for peer in peers[number] if peer != NO_NODE and nodes[peer].calendar.awake(step)]
            if not reached:
                continue
            now = {place: outputs(number, len(node.lessons), reference[place]) for place in agenda.rows(step)}
            if node.lie:
                now = {place: node.lie(p) for place, p in now.items()}
            elif rules.least_change and not _is_new(node, now, rules.least_change):
                continue
            node.said |= now
            for peer in reached:
                sent[number] += 1
                if rules.combine == "latest":
                    rows = tuple(reference[place] for place in now)
                    message = Message(number, step, rows, np.array(list(now.values())))
                    dropped[peer] += _arrives(nodes[peer].inbox, message, rules)
                else:
                    told[peer][number] = now
        for number, (node, by_sender) in enumerate(zip(nodes, told, strict=True)):
            if rules.gate == "twin":
                own_lessons = sum(lesson.received is None for lesson in node.lessons)
                twin = [outputs(number, own_lessons, reference[place]) for place in agenda.rows(step)]
                judge(node, {sender: kappa(twin, list(now.values())) for sender, now in by_sender.items()})
            for sender, now in by_sender.items():
                believed = node.opinions[sender].weight if rules.gate == "twin" else 1.0
                for place, p in now.items() if believed else ():
                    node.heard[place].append(Heard(step, believed * (confidence(p) if rules.weighted else 1.0), p))
        rounds.append(
            [
                Event(*(one or (NO_NODE, -1)), to > 0, to, lost)
                for one, to, lost in zip(read, sent, dropped, strict=True)
            ]
        )
    return rounds, nodes


def _reads(node: Node, step: int, reference: list[int], rules: Rules) -> tuple[Lesson, tuple[int, int]] | None:
    """What a node learns from others in this round, with the sender and the round of its packet."""
    if rules.combine == "latest":
        if not node.inbox:
            return None
        message = node.inbox.popleft()
        return Lesson(message.rows, message.said), (message.sender, message.step)
    places = list(node.blocks.rows(step))
    if not any(node.heard[place] for place in places):
        return None
    blank = np.zeros_like(next(each[0].value for each in node.heard.values() if each))
    means = [mean(node.heard[place], rules.decay) if node.heard[place] else blank for place in places]
    return Lesson(tuple(reference[place] for place in places), np.array(means)), (NO_NODE, -1)


def _is_new(node: Node, now: dict[int, np.ndarray], least: float) -> bool:
    """Whether outputs are so far from what the node last said."""
    far = [0.5 * np.abs(p - node.said[place]).sum() if place in node.said else 1.0 for place, p in now.items()]
    change = sum(far) / len(far)
    assert abs(change - least) > 1e-5, "too close to the limit to be compared with float32: choose another"
    return change >= least


def _arrives(inbox: deque[Message], message: Message, rules: Rules) -> int:
    """Puts a message into an inbox; how many packets were lost."""
    lost = int(len(inbox) == rules.capacity)
    if lost and rules.overflow == "drop_newest":
        return lost
    if lost:
        inbox.popleft()
    inbox.append(message)
    return lost
