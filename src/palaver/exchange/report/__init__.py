"""What a run of collectives found: tables, figures and words, from its result files alone."""

from palaver.exchange.report.sections import report

__all__ = ["report"]
