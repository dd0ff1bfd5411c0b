"""Algorithm 2 of the thesis for one node and one round: what it trains on, and whether it broadcasts.

Pure functions of one node. The simulation maps them over nodes and seeds; a node on a machine of its own would call
them as they are. All these draws come from the node's own key, which depends on the seed and the node's id alone: they
do not depend on how many other nodes there are.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.data.order import shuffled
from palaver.types import Array

_ORDER = 2**31 - 1
"""Folded into a node's key for the order of its shard. For all other draws it is the round, which is always smaller."""

_AGENDA = 2**32 - 1
"""Folded into a seed's key for the order of the reference set's blocks; nodes' ids are always smaller."""


class Protocol(NamedTuple):
    """How often a node reads and broadcasts, and on how much it trains; the same for every node of a collective."""

    p_consume: float
    """p_c, the probability of reading the inbox in a round."""
    p_broadcast: float
    """p_b, the probability of broadcasting in a round."""
    batch_size: int
    """B, examples in a minibatch."""
    rebroadcast: bool = True
    """Whether a consumed batch may be broadcast again."""
    burn_in: int = 0
    """Rounds before any node broadcasts."""
    half_life: float = math.inf
    """Rounds in which the probability of broadcasting falls to half."""


class Coins(NamedTuple):
    """One node's random draws in one round (Algorithm 2, lines 5 and 6), and the key of its training step."""

    consume: Array
    """Scalar bool: whether it wants to read its inbox."""
    broadcast: Array
    """Scalar bool: whether it wants to broadcast."""
    key: Array
    """Random key for whatever the training step draws."""


class Decision(NamedTuple):
    """What one node does in one round, scalar bools."""

    consume: Array
    """It trains on the oldest packet of its inbox; otherwise on the next minibatch of its own shard."""
    broadcast: Array
    """It broadcasts the batch that it trained on."""


def node_key(seed_key: Array, node: Array) -> Array:
    """A node's random key: of the order of its shard, and of its draws in every round.

    Args:
        seed_key: random key of the run's seed.
        node: scalar int32: the node's id.

    Returns:
        A random key.

    """
    return jax.random.fold_in(seed_key, node)


def toss(protocol: Protocol, key: Array, step: Array) -> Coins:
    """A node's random draws in round ``step`` (Algorithm 2, lines 5 and 6).

    Args:
        protocol: with the probabilities.
        key: from ``node_key``.
        step: scalar int32: the round, counted from 0.

    Returns:
        Whether the node wants to read its inbox, whether it wants to broadcast, and the key of its training step.

    """
    consume, broadcast, training = jax.random.split(jax.random.fold_in(key, step), 3)
    p_broadcast: Array | float = protocol.p_broadcast
    if protocol.half_life < math.inf:
        p_broadcast = p_broadcast * 0.5 ** (step / protocol.half_life)
    return Coins(
        consume=jax.random.bernoulli(consume, protocol.p_consume),
        broadcast=jax.random.bernoulli(broadcast, p_broadcast),
        key=training,
    )


def decide(protocol: Protocol, coins: Coins, step: Array, waiting: Array) -> Decision:
    """What a node does in a round, given its random draws (Algorithm 2, lines 7 and 14).

    It reads if it wants to and has a packet. It broadcasts if it wants to, the burn-in is over, and, without
    re-broadcast, it does not read.

    >>> coins = Coins(jnp.bool_(True), jnp.bool_(True), jax.random.key(0))
    >>> decide(Protocol(0.5, 0.5, batch_size=4), coins, jnp.int32(0), waiting=jnp.int32(0))
    Decision(consume=Array(False, dtype=bool), broadcast=Array(True, dtype=bool))

    Args:
        protocol: with burn-in and re-broadcast.
        coins: the draws, from ``toss``.
        step: scalar int32: the round, counted from 0.
        waiting: scalar int32: packets in its inbox.

    Returns:
        The node's decision.

    """
    consume = coins.consume & (waiting > 0)
    broadcast = coins.broadcast & (step >= protocol.burn_in)
    return Decision(consume, broadcast if protocol.rebroadcast else broadcast & ~consume)


def local_batch(protocol: Protocol, key: Array, position: Array, size: Array) -> Array:
    """Positions ``[B]`` in a node's shard of its next own minibatch: reshuffled epochs, no replacement.

    A minibatch may end one epoch and begin the next.

    Args:
        protocol: with the batch size.
        key: from ``node_key``.
        position: scalar int32: own examples read so far.
        size: scalar int32: examples in the shard.

    Returns:
        ``[B]`` int32 in ``0 .. size - 1``.

    """
    words = jax.random.bits(jax.random.fold_in(key, _ORDER), (2,))
    return shuffled(words, position + jnp.arange(protocol.batch_size), size)


def reference_start(protocol: Protocol, seed_key: Array, step: Array, size: int) -> Array:
    """Where the rows of a reference set begin that are talked about in a round, the same for every node.

    The set is cut into blocks of B rows (the last one overlaps where B does not divide its size). Every pass over the
    blocks is in an order of its own, which nodes know from the seed's key: what a node broadcasts names its rows by the
    block's beginning alone, and what several nodes say in a round is about the same rows.

    Args:
        protocol: with the batch size B.
        seed_key: random key of the run's seed.
        step: scalar int32: the round, counted from 0.
        size: R, rows of the reference set, at least B.

    Returns:
        Scalar int32 in ``0 .. R - B``.

    """
    batch = protocol.batch_size
    words = jax.random.bits(jax.random.fold_in(seed_key, _AGENDA), (2,))
    return jnp.minimum(shuffled(words, step, jnp.int32(-(-size // batch))) * batch, size - batch)
