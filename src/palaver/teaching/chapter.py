"""Chapter 3 of the thesis as one value: students whose teacher selects their examples."""

from dataclasses import replace

from palaver.studies.chapter import Chapter
from palaver.teaching.footprint import footprint
from palaver.teaching.report import report
from palaver.teaching.report.metrics import METRICS
from palaver.teaching.report.schema import SCHEMA
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.study import check, conclude, prepare

_TINY = TeachingSettings(data="digits", batch_size=8, patience=5, epochs=20)


def _name(settings: TeachingSettings) -> str:
    """The stack's size, and how examples are chosen and labelled."""
    if max(settings.stack) == 1 and settings.target == "true":
        return "no teacher"
    sizes = " then ".join(map(str, settings.stack))
    return f"n={sizes} {settings.select} {settings.difficulty} {settings.target}"


CHAPTER = Chapter(
    name="teaching",
    unit="updates",
    settings=TeachingSettings,
    scales={
        "tiny": replace(_TINY, teacher_hidden=(64, 64), teacher_batch_size=16, teacher_patience=5, teacher_epochs=30),
        "cpu": TeachingSettings(),
        "thesis": TeachingSettings(),
    },
    name_of=_name,
    load=TeachingSettings.load,
    check=check,
    prepare=prepare,
    footprint=footprint,
    metrics=METRICS,
    report=report,
    schema=SCHEMA,
    conclude=conclude,
)
"""The thesis's students are so small that ``cpu`` is its own scale; ``tiny`` is on digits."""
