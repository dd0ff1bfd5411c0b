"""Channel of variational auto-encoders: the code's distribution (thesis §2.2.4.2)."""

import jax
import jax.numpy as jnp

from palaver.arguments import number
from palaver.channels.packing import encoded_bits
from palaver.objectives import kl_divergence
from palaver.types import Array, Channel, Gaussian, Outputs, PalaverError


def _code(features: Array) -> Gaussian:
    if features.shape[-1] % 2:
        raise PalaverError(f"features are {features.shape[-1]} wide: give an even width, μ then log σ²")
    return Gaussian(*jnp.split(features, 2, axis=-1))


def gaussian(*, weight: float = 1.0) -> Channel:
    """The sender's q(z | x): ``weight · KL(sender ‖ receiver)``, closed form, in nats, mean over the batch.

    Thesis §2.2.4.2. The features must be μ, then log σ², as those of ``palaver.models.VAE``.

    Args:
        weight: scaling factor of the loss.

    Returns:
        A channel whose payload is features ``[B, 2Z]`` in their own type: 64 · Z bits per example in float32. Its loss
        raises ``PalaverError`` for features of an odd width.

    Raises:
        PalaverError: if the weight is not a finite number above 0.

    """
    weight = number("weight", weight, "(0, inf)")

    def loss(outputs: Outputs, sent: Array) -> Array:
        return weight * kl_divergence(_code(jax.lax.stop_gradient(sent)), _code(outputs.features)).mean()

    return Channel(encode=lambda outputs, _labels: outputs.features, loss=loss, bits=encoded_bits)
