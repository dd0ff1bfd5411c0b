"""One collective with the user's own settings."""

from __future__ import annotations

from palaver.experiments.settings import CollectiveSettings
from palaver.experiments.study import Row

SCALES = {
    "tiny": CollectiveSettings(rounds=40, eval_every=20, examples=2000),
    "cpu": CollectiveSettings(),
    "thesis": CollectiveSettings(rounds=5000, eval_every=100),
}


def row(settings: CollectiveSettings) -> Row:
    """A single configuration, named by what is said to whom."""
    who = f"{settings.nodes} node{'s' if settings.nodes > 1 else ''}"
    said = "silent" if settings.channel == "none" or settings.nodes == 1 else f"{settings.channel}, {settings.topology}"
    return Row(f"{who}, {said}", settings, thesis={})
