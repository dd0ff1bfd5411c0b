"""Mixed precision: products of bfloat16 numbers, added up in float32, in networks whose other numbers are float32."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from palaver.types import Array, PalaverError

PRECISIONS = ("float32", "bfloat16")
"""Types that the operands of products can have."""


def product_type(dtype: DTypeLike) -> np.dtype:
    """Checks a type of operands.

    Args:
        dtype: ``jnp.float32`` or ``jnp.bfloat16``, or its name.

    Returns:
        The type.

    Raises:
        PalaverError: any other.

    """
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in PRECISIONS:
        raise PalaverError(f"dtype is {dtype!r}: give jnp.float32 or jnp.bfloat16")
    return found


def matmul(a: Array, b: Array) -> Array:
    """``a @ b``, added up in float32 whatever the operands' type."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dense(x: Array, kernel: Array, dtype: np.dtype) -> Array:
    return matmul(x.astype(dtype), kernel.astype(dtype))


def _dense_forward(x: Array, kernel: Array, dtype: np.dtype) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return matmul(x, kernel), (x, kernel)


def _dense_backward(dtype: np.dtype, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    # JAX's own derivative would multiply the float32 gradient by bfloat16 numbers, which no CPU or GPU has units for.
    x, kernel = saved
    g = g.astype(dtype)
    if g.shape[-1] >= x.shape[-1]:
        return matmul(g, kernel.T), matmul(x.T, g)
    # Contracted over the examples, XLA's CPU matmul is up to eight times as fast with the narrower side on the left;
    # the barrier keeps the transpose from being folded into the product.
    return matmul(g, kernel.T), jax.lax.optimization_barrier(matmul(g.T, x)).T


_dense.defvjp(_dense_forward, _dense_backward)


@functools.cache
def _dot(dtype: np.dtype) -> Callable[..., Array]:
    def dot_general(x: Array, kernel: Array, _dimensions: Any, **_options: Any) -> Array:
        return _dense(x, kernel, dtype)

    return dot_general


def dense_product(dtype: DTypeLike) -> Callable[..., Array]:
    """The product of a dense layer, of operands of this type: what ``nnx.Linear`` takes as ``dot_general``.

    Args:
        dtype: of the operands, ``jnp.float32`` or ``jnp.bfloat16``. The layer's inputs, outputs and parameters, and
            their gradients, are float32.

    Returns:
        A function of inputs ``[B, I]`` and a kernel ``[I, O]``, the same one at every call.

    Raises:
        PalaverError: any other type.

    """
    dtype = product_type(dtype)
    return jax.lax.dot_general if dtype == jnp.float32 else _dot(dtype)
