"""Strided convolutions, and their transposes, that are fast for many nodes on a CPU."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike

from palaver.models.precision import matmul, product_type
from palaver.types import Array

_Padding: TypeAlias = tuple[tuple[int, int], ...]
_Saved: TypeAlias = tuple[Array, Array]

_PADDING = ((1, 1), (1, 1))
HE_NORMAL = nnx.initializers.he_normal()
"""Initialises kernels of layers that are followed by a ReLU."""


def _patches(x: Array, s: int, padding: _Padding, dtype: np.dtype) -> Array:
    """Every window of ``2s × 2s`` pixels of the padded image, in the order of a kernel: ``[B·H'·W', 2s·2s·C]``."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    batch, height, width, depth = x.shape
    h, w = height // s - 1, width // s - 1
    if dtype == jnp.bfloat16:
        # XLA's CPU backend copies bfloat16 by way of float32, each time: so all in one pass, with the rounding.
        blocks = x.reshape(batch, h + 1, s, w + 1, s * depth)
        rows = [_fused_pair([blocks[:, i : i + h, :, j : j + w] for j in (0, 1)], 4) for i in (0, 1)]
        return _fused_pair([row.swapaxes(2, 3) for row in rows], 3).reshape(batch * h * w, -1).astype(dtype)
    # First the 2s pixels of a row, then the 2s rows: at once, the copies are short and take twice as long.
    halves = [x[:, :, start : start + s * w].reshape(batch, height, w, s * depth) for start in (0, s)]
    rows = jax.lax.optimization_barrier(jnp.concatenate(halves, axis=-1)).reshape(batch, h + 1, s, w, -1)
    windows = [rows[:, i : i + h, row] for i in (0, 1) for row in range(s)]
    return jnp.concatenate(windows, axis=-1).reshape(batch * h * w, -1)


def _fused_pair(pair: Sequence[Array], axis: int) -> Array:
    """Two arrays along a new axis, as a sum of padded ones: XLA's CPU backend fuses that, but no ``jnp.stack``."""
    first, second = (jnp.expand_dims(array, axis) for array in pair)
    before = [(0, 0)] * axis
    after = [(0, 0)] * (first.ndim - axis - 1)
    return jnp.pad(first, [*before, (0, 1), *after]) + jnp.pad(second, [*before, (1, 0), *after])


def _image(patches: Array, grid: Sequence[int], s: int, padding: _Padding) -> Array:
    """The transpose of ``_patches``: windows of a grid ``(B, H', W')`` to an image, overlapping ones added.

    For a gradient: XLA fuses it with the next step, such as the derivative of a ReLU.
    """
    batch, h, w = grid
    parts = patches.reshape(batch, h, w, 2, s, 2, -1)
    placed = [
        jnp.pad(parts[:, :, :, i, :, j], ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0), (0, 0)))
        for i, j in itertools.product((0, 1), repeat=2)
    ]
    blocks = functools.reduce(operator.add, placed)
    height, width = s * (h + 1), s * (w + 1)
    image = blocks.transpose(0, 1, 3, 2, 4).reshape(batch, height, width, -1)
    (top, bottom), (left, right) = padding
    return image[:, top : height - bottom, left : width - right]


def _stored_image(patches: Array, grid: Sequence[int], s: int, padding: _Padding) -> Array:
    """As ``_image``, for a layer's output: nothing that comes after it is fused with it.

    Adding up windows cannot be vectorised where there are few channels, nor can what XLA fuses with it: the exponential
    functions of a loss of pixels then take five times as long. The last step here, to put rows of pixels side by side,
    copies whole rows, and XLA fuses nothing with such copies.
    """
    batch, h, w = grid
    parts = patches.reshape(batch, h, w, 2, s, 2, -1)
    (top, bottom), (left, right) = padding
    height, columns, depth = s * (h + 1) - top - bottom, s * (w + 1), parts.shape[-1] // s
    blocks, rows = -(-height // s), []
    for first in range(top, top + s):
        y, row = divmod(first, s)
        placed = [
            jax.lax.pad(
                parts[:, :, :, i, row, j], 0.0, ((0, 0, 0), (i - y, blocks + y - h - i, 0), (j, 1 - j, 0), (0, 0, 0))
            )
            for i, j in itertools.product((0, 1), repeat=2)
        ]
        merged = functools.reduce(operator.add, placed).reshape(batch, blocks, columns * depth)
        rows.append(merged[:, :, left * depth : (columns - right) * depth])
    return jnp.stack(rows, axis=2).reshape(batch, s * blocks, -1, depth)[:, :height]


def _row_major(matrix: Array) -> Array:
    """The matrix, stored row by row: XLA's CPU backend multiplies bfloat16 as such only if both operands are."""
    return with_layout_constraint(matrix, Layout(major_to_minor=(0, 1)))


def _to_windows(g: Array, matrix: Array) -> Array:
    """``g [M, O]`` times the transpose of ``matrix [K, O]``: ``[M, K]``."""
    return matmul(g, _row_major(matrix.T))  # a transposed right-hand side would make it half as fast


def _to_matrix(patches: Array, g: Array) -> Array:
    """The transpose of ``patches [M, K]`` times ``g [M, O]``: ``[K, O]``."""
    if patches.dtype == jnp.bfloat16:
        return matmul(_row_major(patches.T), g)
    # XLA's CPU matmul runs at half its speed when both sides are contracted over their long leading axis, unless the
    # narrower is on the left; the barrier keeps it from folding the transpose into the product. Measured in
    # benchmarks/convolution.py. The optimiser would transpose once for each array that it writes.
    return _row_major(jax.lax.optimization_barrier(jnp.einsum("bo,bk->ok", g, patches)).T)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x: Array, kernel: Array, s: int, padding: _Padding, dtype: np.dtype) -> Array:
    return _conv_forward(x, kernel, s, padding, dtype)[0]


def _conv_forward(x: Array, kernel: Array, s: int, padding: _Padding, dtype: np.dtype) -> tuple[Array, _Saved]:
    batch, height, width = x.shape[0], *(n + sum(pad) for n, pad in zip(x.shape[1:3], padding, strict=True))
    patches = _patches(x, s, padding, dtype)
    y = matmul(patches, _matrix(kernel, dtype))
    return y.reshape(batch, height // s - 1, width // s - 1, -1), (patches, kernel)


def _conv_backward(s: int, padding: _Padding, dtype: np.dtype, saved: _Saved, g: Array) -> tuple[Array, Array]:
    patches, kernel = saved
    rows = g.astype(dtype).reshape(-1, g.shape[-1])
    to_input = _image(_to_windows(rows, _matrix(kernel, dtype)), g.shape[:3], s, padding)
    return to_input, _to_matrix(patches, rows).reshape(kernel.shape)


_conv.defvjp(_conv_forward, _conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_transpose(x: Array, kernel: Array, s: int, padding: _Padding, dtype: np.dtype) -> Array:
    return _transpose_forward(x, kernel, s, padding, dtype)[0]


def _transpose_forward(x: Array, kernel: Array, s: int, padding: _Padding, dtype: np.dtype) -> tuple[Array, _Saved]:
    rows = x.astype(dtype).reshape(-1, x.shape[-1])
    return _stored_image(_to_windows(rows, _matrix(kernel, dtype)), x.shape[:3], s, padding), (rows, kernel)


def _transpose_backward(s: int, padding: _Padding, dtype: np.dtype, saved: _Saved, g: Array) -> tuple[Array, Array]:
    rows, kernel = saved
    patches = _patches(g, s, padding, dtype)
    height, width = (n + sum(pad) for n, pad in zip(g.shape[1:3], padding, strict=True))
    to_input = matmul(patches, _matrix(kernel, dtype)).reshape(g.shape[0], height // s - 1, width // s - 1, -1)
    return to_input, _to_matrix(patches, rows).reshape(kernel.shape)


_conv_transpose.defvjp(_transpose_forward, _transpose_backward)


def _matrix(kernel: Array, dtype: np.dtype) -> Array:
    """``[2s, 2s, C, O]`` as ``[2s·2s·C, O]``."""
    return kernel.astype(dtype).reshape(-1, kernel.shape[-1])


def patches_conv(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    dtype: DTypeLike = jnp.float32,
    **_layout: Any,
) -> Array:
    """A convolution as patches × matmul, for kernels twice as wide as their stride.

    ``vmap`` turns the matmul into a batched one, where ``lax.conv_general_dilated`` would become a grouped convolution,
    very slow on a CPU. Same arguments and result as that function in NHWC/HWIO layout.

    Args:
        x: ``[B, H, W, C]``.
        kernel: ``[2s, 2s, C, O]``.
        strides: ``(s, s)``.
        padding: ``((top, bottom), (left, right))`` in pixels; the padded size must be divisible by ``s``.
        dtype: type of the operands of all products, also of the gradients'.
        _layout: the other arguments that ``nnx.Conv`` passes; not used.

    Returns:
        ``[B, H', W', O]``, float32.

    """
    return _conv(x, kernel, strides[0], tuple(padding), product_type(dtype))


def patches_conv_transpose(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """The transpose of ``patches_conv``: one matmul to windows of pixels, overlapping windows added.

    Same result as ``lax.conv_transpose`` with ``transpose_kernel=True``, whose kernel it takes.

    Args:
        x: ``[B, H', W', C]``.
        kernel: ``[2s, 2s, O, C]``, as of the convolution that it transposes.
        strides: ``(s, s)``.
        padding: ``((top, bottom), (left, right))`` of that convolution, in pixels.
        dtype: type of the operands of all products, also of the gradients'.

    Returns:
        ``[B, H, W, O]``, float32.

    """
    return _conv_transpose(x, kernel, strides[0], tuple(padding), product_type(dtype))


@functools.cache
def _convolution(dtype: np.dtype) -> Callable[..., Array]:
    """The faster lowering on this backend: patches × matmul on a CPU, XLA's own convolution elsewhere."""
    if jax.default_backend() == "cpu":
        return partial(patches_conv, dtype=dtype)

    def native(x: Array, kernel: Array, *args: Any, **options: Any) -> Array:
        # Of bfloat16 operands it rounds only the result. Its derivative has no mixed types, so it cannot be float32.
        out = jax.lax.conv_general_dilated(x.astype(dtype), kernel.astype(dtype), *args, **options)
        return out.astype(jnp.float32)

    return native


def halving(
    inputs: int, outputs: int, *, bias: bool = False, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> nnx.Conv:
    """A 4 × 4 convolution of stride 2: ``[B, H, W, inputs]`` to ``[B, H/2, W/2, outputs]``.

    Args:
        inputs: channels of the input, whose height and width must be even.
        outputs: channels of the output.
        bias: whether it has one.
        dtype: type of the operands of the product.
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
        use_bias=bias,
        conv_general_dilated=_convolution(product_type(dtype)),
        kernel_init=HE_NORMAL,
        rngs=rngs,
    )


class Doubling(nnx.Module):
    """The transpose of ``halving``: ``[B, H, W, inputs]`` to ``[B, 2H, 2W, outputs]``."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = False, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        # Of the 16 positions of the kernel, four reach an output pixel.
        init = nnx.initializers.normal((2 / (4 * inputs)) ** 0.5)
        self.kernel = nnx.Param(init(rngs.params(), (4, 4, outputs, inputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.dtype = product_type(dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, H, W, inputs]`` to ``[B, 2H, 2W, outputs]``."""
        kernel = self.kernel[...]
        if jax.default_backend() == "cpu":
            x = patches_conv_transpose(x, kernel, (2, 2), _PADDING, dtype=self.dtype)
        else:
            operands = x.astype(self.dtype), kernel.astype(self.dtype)
            x = jax.lax.conv_transpose(*operands, (2, 2), ((2, 2), (2, 2)), transpose_kernel=True).astype(jnp.float32)
        return x if self.bias is None else x + self.bias[...]
