"""(n) FedAvg beside simulators of federated learning: Flower's simulation engine (on Ray) and fedjax's loop.

The same MLP (two layers of 32), MNIST in equal shards, SGD, and in every round of a client 16 steps (``--steps``) on
minibatches of 32 before the weights are averaged, for 10, 100 and 1,000 clients. Flower's clients take their steps in
one compiled JAX program, as ours do; Ray has a process for each core, and data are in each process. What is timed is
the difference between many rounds and few, so that starting and compiling are left out; it is printed beside. Of
Flower, whose every run starts Ray anew, it is the time between the averages of its second and its last round. Needs an
environment of its own, since Flower wants older libraries than ``constraints.txt`` has:
``pip install -e ".[simulators]"``, then ``python -m benchmarks.simulators``.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.measure import real
from palaver.devices import use_cores
from palaver.exchange.build import make_collective, make_shards, make_simulation
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.sharding import auto_sharding
from palaver.studies.seeds import seed_keys
from palaver.types import NodeState, PyTree

BATCH, RATE = 32, 0.1
CLIENTS = 10, 100, 1000
STEPPED = {"palaver": (2200, 12), "fedjax": (220, 4)}
"""Rounds of each, times clients, and the fewest rounds; what is timed is their difference to a tenth of them."""
FLOWERS = 7
"""Rounds of Flower, of which those after the second are timed."""


def settings(clients: int, steps: int) -> CollectiveSettings:
    """Of the collective."""
    own = {"data": "mnist", "nodes": clients, "method": "fedavg", "period": steps, "channel": "none"}
    return CollectiveSettings(**own, batch_size=BATCH, optimizer="sgd", learning_rate=RATE, rounds=steps)


@cache
def made(clients: int) -> tuple[Any, Any, Any]:
    """Data set, collective and shards."""
    data = real("mnist", (28, 28))
    how = settings(clients, 1)
    return data, make_collective(how, data), make_shards(how, data, [0])


def loss(clients: int, params: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross-entropy of the collective's node."""
    node = made(clients)[1].groups[0][0]
    logits = node.predict(NodeState(params, {}, []), x).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


@cache
def shard(clients: int, client: int) -> tuple[np.ndarray, np.ndarray]:
    """A client's examples, as floats in [0, 1]."""
    data, _, parts = made(clients)
    rows = np.asarray(parts.index)[0, client, : int(parts.size[0, client])]
    return data.x_train[rows].astype(np.float32) / 255, data.y_train[rows]


def first(clients: int) -> PyTree:
    """The parameters that all begin with."""
    return made(clients)[1].groups[0][0].init(jax.random.key(0)).params


def accuracy(clients: int, params: PyTree) -> float:
    """On the test set."""
    data, group, _ = made(clients)
    logits = group.groups[0][0].predict(NodeState(params, {}, []), jnp.asarray(data.x_test, jnp.float32) / 255).logits
    return float((np.asarray(logits).argmax(-1) == data.y_test).mean())


def palaver(clients: int, steps: int, rounds: int) -> PyTree:
    """The model after so many rounds."""
    sim = _simulation(clients, steps)
    state = sim.advance(sim.init(seed_keys([0])), steps * rounds)
    return jax.tree.map(lambda leaf: leaf[0, 0], state.nodes[0].params)


@cache
def _simulation(clients: int, steps: int) -> Any:
    _, group, parts = made(clients)
    sharding = auto_sharding([clients], None, work=group.work(1))
    return make_simulation(settings(clients, steps), group, parts, [0], sharding)


def fedjax(clients: int, steps: int, rounds: int) -> PyTree:
    """The same by fedjax's own federated averaging."""
    vars(jax)["tree_map"] = jax.tree.map  # fedjax calls what JAX has removed
    import fedjax as other
    from fedjax.algorithms import fed_avg

    algorithm, given = _of_fedjax(other, fed_avg, clients, steps)
    state = algorithm.init(first(clients))
    for number in range(rounds):
        keys = jax.random.split(jax.random.PRNGKey(number), clients)
        state, _ = algorithm.apply(state, [(id_, own, key) for (id_, own), key in zip(given, keys, strict=True)])
    return jax.block_until_ready(state.params)


@cache
def _of_fedjax(other: Any, fed_avg: Any, clients: int, steps: int) -> tuple[Any, list[tuple[bytes, Any]]]:
    algorithm = fed_avg.federated_averaging(
        lambda params, batch, _key: jax.grad(partial(loss, clients))(params, batch["x"], batch["y"]),
        other.optimizers.sgd(RATE),
        other.optimizers.sgd(1.0),
        other.ShuffleRepeatBatchHParams(batch_size=BATCH, num_epochs=None, num_steps=steps, drop_remainder=True),
    )
    shards = (shard(clients, client) for client in range(clients))
    return algorithm, [
        (str(place).encode(), other.ClientDataset({"x": x, "y": y})) for place, (x, y) in enumerate(shards)
    ]


@cache
def compiled(clients: int) -> Callable[[PyTree, jax.Array, jax.Array], PyTree]:
    """The steps of one of Flower's clients, compiled once a process: a pickled ``jax.jit`` would compile anew."""
    return jax.jit(partial(_steps, clients))


def _steps(clients: int, params: PyTree, x: jax.Array, y: jax.Array) -> PyTree:
    """SGD over minibatches ``x [steps, B, ...]``."""
    gradient = jax.grad(partial(loss, clients))

    def one(params: PyTree, batch: tuple[jax.Array, jax.Array]) -> tuple[PyTree, None]:
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradient(params, *batch)), None

    return jax.lax.scan(one, params, (x, y))[0]


def flower(clients: int, steps: int, rounds: int) -> tuple[list[float], PyTree]:
    """The same by Flower's simulation engine and federated averaging: when each round ended, and the model."""
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    leaves, tree = jax.tree.flatten(first(clients))
    latest, ended = list[Any](), list[float]()

    class Client(NumPyClient):
        def __init__(self, number: int) -> None:
            self.number = number

        def fit(self, parameters: Any, config: Any) -> Any:
            x, y = shard(clients, self.number)
            rng = np.random.default_rng([config["round"], self.number])
            rows = np.concatenate([rng.permutation(len(y)) for _ in range(-(-steps * BATCH // len(y)))])
            rows = rows[: steps * BATCH].reshape(steps, BATCH)
            after = compiled(clients)(tree.unflatten(parameters), x[rows], y[rows])
            return [np.asarray(leaf) for leaf in jax.tree.leaves(after)], len(y), {}

    class Kept(FedAvg):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            if failures:
                raise RuntimeError(f"{len(failures)} of Flower's clients failed: {failures[0]}")
            found = super().aggregate_fit(server_round, results, failures)
            latest[:] = [found[0]]
            ended.append(time.perf_counter())
            return found

    def server(_context: Any) -> ServerAppComponents:
        strategy = Kept(
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_available_clients=clients,
            initial_parameters=ndarrays_to_parameters([np.asarray(leaf) for leaf in leaves]),
            on_fit_config_fn=lambda number: {"round": number},
        )
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))

    run_simulation(
        ServerApp(server_fn=server),
        ClientApp(client_fn=lambda context: Client(int(context.node_config["partition-id"])).to_client()),
        num_supernodes=clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"log_to_driver": False}},
    )
    return ended, tree.unflatten(parameters_to_ndarrays(latest[0]))


SIDES: dict[str, Callable[[int, int, int], PyTree]] = {"palaver": palaver, "fedjax": fedjax}


def timed(run: Callable[[int], PyTree], few: int, many: int) -> tuple[float, float, PyTree]:
    """Seconds of a round, seconds of everything else at the first call, and the model after the many rounds."""
    seconds, params = [], None
    for rounds in (few, few, many):
        start = time.perf_counter()
        params = run(rounds)
        seconds.append(time.perf_counter() - start)
    each = (seconds[2] - seconds[1]) / (many - few)
    return each, seconds[0] - few * each, params


def main() -> None:
    """Prints a row for each side and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--steps", type=int, default=16, help="of every client between two averages")
    given = parser.parse_args()
    use_cores()
    os.environ["RAY_DEDUP_LOGS"] = "0"
    logging.getLogger("flwr").setLevel(logging.ERROR)
    table = Table("clients", "", "ms a round", "times ours", "s to start", "test accuracy %", title=describe())
    for clients in given.clients:
        found = dict[str, tuple[float, float, PyTree, int]]()
        for name, side in SIDES.items():
            many = max(STEPPED[name][0] // clients, STEPPED[name][1])
            found[name] = *timed(partial(side, clients, given.steps), max(many // 10, 1), many), many
        began = time.perf_counter()
        ended, params = flower(clients, given.steps, FLOWERS)
        found["Flower"] = (ended[-1] - ended[1]) / (FLOWERS - 2), ended[1] - began, params, FLOWERS
        for name, (each, start, params, rounds) in found.items():
            after = f"{100 * accuracy(clients, params):.1f} after {rounds}"
            times = each / found["palaver"][0]
            table.add_row(f"{clients:,}", name, f"{1000 * each:.2f}", f"{times:.1f}", f"{start:.1f}", after)
    Console(width=120).print(table)


if __name__ == "__main__":
    from benchmarks import simulators  # Ray's processes import what they run by its module's name

    simulators.main()
