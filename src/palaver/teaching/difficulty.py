"""How hard an example is for the student (thesis §3.2.3.1), and two measures of other papers to compare with.

A measure takes the teacher's and the student's predictive distributions ``[..., C]`` and, where it needs them, labels
``[...]``, and returns scores ``[...]``: higher is harder. Distributions are probabilities, not logits. Instead of the
logarithm of a probability of 0, that of the smallest normal number of its type is taken, so that the score is finite.
Arrays may be NumPy's, JAX's or PyTorch's; scores come back in the same library and on the same device.

Every measure raises ``PalaverError`` if it compares distributions of different shapes, or needs labels and gets None.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from palaver.teaching.arrays import Array, is_class, namespace
from palaver.types import PalaverError

Difficulty: TypeAlias = Callable[[Array, Array, Array | None], Array]
"""``measure(teacher [..., C], student [..., C], labels [...] or None) -> scores [...]``."""


def _pair(teacher: Array, student: Array) -> Any:
    """Their namespace; raises ``PalaverError`` unless they have the same shape."""
    xp = namespace(teacher, student)
    if teacher.shape != student.shape:
        raise PalaverError(
            f"the teacher's predictions have shape {tuple(teacher.shape)}, the student's {tuple(student.shape)}: "
            "give both [examples, classes] for the same examples and classes"
        )
    return xp


def _log(xp: Any, p: Array) -> Array:
    return xp.log(xp.clip(p, min=xp.finfo(p.dtype).smallest_normal))


def _loss(p: Array, labels: Array | None, measure: str) -> Array:
    """``−log p(y)``."""
    if labels is None:
        raise PalaverError(f"{measure} needs the true labels of the examples: give batches of inputs and labels")
    xp, log = namespace(p), _log(namespace(p), p)
    return -xp.sum(xp.where(is_class(labels, p), log, xp.zeros_like(log)), axis=-1)


def _mask_unlabelled(scores: Array, labels: Array) -> Array:
    """``scores``, −∞ where the label is ``NO_LABEL``."""
    xp = namespace(scores)
    return xp.where(labels < 0, xp.full_like(scores, -xp.inf), scores)


def cross_entropy(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``H(P, Q) = −Σ P log Q`` in nats (eq. 3.2.1), P the teacher's and Q the student's distribution.

    >>> import numpy as np
    >>> teacher, student = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.5, 0.5], [0.1, 0.9]])
    >>> cross_entropy(teacher, student).round(3).tolist()
    [0.693, 0.105]
    """
    xp = _pair(teacher, student)
    return -xp.sum(teacher * _log(xp, student), axis=-1)


def euclidean(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``(Σ (P − Q)²)^½`` (eq. 3.2.2), between 0 and √2."""
    xp = _pair(teacher, student)
    return xp.sqrt(xp.sum((teacher - student) ** 2, axis=-1))


def kl(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``KL(P ‖ Q) = Σ P (log P − log Q)`` in nats: the cross-entropy less the teacher's entropy."""
    xp = _pair(teacher, student)
    return xp.sum(teacher * (_log(xp, teacher) - _log(xp, student)), axis=-1)


def jensen_shannon(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``½ KL(P ‖ M) + ½ KL(Q ‖ M)`` with ``M = ½ (P + Q)``, in nats, between 0 and log 2 (Lin 1991)."""
    _pair(teacher, student)
    middle = (teacher + student) / 2
    return (kl(teacher, middle) + kl(student, middle)) / 2


def margin(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``max_{y ≠ t} Q(y) − Q(t)`` with t the teacher's most likely class: between −1 and 1.

    It is above 0 where the student predicts another class than the teacher.
    """
    xp = _pair(teacher, student)
    chosen = is_class(xp.argmax(teacher, axis=-1), teacher)
    others = xp.max(xp.where(chosen, xp.zeros_like(student) - 1, student), axis=-1)
    return others - xp.sum(xp.where(chosen, student, xp.zeros_like(student)), axis=-1)


def student_loss(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``−log Q(y)`` in nats, the student's loss on the true label (selective backprop, Jiang et al. 2019).

    With ``selection.top`` this is the greedy form of selective backprop; the paper draws examples in proportion to a
    power of the loss's percentile. The teacher's distributions are not used. An example of ``NO_LABEL`` scores −∞.
    """
    return _mask_unlabelled(_loss(student, labels, "student_loss"), labels)


def reducible_loss(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``−log Q(y) + log P(y)`` in nats: the student's loss less the teacher's (RHO-LOSS, Mindermann et al. 2022).

    In the paper the second model is trained on held-out examples. A teacher that has memorised the student's own
    training examples has no loss on them, and the score is the student's loss. An example of ``NO_LABEL`` scores −∞.
    """
    _pair(teacher, student)
    loss = _loss(student, labels, "reducible_loss") - _loss(teacher, labels, "reducible_loss")
    return _mask_unlabelled(loss, labels)


class MeasureEntry(NamedTuple):
    """A difficulty measure with what it needs; it is called as the measure itself is."""

    measure: Difficulty
    """The function of predictions and labels."""
    needs_labels: bool = False
    """Whether it scores only examples whose labels are known."""
    needs_teacher: bool = True
    """Whether it uses the teacher's distributions."""

    def __call__(self, teacher: Array, student: Array, labels: Array | None = None) -> Array:
        """The measure's scores."""
        return self.measure(teacher, student, labels)


_BY_TEACHER = (cross_entropy, euclidean, kl, jensen_shannon, margin)
MEASURES = {measure.__name__.replace("_", "-"): MeasureEntry(measure) for measure in _BY_TEACHER} | {
    "student-loss": MeasureEntry(student_loss, needs_labels=True, needs_teacher=False),
    "reducible-loss": MeasureEntry(reducible_loss, needs_labels=True),
}
"""Every measure by its name, with what it needs; add your own before settings name it."""
