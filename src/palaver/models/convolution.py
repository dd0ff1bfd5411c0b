"""Strided convolutions, and their transposes, that are fast for many nodes on a CPU."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.types import Array

_PADDING = ((1, 1), (1, 1))
HE_NORMAL = nnx.initializers.he_normal()
"""Initialises kernels of layers that are followed by a ReLU."""


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
        _layout: the other arguments that ``nnx.Conv`` passes; not used.

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


def patches_conv_transpose(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Array:
    """The transpose of ``patches_conv``: one matmul to ``2 × 2`` blocks of pixels each, overlapping blocks added.

    Same result as ``lax.conv_transpose`` with ``transpose_kernel=True``, whose kernel it takes.

    Args:
        x: ``[B, H', W', C]``.
        kernel: ``[2s, 2s, O, C]``, as of the convolution that it transposes.
        strides: ``(s, s)``.
        padding: ``((top, bottom), (left, right))`` of that convolution, in pixels.

    Returns:
        ``[B, H, W, O]``.

    """
    batch, h, w, depth = x.shape
    s, out = strides[0], kernel.shape[-2]
    matrix = kernel.reshape(2, s, 2, s, out, depth).transpose(5, 0, 2, 1, 3, 4).reshape(depth, -1)
    parts = _matmul(x.reshape(batch * h * w, depth), matrix).reshape(batch, h, w, 2, 2, s * s * out)
    blocks = jnp.zeros((batch, h + 1, w + 1, s * s * out), parts.dtype)
    for i, j in itertools.product((0, 1), repeat=2):
        blocks += jnp.pad(parts[:, :, :, i, j], ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0)))
    image = blocks.reshape(batch, h + 1, w + 1, s, s, out).transpose(0, 1, 3, 2, 4, 5)
    image = image.reshape(batch, s * (h + 1), s * (w + 1), out)
    (top, bottom), (left, right) = padding
    return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]


def _convolution() -> Callable[..., Array]:
    """The faster lowering on this backend: patches × matmul on a CPU, XLA's own convolution elsewhere."""
    return patches_conv if jax.default_backend() == "cpu" else jax.lax.conv_general_dilated


def halving(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Conv:
    """A 4 × 4 convolution of stride 2 without bias: ``[B, H, W, inputs]`` to ``[B, H/2, W/2, outputs]``.

    Args:
        inputs: channels of the input, whose height and width must be even.
        outputs: channels of the output.
        rngs: random streams of the parameters.

    Returns:
        The layer.

    """
    return nnx.Conv(
        inputs,
        outputs,
        (4, 4),
        strides=2,
        padding=_PADDING,
        use_bias=False,
        conv_general_dilated=_convolution(),
        kernel_init=HE_NORMAL,
        rngs=rngs,
    )


class Doubling(nnx.Module):
    """The transpose of ``halving``, if asked for with a bias: ``[B, H, W, inputs]`` to ``[B, 2H, 2W, outputs]``."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, rngs: nnx.Rngs):
        # Of the 16 positions of the kernel, four reach an output pixel.
        init = nnx.initializers.normal((2 / (4 * inputs)) ** 0.5)
        self.kernel = nnx.Param(init(rngs.params(), (4, 4, outputs, inputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, H, W, inputs]`` to ``[B, 2H, 2W, outputs]``."""
        kernel = self.kernel[...]
        if jax.default_backend() == "cpu":
            x = patches_conv_transpose(x, kernel, (2, 2), _PADDING)
        else:
            x = jax.lax.conv_transpose(x, kernel, (2, 2), ((2, 2), (2, 2)), transpose_kernel=True)
        return x if self.bias is None else x + self.bias[...]
