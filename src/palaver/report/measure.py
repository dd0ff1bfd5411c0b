"""What a run's accuracies are of: the validation examples, or the test set through a linear probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_probe(summary: Mapping[str, Any]) -> bool:
    """Whether the nodes learnt without labels, so that accuracies are those of a linear probe on their features.

    Such a run's accuracies are taken on the test set, every node at its best validation stage so far, and it has no
    rounds to a target.
    """
    return summary.get("measure") == "probe"


def accuracy_name(summary: Mapping[str, Any]) -> str:
    """The accuracy's name in titles and on axes."""
    return "test accuracy of the linear probe" if is_probe(summary) else "validation accuracy"
