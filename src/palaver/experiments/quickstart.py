"""The main job in half a minute: ten sites with skewed handwriting digits, silent, averaging weights, or talking."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Row
from palaver.studies.settings import following

_BASE = CollectiveSettings(split="dirichlet", skew=0.1, reference=0.25, learning_rate=0.003, target=0.85)
"""Of the three learning rates of ``versus`` the best for averaged weights, and for the others within a point of it."""
SCALES = {
    "tiny": replace(_BASE, rounds=40, eval_every=20, target=0.5),
    "cpu": replace(_BASE, rounds=1000, eval_every=100),
    "thesis": replace(_BASE, rounds=5000, eval_every=100),
}


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """Ten sites that are silent, average their weights, talk about a reference set, or send examples; and one model.

    A quarter of the training set, without its labels, is the reference set. No other configuration uses it, and one
    model with everything has what the ten sites have together. A site alone is the average node of the silent ten.
    """
    base = following(SCALES[scale], overrides, "reference", "fraction", "rounds")
    outputs = {"channel": "logits", "combine": "mean", "weighted": True, "payload_bits": 4, "top": 2}
    few = {"topology": "random-changing", "neighbours": 3, "redraw_every": 10, "p_broadcast": 0.3, "least_change": 0.1}
    own = {"reference": 0.0, "reference_data": "", "fraction": base.fraction * (1 - base.reference)}
    period = max(each for each in range(1, 101) if base.rounds % each == 0)
    ten = {"nodes": 10}
    found = {
        "10 sites, silent": ten | {"channel": "none"},
        f"10 sites, averaged weights (FedAvg, every {period})": ten
        | {"method": "fedavg", "period": period, "eval_every": period},
        "10 sites, outputs on a reference set": ten | outputs | few,
        "10 sites, own examples and labels": ten | own | {"channel": "labels"},
        "1 model with everything": {"nodes": 1, "channel": "none"},
    }
    return [Row(name, SCALES[scale], own) for name, own in found.items()]
