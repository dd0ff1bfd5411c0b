"""What a run carries from round to round, and the data that stay the same."""

from typing import NamedTuple

import numpy as np

from palaver.exchange.inbox import InboxState
from palaver.gate import Trust
from palaver.types import Array, NodeState, Packet, PyTree, Topology

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
    labelled: Array | None = None
    """``[S, N]`` int32: so many of a shard's rows have a label that the node knows, the first; ``None``: all."""
    reference: Array | None = None
    """``[S, R]`` int32: rows of the reference set, which all nodes share and no shard has; ``None``: there is none."""


class Constants(NamedTuple):
    """What a compiled program takes beside its state, and does not change."""

    shards: Shards
    topology: Topology
    owner: Array | None = None
    """``[S, M]`` int32: whose shard each row of the training set is in, ``NO_PEER``: nobody's; where own examples are
    sent."""


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


class Heard(NamedTuple):
    """What the nodes of one group on this device have heard about each row of the reference set.

    The mean over everything heard about a row is ``total / weight``.
    """

    total: Array
    """``[S, n, R, ...]`` sum of what was received, each times its weight, older ones discounted."""
    weight: Array
    """``[S, n, R]`` sum of these weights."""


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
    """All inboxes, leaves ``[S, ...]``; of no use, and as small as can be, where nodes remember what they hear."""
    packets: Packet
    """The pool, leaves ``[S, M, ...]``."""
    outgoing: Packet
    """Last round's packets, leaves ``[S, N, ...]``, not yet in the pool."""
    slot: Array
    """``[S, N]`` int32: where in the pool they go; ``M`` for those that were not broadcast."""
    counts: Counts
    own: Array
    """``[S, N]`` int32: examples of its own that each node has trained on, those that came back to it too; 0 unless own
    examples are sent."""
    heard: tuple[Heard, ...]
    """A group each; none unless nodes train on the mean of what they heard."""
    said: tuple[Array, ...]
    """A group each, ``[S, n, R, ...]``: what its nodes last said about each row of the reference set, decoded; none
    unless they are silent where they have nothing new to say."""
    twins: tuple[NodeState, ...]
    """A group each, leaves ``[S, n, ...]``: silent twins, which learn from their nodes' own batches alone; none without
    a gate."""
    trust: tuple[Trust, ...]
    """A group each, leaves ``[S, n, N]``: what its nodes think of every sender; none without a gate."""
    stopped: Array
    """``[S, N]`` bool: who has stopped early."""
    loss: Array
    """``[S, N]`` training loss summed over the rounds of the latest ``advance``."""
    diverged: Array
    """``[S]`` int32: first round with a loss that is not finite, -1 if none."""


class OwnBatches(NamedTuple):
    """The next minibatch of every node's own shard, a group each, of the nodes on this device."""

    rows: list[Array]
    """``[S, n, B]`` int32: rows of the training set."""
    labels: list[Array]
    """``[S, n, B]`` int32; ``NO_LABEL`` where the node does not know it."""


class Reading(NamedTuple):
    """What nodes do in a round, and what they train on; lists have a group each, of the nodes on this device."""

    consumed: Array
    """``[S, N]`` bool: who learns from others."""
    broadcast: Array
    """``[S, N]`` bool: who wants to broadcast."""
    rows: list[Array]
    """``[S, n, B]`` int32: rows of the training set."""
    labels: list[Array]
    """``[S, n, B]`` int32; ``NO_LABEL`` where neither the node nor the payload knows it."""
    received: list[PyTree]
    """``[S, n, B, ...]``: decoded payloads; without meaning for those who do not learn from others."""
    sender: Array
    """``[S, N]`` int32: as in ``RoundTrace``."""
    step: Array
    """``[S, N]`` int32: as in ``RoundTrace``."""


class Said(NamedTuple):
    """What the nodes broadcast in a round."""

    broadcast: Array
    """``[S, N]`` bool: who does."""
    index: Array
    """``[S, N, B]`` int32: the rows of ``Shards.x`` that it is about."""
    payload: PyTree
    """``[S, N, B, ...]``."""


class Delivered(NamedTuple):
    """What became of a round's broadcasts, ``[S, N]``, as in ``RoundTrace``."""

    broadcast: Array
    sent: Array
    dropped: Array


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
