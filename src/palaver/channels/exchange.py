"""Channels that any model can use: none, labels, logits, both, and the top hidden layer (thesis §2.2.3.2)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from palaver.arguments import number
from palaver.channels.forms import Form, form
from palaver.channels.packing import Integers, encoded_bits, integers
from palaver.types import Array, Channel, Outputs, PyTree


def _distillation(
    encode: Callable[[Outputs, Array], PyTree],
    decode: Callable[[PyTree], Array],
    labels_of: Callable[[PyTree], Array] | None = None,
) -> Channel:
    """The cross-entropy against the distribution over classes that a payload stands for."""

    def loss(outputs: Outputs, target: Array) -> Array:
        return optax.softmax_cross_entropy(outputs.logits, jax.lax.stop_gradient(target)).mean()

    return Channel(encode, loss, encoded_bits, labels_of, decode)


def _one_hot(ids: Integers) -> Array:
    return jax.nn.one_hot(ids.values, ids.below)


def _softened(written: Form, temperature: float) -> Callable[[PyTree], Array]:
    return lambda sent: jax.nn.softmax(written.decode(sent) / temperature)


def _corrected(logits: Array, known: Array) -> Array:
    """Logits ``[B, C]`` whose largest is that of the label ``[B]``, where it is known: the two have changed places."""
    label = jnp.maximum(known, 0)[:, None]
    top = logits.argmax(-1, keepdims=True)
    swapped = jnp.put_along_axis(logits, top, jnp.take_along_axis(logits, label, -1), -1, inplace=False)
    swapped = jnp.put_along_axis(swapped, label, jnp.take_along_axis(logits, top, -1), -1, inplace=False)
    return jnp.where(known[:, None] >= 0, swapped, logits)


def none() -> Channel:
    """Nothing is sent.

    Returns:
        A channel with an empty payload of 0 bits and a loss of 0.

    """
    return Channel(encode=lambda _o, _l: (), loss=lambda _o, _p: jnp.zeros(()), bits=lambda _s: 0)


def labels() -> Channel:
    """The true labels; the loss is the cross-entropy, in nats, as on a node's own data (thesis §2.2.3.2).

    Where the sender does not know the label, it sends the class that its own logits are largest for.

    Returns:
        A channel whose payload is class ids ``[B]``, ``palaver.channels.Integers`` below C: ⌈log₂ C⌉ bits an example.

    """

    def encode(outputs: Outputs, known: Array) -> Integers:
        return integers(jnp.where(known >= 0, known, outputs.logits.argmax(-1)), outputs.logits.shape[-1])

    return _distillation(encode, _one_hot, labels_of=lambda sent: sent.values)


def logits(*, temperature: float = 1.0, bits: int = 32, top: int = 0, corrected: bool = False) -> Channel:
    """The sender's logits ``v``; cross-entropy against ``softmax(v / τ)`` (eqs. 2.2.1, 2.2.2), in nats.

    In fewer bits, ``v`` are the logarithms of what was sent:

    | bits | of all classes (``top=0``) | of the ``top`` largest, beside their ids of ⌈log₂ C⌉ bits each |
    |---|---|---|
    | 32 | ``v`` in its own type | their probabilities in float32 |
    | 16 | ``v − max v`` in float16 | their probabilities in float16 |
    | 8 … 1 | probabilities, rounded to the nearest of ``2 ** bits`` levels from 0 to 1 | as of all classes |
    | 0 | – | nothing: they are equally likely, and the others impossible; with ``top=1`` the argmax |

    Where all levels were 0, every class is equally likely. What the largest classes lack to a sum of 1 is spread evenly
    over the others, and none of the largest then gets less than they do.

    >>> logits(bits=4, top=2).bits(jax.eval_shape(logits(bits=4, top=2).encode, Outputs(*jnp.zeros((2, 8, 10))), None))
    16

    Args:
        temperature: τ. Below 1 hardens the targets, above 1 softens them.
        bits: of the number for one class; 32, 16, or 8 to 0.
        top: how many of the largest classes are sent, below C; 0: all of them.
        corrected: where the sender knows the label and its logits are largest for another class, the two change places
            before they are sent, so that no packet is wrong about it (a control of thesis §2.3.1.3).

    Returns:
        A channel whose payload is ``[B, C]`` floats or ``Integers``, or with ``top`` the classes' ids ``[B, top]`` and
        their probabilities ``[B, top]``, by these names. ``bits · C`` bits an example, or ``top · (⌈log₂ C⌉ + bits)``.
        Its ``encode`` raises ``PalaverError`` where ``top`` is not below C.

    Raises:
        PalaverError: if τ is not a finite number above 0, for other bits, or a negative ``top``; or if both are 0, so
            that nothing would be sent.

    """
    temperature = number("temperature", temperature, "(0, inf)")
    written = form(bits, top)

    def encode(outputs: Outputs, known: Array) -> PyTree:
        return written.encode(_corrected(outputs.logits, known) if corrected else outputs.logits)

    return _distillation(encode, _softened(written, temperature))


def labels_logits(
    *, mix: float = 0.5, temperature: float = 1.0, bits: int = 32, top: int = 0, corrected: bool = False
) -> Channel:
    """Labels and logits ``v``: ``α·H(label) + (1 − α)·H(softmax(v / τ))``, in nats (Hinton et al. 2015).

    ``H(y)`` is the receiver's cross-entropy against ``y`` (eq. 2.2.2), mean over the batch.

    Args:
        mix: α, the weight of the true label, in [0, 1].
        temperature: τ, as in ``logits``.
        bits: as in ``logits``.
        top: as in ``logits``.
        corrected: as in ``logits``.

    Returns:
        A channel whose payload is those of ``labels`` and ``logits``, by these names.

    Raises:
        PalaverError: if α is outside [0, 1], or for what ``logits`` does not take.

    """
    hard, soft = labels(), logits(temperature=temperature, bits=bits, top=top, corrected=corrected)
    softened = _softened(form(bits, top), temperature)
    mix = number("mix", mix, "[0, 1]")

    return _distillation(
        lambda outputs, known: {"labels": hard.encode(outputs, known), "logits": soft.encode(outputs, known)},
        lambda sent: mix * _one_hot(sent["labels"]) + (1 - mix) * softened(sent["logits"]),
        labels_of=lambda sent: sent["labels"].values,
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
