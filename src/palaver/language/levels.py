"""Who hears whom, and whose parameters a listener's loss reaches (thesis §4.2.2.5)."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from palaver.language.generators import END
from palaver.types import NO_PEER, Array, PalaverError

Level: TypeAlias = Literal["none", "receiving", "feedback", "both"]
"""The thesis's levels of communication; for two agents A = 0 and B = 1:

``none``       nobody hears anybody.
``receiving``  B hears A (eq. 4.2.6): its gradient reaches B alone.
``feedback``   B hears A (eq. 4.2.7): the same loss's gradient reaches A too.
``both``       each hears the other (eq. 4.2.8), with gradients to both.

Of more agents, one hears those who speak to it: of lower number (``receiving``, ``feedback``) or all (``both``).
"""


class Heard(NamedTuple):
    """Whom each agent hears in a step; ``P`` neighbours at most."""

    sender: Array
    """``[N, P]`` int32; where nobody stands, 0."""
    weight: Array
    """``[N, P]``: one over the number of those heard, 0 where nobody stands."""


def check(level: str) -> None:
    """Raises ``PalaverError`` unless it is one of the levels."""
    if level not in get_args(Level):
        raise PalaverError(f"level is {level!r}: choose one of {', '.join(get_args(Level))}")


def heard(level: Level, neighbours: Array, most: int) -> Heard:
    """Whom each agent hears.

    Args:
        level: of communication.
        neighbours: ``[N, Q]`` to whom each speaks, padded with ``NO_PEER``.
        most: P, how many an agent hears at most.

    """
    own = jnp.arange(neighbours.shape[0])
    hears = (neighbours[None] == own[:, None, None]).any(-1) & (level != "none")  # [listener, sender]
    if level in ("receiving", "feedback"):
        hears &= own[None] < own[:, None]
    sender = jnp.argsort(~hears, axis=1, stable=True)[:, :most]
    listens = jnp.take_along_axis(hears, sender, axis=1)
    count = listens.sum(1, keepdims=True)
    return Heard(jnp.where(listens, sender, 0), listens / jnp.maximum(1, count))


def in_degree(neighbours: Array) -> int:
    """By how many an agent is spoken to at most; 1 where nobody speaks, so that no axis is empty."""
    spoken = np.asarray(neighbours)
    return max(1, int(np.bincount(spoken[spoken != NO_PEER], minlength=1).max()))


def reaches_sender(level: Level) -> bool:
    """Whether a listener's loss trains the sender too."""
    return level in ("feedback", "both")


def likelihood(log_probabilities: Array, symbols: Array, alive: Array) -> Array:
    """``−Σ_t s_A^t log s_B^t`` (eq. 4.2.6) in nats a message, ``[..., B]``: how surprised B is by what A says.

    Args:
        log_probabilities: ``[..., B, L, V]`` of the listener.
        symbols: ``[..., B, L, V]`` the sender's message.
        alive: ``[..., B, L]`` of the message: what comes after its end does not count.

    """
    # As far as a message has ended its symbols are END, which nobody has to foresee.
    said = symbols - (1 - alive[..., None]) * jax.nn.one_hot(END, symbols.shape[-1])
    # One axis of symbols, for jaxlib 0.10.2 to 0.11 sum up products of seven axes with a segmentation fault
    # (jax-ml/jax#40412), and seeds, samples, listeners, senders and examples are five.
    flat = symbols.shape[-2] * symbols.shape[-1]
    pairs = said.reshape(*said.shape[:-2], flat), log_probabilities.reshape(*log_probabilities.shape[:-2], flat)
    return -(pairs[0] * pairs[1]).sum(-1)


def as_sent(symbols: Array, level: Level) -> Array:
    """A message as its listeners get it: where the level is without feedback, no gradient goes back."""
    return symbols if reaches_sender(level) else jax.lax.stop_gradient(symbols)
