"""Chapter 2 of the thesis as one value: collectives that exchange outputs."""

from palaver.exchange.footprint import footprint
from palaver.exchange.reads import unread
from palaver.exchange.report.metrics import METRICS
from palaver.exchange.report.schema import SCHEMA
from palaver.exchange.report.sections import report
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.study import check, conclude, plan, prepare
from palaver.studies.chapter import Chapter


def _name(settings: CollectiveSettings) -> str:
    """How many nodes, and what they send to whom, or by which other method they train."""
    who = f"{settings.nodes} node{'s' if settings.nodes > 1 else ''}"
    if settings.method != "exchange":
        return f"{who}, {settings.method}"
    return f"{who}, silent" if settings.silent else f"{who}, {settings.channel}, {settings.topology}"


CHAPTER = Chapter(
    name="collective",
    unit="rounds",
    settings=CollectiveSettings,
    scales={
        "tiny": CollectiveSettings(rounds=40, eval_every=20, examples=1000),
        "cpu": CollectiveSettings(),
        "thesis": CollectiveSettings(rounds=5000, eval_every=100),
    },
    name_of=_name,
    load=CollectiveSettings.load,
    check=check,
    prepare=prepare,
    footprint=footprint,
    metrics=METRICS,
    report=report,
    schema=SCHEMA,
    unread=unread,
    ahead=True,
    sharded=True,
    length=lambda settings: settings.rounds,
    plan=plan,
    conclude=conclude,
)
