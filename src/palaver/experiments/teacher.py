"""The teacher of chapter 3: trained to convergence once, kept, and looked up from then on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pooch

import palaver
from palaver.data import Dataset
from palaver.engines.teach import Lesson, Material, teaching
from palaver.engines.train import seed_keys
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.teaching import Table, difficulty, precompute, read_table, selection, targets


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher and what it was taught."""

    data: str
    """Data set."""
    flipped: float
    """Share of its training labels that are wrong."""
    known: float
    """Share of its training labels that it was given."""
    hidden: tuple[int, ...]
    """Hidden widths."""
    dropout: float
    """Share of hidden units dropped in training."""
    batch_size: int
    """Examples in a batch."""
    patience: int
    """Epochs without improvement on validation after which it stops."""
    epochs: int
    """Epochs at most."""


def operations(data: Dataset, hidden: tuple[int, ...]) -> tuple[int, int]:
    """Floating-point operations of a dense network for one example: of a forward pass, and of a training step.

    A backward pass takes twice the operations of the forward pass, less the gradient to the inputs; the optimiser's
    are left out.
    """
    layers = [2 * a * b for a, b in pairwise([math.prod(data.shape), *hidden, data.classes])]
    return sum(layers), 3 * sum(layers) - layers[0]


class Taught(NamedTuple):
    """A trained teacher."""

    table: Table
    """Its distributions over training, validation and test examples, in this order."""
    facts: dict[str, float]
    """``test_accuracy``, and what it cost once: ``training_seconds``, ``training_flops``, ``table_seconds`` (what it
    says about all examples) and ``epochs``.
    """


def taught(settings: TeacherSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray) -> Taught:
    """The teacher of these settings, data, labels and version; trained once and kept in the user's cache folder.

    Args:
        settings: of the teacher.
        data: its inputs; the validation labels stop the training.
        labels: ``[M]`` training labels, as the students are told them.
        rows: of the training set whose labels are known.

    """
    parts = (labels, rows, data.x_train, data.x_validation, data.y_validation, data.x_test, data.y_test)
    digest = hashlib.sha256(json.dumps([asdict(settings), palaver.__version__], sort_keys=True).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    path = Path(pooch.os_cache("palaver")) / "teachers" / f"{digest.hexdigest()[:24]}.npy"
    x = np.concatenate([data.x_train, data.x_validation, data.x_test])
    facts = path.with_suffix(".facts.json")
    if path.exists() and facts.exists():
        return Taught(read_table(path, x), json.loads(facts.read_text()))
    print("palaver: training the teacher of these labels; it is kept for later runs", file=sys.stderr)
    began = time.perf_counter()
    teacher, epochs = _trained(settings, data, labels, rows)
    trained = time.perf_counter()
    path.unlink(missing_ok=True)
    table = precompute(teacher, x, path)
    _, step = operations(data, settings.hidden)
    told = {
        "test_accuracy": float((table.probabilities[-len(data.y_test) :].argmax(1) == data.y_test).mean()),
        "training_seconds": trained - began,
        "training_flops": float(epochs * len(rows) * step),
        "table_seconds": time.perf_counter() - trained,
        "epochs": float(epochs),
    }
    part = facts.with_name(f"{facts.name}.{os.getpid()}.part")
    part.write_text(json.dumps(told) + "\n")
    os.replace(part, facts)
    return Taught(table, told)


def _trained(
    settings: TeacherSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Trains it with early stopping: inputs to distributions, and the epochs it took."""
    node = learner(
        lambda rngs: MLP(data.shape, data.classes, hidden=settings.hidden, dropout=settings.dropout, rngs=rngs),
        distributions(),
        optimizer=optax.adam(1e-3),
    )
    unseen = jnp.zeros((len(rows), data.classes))
    material = Material(jnp.asarray(data.x_train[rows]), jnp.asarray(labels[rows], jnp.int32), unseen)
    batch = min(settings.batch_size, len(rows))
    lesson = Lesson(batch, difficulty.cross_entropy, selection.top(), targets.true())
    engine = teaching(node, lesson, material)
    students = engine.init(seed_keys([0]))
    best, stale, epoch = -1, 0, 0
    kept = students.nodes
    while epoch < settings.epochs and stale < settings.patience:
        students = engine.advance(students, max(1, len(rows) // batch), 1)
        right = int(engine.hits(students.nodes, data.x_validation, data.y_validation)[0])
        if right > best:
            best, stale, kept = right, -1, jax.tree.map(jnp.copy, students.nodes)
        stale, epoch = stale + 1, epoch + 1
    return lambda x: np.asarray(jax.nn.softmax(engine.logits(kept, x)[0])), epoch
