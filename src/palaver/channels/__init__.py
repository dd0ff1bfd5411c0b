"""What nodes say to each other. Each channel is a ``palaver.types.Channel`` made by a factory."""

from palaver.channels.exchange import features, labels, labels_logits, logits

__all__ = ["features", "labels", "labels_logits", "logits"]
