"""(i) What talk about a reference set costs: processor time of a node's round, by when nodes speak and what they keep.

Ten fully connected MLPs of 32-32, batch 32, logits, on digits and on inputs of MNIST's shape; the exchange of own
examples stands beside it. The outputs on the reference set are a second forward pass beside the step's, whose cost is
measured for three places: ``speakers``: the pass is made for those who speak (as the library does), ``everybody``: for
all nodes at once, ``folded``: its rows are in the step's own batch. Processor time, since a machine has other work to
do; all take turns, and each time is the least of many.
"""

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.measure import real, say
from palaver import channels
from palaver.data import Dataset
from palaver.exchange import reference
from palaver.exchange.build import make_collective, make_shards
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.simulate import simulation
from palaver.models import MLP
from palaver.node import supervised
from palaver.studies.seeds import seed_keys
from palaver.types import Node, Outputs

NODES, ROUNDS, REPEATS = 10, 400, 9
TALKS: dict[str, dict[str, Any]] = {
    "own": {},
    "latest": {"reference": 0.1},
    "mean": {"reference": 0.1, "combine": "mean"},
}
SPEAK = {"at equilibrium": -1.0, "every other round": 0.5}


class Folded(nnx.Module):
    """The step's network with as many rows more, whose logits are given as features."""

    def __init__(self, shape: tuple[int, ...], rngs: nnx.Rngs):
        self.inner = MLP(shape, 10, hidden=(32, 32), rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        logits = self.inner(jnp.concatenate([x, x[::-1]])).logits
        return Outputs(logits[: len(x)], logits[len(x) :])


def folded(shape: tuple[int, ...]) -> Node:
    """A node that makes what it says about a reference set in the forward pass of its step."""
    sent = channels.logits()._replace(encode=lambda outputs, _labels: outputs.features)
    node = supervised(lambda rngs: Folded(shape, rngs), sent)

    def step(*args: Any) -> Any:
        after, info = node.step(*args)
        return after, info._replace(loss=info.loss + 1e-30 * info.payload.sum())  # or XLA would leave it out

    return node._replace(step=step)


def _everybody(node: Node, states: Any, x: jax.Array, *_: Any) -> Any:
    assert node.encode is not None
    return jax.vmap(jax.vmap(node.encode, (0, None)))(states, x)


def _nobody(node: Node, states: Any, x: jax.Array, speaks: jax.Array, *_: Any) -> Any:
    return jnp.zeros((*speaks.shape, x.shape[1], 10))


PASSES = {"speakers": reference.outputs_of_speakers, "everybody": _everybody, "folded": _nobody}


def prepared(data: Dataset, talk: str, speak: str, where: str) -> Callable[[], None]:
    """So many rounds of a collective, compiled."""
    settings = CollectiveSettings(channel="logits", p_broadcast=SPEAK[speak], **TALKS[talk])
    group = make_collective(settings, data)
    if where == "folded":
        group = group._replace(groups=((folded(data.shape), NODES),))
    sim = simulation(group, make_shards(settings, data, [0]))
    state = [sim.init(seed_keys([0]))]

    def advance() -> None:
        state[0] = sim.advance(state[0], ROUNDS)

    with mock.patch.object(reference, "outputs_of_speakers", PASSES[where]):
        advance()
    return advance


def costs(data: Dataset) -> dict[tuple[str, str, str], float]:
    """µs of processor time of a node's round, by talk, how often nodes speak, and where the second pass is made."""
    places = [(talk, speak, where) for speak in SPEAK for talk in TALKS for where in PASSES]
    sides = {place: prepared(data, *place) for place in places if place[0] != "own" or place[2] == "speakers"}
    least = dict.fromkeys(sides, float("inf"))
    for _ in range(REPEATS):
        for place, advance in sides.items():
            start = time.process_time()
            advance()
            least[place] = min(least[place], 1e6 * (time.process_time() - start) / (NODES * ROUNDS))
    return least


def main() -> None:
    table = Table("inputs", "nodes speak", "about", "µs a node-round", "everybody", "folded", title=describe())
    ratios = {}
    for name, shape in {"digits": (8, 8), "mnist": (28, 28)}.items():
        found = costs(real(name, shape))
        for talk, speak in ((talk, speak) for speak in SPEAK for talk in TALKS):
            cost = [found.get((talk, speak, where)) for where in PASSES]
            table.add_row(name, speak, talk, *("" if each is None else f"{each:.2f}" for each in cost))
            ratios[name, talk, speak] = found[talk, speak, "speakers"] / found["own", speak, "speakers"]
    Console(stderr=True, width=100).print(table)
    say(
        **{
            f"reference_{talk}_{name}": (
                ratios[name, talk, "at equilibrium"],
                1.5,
                "< × a node-round about own examples",
            )
            for name in ("digits", "mnist")
            for talk in ("latest", "mean")
        }
    )


if __name__ == "__main__":
    main()
