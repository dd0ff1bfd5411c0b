"""Levels of communication: who receives whose messages, and whose parameters the loss trains (thesis §4.2.2.5)."""

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from palaver.language.generators import END
from palaver.types import NO_PEER, Array

Level: TypeAlias = Literal["none", "receiving", "feedback", "both"]
"""The thesis's levels of communication; for two agents A = 0 and B = 1:

``none``       no agent receives messages.
``receiving``  B receives A's messages (eq. 4.2.6): the gradient of its loss reaches B alone.
``feedback``   B receives A's messages (eq. 4.2.7): the gradient of the same loss reaches A too.
``both``       each receives the other's messages (eq. 4.2.8), with gradients to both.

With more agents, each receives from those that send to it: of lower number (``receiving``, ``feedback``) or all
(``both``).
"""

LEVELS: tuple[str, ...] = get_args(Level)
"""Every level's name."""


class Reception(NamedTuple):
    """Whose messages each agent receives in a step; ``P`` senders at most."""

    senders: Array
    """``[N, P]`` int32; rows of fewer senders are padded with 0."""
    weights: Array
    """``[N, P]``: one over the number of an agent's senders; 0 in the padding."""


def receives(level: Level, neighbours: Array | np.ndarray) -> Array:
    """Who receives whose messages.

    >>> receives("receiving", np.array([[1, 2], [0, 2], [0, 1]])).tolist()
    [[False, False, False], [True, False, False], [True, True, False]]

    Args:
        level: of communication.
        neighbours: ``[N, Q]`` to whom each agent sends, padded with ``NO_PEER``; a NumPy array stays one.

    Returns:
        ``[receiver N, sender N]`` bool.

    """
    own = np.arange(neighbours.shape[0])
    found = (neighbours[None] == own[:, None, None]).any(-1) & (level != "none")
    return found & (own[None] < own[:, None]) if level in ("receiving", "feedback") else found


def reception(level: Level, neighbours: Array, most: int) -> Reception:
    """Whose messages each agent receives.

    >>> reception("receiving", jnp.array([[1, 2], [0, 2], [0, 1]]), 2).senders.tolist()
    [[0, 0], [0, 0], [0, 1]]

    Args:
        level: of communication.
        neighbours: ``[N, Q]`` to whom each agent sends, padded with ``NO_PEER``.
        most: P, the largest number of an agent's senders.

    Returns:
        Each agent's senders, and their weights.

    """
    pairs = receives(level, neighbours)
    senders = jnp.argsort(~pairs, axis=1, stable=True)[:, :most]
    real = jnp.take_along_axis(pairs, senders, axis=1)
    count = real.sum(1, keepdims=True)
    return Reception(jnp.where(real, senders, 0), real / jnp.maximum(1, count))


def in_degree(neighbours: ArrayLike) -> int:
    """The largest number of an agent's senders; 1 where nobody sends, so that no axis is empty.

    >>> in_degree(np.array([[1, 2], [2, 0], [0, NO_PEER]]))
    2

    Args:
        neighbours: ``[N, Q]`` to whom each agent sends, padded with ``NO_PEER``.

    Returns:
        P, at least 1.

    """
    receivers = np.asarray(neighbours)
    return max(1, int(np.bincount(receivers[receivers != NO_PEER], minlength=1).max()))


def reaches_sender(level: Level) -> bool:
    """Whether a receiver's loss trains the sender too (eqs. 4.2.7 and 4.2.8).

    >>> [level for level in LEVELS if reaches_sender(level)]
    ['feedback', 'both']

    Args:
        level: of communication.

    """
    return level in ("feedback", "both")


def message_nll(log_probabilities: Array, symbols: Array, mask: Array) -> Array:
    """``−Σ_t s_A^t log s_B^t`` (eq. 4.2.6): the negative log-likelihood of A's messages under B's distribution.

    >>> logs = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5]]]))
    >>> symbols = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])
    >>> [round(float(nats), 3) for nats in message_nll(logs, symbols, jnp.ones((1, 2)))]  # -log 0.75 - log 0.5
    [0.981]

    Args:
        log_probabilities: ``[..., B, L, V]`` of the receiver.
        symbols: ``[..., B, L, V]`` the sender's messages.
        mask: ``[..., B, L]`` of the messages: positions after the end of one do not count.

    Returns:
        ``[..., B]`` nats a message.

    """
    # After the end of a message its symbols are END, which the receiver does not have to predict.
    counted = symbols - (1 - mask[..., None]) * jax.nn.one_hot(END, symbols.shape[-1])
    # One axis of symbols, for jaxlib 0.10.2 to 0.11 sum up products of seven axes with a segmentation fault
    # (jax-ml/jax#40412), and seeds, samples, receivers, senders and examples are five.
    flat = symbols.shape[-2] * symbols.shape[-1]
    pairs = counted.reshape(*counted.shape[:-2], flat), log_probabilities.reshape(*log_probabilities.shape[:-2], flat)
    return -(pairs[0] * pairs[1]).sum(-1)
