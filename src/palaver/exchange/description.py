"""The description of a collective: its nodes, which sends to which, and how often."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from palaver.exchange.inbox import OVERFLOW
from palaver.exchange.protocol import Protocol
from palaver.topology import mean_degree
from palaver.types import Node, PalaverError, Topology


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

    @property
    def nodes(self) -> int:
        """N, over all groups."""
        return sum(count for _, count in self.groups)


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
    batch_size: int = 32,
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
        batch_size: B.

    Returns:
        The collective, for ``train`` or ``simulation``.

    Raises:
        PalaverError: a probability outside [0, 1], counts that do not match the topology, a batch size or capacity
            below 1, a negative burn-in, or an unknown overflow policy.

    """
    groups = _groups(nodes, topology)
    if p_broadcast is None:
        p_broadcast = equilibrium(p_consume, mean_degree(topology), rebroadcast=rebroadcast)
    protocol = Protocol(float(p_consume), float(p_broadcast), batch_size, rebroadcast, burn_in)
    _check(protocol, capacity, overflow)
    return Collective(groups, topology, protocol, capacity, overflow)


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


def _groups(nodes: Node | Sequence[tuple[Node, int]], topology: Topology) -> tuple[tuple[Node, int], ...]:
    """The nodes as groups, which together have as many nodes as the topology."""
    places = int(np.shape(topology(jnp.int32(0)))[0])
    groups = ((nodes, places),) if isinstance(nodes, Node) else tuple((node, int(count)) for node, count in nodes)
    if any(count < 1 for _, count in groups) or sum(count for _, count in groups) != places:
        raise PalaverError(
            f"groups of {[count for _, count in groups]} nodes on a topology of {places}: make them add up to {places}"
        )
    return groups


def _check(protocol: Protocol, capacity: int, overflow: str) -> None:
    for name, value in (("p_consume", protocol.p_consume), ("p_broadcast", protocol.p_broadcast)):
        if not 0 <= value <= 1:
            raise PalaverError(f"{name} is {value}: give a probability in [0, 1]")
    if protocol.batch_size < 1:
        raise PalaverError(f"batch size is {protocol.batch_size}: give at least 1")
    if capacity < 1:
        raise PalaverError(f"inbox capacity is {capacity}: give at least 1")
    if protocol.burn_in < 0:
        raise PalaverError(f"burn-in is {protocol.burn_in}: give 0 or more rounds")
    if overflow not in OVERFLOW:
        raise PalaverError(f"overflow is {overflow!r}: choose one of {', '.join(OVERFLOW)}")
