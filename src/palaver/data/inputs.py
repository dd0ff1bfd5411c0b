"""Inputs on their way to a model: scaled to what it sees, and in chunks of one size."""

import jax.numpy as jnp
import numpy as np

from palaver.data.dataset import Dataset
from palaver.types import Array, PalaverError

CHUNK = 128
"""Examples predicted at once: bounds memory, and a convolution's patches stay in a core's cache (measured on CIFAR-10:
half the time of 512; dense nodes gain a little from more)."""


def to_float(x: Array) -> Array:
    """Inputs as a model gets them: uint8 pixels scaled to float32 in [0, 1], anything else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def chunks(x: np.ndarray, y: np.ndarray, size: int = CHUNK) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cuts examples into chunks of one shape, so that one compiled program serves them all.

    >>> [weight.tolist() for _, _, weight in chunks(np.zeros((3, 8)), np.zeros(3), size=2)]
    [[1.0, 1.0], [1.0, 0.0]]

    Args:
        x: ``[M, ...]`` inputs.
        y: ``[M]`` class ids.
        size: examples in a chunk, at most.

    Returns:
        ``(x [B, ...], y [B] int32, weight [B] float32)`` per chunk; the last one is padded with examples of weight 0.

    """
    size = min(size, len(y))
    places = np.arange(len(y) + -len(y) % size).reshape(-1, size)
    rows, weights = np.minimum(places, len(y) - 1), (places < len(y)).astype(np.float32)
    return [(x[row], y[row].astype(np.int32), weight) for row, weight in zip(rows, weights, strict=True)]


def check_unit_inputs(data: Dataset, who: str) -> None:
    """Checks that the training inputs are pixels or numbers in [0, 1].

    Args:
        data: the data set.
        who: what needs such inputs, for the message.

    Raises:
        PalaverError: unless they are.

    """
    low, high = float(data.x_train.min()), float(data.x_train.max())
    if data.x_train.dtype != np.uint8 and (low < 0 or high > 1):
        raise PalaverError(
            f"{data.name} has inputs from {low:g} to {high:g}: {who} needs uint8 pixels or numbers in [0, 1]"
        )
