"""Students and their teacher as studies (thesis ch. 3): settings, training with early stopping, all costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl

from palaver.data import Dataset
from palaver.engines.simulate import as_input
from palaver.engines.teach import Lesson, Material, Students, Teaching, teaching
from palaver.engines.train import seed_keys
from palaver.experiments.folder import SCHEMA
from palaver.experiments.settings import cut
from palaver.experiments.study import Kind, Row, Seen, Study
from palaver.experiments.teacher import Taught, TeacherSettings, operations, taught
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.report.interval import interval
from palaver.teaching import difficulty, selection, targets
from palaver.types import NO_LABEL, NodeState, PalaverError, PyTree

GOALS = (0.95, 0.96, 0.97)
"""Validation accuracies whose costs are reported."""

_BLOCK = 25
"""Evaluations between two writings of the history."""


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


class Costs(NamedTuple):
    """What reaching a number of updates has cost one student, its teacher's training apart."""

    backward_passes: float
    """Minibatches of m examples."""
    forward_passes: float
    """Examples the student predicted, those it trained on and those it was only asked about."""
    teacher_forwards: float
    """Examples the teacher predicted: each at most once, since it is frozen."""
    flops: float
    """Floating-point operations of the student, and of the teacher's predictions."""
    student_flops: float
    """Those of the student alone."""


def costs(settings: TeachingSettings, data: Dataset, owned: int, updates: int) -> Costs:
    """What so many updates on ``owned`` examples cost; the operations of choosing among them are left out."""
    m = settings.batch_size
    forward, step = operations(data, settings.hidden)
    above, _ = operations(data, settings.teacher_hidden)
    ends = [*settings.stack_from[1:], updates]
    asked = teacher = 0
    for size, start, end in zip(settings.stack, settings.stack_from, ends, strict=True):
        made = max(0, min(end, updates) - start)
        scores = size > 1 and settings.select != "uniform"
        asked += made * size * m if scores else 0
        if scores and settings.difficulty != "student-loss":
            teacher += made * size * m
        elif settings.target != "true":
            teacher += made * m
    trained, teacher = updates * m, min(owned, teacher)
    flops = asked * forward + trained * step
    return Costs(updates, asked + trained, teacher, flops + teacher * above, flops)


class _Class(NamedTuple):
    """Where a configuration's students stand."""

    students: Students
    best: NodeState
    """Each at its best validation accuracy."""
    accuracy: np.ndarray
    """``[S]`` that accuracy."""
    at: np.ndarray
    """``[S]`` the update after which it was reached."""
    shown: np.ndarray
    """``[S]`` the examples shown by then."""
    stopped: np.ndarray
    """``[S]`` the update after which a student stopped; -1: it goes on."""
    seconds: np.ndarray
    """Scalar: seconds of training of all students together, without compilation and evaluation."""


def _material(settings: TeachingSettings, data: Dataset) -> tuple[Material, Taught | None]:
    """What the students are shown, and the teacher, if there is one.

    Shown are all examples, or where labels are needed those whose labels are known.
    """
    labels, known = corrupted(settings, data)
    used = known if settings.needs_labels else np.arange(len(labels))
    distributions, teacher = np.zeros((len(used), data.classes), np.float32), None
    if settings.asks_teacher:
        own = TeacherSettings(
            data=settings.data,
            flipped=settings.flipped,
            known=settings.known,
            hidden=settings.teacher_hidden,
            dropout=settings.teacher_dropout,
            batch_size=settings.teacher_batch_size,
            patience=settings.teacher_patience,
            epochs=settings.teacher_epochs,
        )
        teacher = taught(own, data, labels, known)
        distributions = np.asarray(teacher.table.probabilities[used])
    told = np.full_like(labels, NO_LABEL)
    told[known] = labels[known]
    return Material(jnp.asarray(data.x_train[used]), jnp.asarray(told[used]), jnp.asarray(distributions)), teacher


def _prepare(row: Row, data: Dataset, seeds: list[int], devices: int) -> Study:
    settings: TeachingSettings = row.settings
    material, teacher = _material(settings, data)
    owned, whole = len(material.labels), len(data.y_train)
    node = learner(
        lambda rngs: MLP(data.shape, data.classes, hidden=settings.hidden, rngs=rngs),
        distributions(),
        optimizer=optax.adam(settings.learning_rate),
    )
    engine = teaching(node, make_lesson(settings), material)
    size = selection.stages(dict(zip(settings.stack_from, settings.stack, strict=True)))
    students, none = engine.init(seed_keys(seeds)), np.full(len(seeds), -1)
    # Kept as the model sees it: every evaluation would convert all of it again.
    held_out = jax.device_put((as_input(jnp.asarray(data.x_validation)), data.y_validation))
    begun = _Class(students, jax.tree.map(jnp.copy, students.nodes), none - 0.0, none + 1, none + 1, none, np.zeros(()))
    compiled: set[int] = set()

    def trained(at: _Class, updates: int) -> _Class:
        n = size(int(at.students.updates))
        students = at.students
        if n not in compiled:
            students = engine.advance(students, 0, n)
            compiled.add(n)
        jax.block_until_ready(students)
        began = time.perf_counter()
        students = jax.block_until_ready(engine.advance(students, updates, n))
        return at._replace(students=students, seconds=at.seconds + time.perf_counter() - began)

    def advance(state: PyTree) -> tuple[PyTree, Seen]:
        at, entries, finished, latest = _Class(*state), [], False, {}
        for _ in range(_BLOCK):
            now = int(at.students.updates)
            ends = [start for start in settings.stack_from if start > now]
            at = trained(at, min([now + settings.eval_every, *ends]) - now)
            alive = at.stopped < 0
            at, accuracy = _look(settings, engine, held_out, whole, at)
            spent = costs(settings, data, owned, int(at.students.updates))._asdict()
            shared = spent | {"seconds": float(at.seconds)}
            for seed, own in zip(np.asarray(seeds)[alive].tolist(), accuracy[alive].tolist(), strict=True):
                entries.append((seed, int(at.students.updates), {"validation_accuracy": own} | shared))
            latest = {"validation_accuracy": float(accuracy[alive].mean())}
            finished = bool((at.stopped >= 0).all())
            if finished:
                break
        return tuple(at), Seen(int(at.students.updates), _frame(row, entries), latest, finished)

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        at = _Class(*state)
        right = np.asarray(engine.hits(at.best, data.x_test, data.y_test)) / len(data.y_test)
        return _summary(row, seeds, history, at, right, teacher)

    return Study(tuple(begun), advance, summarise)


def _look(
    settings: TeachingSettings, engine: Teaching, held_out: tuple[Any, Any], epoch: int, at: _Class
) -> tuple[_Class, np.ndarray]:
    """Validation accuracy ``[S]``; remembers the best, and stops those that have not got better for long.

    ``epoch`` is the examples of a pass over the whole training set, also where fewer are shown.
    """
    updates, shown = int(at.students.updates), int(at.students.examples)
    alive = at.stopped < 0
    accuracy = np.asarray(engine.hits(at.students.nodes, *held_out)) / len(held_out[1])
    better = alive & (accuracy > at.accuracy)
    best = at.best
    if better.any():
        best = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), at.students.nodes, best
        )
    seen = np.where(better, shown, at.shown)
    late = alive & ((shown - seen >= settings.patience * epoch) | (shown >= settings.epochs * epoch))
    at = at._replace(
        best=best,
        accuracy=np.where(better, accuracy, at.accuracy),
        at=np.where(better, updates, at.at),
        shown=seen,
        stopped=np.where(late, updates, at.stopped),
    )
    return at, accuracy


def _frame(row: Row, entries: list[tuple[int, int, dict[str, float]]]) -> pl.DataFrame:
    """Tidy rows of evaluations: seed, update and metrics of each."""
    tidy = [
        (row.configuration, seed, updates, None, metric, float(value))
        for seed, updates, metrics in entries
        for metric, value in metrics.items()
    ]
    return pl.DataFrame(tidy, schema=SCHEMA, orient="row")


def _summary(
    row: Row, seeds: list[int], history: pl.DataFrame, at: _Class, test: np.ndarray, teacher: Taught | None
) -> dict[str, Any]:
    """Test accuracy at the best validation, its cost, and that of the first evaluation that reaches each goal."""
    values: dict[str, list[float | None]] = {
        "test_accuracy": test.tolist(),
        "validation_accuracy": at.accuracy.tolist(),
        "updates": at.stopped.astype(float).tolist(),
    }
    wide = history.pivot("metric", index=["seed", "round"], values="value").sort("round")
    best = pl.col("validation_accuracy") >= pl.col("validation_accuracy").max().over("seed")
    places = {"best": best} | {f"{100 * goal:.0f}": pl.col("validation_accuracy") >= goal for goal in GOALS}
    for place, reached in places.items():
        rows = wide.filter(reached).group_by("seed", maintain_order=True).first()
        first = {found["seed"]: found for found in rows.iter_rows(named=True)}
        for name, metric in _COSTS.items():
            values[f"{name}_to_{place}"] = [first.get(seed, {}).get(metric) for seed in seeds]
    return {
        "configuration": row.configuration,
        "metrics": {name: interval(each) for name, each in values.items()},
        "thesis": row.thesis,
        "teacher": None if teacher is None else teacher.facts,
    }


_COSTS = {
    "updates": "backward_passes",
    "seconds": "seconds",
    "flops": "flops",
    "student_flops": "student_flops",
    "forward_passes": "forward_passes",
    "teacher_forwards": "teacher_forwards",
}
"""Metrics of the history by the name they have in the summary."""


def _load(settings: TeachingSettings, by_name: Callable[[str], Dataset]) -> Dataset:
    return cut(by_name(settings.data), settings.examples)


def _check(settings: TeachingSettings, data: Dataset, seeds: list[int], devices: int | None) -> None:
    labels, known = corrupted(settings, data)
    owned = len(known) if settings.needs_labels else len(labels)
    if max(settings.stack) * settings.batch_size > owned:
        raise PalaverError(
            f"a stack of {max(settings.stack)} minibatches of {settings.batch_size} for {owned} training examples of "
            f"{data.name}: give a stack of at most {owned // settings.batch_size}"
        )


KIND = Kind(TeachingSettings, _load, _check, _prepare, lambda rows: {}, lambda rows: {})
