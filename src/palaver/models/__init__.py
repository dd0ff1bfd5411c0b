"""Small models for nodes. Any flax nnx module can be used in their place: see ``palaver.node``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx

from palaver.models.bigan import BiGAN
from palaver.models.blocks import NORMS, Sizes
from palaver.models.classifiers import CNN, MLP
from palaver.models.vae import VAE

__all__ = ["AUTOENCODERS", "CNN", "MLP", "MODELS", "NORMS", "VAE", "Architecture", "BiGAN"]


class Architecture(NamedTuple):
    """A kind of network."""

    convolutional: bool
    """Whether it needs images with sides that can be halved once for each width."""
    classifier: Callable[..., nnx.Module]
    """``classifier(shape, classes, widths=, dropout=, rngs=)``: the network that learns labels.

    It is called with ``dtype=jnp.bfloat16`` too where settings ask for that precision, and if it is convolutional with
    ``norm=``, one of ``NORMS``, where they ask for another than the batch norm.
    """
    autoencoders: bool = False
    """Whether it is also what the modules of ``AUTOENCODERS`` are made of, convolutional or not."""
    hidden: bool = True
    """Whether it has hidden layers; without, widths and dropout mean nothing."""


def _linear(shape: Sizes, classes: int, *, widths: Sizes, dropout: float, **rest: Any) -> nnx.Module:
    """No hidden layers, so no widths and nothing to drop."""
    return MLP(shape, classes, hidden=(), **rest)


MODELS: dict[str, Architecture] = {
    "mlp": Architecture(False, lambda *args, widths, **rest: MLP(*args, hidden=widths, **rest), True),
    "cnn": Architecture(True, lambda *args, widths, **rest: CNN(*args, channels=widths, **rest), True),
    "linear": Architecture(False, _linear, hidden=False),
}
"""Every kind of network by the name that settings give it; an entry that is added is accepted wherever names are."""

AUTOENCODERS: dict[str, Callable[..., nnx.Module]] = {"vae": VAE, "bigan": BiGAN}
"""The module of each objective that needs no labels, by the objective's name; all others train a classifier.

Each is called with ``(shape, latent=, widths=, convolutional=, rngs=)``, and ``dtype=`` as a classifier is.
"""
