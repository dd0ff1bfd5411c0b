"""Channels that any model can use: none, labels, logits, both, and the top hidden layer (thesis §2.2.3.2)."""

import jax
import jax.numpy as jnp
import optax

from palaver.arguments import number
from palaver.channels.packing import encoded_bits
from palaver.types import Array, Channel, Outputs


def _label_payload(outputs: Outputs, labels: Array) -> Array:
    classes = outputs.logits.shape[-1]
    return labels.astype(jnp.uint8 if classes <= 256 else jnp.uint16 if classes <= 65536 else jnp.int32)


def _label_loss(outputs: Outputs, labels: Array) -> Array:
    one_hot = jax.nn.one_hot(labels, outputs.logits.shape[-1], dtype=outputs.logits.dtype)
    return optax.softmax_cross_entropy(outputs.logits, one_hot).mean()


def _soft_loss(outputs: Outputs, logits: Array, temperature: float) -> Array:
    target = jax.nn.softmax(jax.lax.stop_gradient(logits) / temperature)
    return optax.softmax_cross_entropy(outputs.logits, target).mean()


def none() -> Channel:
    """Nothing is sent.

    Returns:
        A channel with an empty payload of 0 bits and a loss of 0.

    """
    return Channel(encode=lambda _o, _l: (), loss=lambda _o, _p: jnp.zeros(()), bits=lambda _s: 0)


def labels() -> Channel:
    """The true labels; the loss is the cross-entropy, in nats, as on a node's own data (thesis §2.2.3.2).

    Returns:
        A channel whose payload is class ids ``[B]``: uint8 (8 bits per example) for up to 256 classes, uint16 for up to
        65,536, int32 for more.

    """
    return Channel(encode=_label_payload, loss=_label_loss, bits=encoded_bits, labels_of=lambda sent: sent)


def logits(*, temperature: float = 1.0) -> Channel:
    """The sender's logits ``v``; cross-entropy against ``softmax(v / τ)`` (eqs. 2.2.1, 2.2.2), in nats.

    Args:
        temperature: τ. Below 1 hardens the targets, above 1 softens them.

    Returns:
        A channel whose payload is logits ``[B, C]`` in their own type: 32 · C bits per example in float32.

    Raises:
        PalaverError: if τ is not a finite number above 0.

    """
    temperature = number("temperature", temperature, "(0, inf)")
    return Channel(
        encode=lambda outputs, _labels: outputs.logits,
        loss=lambda outputs, sent: _soft_loss(outputs, sent, temperature),
        bits=encoded_bits,
    )


def labels_logits(*, mix: float = 0.5, temperature: float = 1.0) -> Channel:
    """Labels and logits ``v``: ``α·H(label) + (1 − α)·H(softmax(v / τ))``, in nats (Hinton et al. 2015).

    ``H(y)`` is the receiver's cross-entropy against ``y`` (eq. 2.2.2), mean over the batch.

    Args:
        mix: α, the weight of the true label, in [0, 1].
        temperature: τ, as in ``logits``.

    Returns:
        A channel whose payload is those of ``labels`` and ``logits``, by these names.

    Raises:
        PalaverError: if α is outside [0, 1], or τ is not a finite number above 0.

    """
    temperature = number("temperature", temperature, "(0, inf)")
    mix = number("mix", mix, "[0, 1]")
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
        weight: the thesis's scaling factor of the additional loss (thesis §2.3).

    Returns:
        A channel whose payload is features ``[B, D]`` in their own type: 32 · D bits per example in float32.

    Raises:
        PalaverError: if the weight is not a finite number above 0.

    """
    weight = number("weight", weight, "(0, inf)")
    return Channel(
        encode=lambda outputs, _labels: outputs.features,
        loss=lambda outputs, sent: weight * optax.l2_loss(outputs.features, jax.lax.stop_gradient(sent)).sum(-1).mean(),
        bits=encoded_bits,
    )
