"""The teacher stack (thesis §3.2.3.3): it chooses m examples of n minibatches for the student to train on."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np
from array_api_compat import device

from palaver import decision
from palaver.arguments import count as check_count
from palaver.arguments import failure_of, flag, function, instance, shown
from palaver.arguments import seed as check_seed
from palaver.teaching import selection, targets
from palaver.teaching.arrays import Array, Predict, check_predictions, like, namespace, predicted, to_numpy
from palaver.teaching.difficulty import Difficulty, cross_entropy
from palaver.teaching.selection import Selection
from palaver.teaching.table import Table
from palaver.teaching.targets import Target
from palaver.types import NO_LABEL, DecisionRule, PalaverError


class Counts(NamedTuple):
    """The cost of a stack so far."""

    updates: int = 0
    """Minibatches given to the student."""
    student_forwards: int = 0
    """Examples that the student predicted to be scored; training on the chosen ones is not counted."""
    teacher_forwards: int = 0
    """Examples that the teacher predicted; none with a table."""
    chosen: int = 0
    """Examples given to the student, each of which takes a backward pass."""


class _Entry(NamedTuple):
    """One minibatch on the stack, with the predictions of teacher and student."""

    x: Any
    labels: Array | None
    teacher: Array
    student: Array


class TeacherStack:
    """Wraps an iterable of minibatches: for every n of them it yields the chosen examples ``(x, target)``.

    The student predicts each minibatch that comes in, with the parameters it has at that time. Once n minibatches are
    on the stack, the difficulty measure scores all examples and the selection rule chooses m. Inputs ``[m, ...]`` stay
    in their library (NumPy, JAX or PyTorch) and on their device; targets ``[m, C]`` are in the library and on the
    device of the student's predictions. Each ``iter`` is one pass over ``batches``; the random numbers, ``counts`` and
    the numbers of batches in messages continue from pass to pass.

    >>> batches = [(np.arange(4.0) + start, np.zeros(4, int)) for start in (0, 4)]
    >>> student = lambda x: np.stack([x, 10 - x], axis=1) / 10  # the larger x, the surer of class 0
    >>> teacher = lambda x: np.ones((len(x), 1)) * [1.0, 0.0]
    >>> [x.tolist() for x, target in TeacherStack(batches, student, teacher, size=2)]
    [[0.0, 1.0, 2.0, 3.0]]

    Args:
        batches: of ``x``, ``(x, labels)`` or ``(x, labels, index)``: ``x`` an array ``[B, ...]`` or a tree of such,
            labels class ids ``[B]`` or None, index ``[B]`` the examples' rows in a table.
        student_predict: ``x`` to probabilities ``[B, C]``; in PyTorch under ``torch.no_grad()``, and in evaluation mode
            where the model has dropout or batch norm.
        teacher: likewise (another library's arrays are converted), or a ``Table`` of its predictions.
        size: n minibatches, or a function of the update's number (``selection.stages``).
        count: m examples to choose; None: as many as there are in the stack's first minibatch.
        difficulty: from ``palaver.teaching.difficulty``.
        select: from ``palaver.teaching.selection``; None: ``top()``.
        target: from ``palaver.teaching.targets``; None: ``soft()``.
        drop_last: whether a stack that is not full at the end of a pass is dropped; otherwise m of its examples are
            chosen, or all if it has fewer.
        seed: of the random numbers that the rule is given.

    Raises:
        PalaverError: an argument of another kind, or a size or count below 1; (on iteration) predictions that are NaN
            or no distribution, of different classes, labels or an index missing where they are needed, m larger than
            the stack, or a function of one's own that fails or does not give what it should.

    """

    def __init__(
        self,
        batches: Iterable[Any],
        student_predict: Predict,
        teacher: Predict | Table,
        *,
        size: int | Callable[[int], int] = 5,
        count: int | None = None,
        difficulty: Difficulty = cross_entropy,
        select: Selection | None = None,
        target: Target | None = None,
        drop_last: bool = False,
        seed: int = 0,
    ):
        if not isinstance(teacher, Table):
            function("teacher", teacher, "a function of inputs, or what precompute returns")
        self._batches = instance("batches", batches, Iterable, "an iterable of minibatches, such as a DataLoader")
        self._student, self._teacher = function("student_predict", student_predict, "a function of inputs"), teacher
        self._size = size if callable(size) else check_count("size", size, unit="minibatch")
        self._count = None if count is None else check_count("count", count, unit="example")
        self._difficulty = function("difficulty", difficulty, "a function of palaver.teaching.difficulty")
        select, target = selection.top() if select is None else select, targets.soft() if target is None else target
        self._select = function(
            "select", select, "what a function of palaver.teaching.selection returns, such as top()"
        )
        self._target = function("target", target, "what a function of palaver.teaching.targets returns, such as soft()")
        self._drop_last = flag("drop_last", drop_last)
        self._random = np.random.default_rng(check_seed("seed", seed))
        self._batch = 0
        self.counts = Counts()

    def __iter__(self) -> Iterator[tuple[Any, Array]]:
        """One pass over the batches."""
        source = iter(self._batches)
        while True:
            size = self._size(self.counts.updates) if callable(self._size) else self._size
            check_count(f"size at update {self.counts.updates}", size, unit="minibatch")
            stack = [self._push(batch) for batch in islice(source, size)]
            if not stack or (len(stack) < size and self._drop_last):
                return
            yield self._choose(stack, full=len(stack) == size)

    def _push(self, batch: Any) -> _Entry:
        """One minibatch with the predictions of both."""
        x, labels, index = _parts(batch)
        student = predicted(self._student(x))
        counts = self.counts
        if isinstance(self._teacher, Table):
            if index is None:
                raise PalaverError(
                    "a teacher's table needs each example's row: give batches (x, labels, index), "
                    "from a DataLoader over palaver.teaching.Indexed(dataset)"
                )
            teacher = like(self._teacher.rows(to_numpy(index)), student)
        else:
            teacher = like(self._teacher(x), student)
            counts = counts._replace(teacher_forwards=counts.teacher_forwards + teacher.shape[0])
        self.counts = counts._replace(student_forwards=counts.student_forwards + student.shape[0])
        labels = None if labels is None else like(labels, student)
        return _Entry(x, labels, namespace(student).astype(teacher, student.dtype), student)

    def _choose(self, stack: list[_Entry], *, full: bool) -> tuple[Any, Array]:
        """The chosen examples of a stack and their targets."""
        xp = namespace(stack[0].student)
        sizes = [entry.student.shape[0] for entry in stack]
        teacher, student = (xp.concat([getattr(entry, who) for entry in stack]) for who in ("teacher", "student"))
        check_predictions(teacher, "the teacher's", sizes, self._batch)
        check_predictions(student, "the student's", sizes, self._batch)
        self._batch += len(stack)
        labels = None if stack[0].labels is None else _labels(stack, student)
        count = self._count or sizes[0]
        count = count if full else min(count, sum(sizes))
        with failure_of("difficulty", "give a measure of distributions [examples, classes] and labels"):
            scores = self._difficulty(teacher, student, labels)
        if getattr(scores, "shape", None) != (sum(sizes),):
            raise PalaverError(f"difficulty gives {shown(scores)}: give one score for each of {sum(sizes)} examples")
        noise = self._random.random(sum(sizes), np.float32)
        noise = xp.asarray(np.clip(noise, 2.0**-25, None), device=device(scores))
        with failure_of("select", "give a rule of scores, uniform numbers and a count, such as selection.top()"):
            chosen = self._select(scores, xp.astype(noise, scores.dtype), count)
        x = jax.tree.map(lambda *leaves: _take(leaves, chosen), *(entry.x for entry in stack))
        own_labels = None if labels is None else xp.take(labels, chosen, axis=0)
        with failure_of("target", "give a function of distributions and labels, such as targets.soft()"):
            target = self._target(xp.take(teacher, chosen, axis=0), own_labels)
        unlabelled = int(xp.sum(xp.astype(xp.sum(target, axis=-1) == 0, xp.int32)))
        if unlabelled:
            raise PalaverError(
                f"{unlabelled} of the {count} examples chosen from batches {self._batch - len(stack)} to "
                f"{self._batch - 1} have no label: give labels, or a soft target"
            )
        self.counts = self.counts._replace(updates=self.counts.updates + 1, chosen=self.counts.chosen + count)
        return x, target

    def __len__(self) -> int:
        """How many stacks one pass yields; ``TypeError`` if the size of the stack or the number of batches is open."""
        if callable(self._size):
            raise TypeError("a stack whose size follows a schedule has no length")
        batches = len(self._batches)  # type: ignore[arg-type]
        return batches // self._size if self._drop_last else -(-batches // self._size)


def _labels(stack: list[_Entry], student: Array) -> Array:
    """The class ids of all examples on the stack, checked."""
    xp, (examples, classes) = namespace(student), student.shape
    labels = xp.concat([entry.labels for entry in stack])
    if labels.shape != (examples,) or not xp.isdtype(labels.dtype, "integral"):
        raise PalaverError(
            f"labels of {examples} examples are {labels.dtype} {tuple(labels.shape)}: give one class id each, "
            "integers [examples]"
        )
    low, high = int(xp.min(labels)), int(xp.max(labels))
    if low < NO_LABEL or high >= classes:
        raise PalaverError(f"labels from {low} to {high} for {classes} classes: give 0 to {classes - 1}")
    return labels


def _take(leaves: tuple[Array, ...], chosen: Array) -> Array:
    """The chosen rows of the inputs, in their library and on their device."""
    xp = namespace(*leaves)
    return xp.take(xp.concat(leaves), like(chosen, leaves[0]), axis=0)


def _parts(batch: Any) -> tuple[Any, Array | None, Array | None]:
    """Inputs, labels and rows in a table of a minibatch in any of its forms."""
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    if not 1 <= len(parts) <= 3:
        raise PalaverError(f"a batch of {len(parts)} parts: give x, (x, labels) or (x, labels, index)")
    x, labels, index = (*parts, None, None)[:3]
    return x, labels, index


def committee(logits: Callable[[Any], Array], rule: DecisionRule = decision.confidence) -> Callable[[Any], Any]:
    """A collective as the teacher: the distribution that its decision rule gives.

    Args:
        logits: inputs of a batch to the nodes' logits ``[N, B, C]``, for instance
            ``lambda x: history.simulation.logits(history.state, x)[0]`` for the first seed of ``palaver.train``.
        rule: from ``palaver.decision``.

    Returns:
        A teacher for ``TeacherStack`` and ``precompute``: inputs to ``[B, C]``, a JAX array.

    Raises:
        PalaverError: an argument that is no function, or (when it is called) logits of other axes.

    """
    function("logits", logits, "a function of inputs to the nodes' logits [N, B, C]")
    decide = jax.jit(function("rule", rule, "a rule of palaver.decision"))

    def teacher(x: Any) -> Any:
        predicted = to_numpy(logits(x))
        if predicted.ndim != 3:
            raise PalaverError(f"logits gives {shown(predicted)}: give logits [nodes, examples, classes]")
        return decide(predicted, np.ones(predicted.shape[:2], bool))

    return teacher
