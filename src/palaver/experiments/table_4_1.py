"""Table 4.1 and Figures 4.1 to 4.3 of the thesis: agents that make up a language, with more and more communication."""

from collections.abc import Mapping
from typing import Any

from palaver.language.settings import LanguageSettings
from palaver.studies.chapter import Row
from palaver.studies.settings import following

_LEVELS: dict[str, dict[str, Any]] = {
    "none": {"level": "none"},
    "receiving": {"level": "receiving", "weight": 0.01},
    "feedback": {"level": "feedback"},
    "both": {"level": "both"},
}
"""The four rows of the table; the weight of the last two is the default."""

SCALES = {
    "tiny": LanguageSettings(data="digits", hidden=(32,), critic_hidden=32, steps=60, eval_every=30),
    "cpu": LanguageSettings(),
    "thesis": LanguageSettings(),
}
"""The thesis's agents are so small that ``cpu`` is its own scale; ``tiny`` is on digits."""

_NUMBERS = {"none": 0.644, "receiving": 0.657, "feedback": 0.694, "both": 0.714}
"""Test accuracy of the student's linear classifier, in the thesis."""


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """The table's rows, the same with views that differ more, what may turn the order, and every open end.

    On other data the thesis's numbers do not apply.
    """
    base = following(SCALES[scale], overrides, "data", "hidden", "batch_size", "length")
    both = _LEVELS["both"]
    wide = {"hidden": tuple(4 * width for width in base.hidden)}
    nce = {"information": "info-nce", "critic": "separable", "batch_size": 2 * base.batch_size}
    bits = base.length
    # Views that complement each other: what the other sees is worth predicting.
    views: dict[str, dict[str, Any]] = {"halves": {"view": "halves"}, "windows": {"view": "crops", "crop": 0.5}}
    # What may turn the order under the thesis's masks.
    turns: dict[str, dict[str, Any]] = {
        "four times as wide": wide,
        "a quarter as long": {"length": bits // 4},
        "twice as long": {"length": 2 * bits},
        "straight-through": {"estimator": "straight-through"},
        "30 % noise": {"noise": 0.3},
    }
    # The chapter's open ends, where views complement each other.
    halves = both | {"view": "halves"}
    recurrent = {"generator": "recurrent"}
    ends: dict[str, dict[str, Any]] = {
        "straight-through": {"estimator": "straight-through"},
        "REINFORCE": {"estimator": "reinforce"},
        "MINE": {"information": "donsker-varadhan"},
        "InfoNCE": nce,
        "twice as long": {"length": 2 * bits},
        "16 symbols": {"length": bits // 4, "vocabulary": 16},
        "recurrent": recurrent,
        "recurrent, variable length": recurrent | {"length": bits // 4, "vocabulary": 17, "variable_length": True},
        "8 agents": {"agents": 8},
    }
    families: dict[str, dict[str, dict[str, Any]]] = {
        "Table 4.1": _LEVELS,
        "Views that complement each other": {
            f"{name}: {level}": view | how for name, view in views.items() for level, how in _LEVELS.items()
        },
        "What may turn the order": {
            f"{name}: {level}": how | _LEVELS[level] for name, how in turns.items() for level in ("none", "both")
        }
        | {
            "ten times the weight: both": both | {"weight": 0.05},
            "distributions predicted: both": both | {"predict": "distribution"},
            "untrained agents": {"level": "none", "learning_rate": 0.0},
        },
        "Open ends, on halves": {
            f"halves, {name}: {level}": halves | how | {"level": level}
            for name, how in ends.items()
            for level in ("none", "both")
        }
        | {"halves, 8 agents in a ring: both": halves | {"agents": 8, "topology": "ring"}},
        "Messages that a decoder can turn back": _decoded(wide, nce, bits),
    }
    numbers = {name: {"probe_accuracy": number} for name, number in _NUMBERS.items() if base.data == "mnist"}
    return [
        Row(name, base, own, numbers.get(name, {}), family)
        for family, found in families.items()
        for name, own in found.items()
    ]


def _decoded(wide: dict[str, Any], nce: dict[str, Any], bits: int) -> dict[str, dict[str, Any]]:
    """Beyond the thesis: messages that a decoder can turn back into the view, and that survive uncertain symbols.

    They differ from the other rows in much more, so they are compared with each other alone.
    """
    decoded = {"information": "barber-agakov", "critic": "likelihood", "clip": 1.0, "predict": "distribution"}
    decoded |= {"hidden": wide["hidden"], "batch_size": nce["batch_size"], "probe_learning_rate": 0.003}
    windows = decoded | {"view": "crops", "crop": 0.7}
    levels = {level: {"level": level, "weight": 4.0} for level in _LEVELS}
    # A symbol of sixteen becomes as likely as one of two, 0.88.
    sixteen = {"length": bits // 4, "vocabulary": 16, "clip": 2.35}
    unbounded = {"clip": 0.0}  # where a weight of 4 makes the messages constant
    return {f"decoded windows: {level}": windows | how for level, how in levels.items()} | {
        "decoded windows, 16 symbols: none": windows | levels["none"] | sixteen,
        "decoded windows, 16 symbols: both": windows | levels["both"] | sixteen,
        "decoded windows, unbounded logits: none": windows | levels["none"] | unbounded,
        "decoded windows, unbounded logits: both": windows | levels["both"] | unbounded | {"weight": 2.0},
        "decoded masks: none": decoded | levels["none"],
        "decoded masks: both": decoded | levels["both"],
    }
