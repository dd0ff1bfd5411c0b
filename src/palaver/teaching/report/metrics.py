"""Every metric of students and their teachers, and how it is shown."""

from palaver.studies.findings import Metric
from palaver.studies.formats import count, percent, three_digits


def _giga(value: float | None) -> str:
    """A number in thousands of millions."""
    return three_digits(None if value is None else value / 1e9)


RESULTS = (
    Metric("test_accuracy", "test %", "accuracy, %", "higher", percent, factor=100, compare=True),
    Metric("updates_to_best", "updates to it", "updates", "lower", count),
    Metric("updates_to.*", "updates to {}", "updates", "lower", count, compare=True),
)
COSTS = (
    Metric("updates", "updates", "updates", "lower", count),
    Metric("seconds", "seconds", "s", "lower", three_digits),
    Metric("student_flops", "student GFLOP", "GFLOP", "lower", _giga),
    Metric("flops", "GFLOP with teacher", "GFLOP", "lower", _giga),
    Metric("forward_passes", "forward passes", "examples", "lower", count),
    Metric("teacher_forwards", "teacher's forward passes", "examples", "lower", count),
)
"""Costs of reaching a goal; the goal follows the name in a summary."""

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
