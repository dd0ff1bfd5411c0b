"""What nodes send each other. Each channel is a ``palaver.types.Channel`` made by a factory."""

from collections.abc import Callable
from typing import Any

from palaver.channels.exchange import features, labels, labels_logits, logits, none
from palaver.channels.gaussian import gaussian
from palaver.channels.packing import Integers, encoded_bits, integers, pack, unpack
from palaver.types import Channel

__all__ = [
    "CHANNELS",
    "Integers",
    "encoded_bits",
    "features",
    "gaussian",
    "integers",
    "labels",
    "labels_logits",
    "logits",
    "none",
    "pack",
    "unpack",
]


def _form(settings: Any) -> dict[str, Any]:
    written = {"temperature": settings.temperature, "bits": settings.payload_bits, "top": settings.top}
    return written | {"corrected": settings.corrected}


CHANNELS: dict[str, Callable[[Any], Channel]] = {
    "none": lambda _: none(),
    "labels": lambda _: labels(),
    "logits": lambda settings: logits(**_form(settings)),
    "labels+logits": lambda settings: labels_logits(mix=settings.mix, **_form(settings)),
    "features": lambda settings: features(weight=settings.feature_weight),
    "gaussian": lambda settings: gaussian(weight=settings.feature_weight),
}
"""Every channel by the name that settings give it; an entry that is added here is accepted wherever names are.

The argument is a settings object with ``temperature``, ``payload_bits``, ``top``, ``corrected``, ``mix`` and
``feature_weight``.
"""

OF_CLASSES = {"labels", "logits", "labels+logits"}
"""Channels that send something about classes, which nodes without labels do not have."""
