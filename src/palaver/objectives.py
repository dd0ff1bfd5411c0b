"""What a node learns from its own data: labels, the evidence lower bound, or an adversarial game.

An objective is an ``Objective`` made by a factory and works on the node's flax module.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from palaver.arguments import number, shown
from palaver.types import NO_LABEL, Array, Batch, Gaussian, Outputs, PalaverError

USED_UNIT = 0.01
"""A latent unit counts as used where the variance of its mean over the examples is above this (Burda et al. 2016)."""

CERTAIN = 0.99
"""A discriminator with a higher accuracy than this leaves the generator and the encoder little to learn from."""

CODES = frozenset({"feature_variance", "sample_variance"})
"""Metrics of nodes that show whether codes or generated samples still vary."""

COLLAPSED = 0.01
"""Codes, or generated pixels relative to real ones, of less variance than this no longer depend on their input."""


class Objective(NamedTuple):
    """A local objective, as functions of a module in training mode (``losses``) or evaluation mode (the others)."""

    losses: Callable[[nnx.Module, Batch, Array], tuple[Outputs, tuple[Array, ...]]]
    """``losses(module, batch, key)``: the module's outputs on the batch, and scalars, means over the batch."""
    parts: tuple[tuple[str, ...], ...] | None = None
    """For each of the losses, the attributes of the module trained on it; ``None``: the only loss trains all."""
    channel_trains: tuple[str, ...] | None = None
    """Attributes that are trained on received packets, while the others do not change; ``None``: all."""
    metrics: Callable[[nnx.Module, Array, Array], dict[str, Array]] | None = None
    """``metrics(module, x, key)``: see ``palaver.types.Node``."""
    pictures: Callable[[nnx.Module, Array, Array], dict[str, Array]] | None = None
    """``pictures(module, x, key)``: see ``palaver.types.Node``."""


def as_outputs(returned: Outputs | Array) -> Outputs:
    """The value that a module returned, as ``Outputs``.

    Args:
        returned: ``Outputs``, or logits ``[B, C]`` alone.

    Returns:
        ``Outputs``; logits given alone are its features too.

    Raises:
        PalaverError: it is neither, or not floats ``[B, C]`` and ``[B, D]``. A plain tuple is not taken for
            ``Outputs``, since nothing shows which of the two are the logits.

    """
    outputs = returned if isinstance(returned, Outputs) else Outputs(logits=returned, features=returned)
    for name, array in outputs._asdict().items():
        if not hasattr(array, "dtype") or array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.floating):
            raise PalaverError(
                f"the model's {name} are {shown(array)}: return palaver.Outputs(logits [batch, classes], features "
                "[batch, width]) or logits alone, floats"
            )
    return outputs


def cross_entropy() -> Objective:
    """The cross-entropy with the labels of the node's own data, in nats, mean over the batch (thesis §2.2.3.1).

    Examples whose label is ``NO_LABEL`` do not count: the mean is over the others, and 0 where there are none.
    """

    def loss(logits: Array, labels: Array) -> Array:
        known = labels != NO_LABEL
        losses = jnp.where(known, optax.softmax_cross_entropy_with_integer_labels(logits, labels), 0)
        # The mean over all, and then scaled: where every label is known, to the last bit the plain mean.
        return losses.mean() * (labels.size / jnp.maximum(known.sum(), 1))

    return _of_logits(loss)


def distributions() -> Objective:
    """The cross-entropy with a teacher's distributions ``batch.labels [B, C]``, in nats, mean over the batch."""
    return _of_logits(lambda logits, labels: optax.softmax_cross_entropy(logits, labels).mean())


def _of_logits(loss: Callable[[Array, Array], Array]) -> Objective:
    """The scalar ``loss(logits [B, C], batch.labels)``."""

    def losses(module: Any, batch: Batch, _key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        outputs = as_outputs(module(batch.x))
        return outputs, (loss(outputs.logits, batch.labels),)

    return Objective(losses)


def kl_divergence(p: Gaussian, q: Gaussian) -> Array:
    """KL(p ‖ q) of two normal distributions in closed form.

    ``½ Σ_j [log σ_q² − log σ_p² + (σ_p² + (μ_p − μ_q)²) / σ_q² − 1]``, used in eq. 1.4.5 and §2.2.4.2 of the thesis
    (Kingma & Welling 2014, appendix B, for a standard normal q).

    >>> p = Gaussian(jnp.ones((1, 2)), jnp.zeros((1, 2)))
    >>> kl_divergence(p, standard_normal(p.mean)).tolist()
    [1.0]

    Args:
        p: of each example, ``[B, Z]``.
        q: as ``p``.

    Returns:
        ``[B]`` nats.

    """
    ratio = p.log_variance - q.log_variance
    apart = (p.mean - q.mean) ** 2 * jnp.exp(-q.log_variance)
    return 0.5 * (jnp.exp(ratio) - ratio + apart - 1).sum(-1)


def standard_normal(like: Array) -> Gaussian:
    """The prior p(z) = N(0, 1) of codes of the shape of ``like``."""
    return Gaussian(jnp.zeros_like(like), jnp.zeros_like(like))


def _negative_log_likelihood(logits: Array, x: Array) -> Array:
    """−log p(x | z) ``[B]`` of Bernoulli pixels, in nats; for pixels between 0 and 1 the cross-entropy."""
    logits, x = (array.reshape(array.shape[0], -1) for array in (logits, x))
    # As optax.sigmoid_binary_cross_entropy, but with one logarithm instead of two, and a derivative that shares its
    # exponential function: a quarter of the time. log(1 + exp(l)) = max(l, 0) + log(1 + exp(-|l|)) does not overflow;
    # the maximum is written so that its derivative at 0, where the kinks of both terms cancel, is 1/2.
    size = jnp.abs(logits)
    return (logits / 2 + size / 2 + jnp.log1p(jnp.exp(-size)) - x * logits).sum(-1)


def sample(key: Array, code: Gaussian) -> Array:
    """A draw z ~ N(μ, σ²), differentiable in μ and σ (Kingma & Welling 2014, §2.4).

    Args:
        key: random key of the draw.
        code: μ and log σ² of each example, ``[B, Z]``.

    Returns:
        ``[B, Z]`` z.

    """
    return code.mean + jnp.exp(code.log_variance / 2) * jax.random.normal(key, code.mean.shape)


def elbo(*, beta: float = 1.0) -> Objective:
    """The negative evidence lower bound (eq. 1.4.5): ``−E_q[log p(x | z)] + β · KL(q(z | x) ‖ N(0, 1))``, in nats.

    For modules with ``encode(x) -> Gaussian`` and ``decode(z) -> logits [B, *shape]`` of Bernoulli pixels, whose
    attributes are ``encoder`` and ``decoder``, and which called on x give ``Outputs`` with features μ, then log σ²;
    received packets train ``encoder`` alone.

    Args:
        beta: weight β of the divergence (Higgins et al. 2017); 1 is the bound itself.

    Returns:
        The objective. Its metrics: ``elbo`` (with β = 1), ``reconstruction`` and ``kl`` in nats, means over the
        examples; ``active_units``, how many latent units are in use; ``feature_variance``, of μ over the examples, mean
        over the units.

    Raises:
        PalaverError: if β is negative or infinite.

    """
    beta = number("beta", beta, "[0, inf)")

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
        variance = code.mean.var(0)
        return {
            "elbo": -nll - kl,
            "reconstruction": nll,
            "kl": kl,
            "active_units": (variance > USED_UNIT).sum().astype(jnp.float32),
            "feature_variance": variance.mean(),
        }

    def pictures(module: Any, x: Array, key: Array) -> dict[str, Array]:
        return _pictures(x, module.encode(x).mean, lambda z: nnx.sigmoid(module.decode(z)), key)

    return Objective(losses, channel_trains=("encoder",), metrics=metrics, pictures=pictures)


def adversarial() -> Objective:
    """The losses of a BiGAN (Donahue et al. 2017) in their non-saturating form, in nats.

    The discriminator D tells pairs (x, E(x)) from (G(z), z), z ~ N(0, 1): it is trained on
    ``−log D(x, E(x)) − log(1 − D(G(z), z))``, generator and encoder on ``−log(1 − D(x, E(x))) − log D(G(z), z)``.

    For modules with ``encode(x) -> [B, Z]``, ``generate(z) -> [B, *shape]`` in [0, 1], ``discriminate(x, z) -> [B]``
    (the logit of D) and ``latent`` (Z), whose attributes are ``encoder``, ``generator`` and ``discriminator``, and
    which called on x give ``Outputs`` whose features are the code; received packets train ``encoder`` alone. The
    discriminator gets real and generated pairs as one batch, so that its batch norm is the same function in training
    and in evaluation.

    Returns:
        The objective. Its metrics: ``discriminator_accuracy``, the share of pairs classified correctly, in [0, 1];
        ``feature_variance``, of the codes over the examples, mean over the units; ``sample_variance``, of generated
        pixels relative to real ones; ``reconstruction_error``, ``(G(E(x)) − x)²``, mean over pixels and examples.

    """

    def game(module: Any, x: Array, key: Array) -> tuple[Array, Array, Array, Array]:
        z = jax.random.normal(key, (x.shape[0], module.latent))
        code, generated = module.encode(x), module.generate(z)
        pairs = jnp.concatenate([x, generated]), jnp.concatenate([code, z])
        real, fake = jnp.split(module.discriminate(*pairs), 2)
        return code, generated, real, fake

    def losses(module: Any, batch: Batch, key: Array) -> tuple[Outputs, tuple[Array, ...]]:
        code, _, real, fake = game(module, batch.x, key)
        discriminator = nnx.softplus(-real).mean() + nnx.softplus(fake).mean()
        others = nnx.softplus(real).mean() + nnx.softplus(-fake).mean()
        return Outputs(jnp.zeros((batch.x.shape[0], 0)), code), (discriminator, others)

    def metrics(module: Any, x: Array, key: Array) -> dict[str, Array]:
        code, generated, real, fake = game(module, x, key)
        return {
            "discriminator_accuracy": ((real > 0).mean() + (fake < 0).mean()) / 2,
            "feature_variance": code.var(0).mean(),
            "sample_variance": generated.var(0).mean() / x.var(0).mean(),
            "reconstruction_error": ((module.generate(code) - x) ** 2).mean(),
        }

    def pictures(module: Any, x: Array, key: Array) -> dict[str, Array]:
        return _pictures(x, module.encode(x), module.generate, key)

    parts = (("discriminator",), ("encoder", "generator"))
    return Objective(losses, parts=parts, channel_trains=("encoder",), metrics=metrics, pictures=pictures)


OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "labels": lambda _: cross_entropy(),
    "vae": lambda settings: elbo(beta=settings.beta),
    "bigan": lambda _: adversarial(),
}
"""Every objective by the name that settings give it; an entry that is added here is accepted wherever names are.

The settings object has ``beta``.
"""


def collapsed(metrics: Mapping[str, ArrayLike]) -> Array:
    """Whether a node's codes or samples no longer depend on their input, elementwise over these metrics of nodes.

    VAE: no latent unit is in use (``active_units``; posterior collapse). BiGAN: the variance of its codes
    (``feature_variance``, where the prior's is 1) or of its samples (``sample_variance``, relative to the data's) is
    below ``COLLAPSED``.

    >>> collapsed({"active_units": [0.0, 3.0]}).tolist()
    [True, False]

    Args:
        metrics: values of each metric by its name, of one shape: of a VAE ``active_units``, of a BiGAN
            ``feature_variance`` and ``sample_variance``.

    Returns:
        Bool, of that shape.

    """
    if "active_units" in metrics:
        return jnp.asarray(metrics["active_units"]) < 1
    variances = [jnp.asarray(metrics[name]) for name in sorted(CODES & metrics.keys())]
    return jnp.stack(variances).min(0) < COLLAPSED


def _pictures(x: Array, code: Array, draw: Callable[[Array], Array], key: Array) -> dict[str, Array]:
    """Grids ``[rows, columns, *shape]``: images and their reconstructions, samples, interpolations between codes."""
    count = x.shape[0]
    half = max(1, count // 2)
    share = jnp.linspace(0, 1, count)[None, :, None]
    between = (1 - share) * code[:half, None] + share * code[-half:, None]
    samples = draw(jax.random.normal(key, (2 * count, code.shape[-1])))
    return {
        "reconstructions": jnp.stack([x, draw(code)]),
        "samples": samples.reshape(2, count, *x.shape[1:]),
        "interpolations": draw(between.reshape(half * count, -1)).reshape(half, count, *x.shape[1:]),
    }
