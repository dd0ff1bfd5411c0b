"""Strided convolutional network, and the convolution that is fast for many nodes on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.types import Array, Outputs


@jax.custom_vjp
def _matmul(patches: Array, kernel: Array) -> Array:
    return patches @ kernel


def _matmul_forward(patches: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return patches @ kernel, (patches, kernel)


def _matmul_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    # XLA's CPU matmul runs at half its speed when the right-hand side is transposed, or when both sides are
    # contracted over their long leading axis; the barriers keep it from folding these small transposes back in.
    # Measured in benchmarks/convolution.py.
    patches, kernel = saved
    to_input = g @ jax.lax.optimization_barrier(kernel.T)
    to_kernel = jax.lax.optimization_barrier(jnp.einsum("bo,bk->ok", g, patches)).T
    return to_input, to_kernel


_matmul.defvjp(_matmul_forward, _matmul_backward)


def patches_conv(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]], **_layout: Any
) -> Array:
    """A convolution as patches × matmul, for kernels twice as wide as their stride.

    The input becomes blocks of ``stride × stride`` pixels (space to depth); a window is then 2 × 2 blocks, and the
    convolution one matmul that ``vmap`` turns into a batched one, where ``lax.conv_general_dilated`` would become a
    grouped convolution, very slow on a CPU. Same arguments and result as that function in NHWC/HWIO layout.

    Args:
        x: ``[B, H, W, C]``.
        kernel: ``[2s, 2s, C, O]``.
        strides: ``(s, s)``.
        padding: ``((top, bottom), (left, right))`` in pixels; the padded size must be divisible by ``s``.

    Returns:
        ``[B, H', W', O]``.

    """
    batch, _, _, depth = x.shape
    s, out = strides[0], kernel.shape[-1]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = x.shape[1] // s, x.shape[2] // s
    blocks = x.reshape(batch, rows, s, columns, s, depth).transpose(0, 1, 3, 2, 4, 5)
    blocks = blocks.reshape(batch, rows, columns, s * s * depth)
    h, w = rows - 1, columns - 1
    windows = [blocks[:, i : i + h, j : j + w] for i in (0, 1) for j in (0, 1)]
    patches = jnp.concatenate(windows, axis=-1).reshape(batch * h * w, -1)
    matrix = kernel.reshape(2, s, 2, s, depth, out).transpose(0, 2, 1, 3, 4, 5).reshape(-1, out)
    return _matmul(patches, matrix).reshape(batch, h, w, out)


def _convolution() -> Any:
    """The faster lowering on this backend: patches × matmul on a CPU, XLA's own convolution elsewhere."""
    return patches_conv if jax.default_backend() == "cpu" else jax.lax.conv_general_dilated


class CNN(nnx.Module):
    """Strided 4×4 convolutions with batch norm and ReLU, no pooling (DCGAN's advice), then a linear classifier.

    Each layer halves height and width. The features are the last convolution's output, flattened.

    Args:
        shape: of one input, ``(H, W)`` or ``(H, W, C)``; H and W divisible by ``2 ** len(channels)``.
        classes: C.
        channels: output channels of the convolutions.

    """

    def __init__(self, shape: Sequence[int], classes: int, *, channels: Sequence[int] = (32, 64, 128), rngs: nnx.Rngs):
        height, width, depth = (*shape, 1) if len(shape) == 2 else shape
        depths = [depth, *channels]
        self.convolutions = nnx.List(
            [
                nnx.Conv(
                    a,
                    b,
                    (4, 4),
                    strides=2,
                    padding=((1, 1), (1, 1)),
                    use_bias=False,
                    conv_general_dilated=_convolution(),
                    kernel_init=nnx.initializers.he_normal(),
                    rngs=rngs,
                )
                for a, b in pairwise(depths)
            ]
        )
        self.norms = nnx.List([nnx.BatchNorm(c, momentum=0.9, rngs=rngs) for c in channels])
        shrink = 2 ** len(channels)
        self.head = nnx.Linear(height // shrink * (width // shrink) * depths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        """``[B, H, W(, C)]`` to logits ``[B, C]`` and features ``[B, D]``."""
        x = x[..., None] if x.ndim == 3 else x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.relu(norm(convolution(x)))
        x = x.reshape(x.shape[0], -1)
        return Outputs(logits=self.head(x), features=x)
