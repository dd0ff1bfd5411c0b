"""Variational auto-encoder (Kingma & Welling 2014; thesis §1.4.6.1)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palaver.arguments import count
from palaver.models.blocks import Decoder, Encoder, Sizes
from palaver.types import Gaussian, Outputs


class VAE(nnx.Module):
    """An encoder to a Gaussian over the latent code, and a decoder, its mirror.

    Args:
        shape: of one input, with values in [0, 1].
        latent: Z, numbers in a code.
        widths: output channels of the convolutions (sides divisible by ``2 ** len(widths)``), or of the dense layers.
        convolutional: which of the two.
        dtype: type of the operands of all products, ``jnp.float32`` or ``jnp.bfloat16``; all else is float32.
        rngs: random streams of the parameters.

    Raises:
        PalaverError: a size below 1, no widths, another dtype, or a shape that the convolutions cannot halve so
            often.

    """

    def __init__(
        self,
        shape: Sizes,
        *,
        latent: int = 32,
        widths: Sizes = (256, 128),
        convolutional: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        latent = self.latent = count("latent", latent)
        self.encoder = Encoder(shape, 2 * latent, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(shape, latent, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)

    def encode(self, x: jax.Array) -> Gaussian:
        """``[B, *shape]`` to q(z | x)."""
        return Gaussian(*jnp.split(self.encoder(x), 2, axis=-1))

    def decode(self, z: jax.Array) -> jax.Array:
        """``[B, Z]`` to the logits of the pixels ``[B, *shape]``."""
        return self.decoder(z)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, *shape]`` to features ``[B, 2Z]``: μ, then log σ². It gives no logits."""
        return Outputs(logits=jnp.zeros((x.shape[0], 0)), features=self.encoder(x))
