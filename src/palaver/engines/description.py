"""The description of a collective: who takes part, who speaks to whom, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from palaver.exchange.protocol import Protocol
from palaver.inbox import OVERFLOW
from palaver.topology import mean_degree
from palaver.types import Node, PalaverError, Topology


class Collective(NamedTuple):
    """Who takes part and how they talk; made by ``collective``."""

    groups: tuple[tuple[Node, int], ...]
    """Nodes of the same kind, and how many; ids run through the groups in order."""
    topology: Topology
    protocol: Protocol
    """When a node reads its inbox and when it broadcasts."""
    capacity: int
    """K, packets an inbox holds."""
    overflow: str
    """What a full inbox does with one packet more."""

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
    """Describes a collective; every argument is checked here.

    Args:
        nodes: one kind of node for all places of the topology, or ``[(node, count), ...]`` for different architectures.
        topology: who speaks to whom; its table's rows are the nodes.
        p_consume: p_c, the probability of reading the inbox in a round.
        p_broadcast: p_b, the probability of speaking in a round. ``None``: the equilibrium ``p_c / p`` for ``p``
            neighbours, at which as much arrives as is consumed (``p_c / (p (1 - p_c))`` without re-broadcast).
        capacity: packets an inbox holds.
        overflow: ``drop_oldest`` or ``drop_newest``.
        rebroadcast: whether a consumed batch may be broadcast again (thesis: yes).
        burn_in: rounds before anyone speaks.
        batch_size: B.

    Raises:
        PalaverError: a probability outside [0, 1], counts that do not match the topology, a batch size or capacity
            below 1, a negative burn-in, or an unknown overflow policy.

    """
    places = int(np.shape(topology(jnp.int32(0)))[0])
    groups = ((nodes, places),) if isinstance(nodes, Node) else tuple((node, int(count)) for node, count in nodes)
    if any(count < 1 for _, count in groups) or sum(count for _, count in groups) != places:
        raise PalaverError(
            f"groups of {[count for _, count in groups]} nodes on a topology of {places}: make them add up to {places}"
        )
    degree = mean_degree(topology)
    if p_broadcast is None:
        share = 1.0 if rebroadcast or p_consume >= 1 else 1 - p_consume
        p_broadcast = min(1.0, p_consume / (degree * share)) if degree else 0.0
    for name, value in (("p_consume", p_consume), ("p_broadcast", p_broadcast)):
        if not 0 <= value <= 1:
            raise PalaverError(f"{name} is {value}: give a probability in [0, 1]")
    if batch_size < 1:
        raise PalaverError(f"batch size is {batch_size}: give at least 1")
    if capacity < 1:
        raise PalaverError(f"inbox capacity is {capacity}: give at least 1")
    if burn_in < 0:
        raise PalaverError(f"burn-in is {burn_in}: give 0 or more rounds")
    if overflow not in OVERFLOW:
        raise PalaverError(f"overflow is {overflow!r}: choose one of {', '.join(OVERFLOW)}")
    protocol = Protocol(float(p_consume), float(p_broadcast), batch_size, rebroadcast, burn_in)
    return Collective(groups, topology, protocol, capacity, overflow)
