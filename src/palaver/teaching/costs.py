"""The cost of teaching a student: passes and floating-point operations (thesis ch. 3 counts backward passes alone)."""

import math
from itertools import pairwise
from typing import NamedTuple

from palaver.data import Dataset
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.targets import TARGETS


class Costs(NamedTuple):
    """The cost of a number of updates of one student; its teacher's training is not included."""

    backward_passes: float
    """Minibatches of m examples."""
    forward_passes: float
    """Examples that the student predicted, to score them or to train on them."""
    teacher_forwards: float
    """Examples that the teacher predicted: each at most once, since it is frozen."""
    flops: float
    """Floating-point operations of the student, and of the teacher's predictions."""
    student_flops: float
    """Floating-point operations of the student alone."""


def operations(data: Dataset, hidden: tuple[int, ...]) -> tuple[int, int]:
    """Floating-point operations of a dense network for one example: of a forward pass, and of a training step.

    A backward pass takes twice the operations of the forward pass, less the gradient with respect to the inputs; the
    optimiser's operations are left out.

    Args:
        data: its inputs' shape and its classes are the widths of the first and the last layer.
        hidden: widths of the layers between.

    Returns:
        FLOP for one example: of its forward pass, and of the whole training step.

    """
    layers = [2 * a * b for a, b in pairwise([math.prod(data.shape), *hidden, data.classes])]
    return sum(layers), 3 * sum(layers) - layers[0]


def costs(settings: TeachingSettings, data: Dataset, examples: int, updates: int) -> Costs:
    """The cost of one student's first updates; the operations of the selection itself are left out.

    Args:
        settings: of the student and its teacher.
        data: the data set.
        examples: of the training set that the student uses.
        updates: made so far.

    Returns:
        Sums over the updates.

    """
    m = settings.batch_size
    forward, step = operations(data, settings.hidden)
    teacher_forward, _ = operations(data, settings.teacher_hidden)
    ends = [*settings.stack_from[1:], updates]
    scored = taught = 0
    for size, start, end in zip(settings.stack, settings.stack_from, ends, strict=True):
        made = max(0, min(end, updates) - start)
        scored += made * size * m if settings.scores(size) else 0
        # Where the teacher does not score the stack, it predicts only the examples that the student is trained on.
        asked = size if settings.teacher_scores(size) else int(TARGETS[settings.target].needs_teacher)
        taught += made * asked * m
    trained, taught = updates * m, min(examples, taught)
    flops = scored * forward + trained * step
    return Costs(updates, scored + trained, taught, flops + taught * teacher_forward, flops)
