"""Table 4.1 and Figures 4.1 to 4.3 of the thesis: agents that make up a language, with more and more communication."""

from __future__ import annotations

from dataclasses import replace

from palaver.experiments.language_settings import LanguageSettings

_BASE = LanguageSettings()
THESIS = {
    "none": _BASE,
    "receiving": replace(_BASE, level="receiving", weight=0.01),
    "feedback": replace(_BASE, level="feedback", weight=0.005),
    "both": replace(_BASE, level="both", weight=0.005),
}
"""The four rows of the table."""

_NUMBERS = {"none": 0.644, "receiving": 0.657, "feedback": 0.694, "both": 0.714}
"""Test accuracy of the student's linear classifier, in the thesis."""
