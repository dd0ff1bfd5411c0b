"""Multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import jax
from flax import nnx

from palaver.types import Outputs


class MLP(nnx.Module):
    """ReLU layers of the given widths, then a linear classifier; the features are the last hidden layer.

    Args:
        shape: of one input, for example ``(28, 28)``; it is flattened.
        classes: C.
        hidden: widths of the hidden layers.
        dropout: share of hidden units dropped in training.

    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        *,
        hidden: Sequence[int] = (32, 32),
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        widths = [math.prod(shape), *hidden]
        init = nnx.initializers.he_normal()
        self.hidden = nnx.List([nnx.Linear(a, b, kernel_init=init, rngs=rngs) for a, b in pairwise(widths)])
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.head = nnx.Linear(widths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, *shape]`` to logits ``[B, C]`` and features ``[B, hidden[-1]]``."""
        x = x.reshape(x.shape[0], -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
            if self.dropout is not None:
                x = self.dropout(x)
        return Outputs(logits=self.head(x), features=x)
