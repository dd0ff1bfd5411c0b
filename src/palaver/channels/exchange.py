"""Channels that any model can use: none, labels, logits, both, and the top hidden layer (thesis §2.2.3.2)."""

import math

import jax
import jax.numpy as jnp
import optax

from palaver.types import Array, Channel, Outputs, PalaverError, PyTree


def encoded_bits(payload_shapes: PyTree) -> int:
    """Bits of one example: all leaves without their leading (batch) axis, each in its own type."""
    return sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize * 8 for leaf in jax.tree.leaves(payload_shapes))


def _label_payload(outputs: Outputs, labels: Array) -> Array:
    classes = outputs.logits.shape[-1]
    return labels.astype(jnp.uint8 if classes <= 256 else jnp.uint16 if classes <= 65536 else jnp.int32)


def _label_loss(outputs: Outputs, labels: Array) -> Array:
    one_hot = jax.nn.one_hot(labels, outputs.logits.shape[-1], dtype=outputs.logits.dtype)
    return optax.softmax_cross_entropy(outputs.logits, one_hot).mean()


def _soft_loss(outputs: Outputs, logits: Array, temperature: float) -> Array:
    target = jax.nn.softmax(jax.lax.stop_gradient(logits) / temperature)
    return optax.softmax_cross_entropy(outputs.logits, target).mean()


def positive(name: str, value: float) -> None:
    """Raises ``PalaverError`` unless the value is a finite number above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise PalaverError(f"{name} is {value}: give a finite number above 0")


def none() -> Channel:
    """Nothing is sent: an empty payload of zero bits and a loss of 0."""
    return Channel(encode=lambda _o, _l: (), loss=lambda _o, _p: jnp.zeros(()), bits=lambda _s: 0)


def labels() -> Channel:
    """The true labels; the receiver's objective is the cross-entropy, in nats, that it has for its own data."""
    return Channel(encode=_label_payload, loss=_label_loss, bits=encoded_bits, labels_of=lambda sent: sent)


def logits(*, temperature: float = 1.0) -> Channel:
    """The sender's logits ``v``; cross-entropy against ``softmax(v / τ)`` (eqs. 2.2.1, 2.2.2), in nats.

    Args:
        temperature: τ. Below 1 hardens the targets, above 1 softens them.

    Raises:
        PalaverError: if τ is not a finite number above 0.

    """
    positive("temperature", temperature)
    return Channel(
        encode=lambda outputs, _labels: outputs.logits,
        loss=lambda outputs, sent: _soft_loss(outputs, sent, temperature),
        bits=encoded_bits,
    )


def labels_logits(*, mix: float = 0.5, temperature: float = 1.0) -> Channel:
    """Both: ``α·H(label) + (1 − α)·H(softmax(v / τ))``, in nats.

    Args:
        mix: α, the weight of the true label, in [0, 1].
        temperature: τ.

    Raises:
        PalaverError: if α is outside [0, 1], or τ is not a finite number above 0.

    """
    positive("temperature", temperature)
    if not 0 <= mix <= 1:
        raise PalaverError(f"mix is {mix}: give the label's weight, a number in [0, 1]")
    return Channel(
        encode=lambda outputs, classes: {"labels": _label_payload(outputs, classes), "logits": outputs.logits},
        loss=lambda outputs, sent: (
            mix * _label_loss(outputs, sent["labels"]) + (1 - mix) * _soft_loss(outputs, sent["logits"], temperature)
        ),
        bits=encoded_bits,
        labels_of=lambda sent: sent["labels"],
    )


def features(*, weight: float = 1.0) -> Channel:
    """The top hidden layer; ``weight · ½ Σ_k (h_k^A − h_k^B)²``, mean over the batch (eq. 2.2.3).

    Args:
        weight: the thesis's scaling factor of the additional loss.

    Raises:
        PalaverError: if the weight is not a finite number above 0.

    """
    positive("weight", weight)
    return Channel(
        encode=lambda outputs, _labels: outputs.features,
        loss=lambda outputs, sent: weight * optax.l2_loss(outputs.features, jax.lax.stop_gradient(sent)).sum(-1).mean(),
        bits=encoded_bits,
    )
