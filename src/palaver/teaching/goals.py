"""Validation accuracies whose costs are reported, and what reaching them has cost."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from palaver.studies.results import metric_of
from palaver.studies.statistics import Interval, interval

COSTS = {"updates": "backward_passes"} | {
    name: name for name in ("seconds", "flops", "student_flops", "forward_passes", "teacher_forwards")
}
"""Costs in the summary, and the metrics of the history that they are: of the same name, but for the updates."""

SHARES = (0.97, 0.98, 0.99)
"""Goals where the settings name none: shares of the best validation accuracy without a teacher, mean over seeds."""


def without_teacher(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each configuration the one without a teacher on the same labels, where there is one.

    Args:
        settings: by the configuration's name.

    Returns:
        The name of the configuration without a teacher, by that of the configuration.

    """
    labels = {name: (own.get("flipped"), own.get("known")) for name, own in settings.items()}
    alone = {
        labels[name]: name
        for name, own in settings.items()
        if max(own.get("stack") or [0]) == 1 and own.get("target") == "true"
    }
    return {name: alone[own] for name, own in labels.items() if own in alone}


def cost_of(history: pl.DataFrame, seeds: Sequence[int], accuracy: Mapping[int, float] | float) -> dict[str, Interval]:
    """The costs of the first evaluation of each seed that reaches an accuracy.

    Args:
        history: tidy rows of one configuration.
        seeds: S.
        accuracy: of validation, in (0, 1]; of each seed its own, or the same.

    Returns:
        By the names of ``COSTS`` the interval over the seeds, without a value for a seed that has not reached the
        accuracy: updates, seconds, floating-point operations and examples. Empty without a history.

    """
    wide = history.pivot("metric", index=["seed", "round"], values="value").sort("round")
    if wide.is_empty():
        return {}
    goal = pl.col("seed").replace_strict(dict(accuracy)) if isinstance(accuracy, Mapping) else pl.lit(accuracy)
    reached = wide.filter(pl.col("validation_accuracy") >= goal).group_by("seed", maintain_order=True).first()
    first = {found["seed"]: found for found in reached.iter_rows(named=True)}
    spent = {name: [first.get(seed, {}).get(metric) for seed in seeds] for name, metric in COSTS.items()}
    return {name: interval(values, "positive") for name, values in spent.items()}


def goals_of(
    rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """The goals of every configuration, by the configuration's name and the goal's.

    Args:
        rows: of the summary.
        settings: by the configuration's name.

    Returns:
        Validation accuracies, fractions: those that the settings name, or else shares of the best one without a
        teacher on the same labels, or, where there is none, of the configuration's own best.

    """
    best = {str(row["configuration"]): metric_of(row, "validation_accuracy") for row in rows}
    bases = without_teacher(settings)
    found: dict[str, dict[str, float]] = {}
    for name, own in settings.items():
        base = best.get(bases.get(name, name))
        mean = base["mean"] if base else None
        whose = "no teacher's best" if name in bases else "its own best"
        shares = {} if mean is None else {f"{100 * share:g} % of {whose}": share * mean for share in SHARES}
        found[name] = {f"{100 * goal:g} %": goal for goal in own["goals"]} or shares
    return found


def main_goal(summary: Mapping[str, Any], names: Collection[str]) -> str:
    """The goal that the report on these configurations is about: the middle one of the first that has any.

    A configuration's goals are those whose costs its row has; on the same labels all configurations share them.

    >>> row = {"configuration": "n=2", "metrics": {"updates_to.96 %": {}, "updates_to.97 %": {}}}
    >>> main_goal({"goals": ["50 %", "96 %", "97 %"], "rows": [row]}, ["n=2"])
    '97 %'

    Args:
        summary: of a run.
        names: of the configurations.

    Returns:
        The goal's name in the summary; "a goal" where none of the configurations has one.

    """
    for row in summary["rows"]:
        goals = [goal for goal in summary["goals"] if metric_of(row, f"updates_to.{goal}") is not None]
        if goals and row["configuration"] in names:
            return goals[len(goals) // 2]
    return "a goal"
