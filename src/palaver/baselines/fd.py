"""Federated distillation: nodes tell each other only their mean outputs for each class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.arguments import count, number
from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, Sizes, States, due, seeds_of, with_peers
from palaver.types import Array


class _Told(NamedTuple):
    """The method's memory."""

    total: Array
    """``[S, N, C, C]`` logits summed over the period's examples of each class."""
    number: Array
    """``[S, N, C]`` how many these are."""
    heard: Array
    """``[S, N, C, C]`` probabilities that the other nodes give for an example of each class."""
    known: Array
    """``[S, N, C]`` bool: whether another node had examples of the class."""


def fd(*, period: int = 16, weight: float = 1.0) -> Method:
    """``CE(y) + λ · CE(softmax(z̄_y))``, where ``z̄_y`` is the other nodes' mean of their mean logits for class y.

    Jeong et al. 2018, "Communication-efficient on-device machine learning: federated distillation and augmentation
    under non-IID private data". Logits are averaged during training over a period, and exchanged at its end. For a
    class that no other node has seen in that period, the label stands in for what peers say.

    Args:
        period: rounds between exchanges.
        weight: λ, 0 or more.

    Returns:
        The method. A node sends 2 · 32 · C² bits a period, its share of what the server sends included.

    Raises:
        PalaverError: a number that is out of range.

    """
    period, weight = count("period", period), number("weight", weight, "[0, inf)")

    def start(sizes: Sizes, nodes: States) -> Memory:
        shape = seeds_of(nodes), sizes.nodes, sizes.classes
        square = (*shape, sizes.classes)
        return Memory(_Told(jnp.zeros(square), jnp.zeros(shape), jnp.zeros(square), jnp.zeros(shape, bool)))

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        told: _Told = memory.shared
        own = jax.nn.one_hot(cohort.labels, told.number.shape[-1])
        heard, known = (
            jnp.take_along_axis(a, cohort.labels[..., None], 2) for a in (told.heard, told.known[..., None])
        )
        now = jnp.where(cohort.round >= period, weight, 0.0)
        target = with_peers(cohort, jnp.where(known, heard, own), now)
        nodes, trained = cohort.step(nodes, cohort.rows, target, scale=1 + now)
        told = told._replace(
            total=told.total + jnp.einsum("snby,snbc->snyc", own, trained.payload), number=told.number + own.sum(2)
        )
        exchanges = due(cohort, period)
        told = jax.lax.cond(exchanges, _exchanged, lambda told: told, told)
        return Played(nodes, memory._replace(shared=told), trained.loss, Sent(messages=exchanges))

    return Method(
        name="fd",
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.classes**2,
        expected=lambda _, rounds: Sent(messages=rounds // period),
        start=start,
        soft=True,
    )


def _exchanged(told: _Told) -> _Told:
    """After an exchange: every node has heard the others' means, and counts from 0 again."""
    seen = told.number > 0
    means = told.total / jnp.maximum(told.number, 1)[..., None]
    tellers = seen.sum(1, keepdims=True) - seen
    others = (means.sum(1, keepdims=True) - means) / jnp.maximum(tellers, 1)[..., None]
    return _Told(jnp.zeros_like(told.total), jnp.zeros_like(told.number), jax.nn.softmax(others), tellers > 0)
