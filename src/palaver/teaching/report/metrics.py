"""Every metric of students and their teachers, and how it is shown."""

from functools import partial

from palaver.studies.findings import Metric
from palaver.studies.formats import count, percent, three_digits


def _giga(value: float | None) -> str:
    """A number in thousands of millions."""
    return three_digits(None if value is None else value / 1e9)


_passes = partial(Metric, better="lower", form=count, factor=1e-3)
_flops = partial(Metric, better="lower", form=_giga, factor=1e-9)

RESULTS = (
    Metric("test_accuracy", "test %", "accuracy, %", "higher", percent, factor=100, compare=True),
    Metric("updates_to_best", "updates to it", "updates", "lower", count),
    Metric("updates_to.*", "updates to {}", "updates", "lower", count, compare=True),
)
COSTS = (
    Metric("updates", "updates", "updates (backward passes)", "lower", count),
    _passes("forward_passes", "forward passes", "examples the student predicted, thousands"),
    _passes("teacher_forwards", "teacher's forward passes", "examples the teacher predicted, thousands"),
    _flops("student_flops", "student GFLOP", "student's operations, GFLOP"),
    _flops("flops", "GFLOP with teacher", "operations with the teacher's, GFLOP"),
    Metric("seconds", "seconds", "seconds of training, all seeds at once", "lower", three_digits),
)
"""Costs of reaching a goal; the goal follows the name in a summary. Each is a column, and a panel over its axis."""

TEACHER = (
    Metric("test_accuracy", "test %", form=percent),
    Metric("epochs", "epochs", form=count),
    Metric("training_seconds", "seconds of training"),
    Metric("training_flops", "GFLOP of training", form=_giga),
    Metric("table_seconds", "seconds of its table"),
)
"""What a teacher knows, and what it costs once: its training, and its predictions of every example."""

METRICS = (
    *RESULTS,
    Metric("seconds_to.*", "seconds to {}", "s", "lower", three_digits, compare=True),
    Metric("validation_accuracy", "validation %", "accuracy, %", "higher", percent, headline="validation {} %"),
)
