"""The settings of a student, its teacher and how the teacher selects, and the selection that they describe."""

from typing import Annotated

import numpy as np
from pydantic import Field

from palaver.data import Dataset
from palaver.studies import fields
from palaver.studies.settings import StudySettings, settings
from palaver.teaching.difficulty import MEASURES
from palaver.teaching.selection import RULES
from palaver.teaching.targets import TARGETS
from palaver.teaching.train import SelectionConfig
from palaver.types import PalaverError


@settings
class TeachingSettings(StudySettings):
    """One student, its teacher and how the teacher selects. Defaults are the thesis's where it has one."""

    data: str = "mnist"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    flipped: fields.FractionBelowOne = 0.0
    """Share of the training labels that are replaced by another class, in [0, 1)."""
    known: fields.PositiveFraction = 1.0
    """Share of the training labels that are known, in (0, 1]."""
    hidden: fields.Widths = (32, 32)
    """The student's hidden widths."""
    stack: Annotated[tuple[fields.Count, ...], Field(min_length=1)] = (1,)
    """Minibatches n on the teacher's stack; several: a schedule (see stack_from)."""
    stack_from: tuple[fields.CountOrZero, ...] = (0,)
    """Updates at which the stack sizes start; the first is 0."""
    difficulty: Annotated[str, fields.OneOf(MEASURES)] = "cross-entropy"
    """How hard an example is."""
    select: Annotated[str, fields.OneOf(RULES)] = "top"
    """Which examples of a full stack are chosen."""
    share: fields.Fraction = 0.25
    """top-and-random: share drawn at random; hardest: share of the stack drawn from, above 0."""
    select_temperature: fields.Positive = 1.0
    """Temperature of proportional, above 0."""
    target: Annotated[str, fields.OneOf(TARGETS)] = "true"
    """What the student is trained on: labels, the teacher's distributions, or a mix."""
    target_temperature: fields.Positive = 1.0
    """Temperature of soft targets, above 0."""
    mix: fields.Fraction = 0.5
    """Weight of the true label in mixed, in [0, 1]."""
    patience: fields.Count = 20
    """Epochs without improvement before a student stops; all examples on the stack count, chosen or not."""
    epochs: fields.Count = 200
    """Epochs at most."""
    eval_every: fields.Count = 40
    """Updates between evaluations."""
    goals: tuple[fields.PositiveFraction, ...] = ()
    """Validation accuracies, in (0, 1], whose costs are reported; empty: 97, 98, 99 % of the best without teacher."""
    teacher_hidden: fields.Widths = (1200, 1200)
    """The teacher's hidden widths."""
    teacher_dropout: fields.FractionBelowOne = 0.5
    """The teacher's dropout rate, in [0, 1)."""
    teacher_batch_size: fields.Count = 128
    """Examples in the teacher's batch."""
    teacher_patience: fields.Count = 10
    """Epochs without improvement after which the teacher stops."""
    teacher_epochs: fields.Count = 60
    """The teacher's epochs at most."""

    def __post_init__(self) -> None:
        """Raises ``PalaverError`` for values that do not go together."""
        if len(self.stack_from) != len(self.stack):
            raise PalaverError(f"stack_from is {self.stack_from}: give {len(self.stack)} updates, one for each stack")
        if self.stack_from != tuple(sorted({0, *self.stack_from})):
            raise PalaverError(f"stack_from is {self.stack_from}: give updates in ascending order, the first of them 0")
        make_selection(self)

    @property
    def needs_labels(self) -> bool:
        """Whether only examples with labels are of use."""
        scores = self.scores(max(self.stack))
        return TARGETS[self.target].needs_labels or (scores and MEASURES[self.difficulty].needs_labels)

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher takes part."""
        return TARGETS[self.target].needs_teacher or self.teacher_scores(max(self.stack))

    def scores(self, size: int) -> bool:
        """Whether the student predicts every example of a stack of n = ``size`` minibatches."""
        return size > 1 and RULES[self.select].needs_scores

    def teacher_scores(self, size: int) -> bool:
        """Whether the teacher predicts every example of a stack of n = ``size`` minibatches."""
        return self.scores(size) and MEASURES[self.difficulty].needs_teacher


def make_selection(settings: TeachingSettings) -> SelectionConfig:
    """The selection that the settings describe.

    Args:
        settings: of a student and its teacher.

    Returns:
        Its parts, made from the registries' entries.

    Raises:
        PalaverError: a value that the selection rule or the target refuses.

    """
    select, target = RULES[settings.select].make(settings), TARGETS[settings.target].make(settings)
    return SelectionConfig(settings.batch_size, MEASURES[settings.difficulty].measure, select, target)


def corrupted(settings: TeachingSettings, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Training labels, some replaced by another class, and the rows of known labels; the same for all seeds.

    Args:
        settings: with ``flipped`` and ``known``, shares of the labels.
        data: with ``M`` training examples.

    Returns:
        ``[M]`` int32 class ids, and in ascending order the rows whose labels are known.

    """
    rng = np.random.default_rng([0, 3])
    wrong = rng.random(len(data.y_train)) < settings.flipped
    shift = rng.integers(1, max(2, data.classes), len(data.y_train))
    labels = np.where(wrong, (data.y_train + shift) % data.classes, data.y_train).astype(np.int32)
    rows = np.sort(rng.permutation(len(labels))[: max(1, round(settings.known * len(labels)))])
    return labels, rows
