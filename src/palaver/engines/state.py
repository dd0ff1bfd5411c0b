"""What a run carries from round to round, and what it takes beside."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palaver import inbox as boxes
from palaver.types import Array, NodeState, Packet, Topology

NEVER = np.iinfo(np.int32).max
"""The round of what did not happen."""


class Shards(NamedTuple):
    """The training set and each node's part of it, for every seed."""

    x: Array
    """``[M, ...]`` uint8 images or float32 rows, on the device once."""
    y: Array
    """``[M]`` int32."""
    index: Array
    """``[S, N, L]`` int32: rows of each node's shard, padded."""
    size: Array
    """``[S, N]`` int32: how many of them count."""


class World(NamedTuple):
    """What a compiled program takes beside its state."""

    shards: Shards
    topology: Topology


class Counts(NamedTuple):
    """Per node since the start, ``[S, N]`` int32."""

    consumed: Array
    """Rounds in which a packet was read."""
    broadcast: Array
    """Packets spoken."""
    sent: Array
    """Deliveries: packets times neighbours."""
    dropped: Array
    """Packets lost on the receiver's side to a full inbox."""


class State(NamedTuple):
    """Everything a run carries; saved as it is, it continues to the same bits."""

    round: Array
    """Scalar int32: rounds done."""
    key: Array
    """``[S]`` keys: all randomness after initialisation is drawn from key, round and node id."""
    nodes: tuple[NodeState, ...]
    """A group each, leaves ``[S, n, ...]``."""
    position: Array
    """``[S, N]`` int32: examples of its own each node has read."""
    inbox: boxes.InboxState
    packets: Packet
    """The pool, leaves ``[S, M, ...]``."""
    said: Packet
    """Last round's packets, leaves ``[S, N, ...]``, not yet in the pool."""
    slot: Array
    """``[S, N]`` int32: where in the pool they go; ``M`` for those not spoken."""
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


class Decisions(NamedTuple):
    """What happened in a round, ``[S, N]`` (index: ``[S, N, B]``): the trace the tests compare with real queues."""

    sender: Array
    """Whose packet each node read, ``NO_PACKET`` where it trained on its own data."""
    step: Array
    """The round that packet was spoken in; -1 where none."""
    index: Array
    spoke: Array
    sent: Array
    dropped: Array
