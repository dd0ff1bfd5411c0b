"""The main job in a minute: ten nodes on real handwriting, each with a tenth of it, talking or not."""

from __future__ import annotations

from dataclasses import replace

from palaver.experiments.runner import Row
from palaver.experiments.settings import CollectiveSettings

SCALES = {
    "tiny": CollectiveSettings(rounds=40, eval_every=20, target=0.5),
    "cpu": CollectiveSettings(rounds=500, eval_every=25, target=0.95),
    "thesis": CollectiveSettings(rounds=5000, eval_every=100, target=0.95),
}


def rows(scale: str) -> list[Row]:
    """Two baselines of one node, the silent ten, and three channels."""
    base = SCALES[scale]
    one = replace(base, nodes=1, channel="none")
    return [
        Row("1 node, everything", one),
        Row("1 node, a tenth", replace(one, fraction=0.1)),
        Row("10 nodes, silent", replace(base, channel="none")),
        Row("10 nodes, labels", replace(base, channel="labels")),
        Row("10 nodes, logits", replace(base, channel="logits")),
        Row("10 nodes, labels+logits", replace(base, channel="labels+logits")),
    ]
