"""What agents that develop a language send: tables, figures and words, from a run's result files alone."""

from palaver.language.report.sections import report

__all__ = ["report"]
