"""A payload on the wire: each element in the bits that it needs, one after the other, without gaps."""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from palaver.arguments import count
from palaver.types import PalaverError, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Integers:
    """Whole numbers from 0 up to a limit, such as class ids, as a part of a payload.

    On the wire each takes the bits that the limit needs, while programs hold them in an integer type. The limit belongs
    to the tree's structure, not to its arrays: every payload of a channel has the same.

    >>> Integers(jnp.zeros((32, 3), jnp.uint8), below=10).bits
    4
    """

    values: Any
    """``[B, ...]``, of an integer type that has all numbers below the limit."""
    below: int = field(metadata={"static": True})
    """The limit: the values are 0 to ``below`` − 1."""

    @property
    def bits(self) -> int:
        """⌈log₂ below⌉, the size of one value."""
        return (self.below - 1).bit_length()


def integers(values: ArrayLike, below: int) -> Integers:
    """Whole numbers in the smallest type that has them: uint8, uint16 or int32.

    Args:
        values: ``[B, ...]``, 0 to ``below`` − 1.
        below: the limit, 1 to 2³¹.

    Returns:
        The numbers, as a part of a payload.

    Raises:
        PalaverError: the limit is out of range.

    """
    count("below", below, most=2**31)
    return Integers(
        jnp.asarray(values).astype(jnp.uint8 if below <= 256 else jnp.uint16 if below <= 65536 else jnp.int32), below
    )


def encoded_bits(payload_shapes: PyTree) -> int:
    """The size of one example's payload in bits: all leaves without their leading (batch) axis.

    A truth value takes one bit, one of ``Integers`` the bits of its limit, any other number those of its type.

    >>> encoded_bits(jax.ShapeDtypeStruct((32, 10), jnp.float32))
    320

    Args:
        payload_shapes: pytree of ``ShapeDtypeStruct`` (or arrays) ``[B, ...]``.

    Returns:
        Bits per example.

    """
    return sum(math.prod(leaf.shape[1:]) * width for leaf, width, _ in _leaves(payload_shapes))


def pack(payload: PyTree) -> bytes:
    """A payload as it travels: of ``encoded_bits`` for each example, and at the end zeros to fill the last byte.

    >>> pack(integers([1, 2, 9], below=10)).hex()
    '1290'

    Args:
        payload: pytree of arrays ``[B, ...]``; values of ``Integers`` are below their limits.

    Returns:
        The leaves in the order of the tree, each row by row: whole numbers of ``Integers`` with their highest bit
        first, other numbers as their bytes in little-endian order.

    """
    bits = [_to_bits(np.asarray(leaf), width, below) for leaf, width, below in _leaves(payload)]
    return np.packbits(np.concatenate([np.zeros(0, np.uint8), *bits])).tobytes()


def unpack(shapes: PyTree, packet: bytes) -> PyTree:
    """The payload of a packet that ``pack`` made of a payload of these shapes.

    >>> unpack(integers([0, 0, 0], below=10), bytes.fromhex("1290")).values.tolist()
    [1, 2, 9]

    Args:
        shapes: pytree of ``ShapeDtypeStruct`` (or arrays), as of the payload.
        packet: the bytes; they may be anyone's.

    Returns:
        The payload, NumPy arrays of these shapes and types. Floats may be any that have these bits, also NaN.

    Raises:
        PalaverError: the packet is longer or shorter than such a payload, has other bits than zeros after its end, or a
            number that is not below its limit.

    """
    leaves = _leaves(shapes)
    sizes = [math.prod(leaf.shape) * width for leaf, width, _ in leaves]
    length = -(-sum(sizes) // 8)
    if len(packet) != length:
        raise PalaverError(f"the packet has {len(packet)} bytes: a payload of these shapes has {length}")
    bits = np.unpackbits(np.frombuffer(packet, np.uint8))
    *parts, rest = np.split(bits, np.cumsum(sizes))
    if rest.any():
        raise PalaverError("the packet goes on after the payload's end: only zeros may fill its last byte")
    arrays = [_from_bits(part, leaf, width, below) for part, (leaf, width, below) in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)


def _leaves(payload: PyTree) -> list[tuple[Any, int, int | None]]:
    """Every array of a payload, the bits of one of its elements, and its limit if it is of ``Integers``."""

    def described(leaf: Any) -> tuple[Any, int, int | None]:
        if isinstance(leaf, Integers):
            return leaf.values, leaf.bits, leaf.below
        return leaf, 1 if leaf.dtype == bool else leaf.dtype.itemsize * 8, None

    return [described(leaf) for leaf in jax.tree.leaves(payload, is_leaf=lambda node: isinstance(node, Integers))]


def _to_bits(array: np.ndarray, width: int, below: int | None) -> np.ndarray:
    """``[elements · width]`` bits, one a byte."""
    if below is not None:
        return (array.reshape(-1, 1) >> np.arange(width)[::-1] & 1).astype(np.uint8).ravel()
    if array.dtype == bool:
        return array.astype(np.uint8).ravel()
    return np.unpackbits(np.frombuffer(array.tobytes(), np.uint8))


def _from_bits(bits: np.ndarray, leaf: Any, width: int, below: int | None) -> np.ndarray:
    """The array of a leaf's shape and type; the inverse of ``_to_bits``."""
    if below is not None:
        values = bits.reshape(*leaf.shape, width) @ (1 << np.arange(width, dtype=np.int64)[::-1])
        if (values >= below).any():
            raise PalaverError(f"the packet holds {values.max()}: a number there is below {below}")
    elif leaf.dtype == bool:
        values = bits
    else:
        values = np.packbits(bits).view(leaf.dtype)
    return values.astype(leaf.dtype).reshape(leaf.shape)
