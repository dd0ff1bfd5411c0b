"""What the models are made of: a trunk from an input to features, encoders, and their mirror images, decoders."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palaver.arguments import choice, number, sizes
from palaver.models.convolution import HE_NORMAL, Doubling, halving
from palaver.models.precision import dense_product
from palaver.types import PalaverError

Sizes: TypeAlias = Sequence[int]
"""The shape of one input, or the widths of layers."""

Layer: TypeAlias = Callable[[jax.Array], jax.Array]

NORMS: dict[str, Callable[[int, nnx.Rngs], Layer | None]] = {
    "batch": lambda width, rngs: nnx.BatchNorm(width, momentum=0.9, rngs=rngs),
    "group": lambda width, rngs: nnx.GroupNorm(width, groups(width), rngs=rngs),
    "none": lambda _width, _rngs: None,
}
"""What normalises a convolution's outputs, by name; without it the convolution has a bias.

``batch``: over the examples of a batch, whose running mean and variance are used in evaluation. ``group``: over groups
of channels of one example, so that there is no state, and models whose weights are averaged agree with their statistics
(Hsieh et al. 2020).
"""


def groups(width: int) -> int:
    """The number of groups of a group norm: of 4 channels each, but at most 32 groups (Wu & He 2018).

    >>> [groups(width) for width in (2, 6, 8, 16, 64, 128, 512)]
    [1, 1, 2, 4, 16, 32, 32]

    Args:
        width: channels.

    Returns:
        The largest number that divides the channels and is no larger than this.

    """
    most = min(32, max(1, width // 4))
    return max(number for number in range(1, most + 1) if width % number == 0)


def grid(shape: Sizes, halvings: int) -> tuple[int, int, int]:
    """The size of a convolutional trunk's output, before it is flattened.

    >>> grid((32, 32, 3), 2)
    (8, 8, 3)

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)``.
        halvings: how many convolutions halve both sides.

    Returns:
        Height and width after them, and the input's channels (1 for ``(H, W)``).

    """
    height, width, depth = (*shape, 1) if len(shape) == 2 else shape
    return height // 2**halvings, width // 2**halvings, depth


class Trunk(nnx.Module):
    """Strided 4 × 4 convolutions with a norm and no pooling (DCGAN's advice), or dense layers.

    Each convolution halves height and width; the output is flattened.

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)`` (H and W divisible by ``2 ** len(widths)``); any, if dense.
        widths: output channels of the convolutions, or units of the dense layers.
        convolutional: which of the two.
        activation: after every layer.
        norm: of the convolutions' outputs, one of ``NORMS``.
        norm_first: whether the first convolution has a norm too (not in a discriminator).
        dropout: share of every layer's outputs dropped in training.
        may_be_empty: whether a dense trunk may have no layers: its output is the flattened input.
        dtype: type of the operands of all products, ``jnp.float32`` or ``jnp.bfloat16``; all else is float32.
        rngs: random streams of the parameters and the dropout.

    Raises:
        PalaverError: no widths, a size below 1, another norm, a dropout outside [0, 1), another dtype, or a shape that
            the convolutions cannot halve so often.

    """

    def __init__(
        self,
        shape: Sizes,
        widths: Sizes,
        *,
        convolutional: bool,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        norm: str = "batch",
        norm_first: bool = True,
        dropout: float = 0.0,
        may_be_empty: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape, widths = sizes("shape", shape), sizes("widths", widths, may_be_empty=may_be_empty)
        dropout = number("dropout", dropout, "[0, 1)")
        dense = partial(nnx.Linear, kernel_init=HE_NORMAL, dot_general=dense_product(dtype), rngs=rngs)
        self.convolutional, self.activation = convolutional, activation
        if convolutional:
            if len(shape) not in (2, 3) or any(side % 2 ** len(widths) for side in shape[:2]):
                raise PalaverError(
                    f"{len(widths)} convolutions for inputs of shape {tuple(shape)}: give (H, W) or (H, W, C) with H "
                    f"and W divisible by {2 ** len(widths)}, or other widths"
                )
            height, width, depth = grid(shape, len(widths))
            made = NORMS[choice("norm", norm, NORMS)]
            convolution = partial(halving, bias=norm == "none", dtype=dtype, rngs=rngs)
            self.layers = nnx.List([convolution(a, b) for a, b in pairwise([depth, *widths])])
            without = [] if norm_first else [None]
            self.norms = nnx.List([*without, *(made(width, rngs) for width in widths[len(without) :])])
            self.size = height * width * widths[-1]
        else:
            units = [math.prod(shape), *widths]
            self.layers = nnx.List([dense(a, b) for a, b in pairwise(units)])
            self.norms = nnx.List([None] * len(widths))
            self.size = units[-1]
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, *shape]`` to ``[B, size]``."""
        if not self.convolutional:
            x = x.reshape(x.shape[0], -1)
        elif x.ndim == 3:
            x = x[..., None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)
            x = self.activation(x if norm is None else norm(x))
            x = x if self.dropout is None else self.dropout(x)
        return x.reshape(x.shape[0], -1)


class Encoder(nnx.Module):
    """A trunk and a linear layer: ``[B, *shape]`` to ``[B, outputs]``; arguments as ``Trunk``."""

    def __init__(
        self,
        shape: Sizes,
        outputs: int,
        widths: Sizes,
        *,
        convolutional: bool,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.trunk = Trunk(shape, widths, convolutional=convolutional, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(self.trunk.size, outputs, dot_general=dense_product(dtype), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, *shape]`` to ``[B, outputs]``."""
        return self.head(self.trunk(x))


class Decoder(nnx.Module):
    """The mirror of an ``Encoder`` of the same shape and widths: ``[B, latent]`` to ``[B, *shape]``, unbounded."""

    def __init__(
        self,
        shape: Sizes,
        latent: int,
        widths: Sizes,
        *,
        convolutional: bool,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.shape, self.convolutional = tuple(shape), convolutional
        product = dense_product(dtype)
        dense = partial(nnx.Linear, kernel_init=HE_NORMAL, dot_general=product, rngs=rngs)
        if convolutional:
            height, width, depth = grid(shape, len(widths))
            self.start = (height, width, widths[-1])
            self.first = dense(latent, math.prod(self.start), use_bias=False)
            self.norms = nnx.List([nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for width in reversed(widths)])
            inner = [Doubling(a, b, dtype=dtype, rngs=rngs) for a, b in pairwise(reversed(widths))]
            self.layers = nnx.List([*inner, Doubling(widths[0], depth, bias=True, dtype=dtype, rngs=rngs)])
        else:
            sizes = [latent, *reversed(widths)]
            self.layers = nnx.List([dense(a, b) for a, b in pairwise(sizes)])
            self.last = nnx.Linear(sizes[-1], math.prod(shape), dot_general=product, rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        """``[B, latent]`` to ``[B, *shape]``."""
        if self.convolutional:
            x = self.first(z).reshape(z.shape[0], *self.start)
            for norm, layer in zip(self.norms, self.layers, strict=True):
                x = layer(nnx.relu(norm(x)))
        else:
            x = z
            for layer in self.layers:
                x = nnx.relu(layer(x))
            x = self.last(x)
        return x.reshape(z.shape[0], *self.shape)
