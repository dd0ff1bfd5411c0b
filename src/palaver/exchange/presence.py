"""Nodes that are not always there: asleep for a while, slow, or gone for good.

Pure functions of one node and one round, as those of ``palaver.exchange.protocol``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.arguments import count, number
from palaver.data.order import shuffled
from palaver.types import Array, PalaverError

_RANKS, _SLEEP = 2**32 - 2, 2**31 - 2
"""Folded into a seed's key for who is slow or vanishes, and into a node's key for when it sleeps."""

MOST = 2**31 - 1
"""The largest number of rounds: int32 counts them."""


class Presence(NamedTuple):
    """Which nodes are there when; made by ``presence``. By default all of them, always."""

    asleep: float = 0.0
    """Probability that a node sleeps through a stretch of rounds."""
    asleep_rounds: int = 1
    """Rounds in a stretch."""
    slow: int = 0
    """How many nodes are slow."""
    slow_every: int = 2
    """A slow node takes part in one round of so many."""
    vanish: int = 0
    """How many nodes vanish for good."""
    vanish_at: int = 0
    """The round in which they do."""

    @property
    def whole(self) -> bool:
        """Whether every node is there in every round."""
        return not (self.asleep or self.slow or self.vanish)


class Present(NamedTuple):
    """Whether a node takes part in a round, scalar bools."""

    awake: Array
    """Others can reach it: packets arrive, and it answers."""
    active: Array
    """It takes a step, and may read and broadcast."""


def presence(
    nodes: int,
    *,
    asleep: float = 0.0,
    asleep_rounds: int = 1,
    slow: int = 0,
    slow_every: int = 2,
    vanish: int = 0,
    vanish_at: int = 0,
) -> Presence:
    """Describes which nodes are there when.

    Nodes that are asleep or gone take no step, and nothing is sent to them. Slow nodes are reached in every round.

    Args:
        nodes: N.
        asleep: probability that a node sleeps through a stretch of rounds, drawn anew for every stretch.
        asleep_rounds: rounds in a stretch; each node's stretches begin in another round.
        slow: how many nodes are slow; which, is drawn for each seed.
        slow_every: a slow node takes part in one round of so many.
        vanish: how many nodes vanish for good; which, is drawn for each seed, slow ones last.
        vanish_at: the round in which they do.

    Returns:
        The description, for ``collective(presence=)``.

    Raises:
        PalaverError: a probability outside [0, 1), counts below 0 or beyond int32, more slow nodes than there are, or
            no node left.

    """
    made = Presence(
        number("asleep", asleep, "[0, 1)"),
        count("asleep_rounds", asleep_rounds, most=MOST, unit="rounds"),
        count("slow", slow, least=0, most=nodes, unit="nodes"),
        count("slow_every", slow_every, most=MOST, unit="rounds"),
        count("vanish", vanish, least=0, most=nodes - 1, unit="nodes, so that one is left"),
        count("vanish_at", vanish_at, least=0, most=MOST),
    )
    if made.vanish_at and not made.vanish:
        raise PalaverError(f"vanish_at is {vanish_at} and no node vanishes: give vanish too, or leave it out")
    return made


def present(presence: Presence, seed_key: Array, node: Array, nodes: int, step: Array) -> Present:
    """Whether a node is there in a round.

    Args:
        presence: the description.
        seed_key: random key of the run's seed.
        node: scalar int32: the node's id.
        nodes: N.
        step: scalar int32: the round, counted from 0.

    Returns:
        Whether it is awake, and whether it is active.

    """
    rank = shuffled(jax.random.bits(jax.random.fold_in(seed_key, _RANKS), (2,)), node, jnp.int32(nodes))
    own = jax.random.fold_in(jax.random.fold_in(seed_key, node), _SLEEP)
    offset = jax.random.randint(own, (), 0, presence.asleep_rounds)
    stretch = jax.random.fold_in(own, (step + offset) // presence.asleep_rounds)
    gone = (rank < presence.vanish) & (step >= presence.vanish_at)
    awake = ~gone & ~jax.random.bernoulli(stretch, presence.asleep)
    waits = (rank >= nodes - presence.slow) & ((step + rank) % presence.slow_every != 0)
    return Present(awake, awake & ~waits)
