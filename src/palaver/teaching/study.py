"""A student as a study (thesis ch. 3): training with early stopping, and what it has cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.data.inputs import to_float
from palaver.studies.chapter import Configuration, Evaluation, Study
from palaver.studies.findings import support_of
from palaver.studies.record import SCHEMA
from palaver.studies.seeds import seed_keys
from palaver.studies.statistics import interval
from palaver.teaching import selection
from palaver.teaching.costs import costs
from palaver.teaching.goals import cost_of, goals_of
from palaver.teaching.report.metrics import METRICS
from palaver.teaching.settings import TeachingSettings, corrupted, make_selection
from palaver.teaching.teacher import TrainedTeacher, load_or_train_teacher
from palaver.teaching.train import StudentsState, StudentTraining, TeachingData, dense_node, student_training
from palaver.types import NO_LABEL, NodeState, PalaverError, PyTree

_BLOCK = 25
"""Evaluations between two writings of the history."""


class RunState(NamedTuple):
    """The students of a configuration during its run."""

    students: StudentsState
    best: NodeState
    """Each at its best validation accuracy."""
    accuracy: np.ndarray
    """``[S]`` that accuracy."""
    shown: np.ndarray
    """``[S]`` the examples shown until it was reached."""
    stopped: np.ndarray
    """``[S]`` the update after which a student stopped; -1: it goes on."""
    seconds: np.ndarray
    """Scalar: seconds of training of all students together, without compilation and evaluation."""


def _data(settings: TeachingSettings, data: Dataset) -> tuple[TeachingData, TrainedTeacher | None]:
    """What the students are trained on, and the teacher, if there is one.

    These are all examples, or where labels are needed those whose labels are known.
    """
    labels, known = corrupted(settings, data)
    used = known if settings.needs_labels else np.arange(len(labels))
    distributions, teacher = np.zeros((len(used), data.classes), np.float32), None
    if settings.asks_teacher:
        teacher = load_or_train_teacher(settings, data, labels, known)
        distributions = np.asarray(teacher.table.probabilities[used])
    given = np.full_like(labels, NO_LABEL)
    given[known] = labels[known]
    return TeachingData(jnp.asarray(data.x_train[used]), jnp.asarray(given[used]), jnp.asarray(distributions)), teacher


def prepare(row: Configuration, data: Dataset, seeds: Sequence[int], devices: int) -> Study:
    """The study of a configuration; trains its teacher, or reads it from the cache.

    Args:
        row: the configuration.
        data: the data set.
        seeds: S, of the students that are trained together.
        devices: not used: students are trained on one device.

    """
    settings: TeachingSettings = row.settings
    material, teacher = _data(settings, data)
    owned, whole = len(material.labels), len(data.y_train)
    node = dense_node(data.shape, data.classes, settings.hidden, learning_rate=settings.learning_rate)
    engine = student_training(node, make_selection(settings), material)
    size = selection.stages(dict(zip(settings.stack_from, settings.stack, strict=True)))
    # Kept as the model sees it: every evaluation would convert all of it again.
    held_out = jax.device_put((to_float(jnp.asarray(data.x_validation)), data.y_validation))

    def begin() -> PyTree:
        students, none = engine.init(seed_keys(seeds)), np.full(len(seeds), -1)
        best = jax.tree.map(jnp.copy, students.nodes)
        return tuple(RunState(students, best, none - 0.0, none + 1, none, np.zeros(())))

    def advance(state: PyTree) -> tuple[PyTree, Evaluation]:
        at, entries, latest = RunState(*state), [], {}
        for _ in range(_BLOCK):
            now = int(at.students.updates)
            ends = [start for start in settings.stack_from if start > now]
            at = _train(engine, at, min([now + settings.eval_every, *ends]) - now, size(now))
            going = at.stopped < 0
            at, accuracy = _evaluate(settings, engine, held_out, whole, at)
            updates = int(at.students.updates)
            spent = costs(settings, data, owned, updates)._asdict() | {"seconds": float(at.seconds)}
            for seed, own in zip(np.asarray(seeds)[going].tolist(), accuracy[going].tolist(), strict=True):
                values = {"validation_accuracy": own} | spent
                entries += [(row.name, seed, updates, None, metric, float(value)) for metric, value in values.items()]
            latest = {"validation_accuracy": float(accuracy[going].mean())}
            if (at.stopped >= 0).all():
                break
        frame = pl.DataFrame(entries, schema=SCHEMA, orient="row")
        return tuple(at), Evaluation(int(at.students.updates), frame, latest, finished=bool((at.stopped >= 0).all()))

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        at = RunState(*state)
        test = np.asarray(engine.correct(at.best, data.x_test, data.y_test)) / len(data.y_test)
        values = {"test_accuracy": test, "validation_accuracy": at.accuracy, "updates": at.stopped.astype(float)}
        metrics = {name: interval(own.tolist(), support_of(METRICS, name)) for name, own in values.items()}
        best = cost_of(history, seeds, dict(zip(seeds, at.accuracy.tolist(), strict=True)))
        return {
            "configuration": row.name,
            "metrics": metrics | {f"{cost}_to_best": value for cost, value in best.items()},
            "thesis": row.thesis,
            "teacher": None if teacher is None else teacher.facts,
            "timings": {} if teacher is None else teacher.timings,
        }

    return Study(begin, advance, summarise)


def _train(engine: StudentTraining, at: RunState, updates: int, size: int) -> RunState:
    """So many more updates with n = ``size``; a call for none compiles first, outside the time that is taken."""
    students = jax.block_until_ready(engine.advance(at.students, 0, size))
    began = time.perf_counter()
    students = jax.block_until_ready(engine.advance(students, updates, size))
    return at._replace(students=students, seconds=at.seconds + time.perf_counter() - began)


def _evaluate(
    settings: TeachingSettings, engine: StudentTraining, held_out: tuple[Any, Any], epoch: int, at: RunState
) -> tuple[RunState, np.ndarray]:
    """Validation accuracy ``[S]``; remembers the best, and stops those that have not got better for long.

    ``epoch`` is the examples of a pass over the whole training set, also where fewer are shown.
    """
    updates, shown = int(at.students.updates), int(at.students.examples)
    going = at.stopped < 0
    accuracy = np.asarray(engine.correct(at.students.nodes, *held_out)) / len(held_out[1])
    better = going & (accuracy > at.accuracy)

    def best_of(new: Any, old: Any) -> Any:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    best = jax.tree.map(best_of, at.students.nodes, at.best) if better.any() else at.best
    seen = np.where(better, shown, at.shown)
    late = going & ((shown - seen >= settings.patience * epoch) | (shown >= settings.epochs * epoch))
    stopped = np.where(late, updates, at.stopped)
    best_accuracy = np.where(better, accuracy, at.accuracy)
    return at._replace(best=best, accuracy=best_accuracy, shown=seen, stopped=stopped), accuracy


def check(settings: TeachingSettings, data: Dataset, seeds: Sequence[int], devices: int | None) -> None:
    """Raises ``PalaverError`` for what cannot be run.

    Args:
        settings: of a student and its teacher.
        data: the data set.
        seeds: S, any number.
        devices: as given; None: not given. Not used.

    Raises:
        PalaverError: a stack that the data cannot fill.

    """
    labels, known = corrupted(settings, data)
    owned = len(known) if settings.needs_labels else len(labels)
    if max(settings.stack) * settings.batch_size > owned:
        raise PalaverError(
            f"a stack of {max(settings.stack)} minibatches of {settings.batch_size} for {owned} training examples of "
            f"{data.name}: give a stack of at most {owned // settings.batch_size}"
        )


def conclude(rows: Sequence[Configuration], summaries: list[dict[str, Any]], history: pl.DataFrame) -> dict[str, Any]:
    """Adds to every row of the summary what reaching each goal has cost.

    Args:
        rows: the configurations.
        summaries: of the configurations; changed in place.
        history: tidy rows of all configurations.

    Returns:
        ``goals``: their names.

    """
    settings: Mapping[str, Any] = {row.name: asdict(row.settings) for row in rows}
    goals = goals_of(summaries, settings)
    for summary in summaries:
        name = summary["configuration"]
        own = history.filter(pl.col("configuration") == name)
        seeds = own["seed"].unique(maintain_order=True).to_list()
        for goal, accuracy in goals[name].items():
            spent = cost_of(own, seeds, accuracy)
            summary["metrics"] |= {f"{cost}_to.{goal}": value for cost, value in spent.items()}
    return {"goals": list(dict.fromkeys(goal for own in goals.values() for goal in own))}
