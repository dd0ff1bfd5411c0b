"""Everything that the thesis says about how nodes talk (§2.3.1 to §2.4), a family of configurations for each question.

The thesis's packets, a node's own examples, unless a family says otherwise.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Row
from palaver.studies.settings import following

_BASE = CollectiveSettings(data="mnist", channel="labels", temperature=0.5, eval_examples=2000, target=0.93)
SCALES = {
    "tiny": {"data": "digits", "rounds": 20, "eval_every": 10, "target": 0.5},
    "cpu": {"rounds": 3000, "eval_every": 100},
    "thesis": {"rounds": 5000, "eval_every": 100},
}
REFERENCE = 0.1
"""Share of the training set that is the reference set, where there is one. Without one nodes have as many examples."""

CHANNELS: dict[str, dict[str, Any]] = {
    "silent": {"channel": "none"},
    "labels": {"channel": "labels"},
    "logits": {"channel": "logits"},
    "features": {"channel": "features"},
}
NODES = 1, 2, 5, 10, 20, 30, 50, 100
MANY = 256, 1000
NEIGHBOURS = range(1, 10)
LISTENING = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9
TEMPERATURES = 0.1, 0.25, 0.5, 1.0, 2.0, 4.0
BURN_IN = 0.0, 0.1, 0.25, 0.5
WEIGHTS = 0.001, 0.01, 0.1, 1.0, 10.0
_SKEWED = {"split": "dirichlet", "skew": 0.1}
_SPLITS: dict[str, dict[str, Any]] = {"i.i.d.": {"split": "iid"}, "Dirichlet 0.1": _SKEWED}

GRAPHS: dict[str, dict[str, Any]] = {
    "ring of 4": {"topology": "ring", "neighbours": 4},
    "random, 4": {"topology": "random", "neighbours": 4},
    "changing, 4": {"topology": "random-changing", "neighbours": 4, "redraw_every": 10},
    "full": {"topology": "full", "neighbours": 0},
}
"""On each of them as many packets arrive as are read."""

VARIATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "16 units": {"widths": (16, 16)},
    "128 units": {"widths": (128, 128)},
    "rate 0.0003": {"learning_rate": 0.0003},
    "rate 0.003": {"learning_rate": 0.003},
    "rate 0.01": {"learning_rate": 0.01},
    "SGD, rate 0.1": {"optimizer": "sgd", "learning_rate": 0.1},
    "AdamW, 0.1": {"weight_decay": 0.1},
    "L1, 0.03": {"l1": 0.03},
    "dropout 0.2": {"dropout": 0.2},
    "early stopping": {"patience": 5},
}
"""What is not about talking, and might change which channel is best."""


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """The configurations of every family; a name begins with its family's."""
    base = following(replace(_BASE, **SCALES[scale]), overrides, "rounds", "fraction")
    return [
        Row(f"{family}: {name}", base, own, {}, family)
        for family, configurations in families(base).items()
        for name, own in configurations.items()
    ]


def families(base: CollectiveSettings) -> dict[str, dict[str, dict[str, Any]]]:
    """The configurations by family and name.

    Args:
        base: the settings that they share.

    """
    own = {"reference": 0.0, "reference_data": ""}
    few = own | {"fraction": base.fraction * (1 - REFERENCE)}  # as many examples as nodes have beside a reference set
    refers = {"reference": REFERENCE, "combine": "mean", "weighted": True, "channel": "logits", "payload_bits": 16}
    labels, logits = CHANNELS["labels"], CHANNELS["logits"]
    found: dict[str, dict[str, dict[str, Any]]] = {
        "Nodes": {f"{n} {'node' if n == 1 else 'nodes'}": {"nodes": n} for n in NODES},
        "Neighbours": {f"{n}": {"topology": "random", "neighbours": n} for n in NEIGHBOURS},
        "Listening": {f"p_c {p:g}": {"p_consume": p} for p in LISTENING},
    }
    for split, of_split in _SPLITS.items():
        for what, how in (("own examples", logits | few), ("a reference set", refers)):
            found[f"Temperature, {what}, {split}"] = {
                f"τ {tau:g}": how | of_split | {"temperature": tau} for tau in TEMPERATURES
            }
    found["Burn-in"] = {f"{share:g} of the rounds": logits | {"burn_in": int(share * base.rounds)} for share in BURN_IN}
    found["Graph"] = {
        f"{name}, {channel}": CHANNELS[channel] | how
        for name, how in GRAPHS.items()
        for channel in ("labels", "logits")
    }
    for name, how in VARIATIONS.items():
        found[f"Order of channels, {name}"] = {channel: own | how for channel, own in CHANNELS.items()}
    found["Scale of the features' loss"] = {
        f"weight {weight:g}": CHANNELS["features"] | {"feature_weight": weight} for weight in WEIGHTS
    }
    once = {"rebroadcast": False}  # what comes back has no label that the sender could correct
    found["Wrong packets"] = {"labels": labels | once} | {
        f"logits{end}, τ {tau:g}": logits | once | {"corrected": corrected, "temperature": tau}
        for tau in (0.1, 0.5)
        for end, corrected in (("", False), (", corrected", True))
    }
    found["Labels against an ensemble"] = {
        "labels": labels,
        "bagging": {"method": "bagging", "channel": "none"},
        "ensemble": {"method": "ensemble", "channel": "none"},
    }
    one = {"nodes": 1, "channel": "none"}
    found["One model or several"] = {
        "1 node, 16 units": one | {"widths": (16, 16)},
        "1 node, 32 units": one,
        "1 node, 32 units, dropout 0.2": one | {"dropout": 0.2},
        "1 node, 128 units": one | {"widths": (128, 128)},
        "1 node, 128 units, dropout 0.5": one | {"widths": (128, 128), "dropout": 0.5},
        "an ensemble, 128 units": {"method": "ensemble", "channel": "none", "widths": (128, 128)},
    }
    unlabelled = {"labelled": 0.1}
    found["A tenth of the labels"] = {
        "1 node with all of them": {"nodes": 1} | unlabelled,
        **{name: own | unlabelled for name, own in CHANNELS.items()},
    }
    found["Specialists by class"] = {name: own | {"split": "class"} for name, own in CHANNELS.items()}
    better = {"split": "one-large", "group": ("mlp:128-128:1", "mlp:9")}
    found["A better broadcaster"] = {name: own | better for name, own in CHANNELS.items() if name != "features"}
    found["Many nodes"] = {f"{n} nodes": {"nodes": n} for n in MANY}
    found["Who answers"] = {
        f"{n} nodes, {name}": CHANNELS[name] | {"nodes": n, "calibrate": True}
        for n in (10, 100, 1000)
        for name in ("silent", "labels")
    }
    return found
