"""As in the thesis: PyTorch nodes trained one after the other, eagerly, on batches that are already in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

torch.set_num_threads(os.cpu_count() or 1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10)).to(memory_format=torch.channels_last)


class VAE(nn.Module):
    """An encoder to μ and log σ² and its mirror; ``forward`` is the negative evidence lower bound of a batch."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        nll = nn.functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (nll + 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum()) / len(x)


def vae_mlp(pixels: int, widths: tuple[int, ...], latent: int) -> nn.Module:
    def dense(sizes: list[int]) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return VAE(dense([pixels, *widths, 2 * latent]), dense([latent, *reversed(widths), pixels]))


def vae_cnn(widths: tuple[int, ...], latent: int, side: int = 32) -> nn.Module:
    encoder: list[nn.Module] = []
    for before, after in pairwise((3, *widths)):
        encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    left, deepest = side // 2 ** len(widths), widths[-1]
    decoder: list[nn.Module] = [
        nn.Linear(latent, deepest * left**2, bias=False),
        nn.Unflatten(1, (deepest, left, left)),
        nn.BatchNorm2d(deepest),
        nn.ReLU(),
    ]
    for before, after in pairwise(reversed(widths)):
        up = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        decoder += [up, nn.BatchNorm2d(after), nn.ReLU()]
    decoder.append(nn.ConvTranspose2d(widths[0], 3, 4, stride=2, padding=1))
    whole = VAE(
        nn.Sequential(*encoder, nn.Flatten(), nn.Linear(deepest * left**2, 2 * latent)), nn.Sequential(*decoder)
    )
    return whole.to(memory_format=torch.channels_last)


def classified(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The cross-entropy with arbitrary labels: the cost does not depend on them."""
    return nn.functional.cross_entropy(model(x), torch.arange(len(x)) % 10)


def autocast(
    loss: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    """The loss computed in mixed precision, bfloat16 and float32, as PyTorch chooses by operation."""

    def mixed(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(model, x)

    return mixed


def rounds(
    make: Callable[[], nn.Module],
    x: torch.Tensor,
    nodes: int,
    count: int,
    loss: Callable[[nn.Module, torch.Tensor], torch.Tensor] = classified,
) -> Callable[[], None]:
    """``count`` rounds of ``nodes`` nodes, Adam, descending ``loss(model, x)``."""
    models = [make().train() for _ in range(nodes)]
    optimisers = [torch.optim.Adam(model.parameters()) for model in models]

    def run() -> None:
        for _ in range(count):
            for model, optimiser in zip(models, optimisers, strict=True):
                optimiser.zero_grad()
                loss(model, x).backward()
                optimiser.step()

    return run
