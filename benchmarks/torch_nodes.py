"""The thesis's way: PyTorch nodes trained one after the other, eagerly, on batches that are already at hand."""

from __future__ import annotations

import os
from collections.abc import Callable

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


def rounds(make: Callable[[], nn.Module], x: torch.Tensor, nodes: int, count: int) -> Callable[[], None]:
    """``count`` rounds of ``nodes`` nodes, Adam, cross-entropy."""
    models = [make().train() for _ in range(nodes)]
    optimisers = [torch.optim.Adam(model.parameters()) for model in models]
    labels = torch.randint(0, 10, (len(x),))

    def run() -> None:
        for _ in range(count):
            for model, optimiser in zip(models, optimisers, strict=True):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                optimiser.step()

    return run
