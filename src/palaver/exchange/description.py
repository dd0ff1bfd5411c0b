"""The description of a collective: its nodes, which sends to which, and how often."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from palaver.arguments import choice, count, failure_of, flag, instance, number
from palaver.exchange.inbox import OVERFLOW
from palaver.exchange.liars import Liars
from palaver.exchange.liars import liars as check_liars
from palaver.exchange.presence import MOST, Presence
from palaver.exchange.presence import presence as check_presence
from palaver.exchange.protocol import Protocol
from palaver.gate import GATES
from palaver.topology import check_topology, mean_degree
from palaver.types import Node, PalaverError, Topology

EXAMPLES = ("own", "reference")
"""What packets are about: the sender's own examples, or a reference set that all nodes share."""

COMBINE = ("latest", "mean")
"""What a node trains on: a packet as it was sent, or the mean of everything that it heard about some rows."""


class Talk(NamedTuple):
    """What packets are about, and what a receiver makes of several about the same rows."""

    examples: str = "own"
    """Of ``EXAMPLES``."""
    combine: str = "latest"
    """Of ``COMBINE``."""
    decay: float = 0.8
    """Factor of what was heard before, whenever a node hears about the same row again; in [0, 1]."""
    weighted: bool = False
    """Whether what is heard weighs by the sender's confidence, as in ``palaver.decision.confidence``."""
    least_change: float = 0.0
    """How far a node's outputs on a block must be from what it last said about it, for it to speak: the total variation
    ``½ Σ |p − p′|``, mean over the rows."""
    gate: str = "none"
    """Of ``palaver.gate.GATES``: which senders are believed."""


_LATEST = Talk().decay, False, "none"
"""Decay, weighted and gate of nodes that do not remember what they hear."""


class Collective(NamedTuple):
    """Nodes and how they exchange packets; made by ``collective``."""

    groups: tuple[tuple[Node, int], ...]
    """Nodes of the same kind, and how many; ids run through the groups in order."""
    topology: Topology
    """Which nodes each node sends to, by round."""
    protocol: Protocol
    """When a node reads its inbox and when it broadcasts."""
    capacity: int
    """K, packets an inbox holds."""
    overflow: str
    """What a full inbox does with another packet, see ``palaver.exchange.inbox``."""
    talk: Talk = Talk()
    """What packets are about."""
    presence: Presence = Presence()
    """Which nodes are there when."""
    liars: Liars = Liars()
    """How many nodes lie, and how."""
    patience: int = 0
    """Evaluations without a better one after which a node stops; 0: it never does."""

    @property
    def nodes(self) -> int:
        """N, over all groups."""
        return sum(count for _, count in self.groups)

    @property
    def steady(self) -> bool:
        """Whether every node takes part in every round."""
        return self.presence.whole and not self.patience

    def work(self, seeds: int) -> int:
        """How much a round computes: parameters times examples of a minibatch, of all nodes of so many seeds."""
        return seeds * self.protocol.batch_size * sum(count * node.parameters() for node, count in self.groups)


def collective(
    nodes: Node | Sequence[tuple[Node, int]],
    topology: Topology,
    *,
    p_consume: float = 0.5,
    p_broadcast: float | None = None,
    capacity: int = 16,
    overflow: str = "drop_oldest",
    rebroadcast: bool = True,
    burn_in: int = 0,
    half_life: float = math.inf,
    batch_size: int = 32,
    examples: str = "own",
    combine: str = "latest",
    decay: float = 0.8,
    weighted: bool = False,
    least_change: float = 0.0,
    gate: str = "none",
    presence: Presence = Presence(),  # noqa: B008
    liars: Liars = Liars(),  # noqa: B008
    patience: int = 0,
) -> Collective:
    """Describes a collective (thesis §2.2.2.3 and Algorithm 2); every argument is checked here.

    >>> from palaver import models, node, topology
    >>> learner = node.supervised(lambda rngs: models.MLP((8, 8), 10, rngs=rngs))
    >>> collective(learner, topology.ring(5, 2)).protocol.p_broadcast
    0.25

    Args:
        nodes: one kind of node for the whole topology, or ``[(node, count), ...]`` for different architectures.
        topology: which nodes each node sends to; its table has one row per node.
        p_consume: p_c, the probability of reading the inbox in a round.
        p_broadcast: p_b, the probability of broadcasting in a round; ``None``: from ``equilibrium``.
        capacity: packets an inbox holds.
        overflow: ``drop_oldest`` or ``drop_newest``.
        rebroadcast: whether a consumed batch may be broadcast again (thesis: yes).
        burn_in: rounds before any node broadcasts.
        half_life: rounds in which p_b falls to half; infinite: it stays the same.
        batch_size: B.
        examples: what packets are about. ``own`` (thesis): the batch that the sender trained on, which is sent with the
            channel's payload. ``reference``: its outputs on B rows of a reference set that all nodes share, named by 4
            bytes; own examples and labels never leave a node.
        combine: with ``reference``, what a node trains on: ``latest``: the packet that it reads; ``mean``: it has a
            memory in place of an inbox, takes the next block of rows in an order of its own, and trains on the mean of
            everything that it heard about them. Capacity and overflow then mean nothing, and nothing is dropped.
        decay: with ``mean``, the factor of what was heard before when something new is heard about the same row.
        weighted: with ``mean``, whether what is heard weighs by the sender's confidence ``log C − h``, with h the
            entropy of its distribution over the classes.
        least_change: with ``reference``, a node that would speak is silent if its outputs are less far than this from
            what it last said about the same rows: total variation, in [0, 1], mean over the rows; 0: it always speaks.
            To whom it said so does not count: a new neighbour hears about these rows only when they change again.
        gate: with ``mean``, which senders a node believes; ``none``: all; ``twin``: those who agree with a twin of its
            own that learns from its own labelled batches alone (``palaver.gate``), which it trains beside itself. With
            ``own`` there is none: there a packet brings examples that a twin knows no more of than its node.
        presence: which nodes are there when, from ``palaver.exchange.presence.presence``; by default all, always.
        liars: with ``mean``, how many nodes lie about the reference set, from ``palaver.exchange.liars.liars``; by
            default none.
        patience: after so many evaluations on validation examples that are no better than its best, a node stops: it
            has the parameters of its best evaluation again, trains and speaks no more, and takes part in decisions
            (early stopping, thesis §1.5.3.3); 0: never. Only ``train`` and the command line evaluate, and so stop.

    Returns:
        The collective, for ``train`` or ``simulation``.

    Raises:
        PalaverError: a probability outside [0, 1], nodes that are none or do not match the topology, a topology whose
            tables are no neighbour ids (``palaver.topology.check_topology``), a batch size or capacity below 1, a
            negative burn-in, an unknown overflow policy, an argument of another way to talk, or a presence or liars of
            more nodes than there are.

    """
    groups = _groups(nodes, len(check_topology(topology)))
    p_consume, rebroadcast = number("p_consume", p_consume, "[0, 1]"), flag("rebroadcast", rebroadcast)
    if p_broadcast is None:
        p_broadcast = equilibrium(p_consume, mean_degree(topology), rebroadcast=rebroadcast)
    protocol = Protocol(
        p_consume,
        number("p_broadcast", p_broadcast, "[0, 1]"),
        count("batch_size", batch_size),
        rebroadcast,
        count("burn_in", burn_in, least=0, most=MOST, unit="rounds"),
        half_life if half_life == math.inf else number("half_life", half_life, "(0, inf)"),
    )
    talk = Talk(
        choice("examples", examples, EXAMPLES),
        choice("combine", combine, COMBINE),
        number("decay", decay, "[0, 1]"),
        flag("weighted", weighted),
        number("least_change", least_change, "[0, 1]"),
        choice("gate", gate, GATES),
    )
    liars = instance("liars", liars, Liars, "what palaver.exchange.liars.liars returns")
    if talk.examples == "own" and talk != Talk():
        raise PalaverError(
            'combine, decay, weighted, least_change and gate are for examples="reference": leave them out'
        )
    if talk.combine == "latest" and ((talk.decay, talk.weighted, talk.gate) != _LATEST or liars.count):
        raise PalaverError('decay, weighted, gate and liars are for combine="mean": leave them out')
    nodes_in_all = sum(number for _, number in groups)
    presence = instance("presence", presence, Presence, "what palaver.exchange.presence.presence returns")
    presence = check_presence(nodes_in_all, **presence._asdict())
    liars = check_liars(nodes_in_all, number=liars.count, lie=liars.lie)
    most = (2**31 - 1) // nodes_in_all - 1  # int32 names the slots of the pool, capacity + 1 for each node
    capacity = count("capacity", capacity, most=most, unit="packet")
    overflow = choice("overflow", overflow, OVERFLOW)
    patience = count("patience", patience, least=0, unit="evaluations")
    return Collective(groups, topology, protocol, capacity, overflow, talk, presence, liars, patience)


def equilibrium(p_consume: float, neighbours: float, *, rebroadcast: bool = True) -> float:
    """The p_b at which as many packets arrive as are read: ``p_c / p`` for ``p`` neighbours, at most 1.

    The thesis asks for this equilibrium in words (§2.3.1.2). The formula follows: per round ``p · p_b`` packets arrive
    at a node on average, and ``p_c`` are read. Without re-broadcast a node broadcasts only in the share ``1 − p_c`` of
    the rounds in which it trains on its own data: ``p_c / (p (1 − p_c))``; at ``p_c = 1`` the result is as with it.

    >>> equilibrium(0.5, 4), equilibrium(0.5, 4, rebroadcast=False)
    (0.125, 0.25)

    Args:
        p_consume: p_c.
        neighbours: p, on average over the nodes; where it is 0 nothing is broadcast.
        rebroadcast: whether a consumed batch may be broadcast again.

    Returns:
        p_b, in [0, 1].

    """
    share = 1.0 if rebroadcast or p_consume >= 1 else 1 - p_consume
    return min(1.0, p_consume / (neighbours * share)) if neighbours else 0.0


def _groups(nodes: Any, places: int) -> tuple[tuple[Node, int], ...]:
    """The nodes as groups, which together have as many nodes as the topology."""
    if isinstance(nodes, Node):
        return ((nodes, places),)
    groups: list[tuple[Node, int]] = []
    with failure_of("nodes", "give a node, or [(node, count), ...]"):
        for node, many in nodes:
            what = f"nodes[{len(groups)}]"
            groups.append((instance(what, node, Node, "a Node, from palaver.supervised"), count(f"{what}[1]", many)))
    counts = [many for _, many in groups]
    if sum(counts) != places:
        raise PalaverError(f"nodes in groups of {counts} on a topology of {places}: make them add up to {places}")
    return tuple(groups)
