"""How hard an example is for the student (thesis §3.2.3.1), and two measures of other papers to compare with.

A measure takes the teacher's and the student's predictive distributions ``[..., C]`` and, where it needs them, labels
``[...]``, and returns scores ``[...]``: higher is harder. Distributions are probabilities, not logits. Instead of the
logarithm of a probability of 0, that of the smallest normal number of its type is taken, so that the score is finite.
Arrays may be NumPy's, JAX's or PyTorch's; scores come back in the same library and on the same device.

Measures in nats use the natural logarithm.
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

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: not used.

    Returns:
        ``[...]`` nats, 0 or more.

    Raises:
        PalaverError: the distributions have different shapes.

    """
    xp = _pair(teacher, student)
    return -xp.sum(teacher * _log(xp, student), axis=-1)


def euclidean(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``(Σ (P − Q)²)^½`` (eq. 3.2.2), the Euclidean distance of both distributions.

    >>> import numpy as np
    >>> euclidean(np.array([1.0, 0.0]), np.array([0.4, 0.6])).round(3).item()
    0.849

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: not used.

    Returns:
        ``[...]`` without unit, from 0 to √2.

    Raises:
        PalaverError: the distributions have different shapes.

    """
    xp = _pair(teacher, student)
    return xp.sqrt(xp.sum((teacher - student) ** 2, axis=-1))


def kl(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``KL(P ‖ Q) = Σ P (log P − log Q)`` (Kullback & Leibler 1951): the cross-entropy less the teacher's entropy.

    >>> import numpy as np
    >>> kl(np.array([0.5, 0.5]), np.array([0.25, 0.75])).round(3).item()
    0.144

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: not used.

    Returns:
        ``[...]`` nats, 0 or more.

    Raises:
        PalaverError: the distributions have different shapes.

    """
    xp = _pair(teacher, student)
    return xp.sum(teacher * (_log(xp, teacher) - _log(xp, student)), axis=-1)


def jensen_shannon(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``½ KL(P ‖ M) + ½ KL(Q ‖ M)`` with ``M = ½ (P + Q)``, the Jensen–Shannon divergence (Lin 1991).

    >>> import numpy as np
    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])).round(3).item()
    0.693

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: not used.

    Returns:
        ``[...]`` nats, from 0 to log 2.

    Raises:
        PalaverError: the distributions have different shapes.

    """
    _pair(teacher, student)
    middle = (teacher + student) / 2
    return (kl(teacher, middle) + kl(student, middle)) / 2


def margin(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``max_{y ≠ t} Q(y) − Q(t)`` with t the teacher's most likely class.

    It is above 0 where the student predicts another class than the teacher.

    >>> import numpy as np
    >>> margin(np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.5, 0.2])).round(3).item()
    0.2

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: not used.

    Returns:
        ``[...]`` a difference of probabilities, from −1 to 1.

    Raises:
        PalaverError: the distributions have different shapes.

    """
    xp = _pair(teacher, student)
    chosen = is_class(xp.argmax(teacher, axis=-1), teacher)
    others = xp.max(xp.where(chosen, xp.zeros_like(student) - 1, student), axis=-1)
    return others - xp.sum(xp.where(chosen, student, xp.zeros_like(student)), axis=-1)


def student_loss(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``−log Q(y)``, the student's loss on the true label (selective backprop, Jiang et al. 2019).

    With ``selection.top`` this is the greedy form of selective backprop; the paper draws examples in proportion to a
    power of the loss's percentile.

    >>> import numpy as np
    >>> student = np.array([[0.5, 0.5], [0.1, 0.9]])
    >>> student_loss(student, student, np.array([0, 1])).round(3).tolist()
    [0.693, 0.105]

    Args:
        teacher: ``[..., C]`` distributions; not used.
        student: ``[..., C]`` Q: the student's distributions.
        labels: ``[...]`` class ids y; ``NO_LABEL`` where the label is not known.

    Returns:
        ``[...]`` nats, 0 or more; −∞ for ``NO_LABEL``.

    Raises:
        PalaverError: there are no labels.

    """
    return _mask_unlabelled(_loss(student, labels, "student_loss"), labels)


def reducible_loss(teacher: Array, student: Array, labels: Array | None = None) -> Array:
    """``−log Q(y) + log P(y)``: the student's loss less the teacher's (RHO-LOSS, Mindermann et al. 2022).

    In the paper the second model is trained on held-out examples. A teacher that has memorised the student's own
    training examples has no loss on them, and the score is the student's loss.

    >>> import numpy as np
    >>> reducible_loss(np.array([[0.8, 0.2]]), np.array([[0.2, 0.8]]), np.array([0])).round(3).tolist()
    [1.386]

    Args:
        teacher: ``[..., C]`` P: the teacher's distributions.
        student: ``[..., C]`` Q: the student's distributions.
        labels: ``[...]`` class ids y; ``NO_LABEL`` where the label is not known.

    Returns:
        ``[...]`` nats, negative where the student's loss is the smaller one; −∞ for ``NO_LABEL``.

    Raises:
        PalaverError: the distributions have different shapes, or there are no labels.

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
