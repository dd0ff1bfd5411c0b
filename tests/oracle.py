"""Algorithm 2 of the thesis with real queues: slow, literal, one node after the other.

Nothing here is shared with the simulation but the coins and the permutation of each pass over a shard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data.order import shuffled

NO_NODE = -1
ORDER = 2**31 - 1
"""What the simulation folds into a node's key to draw its shuffling key."""


@dataclass(frozen=True)
class Message:
    """One packet: its sender, the round in which it was broadcast, and its rows of the training set."""

    sender: int
    step: int
    rows: tuple[int, ...]


_shuffled = jax.jit(shuffled)


def one_pass(words: np.ndarray, number: int, size: int) -> list[int]:
    """The whole pass ``number`` over ``size`` examples; evaluated at a rounded length to compile seldom."""
    length = -(-size // 32) * 32
    places = np.minimum(np.arange(length), size - 1) + number * size
    return np.asarray(_shuffled(words, places, np.int32(size)))[:size].tolist()


@dataclass
class Shard:
    """A node's own examples, read in shuffled passes: each pass listed out, then taken from the front."""

    rows: list[int]
    words: np.ndarray
    passes: int = 0
    waiting: deque[int] = field(default_factory=deque)

    def read(self, count: int) -> tuple[int, ...]:
        return tuple(self.next() for _ in range(count))

    def next(self) -> int:
        if not self.waiting:
            size = len(self.rows)
            order = one_pass(self.words, self.passes, size)
            assert sorted(order) == list(range(size)), "a pass must visit every example once"
            self.waiting.extend(self.rows[place] for place in order)
            self.passes += 1
        return self.waiting.popleft()


@dataclass(frozen=True)
class Event:
    """What happened to one node in one round."""

    sender: int
    step: int
    index: tuple[int, ...]
    broadcast: bool
    sent: int
    dropped: int


@dataclass(frozen=True)
class Run:
    """A whole run: ``rounds[t][i]`` is what happened to node ``i``, ``waiting[i]`` what it never read."""

    rounds: list[list[Event]]
    waiting: list[list[Message]]

    def field(self, name: str) -> np.ndarray:
        """``[rounds, N, ...]`` of one field of ``Event``."""
        return np.array([[getattr(event, name) for event in events] for events in self.rounds])


def shards(key: jax.Array, index: np.ndarray, size: np.ndarray) -> list[Shard]:
    """Every node's shard with its own shuffling key, for the key of one seed."""
    own = [jax.random.fold_in(jax.random.fold_in(key, node), ORDER) for node in range(len(size))]
    words = [np.asarray(jax.random.bits(node_key, (2,))) for node_key in own]
    return [Shard(rows[:n].tolist(), w) for rows, n, w in zip(index, size, words, strict=True)]


def algorithm_2(
    coins: Iterable[tuple[Sequence[bool], Sequence[bool]]],
    own: list[Shard],
    topology: Callable[[jax.Array], jax.Array],
    *,
    start: int = 0,
    capacity: int,
    overflow: str,
    rebroadcast: bool,
    batch_size: int,
) -> Run:
    """Plays the rounds from ``start`` for which there are coins: pairs of ``consume [N]`` and ``broadcast [N]``."""
    nodes = len(own)
    inbox: list[deque[Message]] = [deque() for _ in range(nodes)]
    rounds = []
    for step, (consume, broadcast) in enumerate(coins, start):
        neighbours = [
            [peer for peer in row if peer != NO_NODE] for row in np.asarray(topology(jnp.int32(step))).tolist()
        ]

        read: list[Message | None] = []
        for node in range(nodes):
            wants = bool(consume[node]) and len(inbox[node]) > 0
            read.append(inbox[node].popleft() if wants else None)

        rows = []
        for node in range(nodes):
            message = read[node]
            rows.append(own[node].read(batch_size) if message is None else message.rows)

        broadcasts, sent, dropped = [False] * nodes, [0] * nodes, [0] * nodes
        for node in range(nodes):
            if not broadcast[node] or not neighbours[node]:
                continue
            if read[node] is not None and not rebroadcast:
                continue
            broadcasts[node] = True
            for peer in neighbours[node]:
                sent[node] += 1
                if len(inbox[peer]) == capacity:
                    dropped[peer] += 1
                    if overflow == "drop_newest":
                        continue
                    inbox[peer].popleft()
                inbox[peer].append(Message(node, step, rows[node]))

        rounds.append([_event(*of_node) for of_node in zip(read, rows, broadcasts, sent, dropped, strict=True)])
    return Run(rounds, [list(queue) for queue in inbox])


def _event(message: Message | None, rows: tuple[int, ...], broadcast: bool, sent: int, dropped: int) -> Event:
    sender, step = (NO_NODE, -1) if message is None else (message.sender, message.step)
    return Event(sender, step, rows, broadcast, sent, dropped)
