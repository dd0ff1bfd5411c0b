"""The report of a language: tables, figures and words, from a run's result files alone."""

from palaver.language.report.sections import report

__all__ = ["report"]
