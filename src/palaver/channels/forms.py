"""How a distribution over classes is written: as floats, rounded to a few levels, or only its largest classes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.arguments import count
from palaver.channels.packing import Integers, integers
from palaver.types import Array, PalaverError, PyTree

BITS = (32, 16, 8, 7, 6, 5, 4, 3, 2, 1, 0)
"""Bits that one class's number can take; 0 only where the ids of the largest classes are sent."""


class Form(NamedTuple):
    """A way to write distributions over C classes, as pure functions."""

    encode: Callable[[Array], PyTree]
    """``encode(logits [B, C]) -> payload``."""
    decode: Callable[[PyTree], Array]
    """``decode(payload) -> [B, C]``: log-probabilities, each row up to a constant; −∞ for a probability of 0."""


def form(bits: int, top: int) -> Form:
    """The form that ``palaver.channels.logits`` describes.

    Args:
        bits: of one number, one of ``BITS``.
        top: how many of the largest classes are sent, below C; 0: all.

    Returns:
        The form. Its ``encode`` raises ``PalaverError`` where ``top`` is not below C.

    Raises:
        PalaverError: other bits, a negative ``top``, or neither of the two.

    """
    bits, top = count("bits", bits, least=0, most=32), count("top", top, least=0)
    if bits not in BITS:
        raise PalaverError(f"bits is {bits}: give 32 or 16, 8 to 1 for levels, or 0 with top for class ids alone")
    if top:
        return Form(partial(_encode_largest, bits, top), _decode_largest)
    if bits == 0:
        raise PalaverError("bits is 0 without top, so that nothing would be sent: give top, such as 1 for the argmax")
    return Form(partial(_encode_all, bits), _decode_all)


def _encode_all(bits: int, logits: Array) -> PyTree:
    if bits == 32:
        return logits
    if bits == 16:
        lowest = jnp.finfo(jnp.float16).min
        return jnp.maximum(logits - logits.max(-1, keepdims=True), lowest).astype(jnp.float16)
    return _written(bits, jax.nn.softmax(logits))


def _decode_all(sent: PyTree) -> Array:
    if isinstance(sent, Integers):  # where all levels are 0, no class is more likely than another
        return jnp.log(jnp.where(sent.values.any(-1, keepdims=True), sent.values, 1).astype(jnp.float32))
    return sent.astype(jnp.promote_types(sent.dtype, jnp.float32))


def _encode_largest(bits: int, top: int, logits: Array) -> PyTree:
    classes = logits.shape[-1]
    if top >= classes:
        raise PalaverError(f"top is {top} for {classes} classes: give fewer than there are, or 0 for all")
    largest, ids = jax.lax.top_k(jax.nn.softmax(logits), top)
    sent = {"classes": integers(ids, classes)}
    return sent if bits == 0 else sent | {"probabilities": _written(bits, largest)}


def _decode_largest(sent: PyTree) -> Array:
    ids, classes = sent["classes"].values, sent["classes"].below
    if "probabilities" in sent:
        largest = _read(sent["probabilities"])
        missing = jnp.maximum(1 - largest.sum(-1, keepdims=True), 0)
        others = missing / (classes - ids.shape[-1])
        # Rounding may have made one that was sent smaller than the others, which it is not.
        largest = jnp.maximum(largest, others)
    else:
        largest, others = jnp.ones(ids.shape), jnp.zeros((*ids.shape[:-1], 1))
    everywhere = jnp.broadcast_to(others, (*ids.shape[:-1], classes))
    return jnp.log(jnp.put_along_axis(everywhere, ids.astype(jnp.int32), largest, axis=-1, inplace=False))


def _written(bits: int, p: Array) -> Array | Integers:
    """Probabilities in so many bits."""
    if bits == 32:
        return p
    return p.astype(jnp.float16) if bits == 16 else integers(jnp.round(p * (2**bits - 1)), 2**bits)


def _read(sent: Array | Integers) -> Array:
    """Probabilities that ``_written`` wrote."""
    if isinstance(sent, Integers):
        return sent.values / jnp.float32(sent.below - 1)
    return sent.astype(jnp.promote_types(sent.dtype, jnp.float32))
