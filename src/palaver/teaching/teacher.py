"""The teacher of chapter 3: trained to convergence once; its predictions are kept and looked up from then on."""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pooch

from palaver.data import Dataset
from palaver.studies.files import write_json, writing
from palaver.studies.seeds import seed_keys
from palaver.teaching import difficulty, selection, targets
from palaver.teaching.arrays import Predict
from palaver.teaching.costs import operations
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.table import Table, precompute, read_table
from palaver.teaching.train import SelectionConfig, TeachingData, dense_node, student_training

_RECIPE = 1
"""Of the teacher, part of its name in the cache; raise it when its training or its predictions change."""


class TrainedTeacher(NamedTuple):
    """A trained teacher."""

    table: Table
    """Its distributions over training, validation and test examples, in this order."""
    facts: dict[str, float]
    """``test_accuracy``, ``epochs``, and its cost, paid once: ``training_flops``."""
    timings: dict[str, float]
    """What it took when it was trained: ``training_seconds``, and ``table_seconds`` (the predictions for all
    examples).
    """


def load_or_train_teacher(
    settings: TeachingSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray
) -> TrainedTeacher:
    """The teacher of these settings, data and labels; trained once and kept in the user's cache folder.

    Args:
        settings: of a student and its teacher.
        data: its inputs; the validation labels stop the training.
        labels: ``[M]`` training labels, as the students get them.
        rows: ``[K]`` of the training set whose labels are known; the teacher is trained on these alone.

    Returns:
        Its predictions for all examples, and what it knows and has cost.

    Raises:
        PalaverError: the file in the cache is damaged; the message names it.
        MachineError: the cache cannot be written.

    """
    path = _cache_path(settings, data, labels, rows)
    facts_path = path.with_suffix(".facts.json")
    x = np.concatenate([data.x_train, data.x_validation, data.x_test])
    if path.exists() and facts_path.exists():
        return TrainedTeacher(read_table(path, x), *_apart(json.loads(facts_path.read_text())))
    print("palaver: training the teacher of these labels; it is kept for later runs", file=sys.stderr)
    began = time.perf_counter()
    no_teacher = jnp.zeros((len(rows), data.classes))
    own = TeachingData(jnp.asarray(data.x_train[rows]), jnp.asarray(labels[rows], jnp.int32), no_teacher)
    teacher, epochs = _train(settings, data, own)
    trained = time.perf_counter()
    with writing(path):
        path.unlink(missing_ok=True)
        table = precompute(teacher, x, path)
    _, step = operations(data, settings.teacher_hidden)
    facts = {
        "test_accuracy": float((table.probabilities[-len(data.y_test) :].argmax(1) == data.y_test).mean()),
        "training_seconds": trained - began,
        "training_flops": float(epochs * len(rows) * step),
        "table_seconds": time.perf_counter() - trained,
        "epochs": float(epochs),
    }
    write_json(facts_path, facts)
    return TrainedTeacher(table, *_apart(facts))


def _apart(facts: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Facts without readings of the clock, and these readings."""
    timings = {name: facts[name] for name in ("training_seconds", "table_seconds")}
    return {name: value for name, value in facts.items() if name not in timings}, timings


def _cache_path(settings: TeachingSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray) -> Path:
    """Where the teacher's table lies: a name for everything that its predictions depend on."""
    own = {name: value for name, value in asdict(settings).items() if name.startswith("teacher_")}
    digest = hashlib.sha256(json.dumps([own, _RECIPE], sort_keys=True).encode())
    for part in (labels, rows, data.x_train, data.x_validation, data.y_validation, data.x_test, data.y_test):
        digest.update(np.ascontiguousarray(part).data)
    return Path(pooch.os_cache("palaver")) / "teachers" / f"{digest.hexdigest()[:24]}.npy"


def _train(settings: TeachingSettings, data: Dataset, own: TeachingData) -> tuple[Predict, int]:
    """Trains it with early stopping.

    Args:
        settings: of the teacher.
        data: its validation part stops the training.
        own: what it is trained on.

    Returns:
        The best teacher, inputs to distributions, and the epochs that were trained.

    """
    node = dense_node(data.shape, data.classes, settings.teacher_hidden, settings.teacher_dropout)
    batch_size = min(settings.teacher_batch_size, len(own.labels))
    config = SelectionConfig(batch_size, difficulty.cross_entropy, selection.top(), targets.true())
    training = student_training(node, config, own)
    state = training.init(seed_keys([0]))
    most, best, stale, epoch = -1, state.nodes, 0, 0
    while epoch < settings.teacher_epochs and stale < settings.teacher_patience:
        state = training.advance(state, len(own.labels) // batch_size, 1)
        correct = int(training.correct(state.nodes, data.x_validation, data.y_validation)[0])
        epoch, stale = epoch + 1, stale + 1
        if correct > most:
            most, best, stale = correct, jax.tree.map(jnp.copy, state.nodes), 0
    return lambda x: np.asarray(jax.nn.softmax(training.logits(best, x)[0])), epoch
