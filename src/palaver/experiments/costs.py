"""What teaching a student costs: passes and floating-point operations (thesis ch. 3 counts backward passes alone)."""

from __future__ import annotations

from typing import NamedTuple

from palaver.data import Dataset
from palaver.experiments.lessons import TeachingSettings
from palaver.experiments.teacher import operations


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
