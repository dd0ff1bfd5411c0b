"""What a run of students and their teacher found: tables, figures and words, from its result files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from palaver.report.drawing import GREY, STYLE, canvas, curve_of, framed, handle_of, look_of, to_svg
from palaver.report.files import Result
from palaver.report.interval import Interval, interval
from palaver.report.tables import NOTHING, Grid, count, measured_cell, percent, three_digits

GOALS = ("95", "96", "97")
"""Validation accuracies in percent whose costs the summary holds."""

_MAIN = "96"
_FOUND = {
    "updates": ("updates", count),
    "seconds": ("seconds", three_digits),
    "student_flops": ("student GFLOP", lambda value: three_digits(None if value is None else value / 1e9)),
    "flops": ("GFLOP with teacher", lambda value: three_digits(None if value is None else value / 1e9)),
    "forward_passes": ("forward passes", count),
    "teacher_forwards": ("teacher's forward passes", count),
}
"""Costs of reaching a goal: a column's header and how a cell is written."""


def is_teaching(summary: Mapping[str, Any]) -> bool:
    """Whether a run was one of students and their teacher."""
    return summary.get("kind") == "teaching"


def _metric(row: Mapping[str, Any], name: str) -> Interval | None:
    return (row.get("metrics") or {}).get(name)


def lessons_grid(summary: Mapping[str, Any]) -> Grid:
    """Table 3.1: test accuracy and backward passes to it, the thesis's beside ours, and updates to each goal."""
    headers = ["configuration", "test %", "thesis", "updates to it", "thesis", *(f"to {goal} %" for goal in GOALS)]
    headers.append("teacher's test %")
    rows = []
    for row in summary["rows"]:
        told = row.get("thesis") or {}
        rows.append(
            (
                str(row["configuration"]),
                measured_cell(_metric(row, "test_accuracy"), percent),
                percent(told.get("test_accuracy")),
                measured_cell(_metric(row, "updates_to_best"), count),
                count(told.get("updates_to_best")),
                *(measured_cell(_metric(row, f"updates_to_{goal}"), count) for goal in GOALS),
                percent((row.get("teacher") or {}).get("test_accuracy")),
            )
        )
    return Grid(f"{summary.get('experiment', 'run')}: students by how they are taught", tuple(headers), rows)


def costs_grid(summary: Mapping[str, Any]) -> Grid:
    """Everything that reaching the main goal has cost."""
    rows = [
        (
            str(row["configuration"]),
            *(measured_cell(_metric(row, f"{name}_to_{_MAIN}"), form) for name, (_, form) in _FOUND.items()),
        )
        for row in summary["rows"]
    ]
    return Grid(f"costs to {_MAIN} %", ("configuration", *(header for header, _ in _FOUND.values())), rows)


def teachers(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Each teacher of the run, by the first configuration that it taught."""
    found: dict[str, dict[str, float]] = {}
    for row in summary["rows"]:
        facts = row.get("teacher")
        if facts and facts not in found.values():
            found[str(row["configuration"])] = facts
    return found


def teachers_grid(summary: Mapping[str, Any]) -> Grid:
    """What the teachers know, and what they cost once: their training, and their predictions of every example."""
    rows = [
        (
            name,
            percent(facts["test_accuracy"]),
            count(facts["epochs"]),
            three_digits(facts["training_seconds"]),
            three_digits(facts["training_flops"] / 1e9),
            three_digits(facts["table_seconds"]),
        )
        for name, facts in teachers(summary).items()
    ]
    headers = ("teacher of", "test %", "epochs", "seconds of training", "GFLOP of training", "seconds of its table")
    return Grid("the teachers, once", headers, rows)


def baselines(result: Result) -> dict[str, str]:
    """For each configuration the one without a teacher on the same labels, where there is one."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}

    def labels(name: str) -> tuple[Any, Any]:
        own = settings.get(name, {})
        return own.get("flipped"), own.get("known")

    names = [str(row["configuration"]) for row in result.summary["rows"]]
    alone = {
        labels(name): name
        for name in names
        if max(settings.get(name, {}).get("stack") or [0]) == 1 and settings[name].get("target") == "true"
    }
    return {name: alone[labels(name)] for name in names if labels(name) in alone}


def gain(result: Result, name: str, base: str, cost: str) -> Interval:
    """How many times less ``name`` needs than ``base``, by seed: the ratio of both costs, with its interval."""
    rows = {row["configuration"]: row for row in result.summary["rows"]}
    pairs = zip(*((_metric(rows[each], cost) or {"values": []})["values"] for each in (base, name)), strict=True)
    return interval([None if a is None or not b else a / b for a, b in pairs])


def gains_grid(result: Result) -> Grid:
    """How many times fewer updates, seconds and operations than without a teacher, the thesis's number beside ours."""
    told = {row["configuration"]: row.get("thesis") or {} for row in result.summary["rows"]}
    updates, *rest = ("updates", "seconds", "student_flops", "flops")
    rows = [
        (
            name,
            measured_cell(gain(result, name, base, f"{updates}_to_{_MAIN}"), _times),
            three_digits(told[name].get("times_fewer_updates")),
            *(measured_cell(gain(result, name, base, f"{cost}_to_{_MAIN}"), _times) for cost in rest),
        )
        for name, base in baselines(result).items()
        if name != base
    ]
    headers = [f"{_FOUND[cost][0]}, × fewer" for cost in (updates, *rest)]
    headers.insert(1, "thesis")
    return Grid(f"to {_MAIN} %, against no teacher on the same labels", ("configuration", *headers), rows)


def _plain_five(result: Result) -> str | None:
    """The configuration of the thesis's largest stack: n = 5, cross-entropy, soft targets, clean labels."""
    plain = {"stack": [5], "select": "top", "difficulty": "cross-entropy", "target": "soft", "flipped": 0, "known": 1}
    for row in result.settings["rows"]:
        own = row.get("settings") or {}
        if all(own.get(name) == value for name, value in plain.items()) and own.get("target_temperature", 1) == 1:
            return row["configuration"]
    return None


def larger_grid(result: Result) -> Grid:
    """What other ways of teaching gain over the thesis's largest stack, and in test accuracy over no teacher."""
    five, clean, bases = _plain_five(result), set(_clean(result)), baselines(result)
    tests = {row["configuration"]: _metric(row, "test_accuracy") for row in result.summary["rows"]}
    rows = []
    for name, base in bases.items():
        if name not in clean or name in (five, base) or five is None:
            continue
        above = [
            None if a is None or b is None else a - b
            for a, b in zip(*((tests[each] or {"values": []})["values"] for each in (name, base)), strict=True)
        ]
        rows.append(
            (
                name,
                *(
                    measured_cell(gain(result, name, five, f"{cost}_to_{_MAIN}"), _times)
                    for cost in ("updates", "seconds")
                ),
                measured_cell(interval(above), lambda value: NOTHING if value is None else f"{100 * value:+.2f}"),
            )
        )
    headers = ("configuration", "updates, × fewer", "seconds, × fewer", "test, points above no teacher")
    return Grid(f"to {_MAIN} %, against “{five}”", headers, rows)


def _clean(result: Result) -> list[str]:
    """Configurations on the labels as they are."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    return [name for name, own in settings.items() if not own.get("flipped") and own.get("known", 1) == 1]


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def verdict(result: Result) -> str:
    """Which way of teaching needs the fewest updates, and which the fewest seconds, on the labels as they are."""
    clean, told = _clean(result), []
    for cost, what in (("updates", "updates"), ("seconds", "seconds")):
        rows = {row["configuration"]: _metric(row, f"{cost}_to_{_MAIN}") for row in result.summary["rows"]}
        means = {name: found["mean"] for name in clean if (found := rows[name]) and found["mean"] is not None}
        if not means:
            return f"No configuration reached {_MAIN} % with every seed."
        best = min(means, key=lambda name: means[name] or 0.0)
        base = baselines(result).get(best)
        form = _FOUND[cost][1]
        line = f"“{best}” reaches {_MAIN} % with the fewest {what}: {measured_cell(rows[best], form)}"
        if base is not None and best != base and base in means:
            times = gain(result, best, base, f"{cost}_to_{_MAIN}")
            line += f", {measured_cell(times, _times)} times fewer than “{base}”"
            if times["low"] is None or times["low"] <= 1:
                line += " (an interval that does not exclude 1)"
        told.append(f"{line}.")
    spent = teachers(result.summary)
    if spent:
        seconds = max(facts["training_seconds"] + facts["table_seconds"] for facts in spent.values())
        told.append(
            f"A teacher's own work is not in these seconds: training it and asking it about every example took up to "
            f"{three_digits(seconds)} s, once."
        )
    return "\n".join(told)


def curves(result: Result, names: list[str]) -> str | None:
    """Validation accuracy in percent over every cost: Figure 3.1 is the first, over updates."""
    found = {name: curve for name in names if (curve := curve_of(result, name, "validation_accuracy")) is not None}
    if not found:
        return None
    panels = {
        "backward_passes": ("updates (backward passes)", 1.0),
        "forward_passes": ("examples the student predicted, thousands", 1e-3),
        "teacher_forwards": ("examples the teacher predicted, thousands", 1e-3),
        "student_flops": ("student's operations, GFLOP", 1e-9),
        "flops": ("operations with the teacher's, GFLOP", 1e-9),
        "seconds": ("seconds of training, all seeds at once", 1.0),
    }
    with matplotlib.style.context(["default", STYLE, {"font.size": 8.5}]):
        figure = canvas(7.6, [handle_of(result, name) for name in found])
        top = 100 * max(float(np.nanmax(line)) for _, line, _, _ in found.values() if np.isfinite(line).any())
        for place, (cost, (label, factor)) in enumerate(panels.items()):
            axes = figure.add_subplot(3, 2, place + 1)
            costs = {name: factor * _spent(result, name, cost, rounds) for name, (rounds, *_) in found.items()}
            furthest = max(float(costs[name][_near_its_best(middle)]) for name, (_, middle, *_) in found.items())
            for name, (_, middle, low, high) in found.items():
                spent = costs[name]
                # A cost may stand still while accuracy rises: the teacher predicts each example once.
                last = min(max(int(np.searchsorted(spent, furthest)), _near_its_best(middle)), len(spent) - 1)
                shown = np.unique(np.linspace(0, last, _POINTS).astype(int))
                x, line, under, above = (values[shown] for values in (spent, 100 * middle, 100 * low, 100 * high))
                colour, marker = look_of(result, name)
                every = max(1, len(shown) // 6)
                axes.plot(x, line, color=colour, lw=1.3, marker=marker, markersize=3, markevery=every)
                axes.fill_between(x, under, above, color=colour, alpha=0.1, linewidth=0)
            axes.set(xlabel=label, ylabel="validation accuracy, %" if place % 2 == 0 else None)
            axes.set(xlim=(0, furthest or 1.0), ylim=(max(0.0, top - 8), top + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return to_svg(figure)


_POINTS = 80
"""Of a curve that are drawn."""


def _near_its_best(middle: np.ndarray) -> int:
    """The first place within a fifth of a point of the highest mean."""
    return int(np.argmax(middle >= np.nanmax(middle) - 0.002)) if np.isfinite(middle).any() else 0


def _spent(result: Result, name: str, cost: str, rounds: np.ndarray) -> np.ndarray:
    """The cost at each of these rounds: the same for every seed, but for the seconds of seeds that have stopped."""
    of_it = (pl.col("configuration") == name) & (pl.col("metric") == cost)
    found = dict(result.metrics.filter(of_it).group_by("round").agg(pl.col("value").max()).iter_rows())
    return np.array([found[number] for number in rounds], float)


def scaling(result: Result) -> str | None:
    """Updates to the main goal over the stack's size: the thesis's rule as a line, others as marks of their own."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    points: dict[str, tuple[int, Interval]] = {}
    for row in result.summary["rows"]:
        own, found = settings.get(row["configuration"], {}), _metric(row, f"updates_to_{_MAIN}")
        if found and found["mean"] is not None and not own.get("flipped") and own.get("known") == 1:
            points[str(row["configuration"])] = (max(own["stack"]), found)
    plainly = [
        name
        for name in points
        if settings[name]["select"] == "top"
        and settings[name]["difficulty"] == "cross-entropy"
        and (settings[name]["target"] == "soft" or max(settings[name]["stack"]) == 1)
    ]
    if len(points) < 3:
        return None
    with matplotlib.style.context(["default", STYLE]):
        others = [name for name in points if name not in plainly]
        line = Line2D([], [], color=GREY, marker="o", lw=1.6, label="the hardest by cross-entropy, soft targets")
        figure, axes = framed(3.4, [line, *(handle_of(result, name) for name in others)])
        ordered = sorted(plainly, key=lambda name: points[name][0])
        line = np.array([(points[name][0], points[name][1]["mean"]) for name in ordered], float).reshape(-1, 2)
        axes.plot(*line.T, color=GREY, lw=1.6)
        for name, (size, found) in points.items():
            colour, marker = (GREY, "o") if name in plainly else look_of(result, name)
            middle = found["mean"] or 0.0
            ends = [[middle - (found["low"] or middle)], [(found["high"] or middle) - middle]]
            axes.errorbar([size], [middle], yerr=ends, color=colour, marker=marker, ms=5, capsize=2, lw=1.2)
        axes.set(xscale="log", xlabel="minibatches on the stack n", ylabel=f"updates to {_MAIN} %")
        axes.xaxis.set_major_formatter(lambda n, _: f"{n:g}")
        sizes = sorted({size for size, _ in points.values()})
        axes.set_xticks(sizes, minor=False)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        return to_svg(figure)


def figures(result: Result) -> dict[str, str | None]:
    """Every figure of such a run: the curves of the thesis's stacks, of larger ones, under bad labels; and scaling."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    groups: dict[str, list[str]] = {}
    for name, own in settings.items():
        if own.get("flipped"):
            group = "curves_flipped"
        elif own.get("known", 1) < 1:
            group = "curves_few_labels"
        else:
            group = "curves" if max(own.get("stack") or [1]) <= 5 else "curves_larger"
        groups.setdefault(group, []).append(name)
    return {group: curves(result, names) for group, names in groups.items()} | {"scaling": scaling(result)}


_HOW = (
    "One colour and marker a configuration, mean over seeds with the 95 % interval as band, drawn until the last of "
    "them is within 0.2 points of its own best. A line ends where the first of its students stopped; who stays more "
    "than eight points below the best is not in the picture."
)
WORDS = {
    "curves": ("Validation accuracy over what it cost", f"Figure 3.1 of the thesis is the first panel. {_HOW}"),
    "curves_larger": ("Larger stacks", _HOW),
    "curves_flipped": ("Some training labels are wrong", f"Teacher and students were told the same labels. {_HOW}"),
    "curves_few_labels": (
        "Few training labels are known",
        "The teacher was trained on the known ones alone; students whose targets and difficulty need no labels are "
        f"shown all examples. {_HOW}",
    ),
    "scaling": (
        f"Updates to {_MAIN} % over the stack's size",
        "Where every seed reached it, with the 95 % interval over seeds. The line is the thesis's rule; n = 1 is no "
        "teacher.",
    ),
}
"""Title and caption of each figure."""

HOW_TABLE = (
    "Mean over seeds with its 95 % interval (Student t) in brackets. Test accuracy at the best validation accuracy; "
    "“updates to it” are the backward passes by then; “to 96 %” those until validation accuracy first reached it. A "
    "number of seeds in brackets: only so many got there. A student stops after some epochs without improvement, and "
    "an epoch is a pass over the examples shown: a larger stack gets fewer updates, and fewer looks at validation, "
    "before it is stopped. The thesis's numbers stand beside ours."
)
HOW_COSTS = (
    f"What it took until validation accuracy first reached {_MAIN} %. Seconds: training of all seeds at once, without "
    "compilation and evaluation; the teacher's work, done once, is in the table below. Operations: matrix products, a "
    "backward pass twice the forward one; with teacher: each example is predicted by the frozen teacher once. "
    "Forward passes count examples, those only asked about and those trained on."
)
HOW_TEACHERS = (
    "Trained on the labels that its students are told, and stopped early on validation, then asked about every "
    "example: measured when it was done, on whichever day that was."
)
HOW_GAINS = (
    "The ratio is taken seed by seed, then averaged; above 1 is a gain. Seconds are one machine's, in this run. The "
    "thesis's claims stand beside ours: half the updates with n = 2, about a quarter with n = 5, none saved at random."
)
HOW_LARGER = (
    "The thesis found that stacks larger than five stop paying: then the ratio is below 1. Above 1 a way of teaching "
    "beats plain n = 5. Test accuracies are compared seed by seed with those of no teacher."
)
