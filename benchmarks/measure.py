"""Timing both sides of a comparison in one run, and the collectives that several benchmarks share."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data import Dataset, load
from palaver.engines import ONE_DEVICE, Spread, across, seed_keys, simulation
from palaver.engines.simulate import node_keys, of_nodes, train_round
from palaver.engines.state import Shards, State
from palaver.exchange.protocol import local_batch
from palaver.experiments.settings import CollectiveSettings, make_collective, make_shards
from palaver.types import PalaverError


def alternate(sides: dict[str, Callable[[], None]], repeats: int = 9) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, so that a drifting machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def say(**entries: tuple[float, float, str]) -> None:
    """Prints ``{name: {ours, theirs, ratio, unit}}``; a unit that starts with ``<`` is one where less is better."""
    out = {}
    for name, (ours, theirs, unit) in entries.items():
        ratio = theirs / ours if unit.startswith("<") else ours / theirs
        out[name] = {"ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit.lstrip("< ")}
    print(json.dumps(out))


def real(name: str, shape: tuple[int, ...]) -> Dataset:
    """The data set where it can be had, else random inputs of its shape, which cost the same; said in one line."""
    try:
        return load(name)
    except PalaverError:
        import sys

        print(f"{name} is not under $PALAVER_DATA: timed on random inputs of its shape", file=sys.stderr)
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (20_000, *shape), np.uint8), rng.integers(0, 10, 20_000).astype(np.int32)
        return Dataset(name, x, y, x[:100], y[:100], x[:100], y[:100], 10)


class Prepared:
    """One collective, compiled, with its exchange and without."""

    def __init__(
        self,
        settings: CollectiveSettings,
        data: Dataset,
        rounds: int,
        *,
        loop: str | None = None,
        devices: int | None = None,
    ):
        self.group, self.rounds = make_collective(settings, data), rounds
        self.shards = make_shards(settings, data, [0])
        self.spread = across([count for _, count in self.group.groups], devices)
        self.sim = simulation(self.group, self.shards, spread=self.spread, loop=loop)
        self.state = self.sim.init(seed_keys([0]))
        self.bare = _bare(self, rounds)
        self.bare_state = self.sim.init(seed_keys([0]))

    def advance(self) -> None:
        """``rounds`` whole rounds of Algorithm 2."""
        self.state = self.sim.advance(self.state, self.rounds)
        jax.block_until_ready(self.state)

    def advance_bare(self) -> None:
        """As many training steps on local batches alone: no draws, inbox, packets or payload."""
        self.bare_state = self.bare(self.bare_state, self.shards)
        jax.block_until_ready(self.bare_state)


def _bare(prepared: Prepared, rounds: int) -> Callable[[State, Shards], State]:
    group, spread = prepared.group, prepared.spread

    def body(state: State, _: None, shards: Shards) -> tuple[State, None]:
        keys = node_keys(state.key, group.nodes)
        own = of_nodes(partial(local_batch, group.protocol))(keys, state.position, shards.size)
        index = jnp.take_along_axis(shards.index, own, axis=2)
        mine = spread.own(index, 0, group.nodes).shape[:2]
        heard = (jax.tree.map(lambda pool: jnp.zeros((*mine, *pool.shape[2:]), pool.dtype), state.packets.payload),)
        nobody = jnp.zeros(index.shape[:2], bool)
        nodes, _, _ = train_round(
            state, shards, keys, index, heard, nobody, group=group, spread=_mute(spread), loop=None
        )
        return state._replace(nodes=nodes, position=state.position + group.protocol.batch_size), None

    def run(state: State, shards: Shards) -> State:
        return jax.lax.scan(partial(body, shards=shards), state, None, length=rounds)[0]

    parts = State(*[spread.whole] * len(State._fields))._replace(nodes=spread.nodes)
    return jax.jit(spread.program(run, (parts, spread.whole), parts), donate_argnums=0)


def _mute(spread: Spread) -> Spread:
    """The same placement without the gathering of what was said."""
    return spread._replace(gather=ONE_DEVICE.gather)
