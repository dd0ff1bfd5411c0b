"""Which senders are believed: those who agree with a model that nobody has talked to.

A receiver has a *silent twin*, a model such as its own that learns from its own labelled examples alone. What a sender
says about some rows is compared with what the twin says about them, beyond what chance gives (Cohen's κ), and the
running mean of it with those of the other senders. Nothing here is tuned to data: a sender is judged against the median
of all. Pure functions of one receiver, for the simulation and for a peer on a machine of its own alike.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from palaver.types import Array

GATES = ("none", "twin")
"""Ways to choose whom to believe: everybody, or whoever agrees with a silent twin."""

PROBATION, TRUSTED, MUTED = 0, 1, 2
"""States of a sender. What one on probation says is judged, and not believed yet; so it is with one that is muted."""

NEW = 4
"""A sender is on probation for so many packets."""

MEMORY = 20
"""The running mean weighs the latest packets by one in so many, once there were as many."""

MUTE, FORGIVE = 0.5, 0.6
"""A sender is muted below this share of the median sender's agreement, and trusted again from the other on."""

LEAST = 0.01
"""Less agreement is no more than chance, whatever the others' is."""


class Trust(NamedTuple):
    """What a receiver thinks of each of N senders."""

    score: Array
    """``[N]`` float32: running mean of ``agreement``."""
    count: Array
    """``[N]`` int32: packets that were judged."""
    state: Array
    """``[N]`` int32: ``PROBATION``, ``TRUSTED`` or ``MUTED``."""


def strangers(senders: int) -> Trust:
    """Trust before anything was heard.

    Args:
        senders: N.

    Returns:
        All on probation.

    """
    return Trust(jnp.zeros(senders), jnp.zeros(senders, jnp.int32), jnp.zeros(senders, jnp.int32))


def agreement(twin: Array, said: Array) -> Array:
    """How far a sender agrees with a twin about some rows beyond chance: Cohen's κ (1960), of votes that are soft.

    ``(p_o − p_e) / (1 − p_e)`` with ``p_o = mean_b Σ_c t_bc s_bc`` and ``p_e = Σ_c (mean_b t_bc)(mean_b s_bc)``: 1 for
    the same certain answers, 0 for answers that do not depend on the row, below 0 for false ones. In the means rows
    weigh by the twin's certainty ``(1 − h / log C)³``, h its entropy: what it does not know it cannot judge.

    >>> float(agreement(jnp.eye(2), jnp.eye(2))), float(agreement(jnp.eye(2), jnp.ones((2, 1)) * jnp.eye(2)[0]))
    (1.0, 0.0)

    Args:
        twin: ``[B, C]``: what the silent twin says of the rows.
        said: ``[B, C]``: what a sender says of them.

    Returns:
        Scalar in [-1, 1]; 0 for a twin that is certain of nothing.

    """
    entropy = -(twin * jnp.log(jnp.maximum(twin, 1e-30))).sum(-1)
    certain = jnp.maximum(1 - entropy / math.log(twin.shape[-1]), 0) ** 3
    weight = certain / jnp.maximum(certain.sum(), 1e-6)
    observed, chance = weight @ (twin * said).sum(-1), ((weight @ twin) * (weight @ said)).sum()
    return (observed - chance) / jnp.maximum(1 - chance, 1e-6)


def observe(trust: Trust, agreed: Array, arrived: Array) -> Trust:
    """Trust after some packets were judged, at most one of each sender.

    Args:
        trust: before.
        agreed: ``[N]``: ``agreement`` of each sender's packet; without meaning where none arrived.
        arrived: ``[N]`` bool: whose packet did.

    Returns:
        The trust, with scores and states of all senders: each is compared with the others.

    """
    count = trust.count + arrived
    rate = 1 / jnp.clip(count, 1, MEMORY)
    score = jnp.where(arrived, trust.score + rate * (agreed - trust.score), trust.score)
    share = jnp.where(trust.state == MUTED, FORGIVE, MUTE)
    agrees = score >= jnp.maximum(LEAST, share * _median(score, count >= NEW))
    state = jnp.where(count < NEW, PROBATION, jnp.where(agrees, TRUSTED, MUTED))
    return Trust(score, count, state.astype(jnp.int32))


def belief(trust: Trust) -> Array:
    """How much what each sender says weighs: as its agreement does against the median's, and at most 1.

    Args:
        trust: of one receiver.

    Returns:
        ``[N]`` in [0, 1]; 0 of senders that are not trusted.

    """
    median = _median(trust.score, trust.count >= NEW)
    weight = jnp.minimum(trust.score / jnp.maximum(median, LEAST), 1.0)
    return jnp.where(trust.state == TRUSTED, weight, 0.0)


def _median(score: Array, judged: Array) -> Array:
    """The median of the scores of those who have one; 0 where nobody has."""
    many = judged.sum()
    ranked = jnp.sort(jnp.where(judged, score, jnp.inf))
    middle = ranked[jnp.array([jnp.maximum(many - 1, 0) // 2, many // 2])]
    return jnp.where(many > 0, middle.mean(), 0.0)
