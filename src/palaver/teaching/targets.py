"""What the student is told about a chosen example (thesis §3.2.3.2).

A target takes the teacher's distributions ``[B, C]`` and labels ``[B]`` or None, and returns distributions ``[B, C]``
for the student's cross-entropy, in the arrays' own library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from palaver.teaching.arrays import is_class, namespace
from palaver.types import PalaverError

Array: TypeAlias = Any
Target: TypeAlias = Callable[[Array, Array | None], Array]
"""``target(teacher, labels) -> distributions``."""


def true() -> Target:
    """The true label, one-hot; all zeros, and so no loss, for ``NO_LABEL``."""

    def target(teacher: Array, labels: Array | None) -> Array:
        if labels is None:
            raise PalaverError("the true target needs labels: give batches of inputs and labels, or a soft target")
        return namespace(teacher).astype(is_class(labels, teacher), teacher.dtype)

    return target


def soft(*, temperature: float = 1.0) -> Target:
    """The teacher's distribution, ``P^(1/τ)`` normalised: softmax(logits/τ).

    Only the target is softened: in distillation as of Hinton et al. (2015) the student's logits are divided by τ too.

    Args:
        temperature: τ above 0; 1 leaves the distribution as it is.

    Raises:
        PalaverError: τ is not above 0.

    """
    if not 0 < temperature < math.inf:
        raise PalaverError(f"temperature is {temperature}: give a number above 0")

    def target(teacher: Array, labels: Array | None) -> Array:
        if temperature == 1:
            return teacher
        xp = namespace(teacher)
        # Divided by the largest first, so that a low temperature does not round all of them to 0.
        powered = (teacher / xp.max(teacher, axis=-1, keepdims=True)) ** (1 / temperature)
        return powered / xp.sum(powered, axis=-1, keepdims=True)

    return target


def mixed(*, weight: float = 0.5, temperature: float = 1.0) -> Target:
    """``α · true + (1 − α) · soft``; where the label is ``NO_LABEL``, or there are none, the soft one alone.

    Args:
        weight: α in [0, 1].
        temperature: τ of the soft part.

    Raises:
        PalaverError: α is outside [0, 1], or τ is not above 0.

    """
    if not 0 <= weight <= 1:
        raise PalaverError(f"weight is {weight}: give a fraction in [0, 1]")
    hard, blurred = true(), soft(temperature=temperature)

    def target(teacher: Array, labels: Array | None) -> Array:
        told = blurred(teacher, None)
        if labels is None:
            return told
        xp = namespace(teacher, labels)
        return xp.where(labels[..., None] < 0, told, weight * hard(teacher, labels) + (1 - weight) * told)

    return target
