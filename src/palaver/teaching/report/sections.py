"""The report of students: verdict, tables and figures with the words that explain them."""

from collections.abc import Mapping
from functools import partial
from operator import sub, truediv
from typing import Any

from palaver.report.grids import measured_cell, metric_grid, percent_cell, thesis_header
from palaver.report.words import words
from palaver.studies.findings import Figure, Findings, Grid, Section
from palaver.studies.formats import decimals, three_digits
from palaver.studies.results import Result, metric_of, metrics_of, settings_of
from palaver.studies.statistics import Interval, paired
from palaver.teaching.goals import main_goal, without_teacher
from palaver.teaching.report import figures
from palaver.teaching.report.metrics import COSTS, RESULTS, TEACHER

WORDS = words("palaver.teaching.report")
_times = decimals(2)
_COST = {metric.name: metric for metric in COSTS}


def report(result: Result) -> Findings:
    """Everything that a run of students has to say.

    Args:
        result: the run, as ``read_result`` gives it.

    Returns:
        Verdict, tables and figures; a table without rows is left out.

    """
    summary, goal = result.summary, main_goal(result.summary, _clean(result))
    by_goal: dict[str, list[str]] = {}
    for name in settings_of(result):
        by_goal.setdefault(main_goal(summary, [name]), []).append(name)
    costs = [metric_grid(result, f"costs to {of}", COSTS, only=by_goal[of], suffix=f"_to.{of}") for of in by_goal]
    sections = (
        Section("Results", WORDS["results"], [metric_grid(result, "students by how they are taught", RESULTS)]),
        Section("Costs", WORDS["costs"].format(goal=" or ".join(by_goal)), [grid for grid in costs if grid.rows]),
        Section("Teachers", WORDS["teachers"], [_teachers_grid(summary)]),
        Section("Gains", WORDS["gains"], [_gains_grid(result)]),
        Section("Beyond n = 5", WORDS["larger"], [_larger_grid(result, goal)]),
    )
    return Findings(
        verdict=_verdict(result, goal),
        notices=[],
        sections=[section for section in sections if any(grid.rows for grid in section.grids)],
        figures=_figures(result, goal),
    )


def _teachers(summary: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Each teacher of the run, by the first configuration that it taught."""
    found: dict[str, dict[str, float | None]] = {}
    for row in summary["rows"]:
        facts = row.get("teacher")
        if facts and (known := facts | row["timings"]) not in found.values():
            found[str(row["configuration"])] = known
    return found


def _teachers_grid(summary: Mapping[str, Any]) -> Grid:
    """What the teachers know, and what they cost once."""
    teachers = _teachers(summary).items()
    rows = [(name, *(metric.form(facts.get(metric.name)) for metric in TEACHER)) for name, facts in teachers]
    return Grid("the teachers, once", ("teacher of", *(metric.label for metric in TEACHER)), rows)


def _gain(result: Result, name: str, base: str, cost: str, goal: str) -> Interval | None:
    """How many times less ``name`` needs than ``base``: the ratio of both costs by seed, with its interval."""
    found = metrics_of(result, f"{cost}_to.{goal}")
    return paired(found[base], found[name], truediv, "positive")


def _gains_grid(result: Result) -> Grid:
    """How many times fewer updates, seconds and operations than without a teacher, the thesis's number beside ours."""
    thesis = {row["configuration"]: row.get("thesis") or {} for row in result.summary["rows"]}
    costs = ("updates", "seconds", "student_flops", "flops")
    bases, rows = without_teacher(settings_of(result)), []
    goal = main_goal(result.summary, bases)
    for name, base in bases.items():
        cells = [measured_cell(_gain(result, name, base, cost, goal), _times) for cost in costs]
        if name != base:
            rows.append((name, cells[0], three_digits(thesis[name].get("times_fewer_updates")), *cells[1:]))
    headers = [f"{_COST[cost].label}, × fewer" for cost in costs]
    headers.insert(1, thesis_header(result.summary))
    return Grid(f"to {goal}, against no teacher on the same labels", ("configuration", *headers), rows)


def _plain_five(result: Result) -> str | None:
    """The configuration of the thesis's largest stack: n = 5, cross-entropy, soft targets, correct labels."""
    plain = {"stack": [5], "select": "top", "difficulty": "cross-entropy", "target": "soft", "flipped": 0, "known": 1}
    for name, own in settings_of(result).items():
        if plain.items() <= own.items() and own.get("target_temperature", 1) == 1:
            return name
    return None


def _larger_grid(result: Result, goal: str) -> Grid:
    """What other ways of teaching gain over the thesis's largest stack, and in test accuracy over no teacher."""
    five, tests, clean = _plain_five(result), metrics_of(result, "test_accuracy"), _clean(result)
    rows = []
    for name, base in without_teacher(settings_of(result)).items():
        if five is not None and name in clean and name not in (five, base):
            gains = [measured_cell(_gain(result, name, five, cost, goal), _times) for cost in ("updates", "seconds")]
            tested = paired(tests[name], tests[base], sub)
            rows.append((name, *gains, measured_cell(tested, decimals(2, factor=100, sign=True))))
    headers = ("configuration", "updates, × fewer", "seconds, × fewer", "test, points above no teacher")
    return Grid(f"to {goal}, against “{five}”", headers, rows)


def _clean(result: Result) -> list[str]:
    """Configurations on the data set's own labels, all of them known."""
    return [name for name, own in settings_of(result).items() if not own.get("flipped") and own.get("known", 1) == 1]


def _alone(result: Result, goal: str) -> str:
    """A single configuration: its test accuracy, and what reaching the goal costs."""
    (row,) = result.summary["rows"]
    line = f"“{row['configuration']}” is right on {percent_cell(metric_of(row, 'test_accuracy'))} of the test examples"
    spent = [(cost, metric_of(row, f"{cost}_to.{goal}")) for cost in ("updates", "seconds")]
    if not all(found and found["mean"] is not None for _, found in spent):
        return f"{line}; not every seed reached {goal}."
    costs = " and ".join(f"{measured_cell(found, _COST[cost].form)} {cost}" for cost, found in spent)
    return f"{line}; it reaches {goal} after {costs}."


def _verdict(result: Result, goal: str) -> list[str]:
    """Which way of teaching needs the fewest updates and which the fewest seconds, on the data set's own labels."""
    if len(result.summary["rows"]) == 1:
        return [_alone(result, goal)]
    clean, lines = _clean(result), []
    for cost in ("updates", "seconds"):
        found = metrics_of(result, f"{cost}_to.{goal}")
        means = {name: own["mean"] for name in clean if (own := found[name]) and own["mean"] is not None}
        if not means:
            return [f"No configuration reached {goal} with every seed."]
        best = min(means, key=lambda name: means[name] or 0.0)
        base = without_teacher(settings_of(result)).get(best)
        line = f"“{best}” reaches {goal} with the fewest {cost}: {measured_cell(found[best], _COST[cost].form)}"
        if base is not None and best != base and base in means:
            times = _gain(result, best, base, cost, goal)
            line += f", {measured_cell(times, _times)} times fewer than “{base}”"
            if times is None or times["low"] is None:
                line += " (too few seeds for an interval)"
            elif times["low"] <= 1:
                line += " (an interval that does not exclude 1)"
        lines.append(f"{line}.")
    facts = _teachers(result.summary).values()
    works = [(own.get("training_seconds"), own.get("table_seconds")) for own in facts]
    spent = [training + table for training, table in works if training is not None and table is not None]
    if spent:
        lines.append(WORDS["teachers_work"].format(seconds=three_digits(max(spent))))
    return lines


def _figures(result: Result, goal: str) -> list[Figure]:
    """The curves of the thesis's stacks, of larger ones, under wrong and missing labels; and updates by stack size."""
    groups: dict[str, list[str]] = {}
    for name, own in settings_of(result).items():
        if own.get("flipped"):
            group = "curves_flipped"
        elif own.get("known", 1) < 1:
            group = "curves_few_labels"
        else:
            group = "curves" if max(own.get("stack") or [1]) <= 5 else "curves_larger"
        groups.setdefault(group, []).append(name)
    found = []
    for group, names in groups.items():
        caption = f"{WORDS[group]} {WORDS['curves_how']}"
        found.append(Figure(group, WORDS[f"{group}_title"], caption, partial(figures.curves, result, names)))
    title, caption = f"Updates to {goal} over the stack's size", WORDS["scaling"].format(goal=goal)
    return [*found, Figure("scaling", title, caption, partial(figures.scaling, result, goal))]
