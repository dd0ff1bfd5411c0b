"""Small models for nodes. Any flax nnx module will do in their place: see ``palaver.node``."""

from palaver.models.bigan import BiGAN
from palaver.models.cnn import CNN
from palaver.models.mlp import MLP
from palaver.models.vae import VAE

__all__ = ["CNN", "MLP", "VAE", "BiGAN"]
