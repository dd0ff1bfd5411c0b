"""The main job in a minute: ten nodes on real handwriting, each with a tenth of it, communicating or not."""

from dataclasses import replace

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Configuration

SCALES = {
    "tiny": CollectiveSettings(rounds=40, eval_every=20, target=0.5),
    "cpu": CollectiveSettings(rounds=500, eval_every=25, target=0.95),
    "thesis": CollectiveSettings(rounds=5000, eval_every=100, target=0.95),
}


def rows(scale: str, data: str | None = None) -> list[Configuration]:
    """Two baselines of one node, the silent ten, and three channels; on digits, or ``data``."""
    base = replace(SCALES[scale], data=data or SCALES[scale].data)
    one = replace(base, nodes=1, channel="none")
    rows = {
        "1 node, everything": one,
        "1 node, a tenth": replace(one, fraction=0.1),
        "10 nodes, silent": replace(base, channel="none"),
        "10 nodes, labels": replace(base, channel="labels"),
        "10 nodes, logits": replace(base, channel="logits"),
        "10 nodes, labels+logits": replace(base, channel="labels+logits"),
    }
    return [Configuration(name, settings, thesis={}) for name, settings in rows.items()]
