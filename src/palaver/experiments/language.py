"""One language with the user's own settings."""

from __future__ import annotations

from palaver.experiments.language_settings import LanguageSettings
from palaver.experiments.study import Row

SCALES = {
    "tiny": LanguageSettings(data="digits", hidden=(64,), critic_hidden=64, steps=200, eval_every=100),
    "cpu": LanguageSettings(),
    "thesis": LanguageSettings(),
}


def row(settings: LanguageSettings) -> Row:
    """A single configuration, named by who speaks, how, and who hears."""
    who = f"{settings.agents} agent{'s' if settings.agents > 1 else ''}"
    said = f"{settings.length} of {settings.vocabulary} symbols"
    return Row(f"{who}, {settings.level}, {said}, {settings.estimator}, {settings.information}", settings, thesis={})
