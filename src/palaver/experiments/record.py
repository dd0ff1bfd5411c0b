"""What is measured at an evaluation, as tidy rows; and the summary of a finished configuration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.decision import RULES
from palaver.engines.description import Collective
from palaver.engines.evaluate import Scores
from palaver.engines.state import State
from palaver.experiments.folder import SCHEMA
from palaver.objectives import CERTAIN, collapsed
from palaver.report.interval import interval

DEFAULT_RULE = "confidence"
"""The rule behind ``collective_accuracy`` without a rule's name."""


class Sizes(NamedTuple):
    """What one node's speech weighs, in bits."""

    example: int
    """One example's input."""
    payload: int
    """One example's payload."""
    gradient: int
    """What a ring all-reduce of gradients sends per node and step: 2 · 32 · parameters."""


def sizes(group: Collective, data: Dataset, payload_bits: int) -> Sizes:
    """Bits of an example, its payload and one step's gradient exchange (none for a node alone)."""
    parameters = round(sum(count * node.parameters() for node, count in group.groups) / group.nodes)
    return Sizes(data.bits_per_example, payload_bits, 2 * 32 * parameters if group.nodes > 1 else 0)


def bits_per_node(state: State, sizes: Sizes, batch_size: int) -> dict[str, np.ndarray]:
    """Bits sent per node so far ``[S]``: every delivery to a neighbour counts, heard or dropped."""
    examples = np.asarray(state.counts.sent, np.float64).mean(1) * batch_size
    rounds = float(np.asarray(state.round))
    return {
        "examples": examples * sizes.example,
        "payload": examples * sizes.payload,
        "gradient_exchange": np.full(len(examples), rounds * sizes.gradient),
    }


def accuracies(scores: Scores, prefix: str = "") -> dict[str, np.ndarray]:
    """Names and values ``[S]`` of the average and of every rule."""
    named = {f"{prefix}average_accuracy": scores.nodes.mean(1)}
    if DEFAULT_RULE in scores.rules:
        named[f"{prefix}collective_accuracy"] = scores.rules[DEFAULT_RULE]
    return named | {f"{prefix}collective_accuracy.{rule}": value for rule, value in scores.rules.items()}


def rows(
    configuration: str,
    seeds: list[int],
    step: int,
    *,
    alive: np.ndarray,
    node: dict[str, np.ndarray],
    collective: dict[str, np.ndarray],
) -> pl.DataFrame:
    """Tidy rows of one evaluation.

    Args:
        configuration: its name.
        seeds: in the order of the arrays' first axis.
        step: the round evaluated.
        alive: ``[S]`` bools: a seed that is not (its loss is no longer finite, or it has stopped) adds no rows.
        node: ``[S, N]`` values by metric.
        collective: ``[S]`` values by metric.

    """
    frames = []
    for place, seed in enumerate(seeds):
        if not alive[place]:
            continue
        shared = {"configuration": configuration, "seed": seed, "round": step}
        for metric, values in node.items():
            count = len(values[place])
            frames.append(
                pl.DataFrame(
                    {"node": range(count), "value": np.asarray(values[place], np.float64)}, schema_overrides=SCHEMA
                ).with_columns(metric=pl.lit(metric), **{name: pl.lit(value) for name, value in shared.items()})
            )
        frames.append(
            pl.DataFrame(
                {
                    "node": [None] * len(collective),
                    "metric": list(collective),
                    "value": [float(v[place]) for v in collective.values()],
                },
                schema_overrides=SCHEMA,
            ).with_columns(**{name: pl.lit(value) for name, value in shared.items()})
        )
    empty = pl.DataFrame(schema=SCHEMA)
    return pl.concat([empty, *(frame.select(list(SCHEMA)).cast(SCHEMA) for frame in frames)])


def latest(frame: pl.DataFrame) -> dict[str, float]:
    """Seed means of the headline numbers, for the progress display."""
    means = frame.filter(pl.col("metric").is_in(["average_accuracy", "collective_accuracy"]))
    return dict(means.group_by("metric").agg(pl.col("value").mean()).iter_rows())


def summarise(
    configuration: str,
    seeds: list[int],
    history: pl.DataFrame,
    *,
    rounds: int,
    target: float,
    thesis: dict[str, float],
    diverged: dict[int, int],
    probes: bool = False,
) -> dict[str, Any]:
    """One entry of ``rows`` in ``summary.json``: every metric at the last round, one value a seed, with its interval.

    A diverged seed's values are null. ``rounds_to_target`` is the first evaluated round at which the collective under
    the default rule (``.average``: the average node) reached the target; null where it never did. Where accuracies are
    those of ``probes`` there is none; instead, nodes that collapsed, or whose discriminator is certain, are named.
    """
    whole = history.filter(pl.col("node").is_null())
    last = whole.filter(pl.col("round") == rounds)
    bits = last.filter(pl.col("metric").str.starts_with("bits.")).group_by("metric").agg(pl.col("value").mean())
    spent = {metric.removeprefix("bits."): value for metric, value in bits.iter_rows()}
    always = ["average_accuracy", "collective_accuracy", *(f"collective_accuracy.{rule}" for rule in RULES)]
    measured = [m for m in last["metric"].unique(maintain_order=True) if not m.startswith("bits.")]
    names = always + [m for m in measured if m not in always]
    metrics: dict[str, list[float | None]] = {}
    for name in names:
        by_seed = dict(last.filter(pl.col("metric") == name).select("seed", "value").iter_rows())
        metrics[name] = [by_seed.get(seed) for seed in seeds]
    goals = () if probes else (("", "collective_accuracy"), (".average", "average_accuracy"))
    for name, accuracy in goals:
        reached = whole.filter((pl.col("metric") == accuracy) & (pl.col("value") >= target))
        first = dict(reached.group_by("seed").agg(pl.col("round").min()).iter_rows())
        metrics[f"rounds_to_target{name}"] = [float(first[seed]) if seed in first else None for seed in seeds]
    return {
        "configuration": configuration,
        "metrics": {name: interval(values) for name, values in metrics.items()},
        "thesis": thesis,
        "bits_per_node": {name: spent.get(name) for name in ("examples", "payload", "gradient_exchange")},
        "diverged": {str(seed): step for seed, step in diverged.items()},
    } | (_warnings(history, rounds) if probes and rounds else {})


def _warnings(history: pl.DataFrame, rounds: int) -> dict[str, dict[str, list[int]]]:
    """Nodes by seed at that round: ``collapsed``, and those whose discriminator is ``certain``."""
    of_nodes = history.filter(pl.col("node").is_not_null() & (pl.col("round") == rounds))
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
