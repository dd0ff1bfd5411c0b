"""What a student is taught and by whom (thesis ch. 3): the settings, the lesson they describe, and labels gone bad."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palaver.data import Dataset
from palaver.engines.teach import Lesson
from palaver.teaching import difficulty, selection, targets
from palaver.types import PalaverError


@dataclass(frozen=True)
class TeachingSettings:
    """One student, its teacher and how the teacher picks. Defaults are the thesis's where it has one."""

    data: str = "mnist"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    examples: int = 0
    """Use only so many training examples, and a quarter as many to validate and to test; 0: all."""
    flipped: float = 0.0
    """Share of the training labels that are replaced by another class, in [0, 1)."""
    known: float = 1.0
    """Share of the training labels that are known, in (0, 1]."""
    hidden: tuple[int, ...] = (32, 32)
    """The student's hidden widths."""
    batch_size: int = 32
    """Examples in a minibatch m."""
    learning_rate: float = 0.001
    """Adam's learning rate."""
    stack: tuple[int, ...] = (1,)
    """Minibatches on the teacher's stack n; several: one after the other."""
    stack_from: tuple[int, ...] = (0,)
    """Updates from which each of them holds; the first is 0."""
    difficulty: Literal[
        "cross-entropy", "euclidean", "kl", "jensen-shannon", "margin", "student-loss", "reducible-loss"
    ] = "cross-entropy"
    """How hard an example is."""
    select: Literal["top", "uniform", "proportional", "top-and-random", "hardest"] = "top"
    """Which examples of a full stack are chosen."""
    share: float = 0.25
    """Random share in top-and-random; share of the stack drawn from in hardest; in [0, 1]."""
    select_temperature: float = 1.0
    """Temperature of proportional, above 0."""
    target: Literal["true", "soft", "mixed"] = "true"
    """What the student is told: labels, the teacher's distributions, or a mix."""
    target_temperature: float = 1.0
    """Temperature of soft targets, above 0."""
    mix: float = 0.5
    """Weight of the true label in mixed, in [0, 1]."""
    patience: int = 20
    """Epochs (passes over the data shown to the teacher) without improvement after which a student stops."""
    epochs: int = 200
    """Epochs at most."""
    eval_every: int = 40
    """Updates between evaluations."""
    teacher_hidden: tuple[int, ...] = (1200, 1200)
    """The teacher's hidden widths."""
    teacher_dropout: float = 0.5
    """Share of the teacher's hidden units dropped in training, in [0, 1)."""
    teacher_batch_size: int = 128
    """Examples in the teacher's batch."""
    teacher_patience: int = 10
    """Epochs without improvement after which the teacher stops."""
    teacher_epochs: int = 60
    """The teacher's epochs at most."""

    def check(self) -> None:
        """Raises ``PalaverError`` for a value out of range; what other parts check themselves is left to them."""
        stages = zip(self.stack_from, self.stack, strict=False)
        bounds: list[tuple[str, bool, str]] = [
            ("examples", self.examples >= 0, "0 or more"),
            ("flipped", 0 <= self.flipped < 1, "in [0, 1)"),
            ("known", 0 < self.known <= 1, "in (0, 1]"),
            ("hidden", all(w >= 1 for w in self.hidden), "each at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("stack_from", len(self.stack_from) == len(self.stack), f"{len(self.stack)} updates, one for each stack"),
            ("stack_from", self.stack_from == tuple(sorted({*self.stack_from})), "updates in ascending order"),
            ("patience", self.patience >= 1, "at least 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("eval_every", self.eval_every >= 1, "at least 1"),
            ("teacher_hidden", all(w >= 1 for w in self.teacher_hidden), "each at least 1"),
            ("teacher_dropout", 0 <= self.teacher_dropout < 1, "in [0, 1)"),
            ("teacher_batch_size", self.teacher_batch_size >= 1, "at least 1"),
            ("teacher_patience", self.teacher_patience >= 1, "at least 1"),
            ("teacher_epochs", self.teacher_epochs >= 1, "at least 1"),
        ]
        for name, fine, allowed in bounds:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        selection.stages(dict(stages))
        make_lesson(self)

    @property
    def needs_labels(self) -> bool:
        """Whether only examples with labels are of use."""
        return self.target == "true" or (self.scores and self.difficulty in ("student-loss", "reducible-loss"))

    @property
    def scores(self) -> bool:
        """Whether the student is asked about every example of a stack."""
        return max(self.stack) > 1 and self.select != "uniform"

    @property
    def asks_teacher(self) -> bool:
        """Whether a teacher takes part."""
        return self.target != "true" or (self.scores and self.difficulty != "student-loss")


def make_lesson(settings: TeachingSettings) -> Lesson:
    """The lesson that the settings describe."""
    rules = {
        "top": selection.top,
        "uniform": selection.uniform,
        "proportional": lambda: selection.proportional(temperature=settings.select_temperature),
        "top-and-random": lambda: selection.top_and_random(share=settings.share),
        "hardest": lambda: selection.from_hardest(share=settings.share),
    }
    told = {
        "true": targets.true,
        "soft": lambda: targets.soft(temperature=settings.target_temperature),
        "mixed": lambda: targets.mixed(weight=settings.mix, temperature=settings.target_temperature),
    }
    measure = difficulty.MEASURES[settings.difficulty]
    return Lesson(settings.batch_size, measure, rules[settings.select](), told[settings.target]())


def corrupted(settings: TeachingSettings, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Training labels, some flipped to another class, and the rows whose labels are known; the same for all seeds."""
    rng = np.random.default_rng([0, 3])
    wrong = rng.random(len(data.y_train)) < settings.flipped
    shift = rng.integers(1, max(2, data.classes), len(data.y_train))
    labels = np.where(wrong, (data.y_train + shift) % data.classes, data.y_train).astype(np.int32)
    rows = np.sort(rng.permutation(len(labels))[: max(1, round(settings.known * len(labels)))])
    return labels, rows
