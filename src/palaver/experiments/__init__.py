"""The experiments by name: each one a list of configurations at three scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from palaver.experiments import quickstart, table_2_1, table_2_3, table_3_1, table_4_1
from palaver.experiments.study import Row


class Experiment(NamedTuple):
    """What ``palaver list`` shows and ``palaver run`` runs."""

    about: str
    rows: Callable[[str, str | None], list[Row]]
    """``rows(scale, data)`` for the scales ``tiny``, ``cpu`` and ``thesis``; ``data`` in place of its own, or None."""
    seeds: int
    """How many seeds when none are asked for."""


EXPERIMENTS = {
    "quickstart": Experiment(
        "ten nodes on digits, silent or talking, beside one node alone (a minute on two cores)", quickstart.rows, 5
    ),
    "table-2.1": Experiment(
        "thesis Tables 2.1 and 2.2: what ten nodes should tell each other, on CIFAR-10", table_2_1.rows, 3
    ),
    "table-2.3": Experiment(
        "thesis Table 2.3: VAE and BiGAN nodes that learn without labels, on CIFAR-10", table_2_3.rows, 3
    ),
    "table-3.1": Experiment(
        "thesis Table 3.1 and Figure 3.1: a teacher that picks the examples, on MNIST", table_3_1.rows, 5
    ),
    "table-4.1": Experiment(
        "thesis Table 4.1 and Figures 4.1 to 4.3: agents that make up a language, on MNIST", table_4_1.rows, 5
    ),
}
SCALES = ("tiny", "cpu", "thesis")

__all__ = ["EXPERIMENTS", "SCALES", "Experiment"]
