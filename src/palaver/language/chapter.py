"""Chapter 4 of the thesis as one value: agents that develop a discrete language."""

from palaver.language.footprint import footprint
from palaver.language.report import report
from palaver.language.report.metrics import METRICS
from palaver.language.report.schema import SCHEMA
from palaver.language.settings import LanguageSettings
from palaver.language.study import prepare
from palaver.studies.chapter import Chapter


def _name(settings: LanguageSettings) -> str:
    """How many agents, who receives, and how messages are made."""
    who = f"{settings.agents} agent{'s' if settings.agents > 1 else ''}"
    message = f"{settings.length} of {settings.vocabulary} symbols"
    return f"{who}, {settings.level}, {message}, {settings.estimator}, {settings.information}"


CHAPTER = Chapter(
    name="language",
    unit="steps",
    settings=LanguageSettings,
    scales={
        "tiny": LanguageSettings(data="digits", hidden=(64,), critic_hidden=64, steps=200, eval_every=100),
        "cpu": LanguageSettings(),
        "thesis": LanguageSettings(),
    },
    name_of=_name,
    load=LanguageSettings.load,
    prepare=prepare,
    footprint=footprint,
    ahead=True,
    metrics=METRICS,
    report=report,
    schema=SCHEMA,
    length=lambda settings: settings.steps,
)
"""The thesis's agents are so small that ``cpu`` is its own scale; ``tiny`` is on digits."""
