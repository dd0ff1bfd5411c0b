"""What a run carries from round to round, and the data that stay the same."""

from typing import NamedTuple

import numpy as np

from palaver.exchange.inbox import InboxState
from palaver.types import Array, NodeState, Packet, Topology

NEVER = np.iinfo(np.int32).max
"""The round of an event that has not happened."""


class Shards(NamedTuple):
    """The training set and each node's part of it, for every seed."""

    x: Array
    """``[M, ...]`` uint8 images or float32 rows; stored once, not once a seed."""
    y: Array
    """``[M]`` int32."""
    index: Array
    """``[S, N, L]`` int32: rows of each node's shard, padded."""
    size: Array
    """``[S, N]`` int32: how many of these rows are the shard; the rest is padding."""


class Constants(NamedTuple):
    """What a compiled program takes beside its state, and does not change."""

    shards: Shards
    topology: Topology


class Counts(NamedTuple):
    """Per node since the start, ``[S, N]`` int32."""

    consumed: Array
    """Rounds in which a packet was read."""
    broadcast: Array
    """Packets broadcast."""
    sent: Array
    """Deliveries: packets times neighbours."""
    dropped: Array
    """Packets lost on the receiver's side to a full inbox."""


class State(NamedTuple):
    """Everything a run carries: a run that goes on from a saved state gives the same bits as one never interrupted."""

    round: Array
    """Scalar int32: rounds done."""
    key: Array
    """``[S]`` keys: all randomness after initialisation is drawn from key, round and node id."""
    nodes: tuple[NodeState, ...]
    """A group each, leaves ``[S, n, ...]``."""
    position: Array
    """``[S, N]`` int32: examples of its own each node has read."""
    inbox: InboxState
    """All inboxes, leaves ``[S, ...]``."""
    packets: Packet
    """The pool, leaves ``[S, M, ...]``."""
    outgoing: Packet
    """Last round's packets, leaves ``[S, N, ...]``, not yet in the pool."""
    slot: Array
    """``[S, N]`` int32: where in the pool they go; ``M`` for those that were not broadcast."""
    counts: Counts
    loss: Array
    """``[S, N]`` training loss summed over the rounds of the latest ``advance``."""
    diverged: Array
    """``[S]`` int32: first round with a loss that is not finite, -1 if none."""


class Losses(NamedTuple):
    """One group's losses on this device during one ``advance``, ``[S, n]``."""

    total: Array
    broken: Array
    """First round with a loss that is not finite, ``NEVER`` if none."""


class RoundTrace(NamedTuple):
    """What happened in a round, ``[S, N]``: the trace that the tests compare with real queues."""

    sender: Array
    """int32: whose packet each node read, ``NO_PACKET`` where it trained on its own data."""
    step: Array
    """int32: the round in which that packet was broadcast; -1 where none was read."""
    index: Array
    """``[S, N, B]`` int32: rows of the training set that it trained on."""
    broadcast: Array
    """bool: whether it broadcast that batch to at least one neighbour."""
    sent: Array
    """int32: to how many neighbours it sent."""
    dropped: Array
    """int32: packets that its full inbox lost."""
