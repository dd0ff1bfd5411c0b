"""(a) MNIST MLP 784-32-32-10, batch 32, 10 nodes with exchange, against PyTorch nodes without, one after the other."""

from palaver.devices import use_cores

use_cores()

import torch  # noqa: E402

from benchmarks.measure import Prepared, alternate, real, say  # noqa: E402
from benchmarks.torch_nodes import mlp, rounds  # noqa: E402
from palaver.exchange.settings import CollectiveSettings  # noqa: E402

OURS, THEIRS = 200, 10

prepared = Prepared(CollectiveSettings(data="mnist", model="mlp"), real("mnist", (28, 28)), OURS)
medians = alternate({"ours": prepared.advance, "theirs": rounds(mlp, torch.randn(32, 784), 10, THEIRS)})
say(mlp_10_nodes=(10 * OURS / medians["ours"], 10 * THEIRS / medians["theirs"], "node-steps/s"))
