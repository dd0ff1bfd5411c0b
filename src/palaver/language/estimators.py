"""Estimators of the gradient of a choice among symbols (thesis §4.2.2.1).

An estimator is made by a factory. With ``crosses_wire=False`` the sender's gradient must pass through the receivers,
so that feedback needs both in one program (or gradients on the wire); with ``crosses_wire=True`` a receiver returns
one number an example.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from palaver.arguments import count, function, number
from palaver.types import Array

Schedule: TypeAlias = Callable[[Array], Array]
"""``schedule(step)``: a temperature, after ``step`` steps of training."""


class Estimator(NamedTuple):
    """How symbols are drawn in training. In evaluation the symbol with the highest logit is sent."""

    draw: Callable[[Array, Array, Array], Array]
    """``draw(key, logits [..., V], step) -> symbols [..., V]`` on the simplex, after ``step`` steps of training."""
    temperature: Schedule
    """The temperature at a step; 1 where there is none."""
    crosses_wire: bool
    """Whether a sender learns from numbers that its receivers send back, without their gradients."""
    soft: bool = False
    """Whether symbols are soft."""
    samples: int = 1
    """Messages drawn for each input; where there are several, the others are each one's baseline."""
    entropy: float = 0.0
    """Weight of the bonus on the entropy of the sender's distribution, in nats a message."""


def hard(logits: Array) -> Array:
    """One-hot of the highest logit, the first of equals: the symbol sent in evaluation.

    >>> hard(jnp.array([0.5, 2.0, 2.0])).tolist()
    [0.0, 1.0, 0.0]

    Args:
        logits: ``[..., V]``.

    Returns:
        ``[..., V]``, without gradient.

    """
    return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=logits.dtype)


def annealed(*, start: float = 4.0, decay: float = 0.9, every: int = 100, floor: float = 0.5) -> Schedule:
    """The thesis's schedule (§4.3): ``max(floor, start · decay^⌊step / every⌋)``.

    >>> [round(float(annealed()(jnp.array(step))), 3) for step in (0, 99, 100, 250, 10_000)]
    [4.0, 4.0, 3.6, 3.24, 0.5]

    Args:
        start: temperature at step 0.
        decay: factor of each decay, in (0, 1].
        every: steps between two decays.
        floor: the lowest temperature.

    Returns:
        The schedule: from a step to the temperature.

    Raises:
        PalaverError: a temperature that is not above 0, a floor above the start, a decay outside (0, 1], or ``every``
            below 1.

    """
    start = number("start", start, "(0, inf)")
    floor = number("floor", floor, f"(0, {start}]")
    decay, every = number("decay", decay, "(0, 1]"), count("every", every, unit="step")
    return lambda step: jnp.maximum(floor, start * decay ** (jnp.asarray(step) // every))


def _relaxed(schedule: Schedule, key: Array, logits: Array, step: Array) -> Array:
    return jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / schedule(step))


def _schedule_of(temperature: Schedule | None) -> Schedule:
    schedule = annealed() if temperature is None else temperature
    return function("temperature", schedule, "a function of the step, such as annealed() or lambda step: 1.0")


def gumbel_softmax(temperature: Schedule | None = None) -> Estimator:
    """Soft symbols ``softmax((logits + Gumbel noise) / τ)`` (Jang et al. 2017; Maddison et al. 2017): the thesis's.

    Args:
        temperature: τ by step; None: ``annealed()``.

    Returns:
        The estimator; its gradients pass through the symbols.

    Raises:
        PalaverError: ``temperature`` is no function.

    """
    schedule = _schedule_of(temperature)
    return Estimator(partial(_relaxed, schedule), schedule, crosses_wire=False, soft=True)


def straight_through(temperature: Schedule | None = None) -> Estimator:
    """Hard symbols whose gradient is that of ``gumbel_softmax`` (Bengio et al. 2013; Jang et al. 2017).

    Args:
        temperature: τ by step; None: ``annealed()``.

    Returns:
        The estimator; its gradients pass through the symbols.

    Raises:
        PalaverError: ``temperature`` is no function.

    """
    schedule = _schedule_of(temperature)

    def draw(key: Array, logits: Array, step: Array) -> Array:
        soft = _relaxed(schedule, key, logits, step)
        return soft + jax.lax.stop_gradient(hard(soft) - soft)

    return Estimator(draw, schedule, crosses_wire=False)


def reinforce(*, entropy: float = 0.01, samples: int = 4) -> Estimator:
    """Hard symbols, and the score function (Williams 1992) with a baseline: no gradient passes through a symbol.

    A message's reward is its share of the sender's objective, with its receivers' losses where they report them. The
    baseline is the mean reward of the other messages drawn for the same input ("leave-one-out", Kool et al. 2019); with
    one message an input, of the batch's other inputs.

    Args:
        entropy: weight of the bonus on the sender's entropy in nats a message, 0 or more.
        samples: messages drawn for each input, at least 1.

    Returns:
        The estimator, the only one here that ``crosses_wire``.

    Raises:
        PalaverError: a negative weight, or no sample.

    """
    entropy, samples = number("entropy", entropy, "[0, inf)"), count("samples", samples)

    def draw(key: Array, logits: Array, step: Array) -> Array:
        return jax.lax.stop_gradient(hard(logits + jax.random.gumbel(key, logits.shape)))

    return Estimator(draw, lambda step: jnp.ones(()), crosses_wire=True, samples=samples, entropy=entropy)


def advantage(rewards: Array) -> Array:
    """Rewards less their baseline, the mean of the other samples' or, with one sample, of the other examples'.

    >>> advantage(jnp.array([[3.0, 0.0], [1.0, 4.0]])).tolist()
    [[2.0, -4.0], [-2.0, 4.0]]
    >>> advantage(jnp.array([[3.0, 0.0, 0.0]])).tolist()
    [[3.0, -1.5, -1.5]]

    Args:
        rewards: ``[K, ..., B]`` of K samples and B examples.

    Returns:
        ``[K, ..., B]``; the rewards themselves if K and B are 1.

    """
    axis = 0 if rewards.shape[0] > 1 else -1
    several = rewards.shape[axis]
    return rewards if several == 1 else (rewards - rewards.mean(axis, keepdims=True)) * several / (several - 1)


def _schedule(settings: Any) -> Schedule:
    return annealed(start=settings.temperature, decay=settings.decay, every=settings.decay_every, floor=settings.lowest)


ESTIMATORS: dict[str, Callable[[Any], Estimator]] = {
    "gumbel-softmax": lambda settings: gumbel_softmax(_schedule(settings)),
    "straight-through": lambda settings: straight_through(_schedule(settings)),
    "reinforce": lambda settings: reinforce(entropy=settings.entropy, samples=settings.samples),
}
"""Every estimator by the name that settings give it; an entry that is added here is accepted wherever names are.

The settings object has ``temperature``, ``decay``, ``decay_every``, ``lowest``, ``entropy`` and ``samples``.
"""
