"""Nodes that lie about the reference set: who does, and what they send in place of their outputs.

Pure functions of one node, as those of ``palaver.exchange.protocol``. Liars train as all others do, and only what they
say is false.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.arguments import choice, count
from palaver.data.order import shuffled
from palaver.types import Array

_RANKS, _CLASS, _DRAWS = 2**32 - 4, 2**32 - 5, 2**31 - 3
"""Folded into a seed's key for who lies and for the class that they agreed on, and into a node's key for its draws."""


class Liars(NamedTuple):
    """How many nodes lie, and how; made by ``liars``. By default none."""

    count: int = 0
    lie: str = "flipped"
    """Of ``LIES``."""


class Liar(NamedTuple):
    """What a lie may be made of."""

    key: Array
    """Random key of this node and round."""
    agreed: Array
    """Scalar int32: a class that all liars of a seed know."""


def _flipped(_: Liar, p: Array) -> Array:
    """All probability to the class that is least likely: the loss maximisation attack (Roux et al. 2024, LMA)."""
    return jax.nn.one_hot(p.argmin(-1), p.shape[-1])


def _constant(liar: Liar, p: Array) -> Array:
    """Of all rows the same class, and the same of all liars: a collusion."""
    return jnp.broadcast_to(jax.nn.one_hot(liar.agreed, p.shape[-1]), p.shape)


def _random(liar: Liar, p: Array) -> Array:
    """Of every row a class drawn at random, with certainty."""
    return jax.nn.one_hot(jax.random.randint(liar.key, p.shape[:-1], 0, p.shape[-1]), p.shape[-1])


def _mimicry(_: Liar, p: Array) -> Array:
    """As certain as in truth, of the second most likely class: what one who errs would say."""
    largest, ids = jax.lax.top_k(p, 2)
    return jnp.put_along_axis(p, ids, largest[..., ::-1], axis=-1, inplace=False)


LIES: dict[str, Callable[[Liar, Array], Array]] = {
    "flipped": _flipped,
    "constant": _constant,
    "random": _random,
    "mimicry": _mimicry,
}
"""By name: ``lie(liar, p [B, C]) -> [B, C]``, of what the liar holds to be true."""


def liars(nodes: int, *, number: int = 0, lie: str = "flipped") -> Liars:
    """Describes who lies.

    Args:
        nodes: N.
        number: how many nodes lie; which, is drawn for each seed.
        lie: a name of ``LIES``.

    Returns:
        The description.

    Raises:
        PalaverError: a number below 0, nobody who is honest, or an unknown lie.

    """
    return Liars(
        count("liars", number, least=0, most=nodes - 1, unit="nodes, so that one is honest"), choice("lie", lie, LIES)
    )


def lies(described: Liars, seed_key: Array, node: Array, nodes: int) -> Array:
    """Whether a node lies.

    Args:
        described: from ``liars``.
        seed_key: random key of the run's seed.
        node: scalar int32: the node's id.
        nodes: N.

    Returns:
        Scalar bool.

    """
    rank = shuffled(jax.random.bits(jax.random.fold_in(seed_key, _RANKS), (2,)), node, jnp.int32(nodes))
    return rank < described.count


def untruth(described: Liars, step: Array, seed_key: Array, node: Array, p: Array) -> Array:
    """What a liar says in place of the truth.

    Args:
        described: from ``liars``.
        step: scalar int32: the round, counted from 0.
        seed_key: random key of the run's seed.
        node: scalar int32: the liar's id.
        p: ``[B, C]``: what it holds to be true.

    Returns:
        ``[B, C]`` probabilities.

    """
    own = jax.random.fold_in(jax.random.fold_in(seed_key, node), _DRAWS)
    agreed = jax.random.randint(jax.random.fold_in(seed_key, _CLASS), (), 0, p.shape[-1])
    return LIES[described.lie](Liar(jax.random.fold_in(own, step), agreed), p)
