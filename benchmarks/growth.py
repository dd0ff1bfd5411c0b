"""(h) What a node's round costs in a ring, a random graph and a full graph of 10 to 10,000 nodes.

MLP 64-32-32-10, batch 16, logits, random inputs. The exchange's share of a round is ``1 - bare / ours``. ``bare`` is
the same collective with the exchange left out (``measure.Prepared.advance_bare``): every node takes the same number of
optimiser steps, but it never reads and never broadcasts, so that no random draws, inboxes, packets or payloads are
computed, nor the channel's loss. All sizes of a topology take turns; each time is the least of five, since whatever
else the machine does can only add to it.
"""

from palaver.devices import use_cores

use_cores()

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from benchmarks.measure import Prepared, alternate, say  # noqa: E402
from palaver.data import Dataset  # noqa: E402
from palaver.exchange.settings import CollectiveSettings  # noqa: E402

TOPOLOGIES = {"ring": 2, "random": 6, "full": 0}
"""Neighbours of each; 0: all."""
SIZES, BASE = (10, 100, 1000, 4000, 10_000), 100
NODE_ROUNDS, LEAST_ROUNDS, REPEATS = 20_000, 16, 5
"""Rounds of a turn: enough for so many node-rounds, and at least so many rounds."""
EXAMPLES, FEATURES, CLASSES = 20_000, 64, 10


def inputs() -> Dataset:
    """Random examples, at least one for each node."""
    rng = np.random.default_rng(0)
    x = rng.random((EXAMPLES, FEATURES), np.float32)
    y = rng.integers(0, CLASSES, EXAMPLES).astype(np.int32)
    return Dataset("random", x, y, x[:100], y[:100], x[:100], y[:100], CLASSES)


def costs(topology: str, neighbours: int, data: Dataset) -> dict[int, tuple[float, float]]:
    """By number of nodes: µs of a node-round, and the exchange's share of it."""
    sides, rounds = {}, {nodes: max(LEAST_ROUNDS, NODE_ROUNDS // nodes) for nodes in SIZES}
    for nodes in SIZES:
        settings = CollectiveSettings(
            nodes=nodes, topology=topology, neighbours=neighbours, channel="logits", batch_size=16
        )
        prepared = Prepared(settings, data, rounds[nodes])
        sides |= {f"ours {nodes}": prepared.advance, f"bare {nodes}": prepared.advance_bare}
    seconds = alternate(sides, REPEATS, of=min)
    return {
        nodes: (
            1e6 * seconds[f"ours {nodes}"] / (nodes * rounds[nodes]),
            1 - seconds[f"bare {nodes}"] / seconds[f"ours {nodes}"],
        )
        for nodes in SIZES
    }


def main() -> None:
    data = inputs()
    found = {topology: costs(topology, neighbours, data) for topology, neighbours in TOPOLOGIES.items()}
    table = Table("topology", "nodes", "µs a node-round", "exchange", f"cost / that at {BASE}", title=describe())
    for topology, sizes in found.items():
        for nodes, (cost, share) in sizes.items():
            table.add_row(topology, f"{nodes:,}", f"{cost:.2f}", f"{share:.1%}", f"{cost / sizes[BASE][0]:.2f}")
    Console(stderr=True, width=100).print(table)

    def share(*sizes: int) -> float:
        return max(1e-4, *(of_size[nodes][1] for of_size in found.values() for nodes in sizes))

    say(
        growth_exchange_share_10_nodes=(share(10), 0.30, "< share"),
        growth_exchange_share_1000_and_4000_nodes=(share(1000, 4000), 0.15, "< share"),
        growth_cost_at_4000_nodes=(
            max(sizes[4000][0] / sizes[BASE][0] for sizes in found.values()),
            1.25,
            "< × a node-round of 100 nodes",
        ),
    )


if __name__ == "__main__":
    main()
