"""Networks that learn labels: a multi-layer perceptron and a strided convolutional network."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from palaver.arguments import count, sizes
from palaver.models.blocks import Sizes, Trunk
from palaver.models.precision import dense_product
from palaver.types import Outputs


class Classifier(nnx.Module):
    """A trunk, whose output are the features, and a linear layer that makes logits of them."""

    def __init__(self, trunk: Trunk, classes: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.trunk = trunk
        self.head = nnx.Linear(trunk.size, count("classes", classes), dot_general=dense_product(dtype), rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, *shape]`` to logits ``[B, C]`` and features ``[B, D]``."""
        features = self.trunk(x)
        return Outputs(logits=self.head(features), features=features)


def MLP(
    shape: Sizes,
    classes: int,
    *,
    hidden: Sizes = (32, 32),
    dropout: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Classifier:
    """ReLU layers of the given widths, then a linear classifier; the features are the last hidden layer.

    Args:
        shape: of one input, for example ``(28, 28)``; it is flattened.
        classes: C.
        hidden: widths of the hidden layers; without any, the classifier is linear.
        dropout: share of hidden units dropped in training.
        dtype: type of the operands of all products, ``jnp.float32`` or ``jnp.bfloat16``; all else is float32.
        rngs: random streams of the parameters and the dropout.

    Returns:
        The module: ``[B, *shape]`` to logits ``[B, C]`` and features ``[B, D]``.

    Raises:
        PalaverError: a size or a number of classes below 1, a dropout outside [0, 1), or another dtype.

    """
    hidden = sizes("hidden", hidden, may_be_empty=True)
    trunk = Trunk(shape, hidden, convolutional=False, dropout=dropout, may_be_empty=True, dtype=dtype, rngs=rngs)
    return Classifier(trunk, classes, dtype=dtype, rngs=rngs)


def CNN(
    shape: Sizes,
    classes: int,
    *,
    channels: Sizes = (32, 64, 128),
    dropout: float = 0.0,
    norm: str = "batch",
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Classifier:
    """Strided 4 × 4 convolutions with a norm and ReLU, then a linear classifier (thesis §2.2.2.2).

    There is no pooling, as in DCGAN (Radford et al. 2016).
    Each layer halves height and width. The features are the last convolution's output, flattened.

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)``; H and W divisible by ``2 ** len(channels)``.
        classes: C.
        channels: output channels of the convolutions.
        dropout: share of every convolution's outputs dropped in training.
        norm: ``"batch"``, as in the thesis; ``"group"``, which suits models whose weights are averaged, with groups of
            4 channels or at most 32 groups; or ``"none"``, with biases in its place.
        dtype: type of the operands of all products, ``jnp.float32`` or ``jnp.bfloat16``; all else is float32.
        rngs: random streams of the parameters and the dropout.

    Returns:
        The module: ``[B, *shape]`` to logits ``[B, C]`` and features ``[B, D]``.

    Raises:
        PalaverError: no channels, a size or a number of classes below 1, a dropout outside [0, 1), another norm or
            dtype, or a shape that the convolutions cannot halve so often.

    """
    channels = sizes("channels", channels)
    trunk = Trunk(shape, channels, convolutional=True, norm=norm, dropout=dropout, dtype=dtype, rngs=rngs)
    return Classifier(trunk, classes, dtype=dtype, rngs=rngs)
