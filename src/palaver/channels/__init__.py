"""What nodes say to each other. Each channel is a ``palaver.types.Channel`` made by a factory."""

from palaver.channels.exchange import features, labels, labels_logits, logits
from palaver.channels.gaussian import gaussian

__all__ = ["features", "gaussian", "labels", "labels_logits", "logits"]
