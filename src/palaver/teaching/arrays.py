"""The one place that knows whose arrays came in: NumPy's, JAX's or PyTorch's, by the Python array API."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device

from palaver.types import PalaverError

_OFF = 0.01
"""Probabilities may sum to 1 within this: bfloat16 keeps them to less than half of it."""


def namespace(*arrays: Any) -> Any:
    """The array-API namespace that all of these arrays share.

    Raises:
        PalaverError: if they come from different libraries, or one is no array.

    """
    try:
        return array_namespace(*(array for array in arrays if array is not None))
    except TypeError:
        kinds = ", ".join(f"{type(array).__module__}.{type(array).__qualname__}" for array in arrays)
        raise PalaverError(f"arrays of {kinds} together: give all of them from one of NumPy, JAX, PyTorch") from None


def to_numpy(array: Any) -> np.ndarray:
    """On the host; no gradient is kept, and what NumPy has no type for (bfloat16) becomes float32."""
    if is_torch_array(array):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() and namespace(array).finfo(array.dtype).bits < 32 else array
    return np.asarray(array)


def like(array: Any, other: Any) -> Any:
    """``array`` in the library and on the device of ``other``; no gradient is kept."""
    if type(array) is not type(other):
        host = to_numpy(array)
        # PyTorch warns of memory it may not write to, as JAX's and a table's is.
        host = host if host.flags.writeable or not is_torch_array(other) else host.copy()
        return namespace(other).asarray(host, device=device(other))
    return to_device(array.detach() if is_torch_array(array) else array, device(other))


def predicted(array: Any) -> Any:
    """Predictions without their gradient, in float32 at least: sums and logarithms of fewer bits choose otherwise."""
    array, xp = like(array, array), namespace(array)
    if xp.isdtype(array.dtype, "real floating") and xp.finfo(array.dtype).bits < 32:
        return xp.astype(array, xp.float32)
    return array


def is_class(labels: Any, p: Any) -> Any:
    """Booleans of the shape of ``p`` ``[..., C]``: which class each of ``labels`` ``[...]`` names, if any."""
    xp = namespace(labels, p)
    return labels[..., None] == xp.arange(p.shape[-1], dtype=labels.dtype, device=device(p))


def check_predictions(predictions: Any, who: str, sizes: list[int], first: int) -> None:
    """Raises ``PalaverError`` unless these are probabilities; the message names the batch.

    Args:
        predictions: ``[examples, classes]`` of several batches, one after the other.
        who: whose they are, as the message begins.
        sizes: of the batches.
        first: the first batch's number.

    """
    xp = namespace(predictions)
    if predictions.ndim != 2 or predictions.shape[0] != sum(sizes):
        raise PalaverError(
            f"{who} predictions for {sum(sizes)} examples have shape {tuple(predictions.shape)}: "
            "give [examples, classes]"
        )
    if not xp.isdtype(predictions.dtype, "real floating"):
        raise PalaverError(f"{who} predictions are {predictions.dtype}: give probabilities, floating-point numbers")
    off = xp.abs(xp.sum(predictions, axis=-1) - 1)
    fine = to_numpy(xp.all(xp.isfinite(predictions) & (predictions >= 0), axis=-1) & (off < _OFF))
    if fine.all():
        return
    row = int(np.argmin(fine))
    ends = np.cumsum(sizes)
    place = int(np.searchsorted(ends, row, side="right"))
    bad = int((~fine[ends[place] - sizes[place] : ends[place]]).sum())
    values = to_numpy(predictions)[row]
    if np.isfinite(values).all():
        said = f"the first has values from {values.min():g} to {values.max():g} that sum to {values.sum():g}"
        remedy = "give probabilities, the softmax of logits"
    else:
        said, remedy = "the first holds NaN or infinity", "look for a loss that diverged"
    raise PalaverError(
        f"{who} predictions on batch {first + place}: {bad} of {sizes[place]} rows are no distribution ({said}): "
        f"{remedy}"
    )
