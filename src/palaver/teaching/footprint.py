"""What students and their teacher take: parameters and memory, from shapes alone."""

import jax
import jax.numpy as jnp

from palaver.data import Dataset
from palaver.studies.memory import Footprint, abstract, nbytes, peak
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.train import dense_node
from palaver.types import Batch, Node

_NUMBER = 4
"""Bytes of a float32."""


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
    node, stack = dense_node(data, settings.hidden), max(settings.stack) * settings.batch_size
    held_out = len(data.y_validation) * data.x_validation[0].size * _NUMBER
    asked = settings.asks_teacher
    teacher = dense_node(data, settings.teacher_hidden, settings.teacher_dropout)
    memory = {
        # Each student beside its best state so far; of the teacher the same, before the students are made.
        "learners": 2 * max(seeds * _state(node), _state(teacher) if asked else 0),
        "data": data.x_train.nbytes + held_out,
        "teacher's table": 2 * len(data.y_train) * data.classes * _NUMBER if asked else 0,
        "working memory": max(
            seeds * (_step(node, data, settings.batch_size) + _predictions(node, data, stack)),
            seeds * _predictions(node, data, len(data.y_validation)),
            _step(teacher, data, settings.teacher_batch_size) if asked else 0,
        ),
    }
    return Footprint(node.parameters(), None, memory)


def _state(node: Node) -> int:
    return nbytes(jax.eval_shape(node.init, jax.random.key(0)))


def _step(node: Node, data: Dataset, examples: int) -> int:
    """Bytes of a training step on so many examples."""
    state = jax.eval_shape(node.init, jax.random.key(0))
    distributions = abstract(examples, data.classes)
    batch = Batch(abstract(examples, *data.shape), distributions)
    return peak(node.step, jax.random.key(0), state, batch, (), abstract(dtype=jnp.bool_))


def _predictions(node: Node, data: Dataset, examples: int) -> int:
    """Bytes of predicting so many examples at once."""
    state = jax.eval_shape(node.init, jax.random.key(0))
    return peak(node.predict, state, abstract(examples, *data.shape))
