"""Bidirectional generative adversarial network (Donahue et al. 2017; thesis §1.4.6.3)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palaver.arguments import count
from palaver.models.blocks import Decoder, Encoder, Sizes, Trunk
from palaver.models.convolution import HE_NORMAL
from palaver.models.precision import dense_product
from palaver.types import Outputs

_leaky = partial(nnx.leaky_relu, negative_slope=0.2)


class Discriminator(nnx.Module):
    """Tells pairs (x, E(x)) from pairs (G(z), z): one logit per pair, above 0 for the former."""

    def __init__(
        self, shape: Sizes, latent: int, widths: Sizes, *, convolutional: bool, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        trunk = partial(Trunk, shape, widths, activation=_leaky, norm_first=False, rngs=rngs)
        self.trunk = trunk(convolutional=convolutional, dtype=dtype)
        dense = partial(nnx.Linear, dot_general=dense_product(dtype), rngs=rngs)
        joint = 2 * widths[-1]
        self.code = dense(latent, joint, kernel_init=HE_NORMAL)
        self.joint = dense(self.trunk.size + joint, joint, kernel_init=HE_NORMAL)
        self.head = dense(joint, 1)

    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """``[B, *shape]`` and ``[B, Z]`` to ``[B]``."""
        both = jnp.concatenate([self.trunk(2 * x - 1), _leaky(self.code(z))], axis=-1)
        return self.head(_leaky(self.joint(both)))[:, 0]


class BiGAN(nnx.Module):
    """Encoder, generator (the encoder's mirror) and a discriminator of pairs; arguments as ``VAE``."""

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
        self.encoder = Encoder(shape, latent, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)
        self.generator = Decoder(shape, latent, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)
        self.discriminator = Discriminator(shape, latent, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)

    def encode(self, x: jax.Array) -> jax.Array:
        """``[B, *shape]`` to codes ``[B, Z]``."""
        return self.encoder(x)

    def generate(self, z: jax.Array) -> jax.Array:
        """``[B, Z]`` to pixels in [0, 1], ``[B, *shape]``."""
        return nnx.sigmoid(self.generator(z))

    def discriminate(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """Tells pairs (x, E(x)) from pairs (G(z), z).

        Args:
            x: ``[B, *shape]`` images, in [0, 1].
            z: ``[B, Z]`` their codes.

        Returns:
            ``[B]`` one logit per pair, above 0 for (x, E(x)).

        """
        return self.discriminator(x, z)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, *shape]`` to features ``[B, Z]``, the codes. It gives no logits."""
        return Outputs(logits=jnp.zeros((x.shape[0], 0)), features=self.encoder(x))
