"""Students and their teacher as studies (thesis ch. 3): training with early stopping, and what it has cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl

from palaver.data import Dataset
from palaver.engines.simulate import as_input
from palaver.engines.teach import Material, Students, Teaching, teaching
from palaver.engines.train import seed_keys
from palaver.experiments.costs import costs
from palaver.experiments.folder import SCHEMA
from palaver.experiments.lessons import TeachingSettings, corrupted, make_lesson
from palaver.experiments.settings import cut
from palaver.experiments.study import Kind, Row, Seen, Study
from palaver.experiments.teacher import Taught, TeacherSettings, taught
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.report.interval import interval
from palaver.teaching import selection
from palaver.types import NO_LABEL, NodeState, PalaverError, PyTree

GOALS = (0.95, 0.96, 0.97)
"""Validation accuracies whose costs are reported."""

_BLOCK = 25
"""Evaluations between two writings of the history."""


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
