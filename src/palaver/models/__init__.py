"""Small models for nodes. Any flax nnx module will do in their place: see ``palaver.node.supervised``."""

from palaver.models.cnn import CNN
from palaver.models.mlp import MLP

__all__ = ["CNN", "MLP"]
