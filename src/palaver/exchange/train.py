"""Training a collective, or a baseline, from Python: the command line's study, the history as arrays."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from palaver.arguments import count, instance
from palaver.arguments import number as check_number
from palaver.arguments import seeds as check_seeds
from palaver.baselines import Method
from palaver.data import Dataset
from palaver.exchange.checks import check_nodes, check_rules
from palaver.exchange.description import Collective
from palaver.exchange.measurements import measure
from palaver.exchange.rivals import RivalState, rival
from palaver.exchange.sharding import auto_sharding
from palaver.exchange.shards import shards
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import NEVER, State
from palaver.exchange.stopping import stopping
from palaver.exchange.study import Schedule, study, whole_periods
from palaver.studies.chapter import Study
from palaver.topology import check_topology
from palaver.types import Array, DecisionRule, PalaverError, PyTree


class History(NamedTuple):
    """What ``train`` returns; ``E`` evaluations, ``S`` seeds, ``N`` nodes. Accuracies are fractions in [0, 1]."""

    rounds: np.ndarray
    """``[E]`` rounds completed at each evaluation."""
    nodes: np.ndarray
    """``[E, S, N]`` accuracy of each node; NaN once its seed has diverged.

    On the validation examples; of nodes that learn without labels, on the test set by a linear probe at each node's
    best evaluation by validation so far.
    """
    rules: dict[str, np.ndarray]
    """``[E, S]`` accuracy of the collective on the same examples, by decision rule; NaN once the seed has diverged."""
    metrics: pl.DataFrame
    """Everything measured, tidy, as in ``metrics.parquet``: configuration, seed, round, node, metric, value."""
    summary: dict[str, Any]
    """The metrics after the last round with their intervals over seeds, as a row of ``summary.json``."""
    simulation: Simulation
    """The compiled collective or baseline; ``simulation.logits(state, x)`` for example gives logits of other inputs."""
    state: State | RivalState
    """After the last round."""

    def __repr__(self) -> str:
        """The sizes, and the last accuracies; the fields themselves are long."""
        evaluations, seeds, nodes = self.nodes.shape
        last = {"average node": self.nodes[-1].mean(), **{name: of[-1].mean() for name, of in self.rules.items()}}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
        return f"History({evaluations} evaluations, {seeds} seeds, {nodes} nodes; at round {self.rounds[-1]}: {shown})"


def train(
    group: Collective,
    data: Dataset,
    *,
    rounds: int,
    seeds: int | Sequence[int] | np.ndarray = 5,
    eval_every: int = 100,
    method: Method | None = None,
    split: str = "iid",
    alpha: float = 0.5,
    labelled: float = 1.0,
    reference: float | np.ndarray | Array | None = None,
    rules: Mapping[str, DecisionRule] | None = None,
    target: float | None = None,
    devices: int | None = None,
) -> History:
    """Trains a collective on a data set, all seeds at once, and evaluates it as the command line does.

    Nodes that learn without labels are evaluated by a linear probe each, fitted on the whole training set at every
    evaluation (``palaver.probe``); the rules then combine the probes' outputs.

    Args:
        group: from ``collective``.
        data: from ``palaver.data``.
        rounds: in each, every node takes one step.
        seeds: a count, or the seeds themselves, in a sequence or an array; each has its own split, initial parameters
            and random draws.
        eval_every: rounds between evaluations; with a method that has a period, up to the next multiple of it.
        method: a baseline from ``palaver.baselines``, such as ``fedavg(period=100)``, in place of the exchange of
            packets: for the same nodes, shards and minibatches. Of the group it uses nodes, topology and batch size.
            Methods that learn from predictions need nodes with ``channels.logits()``. ``None``: packets are exchanged.
        split: how the training set is divided, see ``shards``.
        alpha: Dirichlet concentration of the split.
        labelled: share of every shard whose labels its node knows.
        reference: for a collective with ``examples="reference"``, or a method: the share of the training set that
            becomes the reference set and that no shard gets, or the inputs ``[R, ...]`` of another one; see ``shards``.
            ``None``: the data set's own ``reference``, if it has one.
        rules: decision rules by name, for example ``RULES | {"mine": mine}``; None: ``palaver.decision.RULES``.
        target: accuracy in [0, 1] whose first evaluated round the summary gives, ``rounds_to_target``; None: none.
        devices: distribute the nodes over at most so many devices; ``None``: all. Where a round is short, they are
            distributed over fewer.

    Returns:
        Accuracies at every evaluation, everything else that was measured, and the trained collective.

    Raises:
        PalaverError: rounds or eval_every below 1, or rounds that the method's period does not divide, no seed or one
            given twice, data that do not fit the collective, a model, channel or rule that does not give what it should
            (``palaver.exchange.checks``), or nodes, data or a presence that the method cannot use; all this before
            anything is compiled.

    """
    instance("group", group, Collective, "what palaver.collective returns")
    instance("data", data, Dataset, "a data set, from palaver.data.load or palaver.data.from_arrays")
    seeds, eval_every = check_seeds(seeds), count("eval_every", eval_every)
    rounds = count("rounds", rounds, most=NEVER - 1)
    target = None if target is None else check_number("target", target, "[0, 1]")
    devices = None if devices is None else count("devices", devices)
    rules = check_rules(rules, group.nodes, data.classes)
    check_topology(group.topology, group.nodes, rounds=rounds)
    check_nodes(group, data)
    if reference is None:
        reference = 0.0 if data.reference is None else data.reference
    elif method is None and group.talk.examples == "own":
        raise PalaverError('reference is for collectives with examples="reference": leave it out')
    if method is not None:
        instance("method", method, Method, "what a function of palaver.baselines returns")
        if rounds % method.period:
            raise PalaverError(
                f"rounds is {rounds}: give a multiple of {method.name}'s period ({method.period}), so that nodes are "
                "evaluated at the end of one"
            )
        if not group.steady or labelled != 1:
            raise PalaverError(f"{method.name} needs all nodes and labels: leave out presence, patience and labelled")
    how = partial(shards, split=split, alpha=alpha, labelled=labelled, reference=reference)
    parts = how(data.x_train, data.y_train, group.nodes, seeds)
    sharding = auto_sharding([count for _, count in group.groups], devices, work=group.work(len(seeds)))
    sim = (
        simulation(group, parts, sharding=sharding)
        if method is None
        else rival(method, group, parts, seeds, reference=parts.reference, sharding=sharding)
    )
    measured = measure(group, data, sim, parts, rules=rules)
    if group.patience and not measured.labels:
        raise PalaverError(
            f"patience is {group.patience} for nodes that learn without labels: leave it out, since probes are kept at "
            "their best"
        )
    schedule = Schedule(rounds, whole_periods(eval_every, method), target=target)
    run = study("collective", sim, measured, seeds, schedule, stopping(group))
    state, metrics, at = _trained(run)
    nodes = _array(metrics, "accuracy", at, seeds, group.nodes)
    by_rule = {name: _array(metrics, f"collective_accuracy.{name}", at, seeds, 1)[..., 0] for name in rules}
    return History(np.array(at), nodes, by_rule, metrics, run.summarise(state, metrics), sim, state[0])


def _trained(run: Study) -> tuple[PyTree, pl.DataFrame, list[int]]:
    """The state after the last round, all that was measured, and the rounds in which it was."""
    state, frames, at, finished = run.begin(), list[pl.DataFrame](), list[int](), False
    while not finished:
        state, evaluation = run.advance(state)
        finished = evaluation.finished
        frames.append(evaluation.frame)
        at.append(evaluation.step)
    return state, pl.concat(frames), at


def _array(metrics: pl.DataFrame, name: str, rounds: list[int], seeds: list[int], nodes: int) -> np.ndarray:
    """``[E, S, N]`` of one metric; NaN where a seed has no value."""
    found = np.full((len(rounds), len(seeds), nodes), np.nan)
    places = [{value: place for place, value in enumerate(values)} for values in (rounds, seeds)]
    rows = metrics.filter(pl.col("metric") == name).select("round", "seed", "node", "value")
    for number, seed, node, value in rows.iter_rows():
        found[places[0][number], places[1][seed], node or 0] = value
    return found
