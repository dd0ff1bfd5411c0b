"""The teacher of chapter 3: trained to convergence once, kept, and looked up from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

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


def table(settings: TeacherSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray) -> Table:
    """The teacher's distributions over training, validation and test examples, in this order.

    Made once for these settings, data, labels and version, and kept in the user's cache folder.

    Args:
        settings: of the teacher.
        data: its inputs; the validation labels stop the training.
        labels: ``[M]`` training labels, as the students are told them.
        rows: of the training set whose labels are known.

    """
    told = hashlib.sha256(labels.tobytes() + rows.tobytes() + data.y_validation.tobytes()).hexdigest()
    name = json.dumps([asdict(settings), palaver.__version__, told], sort_keys=True)
    path = Path(pooch.os_cache("palaver")) / "teachers" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npy"
    x = np.concatenate([data.x_train, data.x_validation, data.x_test])
    if path.exists():
        return read_table(path, x)
    return precompute(_trained(settings, data, labels, rows), x, path)


def _trained(
    settings: TeacherSettings, data: Dataset, labels: np.ndarray, rows: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Trains it with early stopping; inputs to distributions."""
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
    best, stale = -1, 0
    kept = students.nodes
    for _ in range(settings.epochs):
        students = engine.advance(students, max(1, len(rows) // batch), 1)
        right = int(engine.hits(students.nodes, data.x_validation, data.y_validation)[0])
        if right > best:
            best, stale, kept = right, 0, jax.tree.map(jnp.copy, students.nodes)
        else:
            stale += 1
        if stale >= settings.patience:
            break
    return lambda x: np.asarray(jax.nn.softmax(engine.logits(kept, x)[0]))
