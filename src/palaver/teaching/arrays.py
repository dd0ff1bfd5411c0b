"""Arrays of NumPy, JAX and PyTorch handled alike, through the Python array API."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device

from palaver.types import PalaverError

Array: TypeAlias = Any
"""An array of NumPy, JAX or PyTorch."""
Predict: TypeAlias = Callable[[Any], Array]
"""Inputs of a batch to probabilities ``[B, C]``."""

_TOLERANCE = 0.01
"""By how much a sum of probabilities may differ from 1: rounding to bfloat16 makes less than half of it."""


def namespace(*arrays: Any) -> Any:
    """The array-API namespace that all of these arrays share.

    Args:
        arrays: of one library; None is skipped.

    Returns:
        The library's functions under the names of the Python array API standard.

    Raises:
        PalaverError: they come from different libraries, or one is no array.

    """
    try:
        return array_namespace(*(array for array in arrays if array is not None))
    except TypeError:
        kinds = ", ".join(f"{type(array).__module__}.{type(array).__qualname__}" for array in arrays)
        raise PalaverError(f"arrays of {kinds} together: give all of them from one of NumPy, JAX, PyTorch") from None


def to_numpy(array: Any) -> np.ndarray:
    """A NumPy array on the host, without its gradient; a type that NumPy lacks (bfloat16) becomes float32."""
    if is_torch_array(array):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() and namespace(array).finfo(array.dtype).bits < 32 else array
    return np.asarray(array)


def like(array: Any, other: Any) -> Any:
    """``array`` in the library and on the device of ``other``, without its gradient."""
    if type(array) is not type(other):
        host = to_numpy(array)
        # PyTorch warns about read-only memory, such as that of JAX arrays and of a table.
        host = host if host.flags.writeable or not is_torch_array(other) else host.copy()
        return namespace(other).asarray(host, device=device(other))
    return to_device(array.detach() if is_torch_array(array) else array, device(other))


def predicted(array: Any) -> Any:
    """Predictions without their gradient, in float32 at least: rounded to fewer bits, scores choose other examples."""
    array, xp = like(array, array), namespace(array)
    if xp.isdtype(array.dtype, "real floating") and xp.finfo(array.dtype).bits < 32:
        return xp.astype(array, xp.float32)
    return array


def is_class(labels: Any, p: Any) -> Any:
    """One-hot booleans ``[..., C]``, the shape of ``p``, of ``labels`` ``[...]``; all false for ``NO_LABEL``."""
    xp = namespace(labels, p)
    return labels[..., None] == xp.arange(p.shape[-1], dtype=labels.dtype, device=device(p))


def check_predictions(predictions: Any, who: str, sizes: list[int], first: int) -> None:
    """Checks that predictions are probabilities.

    Args:
        predictions: ``[examples, classes]`` of several batches, one after the other.
        who: whose they are, the first words of the message.
        sizes: of the batches.
        first: the first batch's number.

    Raises:
        PalaverError: they are not; the message names the batch.

    """
    xp, shape = namespace(predictions), tuple(predictions.shape)
    if len(shape) != 2 or shape[0] != sum(sizes):
        raise PalaverError(f"{who} predictions for {sum(sizes)} examples have shape {shape}: give [examples, classes]")
    if not xp.isdtype(predictions.dtype, "real floating"):
        raise PalaverError(f"{who} predictions are {predictions.dtype}: give probabilities, floating-point numbers")
    error = xp.abs(xp.sum(predictions, axis=-1) - 1)
    valid = to_numpy(xp.all(xp.isfinite(predictions) & (predictions >= 0), axis=-1) & (error < _TOLERANCE))
    if valid.all():
        return
    batch = np.repeat(np.arange(len(sizes)), sizes)
    row = int(np.argmin(valid))
    place, values = batch[row], to_numpy(predictions)[row]
    invalid = int((~valid[batch == place]).sum())
    if np.isfinite(values).all():
        found = f"the first has values from {values.min():g} to {values.max():g} that sum to {values.sum():g}"
        remedy = "give probabilities, the softmax of logits"
    else:
        found, remedy = "the first holds NaN or infinity", "look for a loss that diverged"
    raise PalaverError(
        f"{who} predictions on batch {first + place}: {invalid} of {sizes[place]} rows are no distribution ({found}): "
        f"{remedy}"
    )
