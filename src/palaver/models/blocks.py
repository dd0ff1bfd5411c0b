"""What the models are made of: a trunk that reads an input, and its mirror that writes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
from flax import nnx

from palaver.models.convolution import Doubling, halving
from palaver.types import PalaverError

_INIT = nnx.initializers.he_normal()


def grid(shape: Sequence[int], halvings: int) -> tuple[int, int, int]:
    """Height and width after so many halvings, and the channels, of inputs ``(H, W)`` or ``(H, W, C)``."""
    height, width, depth = (*shape, 1) if len(shape) == 2 else shape
    return height // 2**halvings, width // 2**halvings, depth


def check(shape: Sequence[int], widths: Sequence[int], *, convolutional: bool) -> None:
    """Raises ``PalaverError`` for widths that make no network for inputs of this shape."""
    if not widths:
        raise PalaverError("widths are empty: give at least one")
    if not convolutional:
        return
    if len(shape) not in (2, 3) or any(side % 2 ** len(widths) for side in shape[:2]):
        raise PalaverError(
            f"{len(widths)} convolutions for inputs of shape {tuple(shape)}: give (H, W) or (H, W, C) with H and W "
            f"divisible by {2 ** len(widths)}, or other widths"
        )


class Trunk(nnx.Module):
    """Strided 4 × 4 convolutions with batch norm and no pooling (DCGAN's advice), or dense layers.

    Each convolution halves height and width; the output is flattened.

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)`` (H and W divisible by ``2 ** len(widths)``); any, if dense.
        widths: output channels of the convolutions, or units of the dense layers; at least one.
        convolutional: which of the two.
        activation: after every layer.
        norm_first: whether the first convolution has a batch norm too (not in a discriminator).

    Raises:
        PalaverError: no widths, or a shape that the convolutions cannot halve so often.

    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        *,
        convolutional: bool,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        norm_first: bool = True,
        rngs: nnx.Rngs,
    ):
        check(shape, widths, convolutional=convolutional)
        self.convolutional, self.activation = convolutional, activation
        if convolutional:
            height, width, depth = grid(shape, len(widths))
            self.layers = nnx.List([halving(a, b, rngs=rngs) for a, b in pairwise([depth, *widths])])
            self.norms = nnx.List(
                [
                    nnx.BatchNorm(width, momentum=0.9, rngs=rngs) if norm_first or place else None
                    for place, width in enumerate(widths)
                ]
            )
            self.size = height * width * widths[-1]
        else:
            sizes = [math.prod(shape), *widths]
            self.layers = nnx.List([nnx.Linear(a, b, kernel_init=_INIT, rngs=rngs) for a, b in pairwise(sizes)])
            self.norms = nnx.List([None] * len(widths))
            self.size = widths[-1]

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, *shape]`` to ``[B, size]``."""
        if not self.convolutional:
            x = x.reshape(x.shape[0], -1)
        elif x.ndim == 3:
            x = x[..., None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)
            x = self.activation(x if norm is None else norm(x))
        return x.reshape(x.shape[0], -1)


class Encoder(nnx.Module):
    """A trunk and a linear layer: ``[B, *shape]`` to ``[B, outputs]``; arguments as ``Trunk``."""

    def __init__(
        self, shape: Sequence[int], outputs: int, widths: Sequence[int], *, convolutional: bool, rngs: nnx.Rngs
    ):
        self.trunk = Trunk(shape, widths, convolutional=convolutional, rngs=rngs)
        self.head = nnx.Linear(self.trunk.size, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, *shape]`` to ``[B, outputs]``."""
        return self.head(self.trunk(x))


class Decoder(nnx.Module):
    """The mirror of an ``Encoder`` of the same shape and widths: ``[B, latent]`` to ``[B, *shape]``, not squashed."""

    def __init__(
        self, shape: Sequence[int], latent: int, widths: Sequence[int], *, convolutional: bool, rngs: nnx.Rngs
    ):
        self.shape, self.convolutional = tuple(shape), convolutional
        if convolutional:
            height, width, depth = grid(shape, len(widths))
            self.start = (height, width, widths[-1])
            self.first = nnx.Linear(latent, math.prod(self.start), kernel_init=_INIT, use_bias=False, rngs=rngs)
            self.norms = nnx.List([nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for width in reversed(widths)])
            inner = [Doubling(a, b, rngs=rngs) for a, b in pairwise(reversed(widths))]
            self.layers = nnx.List([*inner, Doubling(widths[0], depth, bias=True, rngs=rngs)])
        else:
            sizes = [latent, *reversed(widths)]
            self.layers = nnx.List([nnx.Linear(a, b, kernel_init=_INIT, rngs=rngs) for a, b in pairwise(sizes)])
            self.last = nnx.Linear(sizes[-1], math.prod(shape), rngs=rngs)

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
