"""Every metric of students and their teachers, and how it is shown."""

from functools import partial

from palaver.studies.findings import Metric
from palaver.studies.formats import count, percent, three_digits


def _giga(value: float | None) -> str:
    """A number in thousands of millions."""
    return three_digits(None if value is None else value / 1e9)


_accuracy = partial(Metric, unit="accuracy, %", better="higher", form=percent, support="fraction")
_cost = partial(Metric, better="lower", support="positive")
_passes = partial(_cost, form=count, factor=1e-3)
_flops = partial(_cost, form=_giga, factor=1e-9)

RESULTS = (
    _accuracy("test_accuracy", "test %", factor=100, compare=True),
    _cost("updates_to_best", "updates to it", "updates", form=count),
    _cost("updates_to.*", "updates to {}", "updates", form=count, compare=True),
)
COSTS = (
    _cost("updates", "updates", "updates (backward passes)", form=count),
    _passes("forward_passes", "forward passes", "examples the student predicted, thousands"),
    _passes("teacher_forwards", "teacher's forward passes", "examples the teacher predicted, thousands"),
    _flops("student_flops", "student GFLOP", "student's operations, GFLOP"),
    _flops("flops", "GFLOP with teacher", "operations with the teacher's, GFLOP"),
    _cost("seconds", "seconds", "seconds of training, all seeds at once"),
)
"""Costs of reaching a goal; the goal follows the name in a summary. Each is a column, and a panel over its axis."""

TEACHER = (
    _accuracy("test_accuracy", "test %"),
    _cost("epochs", "epochs", form=count),
    _cost("training_seconds", "seconds of training"),
    _cost("training_flops", "GFLOP of training", form=_giga),
    _cost("table_seconds", "seconds of its table"),
)
"""What a teacher knows, and what it costs once: its training, and its predictions of every example."""

METRICS = (
    *RESULTS,
    *COSTS,
    _cost("seconds_to.*", "seconds to {}", "s", compare=True),
    *(cost._replace(name=f"{cost.name}_to{goal}") for cost in COSTS for goal in (".*", "_best")),
    _accuracy("validation_accuracy", "validation %", headline="validation {} %"),
)
