"""Strided convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

from palaver.models.blocks import Trunk
from palaver.types import Outputs


class CNN(nnx.Module):
    """Strided 4×4 convolutions with batch norm and ReLU, no pooling (DCGAN's advice), then a linear classifier.

    Each layer halves height and width. The features are the last convolution's output, flattened.

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)``; H and W divisible by ``2 ** len(channels)``.
        classes: C.
        channels: output channels of the convolutions.

    """

    def __init__(self, shape: Sequence[int], classes: int, *, channels: Sequence[int] = (32, 64, 128), rngs: nnx.Rngs):
        self.trunk = Trunk(shape, channels, convolutional=True, rngs=rngs)
        self.head = nnx.Linear(self.trunk.size, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, H, W(, C)]`` to logits ``[B, C]`` and features ``[B, D]``."""
        x = self.trunk(x)
        return Outputs(logits=self.head(x), features=x)
