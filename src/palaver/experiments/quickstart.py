"""The main job in a minute: ten nodes on real handwriting, each with a tenth of it, communicating or not."""

from collections.abc import Mapping
from typing import Any

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Row

SCALES = {
    "tiny": CollectiveSettings(rounds=40, eval_every=20, target=0.5),
    "cpu": CollectiveSettings(rounds=500, eval_every=25, target=0.95),
    "thesis": CollectiveSettings(rounds=5000, eval_every=100, target=0.95),
}


def rows(scale: str, _overrides: Mapping[str, Any]) -> list[Row]:
    """Two baselines of one node, the silent ten, and three channels."""
    one, ten = {"nodes": 1, "channel": "none"}, {"nodes": 10, "fraction": 1.0}
    found = {
        "1 node, everything": one | {"fraction": 1.0},
        "1 node, a tenth": one | {"fraction": 0.1},
        "10 nodes, silent": ten | {"channel": "none"},
        "10 nodes, labels": ten | {"channel": "labels"},
        "10 nodes, logits": ten | {"channel": "logits"},
        "10 nodes, labels+logits": ten | {"channel": "labels+logits"},
    }
    return [Row(name, SCALES[scale], own) for name, own in found.items()]
