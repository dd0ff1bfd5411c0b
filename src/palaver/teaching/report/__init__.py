"""What a run of students and their teacher found: tables, figures and words, from its result files alone."""

from palaver.teaching.report.sections import report

__all__ = ["report"]
