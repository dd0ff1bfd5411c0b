"""The distributions that the student is trained to predict for the chosen examples (thesis §3.2.3.2).

A target takes the teacher's distributions ``[B, C]`` and labels ``[B]`` or None, and returns distributions ``[B, C]``
for the student's cross-entropy, in the arrays' own library.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from palaver.arguments import number
from palaver.teaching.arrays import Array, is_class, namespace
from palaver.types import PalaverError

Target: TypeAlias = Callable[[Array, Array | None], Array]
"""``target(teacher [B, C], labels [B] or None) -> distributions [B, C]``."""


def true() -> Target:
    """The true label, one-hot (thesis §3.2.3.2); for ``NO_LABEL`` all zeros, which make no loss.

    >>> import numpy as np
    >>> true()(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([1, 0])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]

    Returns:
        A target ``(teacher [B, C], labels [B] or None) -> [B, C]``; it raises ``PalaverError`` if there are no
        labels.

    """

    def target(teacher: Array, labels: Array | None) -> Array:
        if labels is None:
            raise PalaverError("the true target needs labels: give batches of inputs and labels, or a soft target")
        return namespace(teacher).astype(is_class(labels, teacher), teacher.dtype)

    return target


def soft(*, temperature: float = 1.0) -> Target:
    """The teacher's distribution (thesis §3.2.3.2), ``P^(1/τ)`` normalised: softmax(logits/τ).

    Only the target is softened; in the distillation of Hinton et al. (2015) the student's logits are divided by τ too.

    >>> import numpy as np
    >>> soft(temperature=2.0)(np.array([[0.8, 0.2]]), None).round(3).tolist()
    [[0.667, 0.333]]

    Args:
        temperature: τ above 0; 1 leaves the distribution as it is.

    Returns:
        A target ``(teacher [B, C], labels [B] or None) -> [B, C]``; labels are not used.

    Raises:
        PalaverError: τ is not above 0.

    """
    temperature = number("temperature", temperature, "(0, inf)")

    def target(teacher: Array, labels: Array | None) -> Array:
        if temperature == 1:
            return teacher
        xp = namespace(teacher)
        # Division by the largest keeps a low temperature from rounding all of them to 0.
        powered = (teacher / xp.max(teacher, axis=-1, keepdims=True)) ** (1 / temperature)
        return powered / xp.sum(powered, axis=-1, keepdims=True)

    return target


def mixed(*, weight: float = 0.5, temperature: float = 1.0) -> Target:
    """``α · true + (1 − α) · soft`` (Hinton et al. 2015); ``soft`` alone where there is no label.

    >>> import numpy as np
    >>> mixed(weight=0.5)(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([1, -1])).round(3).tolist()
    [[0.4, 0.6], [0.8, 0.2]]

    Args:
        weight: α in [0, 1].
        temperature: τ of the soft part, above 0.

    Returns:
        A target ``(teacher [B, C], labels [B] or None) -> [B, C]``. There is no label where it is ``NO_LABEL``,
        or where labels are None.

    Raises:
        PalaverError: α is outside [0, 1], or τ is not above 0.

    """
    weight = number("weight", weight, "[0, 1]")
    one_hot, softened = true(), soft(temperature=temperature)

    def target(teacher: Array, labels: Array | None) -> Array:
        soft_target = softened(teacher, None)
        if labels is None:
            return soft_target
        xp = namespace(teacher, labels)
        both = weight * one_hot(teacher, labels) + (1 - weight) * soft_target
        return xp.where(labels[..., None] < 0, soft_target, both)

    return target


class TargetEntry(NamedTuple):
    """How a target is made from settings, and what it needs."""

    make: Callable[[Any], Target]
    """Of settings with ``target_temperature`` and ``mix``."""
    needs_labels: bool = False
    """Whether only examples whose labels are known are of use."""
    needs_teacher: bool = True
    """Whether it uses the teacher's distributions."""


TARGETS = {
    "true": TargetEntry(lambda settings: true(), needs_labels=True, needs_teacher=False),
    "soft": TargetEntry(lambda settings: soft(temperature=settings.target_temperature)),
    "mixed": TargetEntry(lambda settings: mixed(weight=settings.mix, temperature=settings.target_temperature)),
}
"""Every target by its name, with what it needs; add your own before settings name it."""
