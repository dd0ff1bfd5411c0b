"""Tables, figures and one self-contained page, rebuilt from a run's result files and nothing else."""

from palaver.report.figures import (
    accuracy_over_bits,
    accuracy_over_rounds,
    decision_rules,
    graph,
    temperature,
    write_figures,
)
from palaver.report.files import Result, last_rounds, read_result
from palaver.report.interval import Interval, interval
from palaver.report.learning import latent_grids, learning
from palaver.report.page import warning_lines, write_report
from palaver.report.pictures import pictures, read_pictures
from palaver.report.tables import bits_table, compare_table, results_table, rules_table

__all__ = [
    "Interval",
    "Result",
    "accuracy_over_bits",
    "accuracy_over_rounds",
    "bits_table",
    "warning_lines",
    "compare_table",
    "decision_rules",
    "graph",
    "interval",
    "last_rounds",
    "latent_grids",
    "learning",
    "pictures",
    "read_pictures",
    "read_result",
    "results_table",
    "rules_table",
    "temperature",
    "write_figures",
    "write_report",
]
