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
from palaver.exchange.build import make_collective, make_shards
from palaver.exchange.mapping import node_keys
from palaver.exchange.round import own_batches, train_round
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.sharding import ONE_DEVICE, auto_sharding
from palaver.exchange.simulate import compiler_options, simulation
from palaver.exchange.state import Reading, Shards, State
from palaver.studies.seeds import seed_keys
from palaver.types import PalaverError


def alternate(
    sides: dict[str, Callable[[], None]], repeats: int = 9, *, of: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    """Seconds of each side, the median or what ``of`` makes of the repeats.

    The sides take turns, so that a drifting machine slows all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return {name: of(values) for name, values in seconds.items()}


def say(**entries: tuple[float, float, str]) -> None:
    """Prints ``{name: {ours, theirs, ratio, unit}}``; a unit that starts with ``<`` is one where less is better."""
    out = {}
    for name, (ours, theirs, unit) in entries.items():
        ratio = theirs / ours if unit.startswith("<") else ours / theirs
        out[name] = {"ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit.lstrip("< ")}
    print(json.dumps(out))


def real(name: str, shape: tuple[int, ...]) -> Dataset:
    """The data set, or if its files are missing random inputs of its shape, which cost the same; a line says so."""
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
        self.sharding = auto_sharding([count for _, count in self.group.groups], devices, work=self.group.work(1))
        self.sim = simulation(self.group, self.shards, sharding=self.sharding, loop=loop)
        self.state = self.sim.init(seed_keys([0]))
        self.bare = _bare(self, rounds, loop)
        self.bare_state = self.sim.init(seed_keys([0]))

    def advance(self) -> None:
        """``rounds`` whole rounds of Algorithm 2."""
        self.state = self.sim.advance(self.state, self.rounds)
        jax.block_until_ready(self.state)

    def advance_bare(self) -> None:
        """As many training steps on local batches alone: no draws, inbox, packets or payload."""
        self.bare_state = self.bare(self.bare_state, self.shards)
        jax.block_until_ready(self.bare_state)


def _bare(prepared: Prepared, rounds: int, loop: str | None) -> Callable[[State, Shards], State]:
    group, sharding = prepared.group, prepared.sharding

    def body(state: State, _: None, shards: Shards) -> tuple[State, None]:
        own = own_batches(state, shards, group=group, sharding=sharding)
        mine = own.rows[0].shape[:2]
        received = jax.tree.map(lambda pool: jnp.zeros((*mine, *pool.shape[2:]), pool.dtype), state.packets.payload)
        nobody = jnp.zeros(state.position.shape, bool)
        reading = Reading(nobody, nobody, *own, [received], nobody, nobody)
        bare = sharding._replace(gather=ONE_DEVICE.gather)  # payloads are not gathered
        keys = node_keys(state.key, group.nodes)
        nodes, _, _ = train_round(state, shards, keys, reading, ~nobody, group=group, sharding=bare, loop=loop)
        return state._replace(nodes=nodes, position=state.position + group.protocol.batch_size), None

    def run(state: State, shards: Shards) -> State:
        return jax.lax.scan(partial(body, shards=shards), state, None, length=rounds)[0]

    specs = State(*[sharding.replicated] * len(State._fields))._replace(nodes=sharding.nodes)
    return jax.jit(
        sharding.program(run, (specs, sharding.replicated), specs),
        donate_argnums=0,
        compiler_options=compiler_options(group, loop),
    )
