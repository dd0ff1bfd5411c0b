"""(e) VAEs, 10 nodes with exchange, against the same VAEs in PyTorch without, one after the other.

Convolutional at the cpu scale of Table 2.3 on CIFAR-10 (PyTorch channels-last), dense on digits and on MNIST.
"""

from palaver.devices import use_cores

use_cores()

from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402

import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.measure import Prepared, alternate, real, say  # noqa: E402
from benchmarks.torch_nodes import rounds, vae_cnn, vae_mlp  # noqa: E402
from palaver.experiments import table_2_3  # noqa: E402

NODES = 10
CPU = replace(table_2_3.SCALES["cpu"], objective="vae", channel="gaussian")


def compare(
    data: str, shape: tuple[int, ...], make: Callable[[], nn.Module], x: torch.Tensor, ours: int, theirs: int
) -> tuple[float, float, str]:
    """Node-steps a second of both sides; ``ours`` and ``theirs`` are rounds a turn."""
    settings = replace(CPU, data=data, widths=CPU.widths if data == "cifar10" else ())
    prepared = Prepared(settings, real(data, shape), ours)
    side = rounds(make, x, NODES, theirs, lambda model, x: model(x))
    medians = alternate({"ours": prepared.advance, "theirs": side})
    return NODES * ours / medians["ours"], NODES * theirs / medians["theirs"], "node-steps/s"


picture = torch.rand(64, 3, 32, 32).to(memory_format=torch.channels_last)
dense = (256, 128)
say(
    vae_cnn_10_nodes=compare("cifar10", (32, 32, 3), lambda: vae_cnn(CPU.widths, CPU.latent), picture, 10, 4),
    vae_mlp_10_nodes_digits=compare(
        "digits", (8, 8), lambda: vae_mlp(64, dense, CPU.latent), torch.rand(64, 64), 100, 20
    ),
    vae_mlp_10_nodes_mnist=compare(
        "mnist", (28, 28), lambda: vae_mlp(784, dense, CPU.latent), torch.rand(64, 784), 20, 10
    ),
)
