"""Collectives as studies: nodes that learn from each other's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.engines.mesh import across
from palaver.engines.simulate import simulation
from palaver.engines.train import seed_keys, stretches
from palaver.experiments import record
from palaver.experiments.measure import measure
from palaver.experiments.settings import CollectiveSettings, cut, make_collective, make_shards, make_topology
from palaver.experiments.study import Kind, Row, Seen, Study
from palaver.types import NO_PEER, PyTree

MOST_EDGES = 20_000
"""A larger graph is not stored for drawing."""


def _check(settings: CollectiveSettings, data: Dataset, seeds: list[int], devices: int | None) -> None:
    group = make_collective(settings, data)
    across([count for _, count in group.groups], devices)
    make_shards(settings, data, seeds)


def _plan(rows: list[Row]) -> dict[str, Any]:
    """The graph to draw: that of the largest collective."""
    most = max(rows, key=lambda row: row.settings.nodes).settings
    neighbours = np.asarray(make_topology(most)(jax.numpy.int32(0)))
    edges = sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(neighbours) for j in row if j != NO_PEER})
    return {"graph": {"nodes": most.nodes, "edges": edges if len(edges) <= MOST_EDGES else []}}


def _head(rows: list[Row]) -> dict[str, Any]:
    if any(row.settings.objective != "labels" for row in rows):
        return {"measure": "probe"}
    return {"target": rows[0].settings.target}


def _load(settings: CollectiveSettings, by_name: Callable[[str], Dataset]) -> Dataset:
    return cut(by_name(settings.data), settings.examples)


def _prepare(row: Row, data: Dataset, seeds: list[int], devices: int) -> Study:
    settings: CollectiveSettings = row.settings
    group = make_collective(settings, data)
    spread = across([count for _, count in group.groups], devices)
    sim = simulation(group, make_shards(settings, data, seeds), spread=spread)
    weights = record.sizes(group, data, sim.bits)
    measured = measure(settings, data, sim, len(seeds))
    reported = settings.report_round or settings.rounds

    def advance(state: PyTree) -> tuple[PyTree, Seen]:
        nodes, memory = state
        before = int(nodes.round)
        nodes = next(stretches(sim, nodes, settings.rounds, settings.eval_every, {reported}))
        done = int(nodes.round)
        step = done - before
        seen = measured.look(nodes, memory, done in (reported, settings.rounds))
        bits = record.bits_per_node(nodes, weights, settings.batch_size)
        shared = {f"bits.{name}": value for name, value in bits.items()}
        shared |= {name: np.asarray(count, np.float64).mean(1) for name, count in nodes.counts._asdict().items()}
        lost = np.asarray(nodes.diverged) >= 0
        frame = record.rows(
            row.configuration,
            seeds,
            done,
            alive=~lost,
            node=seen.node | ({"loss": np.asarray(nodes.loss) / step} if step else {}),
            collective=seen.collective | shared,
        )
        finished = done >= settings.rounds or bool(lost.all())
        return (nodes, seen.memory), Seen(done, frame, record.latest(frame), finished, seen.pictures)

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        lost = zip(seeds, np.asarray(state[0].diverged), strict=True)
        return record.summarise(
            row.configuration,
            seeds,
            history,
            rounds=reported,
            target=settings.target,
            thesis=row.thesis,
            diverged={seed: int(at) for seed, at in lost if at >= 0},
            probes=settings.objective != "labels",
        )

    return Study((sim.init(seed_keys(seeds)), measured.memory), advance, summarise)


KIND = Kind(CollectiveSettings, _load, _check, _prepare, _plan, _head)
