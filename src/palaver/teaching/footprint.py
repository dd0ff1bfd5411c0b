"""What students and their teacher take: parameters and memory, from shapes alone."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.data import Dataset
from palaver.studies.memory import WORD, Footprint, abstract, nbytes, peak
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.train import dense_node
from palaver.types import Batch, Node


class _Network(NamedTuple):
    """All that the memory of a student or teacher follows from: rows of a table share it, so it is traced once."""

    shape: tuple[int, ...]
    classes: int
    hidden: tuple[int, ...]
    dropout: float = 0.0


def footprint(settings: TeachingSettings, data: Dataset, seeds: int, devices: int) -> Footprint:
    """What students and their teacher take (``Chapter.footprint``).

    Args:
        settings: of the students and their teacher.
        data: the data set.
        seeds: S students that are trained together.
        devices: not used: students are trained on one device.

    Returns:
        Parameters of a student, and the memory. Nothing is sent.

    """
    student, stack = _Network(data.shape, data.classes, settings.hidden), max(settings.stack) * settings.batch_size
    held_out = len(data.y_validation) * data.x_validation[0].size * WORD
    asked = settings.asks_teacher
    teacher = _Network(data.shape, data.classes, settings.teacher_hidden, settings.teacher_dropout)
    memory = {
        # Each student beside its best state so far; of the teacher the same, before the students are made.
        "learners": 2 * max(seeds * _state(student), _state(teacher) if asked else 0),
        "data": data.x_train.nbytes + held_out,
        "teacher's table": 2 * len(data.y_train) * data.classes * WORD if asked else 0,
        "working memory": max(
            seeds * (_step(student, settings.batch_size) + _predictions(student, stack)),
            seeds * _predictions(student, len(data.y_validation)),
            _step(teacher, settings.teacher_batch_size) if asked else 0,
        ),
    }
    return Footprint(_node(student).parameters(), None, memory)


@cache
def _node(network: _Network) -> Node:
    return dense_node(*network)


@cache
def _state(network: _Network) -> int:
    return nbytes(jax.eval_shape(_node(network).init, jax.random.key(0)))


@cache
def _step(network: _Network, examples: int) -> int:
    """Bytes of a training step on so many examples, beside the state before it, which is given up."""
    node = _node(network)
    state = jax.eval_shape(node.init, jax.random.key(0))
    batch = Batch(abstract(examples, *network.shape), abstract(examples, network.classes))
    return peak(node.step, jax.random.key(0), state, batch, (), abstract(dtype=jnp.bool_)) - nbytes(state)


@cache
def _predictions(network: _Network, examples: int) -> int:
    """Bytes of predicting so many examples at once."""
    node = _node(network)
    state = jax.eval_shape(node.init, jax.random.key(0))
    return peak(node.predict, state, abstract(examples, *network.shape))
