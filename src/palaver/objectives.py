"""What a node learns from its own data: labels, the evidence lower bound, or an adversarial game.

An objective is an ``Objective`` made by a factory and works on the node's flax module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from palaver.types import Array, Batch, Gaussian, Outputs, PalaverError

USED_UNIT = 0.01
"""A latent unit counts as used where the variance of its mean over the examples is above this (Burda et al. 2016)."""

CERTAIN = 0.99
"""A discriminator right more often than this leaves the generator and the encoder little to learn from."""

STILL = 0.01
"""Codes, or generated pixels relative to real ones, of less variance than this no longer depend on their input."""


class Objective(NamedTuple):
    """A local objective, as functions of a module in training mode (``losses``) or evaluation mode (the others)."""

    losses: Callable[[Any, Batch, Array], tuple[Outputs, tuple[Array, ...]]]
    """``losses(module, batch, key)``: what the module says about the batch, and scalars, means over the batch."""
    parts: tuple[tuple[str, ...], ...] | None = None
    """Attributes of the module that descend each of the losses; ``None``: all of it descends the only one."""
    listens: tuple[str, ...] | None = None
    """Attributes that learn from what is heard, while the others stand still; ``None``: all."""
    metrics: Callable[[Any, Array, Array], dict[str, Array]] | None = None
    """``metrics(module, x, key)``: see ``palaver.types.Node``."""
    pictures: Callable[[Any, Array, Array], dict[str, Array]] | None = None
    """``pictures(module, x, key)``: see ``palaver.types.Node``."""


def as_outputs(said: Any) -> Outputs:
    """What a module returned: ``Outputs``, or bare logits ``[B, C]``, which are then their own features."""
    return said if isinstance(said, Outputs) else Outputs(logits=said, features=said)


def cross_entropy() -> Objective:
    """The labels of its own data, in nats."""

    def losses(module: Any, batch: Batch, _key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        outputs = as_outputs(module(batch.x))
        return outputs, (optax.softmax_cross_entropy_with_integer_labels(outputs.logits, batch.labels).mean(),)

    return Objective(losses)


def distributions() -> Objective:
    """The distributions that a teacher gives: ``batch.labels`` is ``[B, C]``; cross-entropy in nats."""

    def losses(module: Any, batch: Batch, _key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        outputs = as_outputs(module(batch.x))
        return outputs, (optax.softmax_cross_entropy(outputs.logits, batch.labels).mean(),)

    return Objective(losses)


def kl_divergence(p: Gaussian, q: Gaussian) -> Array:
    """KL(p ‖ q) in nats, closed form, ``[B]``.

    ``½ Σ_j [log σ_q² − log σ_p² + (σ_p² + (μ_p − μ_q)²) / σ_q² − 1]``
    """
    ratio = p.log_variance - q.log_variance
    apart = (p.mean - q.mean) ** 2 * jnp.exp(-q.log_variance)
    return 0.5 * (jnp.exp(ratio) - ratio + apart - 1).sum(-1)


def standard_normal(like: Array) -> Gaussian:
    """The prior p(z) for codes of this shape."""
    return Gaussian(jnp.zeros_like(like), jnp.zeros_like(like))


def _negative_log_likelihood(logits: Array, x: Array) -> Array:
    """−log p(x | z) ``[B]`` of Bernoulli pixels, in nats; for pixels between 0 and 1 the cross-entropy."""
    return optax.sigmoid_binary_cross_entropy(logits, x).reshape(x.shape[0], -1).sum(-1)


def sample(key: Array, code: Gaussian) -> Array:
    """A draw z ~ N(μ, σ²), differentiable in μ and σ."""
    return code.mean + jnp.exp(code.log_variance / 2) * jax.random.normal(key, code.mean.shape)


def elbo(*, beta: float = 1.0) -> Objective:
    """The negative evidence lower bound (eq. 1.4.5): ``−E_q[log p(x | z)] + β · KL(q(z | x) ‖ N(0, 1))``, in nats.

    For modules with ``encode(x) -> Gaussian`` and ``decode(z) -> logits [B, *shape]`` of Bernoulli pixels, whose
    attributes are ``encoder`` and ``decoder``, and which called on x give ``Outputs`` with features μ, then log σ²;
    ``encoder`` learns from what is heard.

    Args:
        beta: weight β of the divergence (Higgins et al. 2017); 1 is the bound itself.

    Raises:
        PalaverError: if β is negative or infinite.

    """
    if not 0 <= beta < math.inf:
        raise PalaverError(f"beta is {beta}: give 0 or more, and finite")

    def terms(module: Any, x: Array, key: Array) -> tuple[Gaussian, Array, Array]:
        code = module.encode(x)
        nll = _negative_log_likelihood(module.decode(sample(key, code)), x)
        return code, nll.mean(), kl_divergence(code, standard_normal(code.mean)).mean()

    def losses(module: Any, batch: Batch, key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        code, nll, kl = terms(module, batch.x, key)
        outputs = Outputs(jnp.zeros((batch.x.shape[0], 0)), jnp.concatenate(code, axis=-1))
        return outputs, (nll + beta * kl,)

    def metrics(module: Any, x: Array, key: Array) -> dict[str, Array]:
        code, nll, kl = terms(module, x, key)
        spread = code.mean.var(0)
        return {
            "elbo": -nll - kl,
            "reconstruction": nll,
            "kl": kl,
            "active_units": (spread > USED_UNIT).sum().astype(jnp.float32),
            "feature_variance": spread.mean(),
        }

    def pictures(module: Any, x: Array, key: Array) -> dict[str, Array]:
        return _pictures(x, module.encode(x).mean, lambda z: nnx.sigmoid(module.decode(z)), key)

    return Objective(losses, listens=("encoder",), metrics=metrics, pictures=pictures)


def adversarial() -> Objective:
    """The game of a BiGAN (Donahue et al. 2017), without saturation, in nats.

    The discriminator tells pairs (x, E(x)) from (G(z), z), z ~ N(0, 1); generator and encoder make it err. For modules
    with ``encode(x) -> [B, Z]``, ``generate(z) -> [B, *shape]`` in [0, 1], ``discriminate(x, z) -> [B]`` and
    ``latent`` (Z), whose attributes are ``encoder``, ``generator`` and ``discriminator``, and which called on x give
    ``Outputs`` whose features are the code; ``encoder`` learns from what is heard. The discriminator sees real and made
    pairs as one batch, so that its batch norm is the same function in training and in evaluation.
    """

    def game(module: Any, x: Array, key: Array) -> tuple[Array, Array, Array, Array]:
        z = jax.random.normal(key, (x.shape[0], module.latent))
        code, made = module.encode(x), module.generate(z)
        pairs = jnp.concatenate([x, made]), jnp.concatenate([code, z])
        real, fake = jnp.split(module.discriminate(*pairs), 2)
        return code, made, real, fake

    def losses(module: Any, batch: Batch, key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        code, _, real, fake = game(module, batch.x, key)
        discriminator = nnx.softplus(-real).mean() + nnx.softplus(fake).mean()
        others = nnx.softplus(real).mean() + nnx.softplus(-fake).mean()
        return Outputs(jnp.zeros((batch.x.shape[0], 0)), code), (discriminator, others)

    def metrics(module: Any, x: Array, key: Array) -> dict[str, Array]:
        code, made, real, fake = game(module, x, key)
        return {
            "discriminator_accuracy": ((real > 0).mean() + (fake < 0).mean()) / 2,
            "feature_variance": code.var(0).mean(),
            "sample_variance": made.var(0).mean() / x.var(0).mean(),
            "reconstruction_error": ((module.generate(code) - x) ** 2).mean(),
        }

    def pictures(module: Any, x: Array, key: Array) -> dict[str, Array]:
        return _pictures(x, module.encode(x), module.generate, key)

    parts = (("discriminator",), ("encoder", "generator"))
    return Objective(losses, parts=parts, listens=("encoder",), metrics=metrics, pictures=pictures)


def collapsed(metrics: Mapping[str, ArrayLike]) -> Array:
    """Whether what a node has learnt no longer depends on its input, elementwise over these metrics of nodes.

    Of a VAE: no latent unit is in use (``active_units``; posterior collapse). Of a BiGAN: its codes
    (``feature_variance``, where the prior's is 1) or its samples (``sample_variance``, relative to the data's) stand
    still.
    """
    if "active_units" in metrics:
        return jnp.asarray(metrics["active_units"]) < 1
    return jnp.minimum(jnp.asarray(metrics["feature_variance"]), jnp.asarray(metrics["sample_variance"])) < STILL


def _pictures(x: Array, code: Array, draw: Callable[[Array], Array], key: Array) -> dict[str, Array]:
    """Grids ``[rows, columns, *shape]``: images over their reconstructions, samples, walks from code to code."""
    count = x.shape[0]
    half = max(1, count // 2)
    share = jnp.linspace(0, 1, count)[None, :, None]
    walks = (1 - share) * code[:half, None] + share * code[-half:, None]
    samples = draw(jax.random.normal(key, (2 * count, code.shape[-1])))
    return {
        "reconstructions": jnp.stack([x, draw(code)]),
        "samples": samples.reshape(2, count, *x.shape[1:]),
        "interpolations": draw(walks.reshape(half * count, -1)).reshape(half, count, *x.shape[1:]),
    }
