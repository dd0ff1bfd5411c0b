"""The teacher stack (thesis §3.2.3.3): n minibatches go in, the m examples worth learning from come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np
from array_api_compat import device

from palaver import decision
from palaver.teaching import selection, targets
from palaver.teaching.arrays import check_predictions, like, namespace, predicted, to_numpy
from palaver.teaching.difficulty import Difficulty, cross_entropy
from palaver.teaching.selection import Selection
from palaver.teaching.table import Table
from palaver.teaching.targets import Target
from palaver.types import NO_LABEL, DecisionRule, PalaverError

Array = Any


class Counts(NamedTuple):
    """What a stack has cost so far, in examples."""

    updates: int = 0
    """Minibatches given to the student."""
    student_forwards: int = 0
    """Examples the student was asked about; training on the chosen ones is not in it."""
    teacher_forwards: int = 0
    """Examples the teacher was asked about; none with a table."""
    chosen: int = 0
    """Examples given to the student: its backward passes."""


class _Entry(NamedTuple):
    """One minibatch on the stack."""

    x: Any
    labels: Array | None
    teacher: Array
    student: Array


class TeacherStack:
    """Wraps an iterable of minibatches and yields the compressed ones, ``(x, target)``, target ``[m, C]``.

    The student is asked about every minibatch as it stands then; once n of them lie on the stack, the teacher's
    difficulty measure scores all examples and the selection rule picks m. Inputs stay in their library (NumPy, JAX or
    PyTorch) and on their device; targets are in the student's. Each ``iter`` is one pass over ``batches``; random
    numbers, ``counts`` and the numbers of batches in messages go on.

    Args:
        batches: of ``x``, ``(x, labels)`` or ``(x, labels, index)``: ``x`` an array ``[B, ...]`` or a tree of such,
            labels class ids ``[B]`` or None, index ``[B]`` the examples' rows in the table.
        student_predict: ``x`` to probabilities ``[B, C]``; in PyTorch under ``torch.no_grad()``, and in evaluation mode
            where the model has dropout or batch norm.
        teacher: the same of the teacher's (another library's arrays are converted), or a ``Table`` of its outputs.
        size: n minibatches, or a function of the update's number (``selection.stages``).
        count: m examples to choose; None: as many as the stack's first minibatch has.
        difficulty: from ``palaver.teaching.difficulty``.
        select: from ``palaver.teaching.selection``; None: ``top()``.
        target: from ``palaver.teaching.targets``; None: ``soft()``.
        drop_last: whether a stack that a pass leaves unfilled is dropped; otherwise m of what is there are chosen, or
            all of it if there are fewer.
        seed: of the random numbers that the rule is given.

    Raises:
        PalaverError: (on iteration) predictions that are NaN or no distribution, of different classes, labels or an
            index missing where they are needed, or m larger than the stack.

    """

    def __init__(
        self,
        batches: Iterable[Any],
        student_predict: Callable[[Any], Array],
        teacher: Callable[[Any], Array] | Table,
        *,
        size: int | Callable[[int], int] = 5,
        count: int | None = None,
        difficulty: Difficulty = cross_entropy,
        select: Selection | None = None,
        target: Target | None = None,
        drop_last: bool = False,
        seed: int = 0,
    ):
        given: Any = teacher
        if not callable(given) and not isinstance(given, Table):
            raise PalaverError(
                f"teacher is {type(teacher).__name__}: give a function of inputs, or what precompute returns"
            )
        if isinstance(size, int) and size < 1:
            raise PalaverError(f"size is {size}: give at least 1 minibatch")
        if count is not None and count < 1:
            raise PalaverError(f"count is {count}: give at least 1 example")
        self._batches, self._student, self._teacher = batches, student_predict, teacher
        self._fixed = None if callable(size) else size
        self._size: Callable[[int], int] = size if callable(size) else lambda _: size
        self._count, self._difficulty, self._drop_last = count, difficulty, drop_last
        self._select = selection.top() if select is None else select
        self._target = targets.soft() if target is None else target
        self._random = np.random.default_rng(seed)
        self._batch = 0
        self.counts = Counts()

    def __iter__(self) -> Iterator[tuple[Any, Array]]:
        """One pass over the batches."""
        source = iter(self._batches)
        while True:
            size = self._size(self.counts.updates)
            if size < 1 or size != int(size):
                raise PalaverError(f"size gives {size!r} at update {self.counts.updates}: give 1 or more minibatches")
            stack = [self._push(batch) for batch in islice(source, int(size))]
            if not stack or (len(stack) < size and self._drop_last):
                return
            yield self._compress(stack, full=len(stack) == size)

    def _push(self, batch: Any) -> _Entry:
        """Both are asked about one minibatch."""
        x, labels, index = _parts(batch)
        student = predicted(self._student(x))
        asked = self.counts
        if isinstance(self._teacher, Table):
            if index is None:
                raise PalaverError(
                    "a teacher's table needs each example's row: give batches (x, labels, index), "
                    "from a DataLoader over palaver.teaching.Indexed(dataset)"
                )
            told = like(self._teacher.rows(to_numpy(index)), student)
        else:
            told = like(self._teacher(x), student)
            asked = asked._replace(teacher_forwards=asked.teacher_forwards + told.shape[0])
        self.counts = asked._replace(student_forwards=asked.student_forwards + student.shape[0])
        labels = None if labels is None else like(labels, student)
        return _Entry(x, labels, namespace(student).astype(told, student.dtype), student)

    def _compress(self, stack: list[_Entry], *, full: bool) -> tuple[Any, Array]:
        xp = namespace(stack[0].student)
        sizes = [entry.student.shape[0] for entry in stack]
        teacher, student = (xp.concat([getattr(entry, who) for entry in stack]) for who in ("teacher", "student"))
        check_predictions(teacher, "the teacher's", sizes, self._batch)
        check_predictions(student, "the student's", sizes, self._batch)
        self._batch += len(stack)
        labels = None if stack[0].labels is None else _labels(stack, student)
        count = sizes[0] if self._count is None else self._count
        if not full:
            count = min(count, sum(sizes))
        scores = self._difficulty(teacher, student, labels)
        coins = self._random.random(sum(sizes), np.float32)
        coins = xp.asarray(np.clip(coins, 2.0**-25, None), device=device(scores))
        chosen = self._select(scores, xp.astype(coins, scores.dtype), count)
        x = jax.tree.map(lambda *leaves: _take(leaves, chosen), *(entry.x for entry in stack))
        picked = None if labels is None else xp.take(labels, chosen, axis=0)
        target = self._target(xp.take(teacher, chosen, axis=0), picked)
        untold = int(xp.sum(xp.astype(xp.sum(target, axis=-1) == 0, xp.int32)))
        if untold:
            raise PalaverError(
                f"{untold} of the {count} examples chosen from batches {self._batch - len(stack)} to {self._batch - 1} "
                "have no label to be told: give labels, or a soft target"
            )
        self.counts = self.counts._replace(updates=self.counts.updates + 1, chosen=self.counts.chosen + count)
        return x, target

    def __len__(self) -> int:
        """How many stacks a pass over the batches gives, where both their number and the stack's size are fixed."""
        if self._fixed is None:
            raise TypeError("a stack whose size follows a schedule has no length")
        batches = len(self._batches)  # type: ignore[arg-type]
        return batches // self._fixed if self._drop_last else -(-batches // self._fixed)


def _labels(stack: list[_Entry], student: Array) -> Array:
    """The class ids of all examples on the stack."""
    xp = namespace(student)
    labels = xp.concat([entry.labels for entry in stack])
    if labels.shape != student.shape[:1] or not xp.isdtype(labels.dtype, "integral"):
        raise PalaverError(
            f"labels of {student.shape[0]} examples are {labels.dtype} {tuple(labels.shape)}: give one class id each, "
            "integers [examples]"
        )
    low, high = int(xp.min(labels)), int(xp.max(labels))
    if low < NO_LABEL or high >= student.shape[1]:
        raise PalaverError(
            f"labels from {low} to {high} for {student.shape[1]} classes: give 0 to {student.shape[1] - 1}"
        )
    return labels


def _take(leaves: tuple[Array, ...], chosen: Array) -> Array:
    """The chosen rows of the inputs, where these lie."""
    xp = namespace(*leaves)
    return xp.take(xp.concat(leaves), like(chosen, leaves[0]), axis=0)


def _parts(batch: Any) -> tuple[Any, Array | None, Array | None]:
    """Inputs, labels and rows of a minibatch in any of its forms."""
    if not isinstance(batch, tuple | list):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise PalaverError(f"a batch of {len(batch)} parts: give x, (x, labels) or (x, labels, index)")
    x, labels, index = (*batch, None, None)[:3]
    return x, labels, index


def committee(answers: Callable[[Any], Array], rule: DecisionRule = decision.confidence) -> Callable[[Any], Any]:
    """A collective as the teacher: its decision rule's distribution.

    Args:
        answers: inputs of a batch to the nodes' logits ``[N, B, C]``, for instance
            ``lambda x: history.simulation.logits(history.state, x)[0]`` for the first seed of ``palaver.train``.
        rule: from ``palaver.decision``.

    Returns:
        A teacher for ``TeacherStack`` and ``precompute``: inputs to ``[B, C]``, a JAX array.

    """
    decide = jax.jit(rule)

    def teacher(x: Any) -> Any:
        logits = to_numpy(answers(x))
        return decide(logits, np.ones(logits.shape[:2], bool))

    return teacher
