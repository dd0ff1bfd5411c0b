"""Optimisers of nodes: Adam or stochastic gradient descent, with penalties on the weights (thesis §1.3.2, §1.5.3.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from palaver.arguments import choice, number
from palaver.types import PyTree

OPTIMIZERS = ("adam", "sgd")
"""Names of what ``make_optimizer`` makes."""


def make_optimizer(
    name: str = "adam",
    learning_rate: float = 0.001,
    *,
    beta1: float = 0.9,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    l1: float = 0.0,
) -> optax.GradientTransformation:
    """An optimiser: ``θ ← θ − η (d + λ₂ θ + λ₁ sign θ)`` with Adam's direction or the gradient as ``d``.

    Both penalties are decoupled from Adam's moments, as in AdamW (Loshchilov & Hutter 2019). Of plain stochastic
    gradient descent they are the gradients of ``λ₁ Σ |θ|`` (thesis eq. 1.5.1) and ``λ₂/2 Σ θ²`` (eq. 1.5.2 with half of
    λ₂). They shrink matrices and convolutions; biases and the numbers of norms stay free.

    >>> step = make_optimizer("sgd", 0.5, weight_decay=0.1, l1=0.01)
    >>> theta = {"kernel": jnp.array([[2.0, -2.0]]), "bias": jnp.array([2.0])}
    >>> updates, _ = step.update(jax.tree.map(jnp.zeros_like, theta), step.init(theta), theta)
    >>> updates["kernel"].round(3), updates["bias"].round(3) + 0
    (Array([[-0.105,  0.105]], dtype=float32), Array([0.], dtype=float32))

    Args:
        name: of ``OPTIMIZERS``.
        learning_rate: η.
        beta1: of Adam.
        momentum: of stochastic gradient descent; 0: plain (Algorithm 1).
        weight_decay: λ₂.
        l1: λ₁.

    Returns:
        The optax transformation.

    Raises:
        PalaverError: another name, or a number outside its range.

    """
    choice("name", name, OPTIMIZERS)
    momentum = number("momentum", momentum, "[0, 1)")
    weight_decay, l1 = number("weight_decay", weight_decay, "[0, inf)"), number("l1", l1, "[0, inf)")
    direction = optax.scale_by_adam(b1=beta1) if name == "adam" else optax.trace(momentum) if momentum else None
    parts = [direction] if direction else []
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_weights))
    if l1:
        parts.append(optax.masked(optax.stateless(_towards_zero(l1)), _weights))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))


def _weights(params: PyTree) -> PyTree:
    """What is penalised."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _towards_zero(l1: float) -> Callable[[PyTree, PyTree | None], PyTree]:
    """The gradient of ``λ₁ Σ |θ|``, added."""
    return lambda updates, params: jax.tree.map(lambda u, theta: u + l1 * jnp.sign(theta), updates, params)
