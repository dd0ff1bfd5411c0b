"""A collective as a study: trained stretch by stretch, evaluated, and summarised."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.exchange.description import Collective
from palaver.exchange.measurements import Measure, measure
from palaver.exchange.settings import CollectiveSettings, make_collective, make_shards
from palaver.exchange.sharding import auto_sharding
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import Shards, State
from palaver.objectives import CERTAIN, collapsed
from palaver.studies.chapter import Configuration, Evaluation, Study
from palaver.studies.record import latest, tidy
from palaver.studies.seeds import seed_keys
from palaver.studies.statistics import interval
from palaver.types import NO_PEER, DecisionRule, PyTree

_MOST_EDGES = 20_000
"""A larger graph is not stored for drawing."""


class Schedule(NamedTuple):
    """How long a collective trains, and when it is evaluated."""

    rounds: int
    eval_every: int
    report_round: int = 0
    """The round whose metrics the summary gives; 0: the last."""
    target: float | None = None
    """The accuracy whose first round is reported."""

    @property
    def reported(self) -> int:
        """The round whose metrics the summary gives."""
        return self.report_round or self.rounds


def train_until(sim: Simulation, state: State, rounds: int, every: int, also: Sequence[int] = ()) -> Iterator[State]:
    """Trains from the state's round until ``rounds``; yields at every multiple of ``every``, ``also``, the end.

    A state yielded is used up when the next one is asked for. For 0 rounds the state itself comes once.
    """
    if rounds == 0:
        yield state
    for stop in sorted({*range(every, rounds, every), *also, rounds}):
        if (done := int(state.round)) < stop <= rounds:
            state = sim.advance(state, stop - done)
            yield state


def _bits(group: Collective, data: Dataset, payload: int, state: State) -> dict[str, np.ndarray]:
    """Bits sent per node so far ``[S]``, and what a ring all-reduce of gradients would have sent in as many rounds.

    Every delivery to a neighbour counts, also one that was dropped; ``payload`` is one example's. Gradients are
    2 · 32 · parameters per node and step; none for a node alone.
    """
    examples = np.asarray(state.counts.sent, np.float64).mean(1) * group.protocol.batch_size
    parameters = round(sum(count * node.parameters() for node, count in group.groups) / group.nodes)
    gradients = np.full(len(examples), float(state.round) * (2 * 32 * parameters if group.nodes > 1 else 0))
    sent = {"bits.examples": examples * data.bits_per_example, "bits.payload": examples * payload}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = gradients / sum(sent.values())
    return sent | {"bits.gradient_exchange": gradients, "bits.ratio": ratio}


class Compiled(NamedTuple):
    """A collective made ready to train and to be evaluated."""

    sim: Simulation
    measure: Measure
    bits: Callable[[State], dict[str, np.ndarray]]
    """Bits sent so far, by metric."""
    seeds: Sequence[int]


def compiled(
    group: Collective,
    data: Dataset,
    shards: Shards,
    seeds: Sequence[int],
    *,
    devices: int | None = None,
    rules: Mapping[str, DecisionRule] | None = None,
    eval_examples: int = 0,
    calibrated: bool = False,
) -> Compiled:
    """Compiles a collective for its data; arguments as ``measure`` and ``simulation``."""
    sim = simulation(group, shards, sharding=auto_sharding([count for _, count in group.groups], devices))
    measured = measure(group, data, sim, len(seeds), rules=rules, eval_examples=eval_examples, calibrated=calibrated)
    return Compiled(sim, measured, partial(_bits, group, data, sim.bits), list(seeds))


def study(name: str, of: Compiled, schedule: Schedule, thesis: Mapping[str, float] | None = None) -> Study:
    """The study of a compiled collective; its state is the simulation's and the measure's memory."""

    def advance(state: PyTree) -> tuple[PyTree, Evaluation]:
        nodes, memory = state
        before = int(nodes.round)
        nodes = next(train_until(of.sim, nodes, schedule.rounds, schedule.eval_every, [schedule.reported]))
        done = int(nodes.round)
        found = of.measure.take(nodes, memory, done in (schedule.reported, schedule.rounds))
        lost = np.asarray(nodes.diverged) >= 0
        loss = {"loss": np.asarray(nodes.loss) / (done - before)} if done > before else {}
        frame = tidy(
            name,
            of.seeds,
            done,
            keep=~lost,
            node=found.node | loss,
            collective=found.collective | of.bits(nodes) | _traffic(nodes),
        )
        headlines = latest(frame, ["average_accuracy", "collective_accuracy"])
        finished = done >= schedule.rounds or bool(lost.all())
        return (nodes, found.memory), Evaluation(done, frame, headlines, finished, found.pictures)

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        lost = zip(of.seeds, np.asarray(state[0].diverged), strict=True)
        diverged = {str(seed): int(at) for seed, at in lost if at >= 0}
        warnings = {} if of.measure.labels or not schedule.rounds else _warnings(history, schedule.reported)
        return {
            "configuration": name,
            "metrics": _metrics(history, of, schedule),
            "thesis": dict(thesis or {}),
            "diverged": diverged,
        } | warnings

    return Study((of.sim.init(seed_keys(of.seeds)), of.measure.memory), advance, summarise)


def _traffic(state: State) -> dict[str, np.ndarray]:
    """Means over nodes ``[S]`` of what was consumed, broadcast, sent and dropped, and the share dropped."""
    counts = {name: np.asarray(count, np.float64).mean(1) for name, count in state.counts._asdict().items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts | {"dropped_share": counts["dropped"] / counts["sent"]}


def _metrics(history: pl.DataFrame, of: Compiled, schedule: Schedule) -> dict[str, Any]:
    """Every metric at the reported round, and the first evaluated rounds at which the target was reached.

    A diverged seed has no value.
    """
    shared = history.filter(pl.col("node").is_null())
    last = shared.filter(pl.col("round") == schedule.reported)
    names = last["metric"].unique(maintain_order=True).to_list() or ["average_accuracy", "collective_accuracy"]
    found: dict[str, dict[int, float]] = {
        name: dict(last.filter(pl.col("metric") == name).select("seed", "value").iter_rows()) for name in names
    }
    if of.measure.labels and schedule.target is not None:
        for suffix, accuracy in ((".average", "average_accuracy"), ("", "collective_accuracy")):
            reached = shared.filter((pl.col("metric") == accuracy) & (pl.col("value") >= schedule.target))
            first = reached.group_by("seed").agg(pl.col("round").min().cast(pl.Float64))
            found[f"rounds_to_target{suffix}"] = dict(first.iter_rows())
    return {name: interval([by_seed.get(seed) for seed in of.seeds]) for name, by_seed in found.items()}


def _warnings(history: pl.DataFrame, reported: int) -> dict[str, dict[str, list[int]]]:
    """Nodes by seed at that round: ``collapsed``, and those whose discriminator is ``certain``."""
    of_nodes = history.filter(pl.col("node").is_not_null() & (pl.col("round") == reported))
    wide = of_nodes.pivot("metric", index=["seed", "node"], values="value")
    named = {name: wide[name].to_numpy() for name in wide.columns}
    found: dict[str, np.ndarray] = {}
    if "feature_variance" in named:
        found["collapsed"] = np.asarray(collapsed(named))
    if "discriminator_accuracy" in named:
        found["certain"] = named["discriminator_accuracy"] > CERTAIN
    return {name: _by_seed(wide.filter(pl.Series(which))) for name, which in found.items()}


def _by_seed(rows: pl.DataFrame) -> dict[str, list[int]]:
    grouped = rows.group_by("seed", maintain_order=True).agg(pl.col("node").sort())
    return {str(seed): nodes for seed, nodes in grouped.iter_rows()}


def check(settings: CollectiveSettings, data: Dataset, seeds: Sequence[int], devices: int | None) -> None:
    """Raises ``PalaverError`` for what cannot be run."""
    group = make_collective(settings, data)
    auto_sharding([count for _, count in group.groups], devices)
    make_shards(settings, data, seeds)


def plan(rows: Sequence[Configuration]) -> dict[str, Any]:
    """The graph to draw: that of the largest collective."""
    most: CollectiveSettings = max(rows, key=lambda row: row.settings.nodes).settings
    neighbours = np.asarray(most.make_topology(most.nodes, most.rounds)(jnp.int32(0)))
    edges = sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(neighbours) for j in row if j != NO_PEER})
    return {"graph": {"nodes": most.nodes, "edges": edges if len(edges) <= _MOST_EDGES else []}}


def conclude(rows: Sequence[Configuration], _summaries: list[dict[str, Any]], _history: pl.DataFrame) -> dict[str, Any]:
    """What accuracies are measured by, or the target that was to be reached."""
    if any(row.settings.objective != "labels" for row in rows):
        return {"measure": "probe"}
    return {"target": rows[0].settings.target}


def prepare(row: Configuration, data: Dataset, seeds: Sequence[int], devices: int) -> Study:
    """The study of a configuration."""
    settings: CollectiveSettings = row.settings
    of = compiled(
        make_collective(settings, data),
        data,
        make_shards(settings, data, seeds),
        seeds,
        devices=devices,
        eval_examples=settings.eval_examples,
        calibrated=settings.calibrate,
    )
    schedule = Schedule(settings.rounds, settings.eval_every, settings.report_round, settings.target)
    return study(row.name, of, schedule, row.thesis)
