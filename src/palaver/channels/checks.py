"""Checks of a channel, which may be a caller's own: its functions are traced for their shapes, nothing is computed."""

from typing import Any

import jax
import jax.numpy as jnp

from palaver.arguments import count, failure_of, function, shown
from palaver.types import Channel, Outputs, PalaverError, PyTree


def check_channel(channel: Channel, outputs: Outputs, labels: jax.ShapeDtypeStruct) -> PyTree:
    """Checks a channel's functions on a model's outputs.

    Args:
        channel: the channel.
        outputs: shapes of a model's outputs on ``B`` examples.
        labels: shape ``[B]`` of their labels.

    Returns:
        The shapes of the payload.

    Raises:
        PalaverError: a function fails, the payload has no batch axis, its bits are no whole number, the loss is no
            scalar, or the labels are not ``[B]``.

    """
    for name in ("encode", "loss", "bits"):
        function(f"the channel's {name}", getattr(channel, name), "a function, see palaver.Channel")
    with failure_of("the channel's encode", "make arrays [batch, ...] of a model's outputs and labels"):
        payload = jax.eval_shape(channel.encode, outputs, labels)
    check_payload("the channel's encode", payload, labels.shape[0])
    check_bits("the channel's bits", channel.bits, payload)
    received = payload
    if channel.decode is not None:
        with failure_of("the channel's decode", "make arrays [batch, ...] of floats of a payload"):
            received = jax.eval_shape(channel.decode, payload)
        check_payload("the channel's decode", received, labels.shape[0])
    with failure_of("the channel's loss", "make a scalar of a receiver's outputs and a payload"):
        loss: Any = jax.eval_shape(channel.loss, outputs, received)
    if (
        not isinstance(loss, jax.ShapeDtypeStruct)
        or loss.shape
        or not jnp.isdtype(loss.dtype, ("real floating", "integral"))
    ):
        raise PalaverError(f"the channel's loss gives {shown(loss)}: make a scalar, the mean over the batch")
    if channel.labels_of is not None:
        with failure_of("the channel's labels_of", "make the labels [batch] of a payload"):
            found: Any = jax.eval_shape(channel.labels_of, payload)
        if not isinstance(found, jax.ShapeDtypeStruct) or found.shape != labels.shape:
            raise PalaverError(
                f"the channel's labels_of gives {shown(found)}: make class ids [batch], here {labels.shape}"
            )
    return payload


def check_payload(what: str, payload: PyTree, examples: int) -> None:
    """Checks that every array of a payload has the batch as leading axis.

    Args:
        what: makes the payload, the first words of the message.
        payload: its shapes.
        examples: B.

    Raises:
        PalaverError: one has not.

    """
    for leaf in jax.tree.leaves(payload, is_leaf=lambda leaf: leaf is None):
        if tuple(getattr(leaf, "shape", ()))[:1] != (examples,):
            raise PalaverError(f"{what} gives {shown(leaf)} for {examples} examples: make arrays [batch, ...]")


def check_bits(what: str, bits: Any, payload: PyTree) -> int:
    """The size of one example's payload.

    Args:
        what: the function, the first words of the message.
        bits: the function.
        payload: shapes of a payload.

    Returns:
        Bits.

    Raises:
        PalaverError: they are no whole number of at least 0.

    """
    with failure_of(what, "give a function of the payload's shapes"):
        found = bits(payload)
    return count(what, found, least=0, unit="for the payload of one example")
