"""What learners outside JAX share: they learn distributions over classes, NumPy in and out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from palaver.arguments import count
from palaver.channels import OF_CLASSES
from palaver.channels.checks import check_channel
from palaver.data.inputs import to_float
from palaver.types import Array, Channel, Outputs, PalaverError, PyTree


def check_of_classes(channel: Channel, classes: int) -> int:
    """Checks that receivers of a channel learn a distribution over the classes.

    Args:
        channel: the channel.
        classes: C.

    Returns:
        C.

    Raises:
        PalaverError: they learn something else, such as features, or the channel does not suit so many classes.

    """
    classes = count("classes", classes, least=2)
    batch = jnp.zeros((1, classes)), jnp.zeros((1, 0))
    payload = check_channel(channel, Outputs(*batch), jax.ShapeDtypeStruct((1,), jnp.int32))
    received = None if channel.decode is None else jax.eval_shape(channel.decode, payload)
    if getattr(received, "shape", None) != (1, classes):
        raise PalaverError(
            f"this learner takes distributions over {classes} classes, and the channel sends something else: "
            f"give one of {', '.join(sorted(OF_CLASSES))}"
        )
    return classes


def encoded(channel: Channel, outputs: Outputs, labels: np.ndarray) -> PyTree:
    """What a learner says about a batch.

    Args:
        channel: of classes.
        outputs: NumPy arrays, logits ``[B, C]`` and features ``[B, D]``.
        labels: ``[B]`` int32, ``NO_LABEL`` where they are not known.

    Returns:
        The payload, NumPy arrays with leading axis B.

    """
    return jax.tree.map(np.asarray, _encode(channel.encode, outputs, labels))


@partial(jax.jit, static_argnums=0)  # one compiled program for all learners of a channel
def _encode(encode: Callable[[Outputs, Array], PyTree], outputs: Outputs, labels: Array) -> PyTree:
    return encode(outputs, labels)


def scaled(x: np.ndarray) -> np.ndarray:
    """Inputs ``[B, ...]`` as a model gets them, float32: pixels in [0, 1], see ``palaver.data.inputs.to_float``."""
    given: Any = x
    return np.asarray(to_float(given), np.float32)


def as_seed(seed: np.ndarray) -> int:
    """One number of 32 bits, which is all that other frameworks take, from all words of a step's seed."""
    return int(np.bitwise_xor.reduce(seed))


def alike(stored: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> bool:
    """Whether arrays have the names, shapes and types of one's own."""
    return stored.keys() == own.keys() and all(
        stored[name].shape == array.shape and stored[name].dtype == array.dtype for name, array in own.items()
    )
