"""A collective as a study: trained stretch by stretch, evaluated, and summarised."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import polars as pl

from palaver.baselines import METHODS, Method
from palaver.data import Dataset
from palaver.exchange.build import make_collective, make_shards, make_simulation
from palaver.exchange.measurements import Measure, measure
from palaver.exchange.report.metrics import METRICS, SENT
from palaver.exchange.rivals import check_rival
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.sharding import auto_sharding
from palaver.exchange.simulate import Simulation
from palaver.exchange.stopping import Stopping, stopping
from palaver.models import AUTOENCODERS
from palaver.objectives import CERTAIN, CODES, collapsed
from palaver.studies.chapter import Configuration, Evaluation, Study
from palaver.studies.findings import support_of
from palaver.studies.record import latest, tidy
from palaver.studies.seeds import seed_keys
from palaver.studies.statistics import interval
from palaver.types import NO_PEER, PyTree

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

    def next(self, done: int) -> int:
        """The round of the next evaluation after ``done`` rounds: every multiple, the reported one and the last."""
        multiple = done - done % self.eval_every + self.eval_every
        return min(self.rounds, multiple, self.reported if done < self.reported else self.rounds)


def whole_periods(rounds: int, method: Method | None) -> int:
    """So many rounds, and more up to a multiple of the method's period: what is between two evaluations.

    >>> from palaver.baselines import fedavg
    >>> whole_periods(50, fedavg(period=20)), whole_periods(50, None)
    (60, 50)
    """
    period = 1 if method is None else method.period
    return -(-rounds // period) * period


def study(
    name: str,
    sim: Simulation,
    measured: Measure,
    seeds: Sequence[int],
    schedule: Schedule,
    stop: Stopping,
    thesis: Mapping[str, float] | None = None,
) -> Study:
    """The study of a compiled collective; its state is the simulation's, the measure's memory and early stopping's."""

    def begin() -> PyTree:
        nodes = sim.init(seed_keys(seeds))
        return nodes, measured.memory, stop.begin(nodes)

    def advance(state: PyTree) -> tuple[PyTree, Evaluation]:
        nodes, memory, best = state
        before = int(nodes.round)
        done, loss = schedule.next(before), {}
        if done > before:
            nodes = sim.advance(nodes, done - before)
            loss = {"loss": np.asarray(nodes.loss) / (done - before)}
        full = done in (schedule.reported, schedule.rounds)
        found = measured.take(nodes, memory, full and stop.at_best is None)
        nodes, best = stop.after(nodes, best, found.node["accuracy"])
        if full and stop.at_best:
            shown = stop.at_best(nodes, best)
            found = measured.take(shown, memory, full)
            nodes = shown if done >= schedule.rounds else nodes
        lost = np.asarray(nodes.diverged) >= 0
        frame = tidy(name, seeds, done, keep=~lost, node=found.node | loss, collective=found.collective)
        headlines = latest(frame, ["average_accuracy", "collective_accuracy"])
        finished = done >= schedule.rounds or bool(lost.all())
        return (nodes, found.memory, best), Evaluation(done, frame, headlines, finished, found.pictures)

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        lost = zip(seeds, np.asarray(state[0].diverged), strict=True)
        warnings = {} if measured.labels or not schedule.rounds else _warnings(history, schedule.reported)
        return {
            "configuration": name,
            "metrics": _metrics(history, seeds, schedule, measured.labels),
            "thesis": dict(thesis or {}),
            "diverged": {str(seed): int(at) for seed, at in lost if at >= 0},
        } | warnings

    def compile_all() -> None:
        sim.compile(seed_keys(seeds))

    return Study(begin, advance, summarise, compile_all)


def _metrics(history: pl.DataFrame, seeds: Sequence[int], schedule: Schedule, labels: bool) -> dict[str, Any]:
    """Every metric at the reported round, and when and at what cost the target was first reached.

    A diverged seed has no value.
    """
    shared = history.filter(pl.col("node").is_null())
    last = shared.filter(pl.col("round") == schedule.reported)
    names = last["metric"].unique(maintain_order=True).to_list() or ["average_accuracy", "collective_accuracy"]
    found: dict[str, dict[int, float]] = {
        name: dict(last.filter(pl.col("metric") == name).select("seed", "value").iter_rows()) for name in names
    }
    if labels and schedule.target is not None:
        for suffix, accuracy in ((".average", "average_accuracy"), ("", "collective_accuracy")):
            first = _first(shared, accuracy, schedule.target)
            found[f"rounds_to_target{suffix}"] = dict(first.select("seed", "round").iter_rows())
            found[f"bits_to_target{suffix}"] = dict(first.select("seed", "bits").iter_rows())
    values = {name: [by_seed.get(seed) for seed in seeds] for name, by_seed in found.items()}
    return {name: interval(of_seeds, support_of(METRICS, name)) for name, of_seeds in values.items()}


def _first(shared: pl.DataFrame, accuracy: str, target: float) -> pl.DataFrame:
    """The ``round`` at which each ``seed`` first reached a target, and the ``bits`` that a node had sent by then."""
    reached = shared.filter((pl.col("metric") == accuracy) & (pl.col("value") >= target))
    first = reached.group_by("seed").agg(pl.col("round").min())
    sent = shared.filter(pl.col("metric").is_in(SENT)).group_by("seed", "round").agg(bits=pl.col("value").sum())
    return first.join(sent, ["seed", "round"], "left").with_columns(pl.col("round").cast(pl.Float64))


def _warnings(history: pl.DataFrame, reported: int) -> dict[str, dict[str, list[int]]]:
    """Nodes by seed at that round: ``collapsed``, and those whose discriminator is ``certain``."""
    of_nodes = history.filter(pl.col("node").is_not_null() & (pl.col("round") == reported))
    wide = of_nodes.pivot("metric", index=["seed", "node"], values="value")
    named = {name: wide[name].to_numpy() for name in wide.columns}
    found: dict[str, np.ndarray] = {}
    if CODES & named.keys():
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
    parts = make_shards(settings, data, seeds)
    if settings.method != "exchange":
        check_rival(METHODS[settings.method](settings), group, parts, parts.reference)


def plan(rows: Sequence[Configuration]) -> dict[str, Any]:
    """The graph to draw: that of the largest collective."""
    most: CollectiveSettings = max(rows, key=lambda row: row.settings.nodes).settings
    neighbours = np.asarray(most.make_topology(most.nodes, most.rounds)(jnp.int32(0)))
    edges = sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(neighbours) for j in row if j != NO_PEER})
    return {"graph": {"nodes": most.nodes, "edges": edges if len(edges) <= _MOST_EDGES else []}}


def conclude(rows: Sequence[Configuration], _summaries: list[dict[str, Any]], _history: pl.DataFrame) -> dict[str, Any]:
    """What accuracies are measured by, or the target that was to be reached."""
    if any(row.settings.objective in AUTOENCODERS for row in rows):
        return {"measure": "probe"}
    return {"target": rows[0].settings.target}


def prepare(row: Configuration, data: Dataset, seeds: Sequence[int], devices: int) -> Study:
    """The study of a configuration."""
    settings: CollectiveSettings = row.settings
    group = make_collective(settings, data)
    sharding = auto_sharding([count for _, count in group.groups], devices, work=group.work(len(seeds)))
    shards = make_shards(settings, data, seeds)
    sim = make_simulation(settings, group, shards, seeds, sharding)
    measured = measure(group, data, sim, shards, eval_examples=settings.eval_examples, calibrated=settings.calibrate)
    method = None if settings.method == "exchange" else METHODS[settings.method](settings)
    every = whole_periods(settings.eval_every, method)
    schedule = Schedule(settings.rounds, every, settings.report_round, settings.target)
    return study(row.name, sim, measured, seeds, schedule, stopping(group), row.thesis)
