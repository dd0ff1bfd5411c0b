"""(b) Strided CNN on CIFAR-10, batch 64, 10 nodes, against PyTorch channels-last and the machine's matmul peak.

The same at bfloat16, against PyTorch's autocast.

(c) What the exchange costs there, fully connected: the share of a round that training alone would not take.
"""

from palaver.devices import use_cores

use_cores()

from dataclasses import replace  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from benchmarks.measure import Prepared, alternate, real, say  # noqa: E402
from benchmarks.torch_nodes import autocast, classified, cnn, rounds  # noqa: E402
from palaver.exchange.settings import CollectiveSettings  # noqa: E402

COUNT, SIZE = 4, 2048
LAYERS = ((16 * 16, 48, 32), (8 * 8, 512, 64), (4 * 4, 1024, 128), (1, 2048, 10))
"""Positions, fan-in and outputs of each layer: a forward pass takes ``2 · Π`` operations an example."""
FORWARD = [2 * positions * fan_in * out for positions, fan_in, out in LAYERS]
STEP = 64 * (3 * sum(FORWARD) - FORWARD[0])
"""Operations of a training step of one node: forward, and twice that backward, less the gradient to the pixels."""

settings = CollectiveSettings(data="cifar10", model="cnn", batch_size=64, channel="logits")
cifar = real("cifar10", (32, 32, 3))
prepared = Prepared(settings, cifar, COUNT)
mixed = Prepared(replace(settings, precision="bfloat16"), cifar, COUNT)
cores = jax.devices()
square = jax.device_put(jnp.ones((len(cores), SIZE, SIZE)), NamedSharding(Mesh(np.array(cores), ("c",)), P("c")))
product = jax.jit(lambda a: a @ a)  # one product a core, all at once: the machine's peak, not one core's
picture = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
medians = alternate(
    {
        "ours": prepared.advance,
        "theirs": rounds(cnn, picture, 10, COUNT),
        "ours_bfloat16": mixed.advance,
        "theirs_bfloat16": rounds(cnn, picture, 10, COUNT, autocast(classified)),
        "peak": lambda: [product(square).block_until_ready() for _ in range(8)] and None,
        "bare": prepared.advance_bare,
    }
)
steps = 10 * COUNT / medians["ours"]
peak = 8 * len(cores) * 2 * SIZE**3 / medians["peak"]
share = max(1e-4, 1 - medians["bare"] / medians["ours"])
say(
    cnn_10_nodes=(steps, 10 * COUNT / medians["theirs"], "node-steps/s"),
    cnn_10_nodes_bfloat16=(
        10 * COUNT / medians["ours_bfloat16"],
        10 * COUNT / medians["theirs_bfloat16"],
        "node-steps/s",
    ),
    cnn_of_70_percent_of_matmul_peak=(steps * STEP / 1e9, 0.7 * peak / 1e9, "GFLOP/s"),
    cnn_exchange_share_of_round=(share, 0.10, "< share"),
)
