"""The report of students and their teachers, from results made by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from palaver.studies.findings import support_of
from palaver.studies.record import SCHEMA
from palaver.studies.results import Result
from palaver.studies.statistics import interval
from palaver.teaching.goals import COSTS, cost_of, goals_of, main_goal
from palaver.teaching.report import report
from palaver.teaching.report.metrics import METRICS


def grids_of(result):
    return {section.title: section.grids[0] for section in report(result).sections}


def summary_of(updates):
    """A result in memory: configuration, stack, and updates to 96 % by seed."""
    metrics = {
        name: {f"{cost}_to.96 %": interval(values, "positive") for cost in ("updates", "seconds")}
        for name, (_, values) in updates.items()
    }
    rows = [{"configuration": name, "metrics": metrics[name]} for name in updates]
    own = {"flipped": 0.0, "known": 1.0, "select": "top", "difficulty": "cross-entropy"}
    settings = [
        {"configuration": name, "settings": own | {"stack": [n], "target": "true" if n == 1 else "soft"}}
        for name, (n, _) in updates.items()
    ]
    summary = {"rows": rows, "goals": ["95 %", "96 %", "97 %"]}
    return Result(Path(), {"rows": settings}, pl.DataFrame(schema=SCHEMA), summary)


def test_the_verdict_by_hand():
    def verdict(updates):
        return report(summary_of(updates)).verdict

    alone, five = (1, [4000.0, 5000.0, 6000.0]), (5, [1000.0, 4000.0, 2000.0])
    lines = verdict({"no teacher": alone, "n=5": five})
    # Updates: m = 2333.3, s = 1527.5, h / m = 1.62622. Ratios 4, 1.25, 3: m = 2.75, s = 1.39194, h / m = 1.25736.
    assert lines[0] == (
        "“n=5” reaches 96 % with the fewest updates: 2,333 [459, 11,864], 2.75 [0.78, 9.67] times fewer than "
        "“no teacher” (an interval that does not exclude 1)."
    )
    assert lines[1].startswith("“n=5” reaches 96 % with the fewest seconds")
    (sure, _) = verdict({"no teacher": alone, "n=5": (5, [1000.0, 1250.0, 1500.0])})
    # m = 1250, s = 250, h / m = 0.49683.
    assert sure == (
        "“n=5” reaches 96 % with the fewest updates: 1,250 [761, 2,054], 4.00 times fewer than “no teacher”."
    )
    others = verdict({"n=5": five, "n=2": (2, [9000.0] * 3)})
    assert others[0] == "“n=5” reaches 96 % with the fewest updates: 2,333 [459, 11,864]."
    assert "“no teacher”" in verdict({"no teacher": alone, "n=5": (5, [1000.0, None, 1.0])})[0]
    lost = {"n=5": (5, [1000.0, None]), "n=2": (2, [None, None])}
    assert verdict(lost) == ["No configuration reached 96 % with every seed."]


def test_the_verdict_of_two_seeds_gives_their_values():
    made = summary_of({"no teacher": (1, [4000.0, 6000.0]), "n=5": (5, [1000.0, 2000.0])})
    assert report(made).verdict[0] == (
        "“n=5” reaches 96 % with the fewest updates: 1,500 (1,000, 2,000), 3.50 (4.00, 3.00) times fewer than "
        "“no teacher” (too few seeds for an interval)."
    )


def test_the_verdict_of_a_single_configuration():
    made = summary_of({"n=5": (5, [1000.0, 1250.0, 1500.0])})
    made.summary["rows"][0]["metrics"]["test_accuracy"] = interval([0.96, 0.97, 0.98], "fraction")
    # m = 0.97, s = 0.01, h / (m (1 − m)) = 0.853654.
    right = "“n=5” is right on 97.0 % [93.2, 98.7] of the test examples; "
    spent = "it reaches 96 % after 1,250 [761, 2,054] updates and 1,250 [761, 2,054] seconds."
    assert report(made).verdict[0] == right + spent
    made.summary["rows"][0]["metrics"]["seconds_to.96 %"] = interval([1.0, None, 2.0])
    assert report(made).verdict[0] == right + "not every seed reached 96 %."


def test_stacks_beyond_five_by_hand():
    made = summary_of({"no teacher": (1, [40.0, 60.0]), "n=5": (5, [10.0, 20.0]), "n=20": (20, [8.0, 16.0])})
    right = {"no teacher": [0.95, 0.96], "n=5": [0.96, 0.97], "n=20": [0.97, 0.98]}
    for row in made.summary["rows"]:
        row["metrics"]["test_accuracy"] = interval(right[row["configuration"]])
    grid = grids_of(made)["Beyond n = 5"]
    assert grid.title == "to 96 %, against “n=5”"
    ((name, *ratios, tests),) = grid.rows
    assert (name, ratios) == ("n=20", ["1.25", "1.25"])
    assert tests.startswith("+2.00")
    assert "Beyond n = 5" not in grids_of(summary_of({"no teacher": (1, [40.0]), "n=2": (2, [20.0])}))


def test_the_thesis_claims_stand_beside_ours():
    made = summary_of({"no teacher": (1, [4000.0, 6000.0]), "n=5": (5, [1000.0, 1500.0])})
    made.summary["rows"][1]["thesis"] = {"times_fewer_updates": 4.0}
    grid = grids_of(made)["Gains"]
    assert grid.headers[:3] == ("configuration", "updates, × fewer", "thesis")
    assert [row[:3] for row in grid.rows] == [("n=5", "4.00", "4")]
    made.summary["overrides"] = {"batch_size": 8}
    assert grids_of(made)["Gains"].headers[2] == "thesis (its own settings)"


BASE, OWN = ([f"{percent} % of {whose} best" for percent in (97, 98, 99)] for whose in ("no teacher's", "its own"))


def test_goals_are_named_or_shares_of_the_best_on_the_same_labels():
    labels = {"flipped": 0.0, "known": 1.0, "goals": ()}
    settings = {
        "no teacher": labels | {"stack": (1,), "target": "true"},
        "n=5": labels | {"stack": (5,), "target": "soft"},
        "flipped: n=5": labels | {"stack": (5,), "target": "soft", "flipped": 0.2},
        "named": labels | {"stack": (2,), "target": "soft", "goals": (0.5, 0.925)},
    }
    best = {"no teacher": [0.7, 0.9], "n=5": [0.9, 0.9], "flipped: n=5": [0.4, 0.6], "named": [0.9, 0.9]}
    rows = [{"configuration": name, "metrics": {"validation_accuracy": interval(best[name])}} for name in best]
    found = goals_of(rows, settings)
    assert {name: list(own) for name, own in found.items()} == {
        "no teacher": BASE,
        "n=5": BASE,
        "flipped: n=5": OWN,
        "named": ["50 %", "92.5 %"],
    }
    assert abs(found["n=5"][BASE[0]] - 0.97 * 0.8) < 1e-12
    assert abs(found["flipped: n=5"][OWN[2]] - 0.99 * 0.5) < 1e-12
    assert list(found["named"].values()) == [0.5, 0.925]


def test_the_main_goal_is_the_middle_one_of_each_set_of_labels():
    """Configurations on correct labels have one without a teacher beside them, those on flipped labels have none."""
    made = summary_of(
        {
            "flipped: n=5": (5, [70.0, 90.0]),
            "flipped: n=2": (2, [70.0, 99.0]),
            "no teacher": (1, [40.0, 60.0]),
            "n=5": (5, [10.0, 20.0]),
        }
    )
    for row, settings in zip(made.summary["rows"], made.settings["rows"], strict=True):
        flipped = row["configuration"].startswith("flipped")
        settings["settings"]["flipped"] = 0.2 if flipped else 0.0
        (values,) = {tuple(own["values"]) for own in row["metrics"].values()}
        costs = (f"{cost}_to.{goal}" for cost in ("updates", "seconds") for goal in (OWN if flipped else BASE))
        row["metrics"] = {name: interval(list(values)) for name in costs}
    made.summary["goals"] = OWN + BASE
    assert main_goal(made.summary, ["no teacher", "n=5"]) == main_goal(made.summary, ["n=5"]) == BASE[1]
    assert main_goal(made.summary, ["flipped: n=5"]) == OWN[1]
    assert main_goal(made.summary, []) == "a goal"
    found = report(made)
    (costs,) = (section for section in found.sections if section.title == "Costs")
    assert f"reached {OWN[1]} or {BASE[1]}" in costs.note
    assert [(grid.title.split(": ")[1], [row[0] for row in grid.rows]) for grid in costs.grids] == [
        (f"costs to {OWN[1]}", ["flipped: n=5", "flipped: n=2"]),
        (f"costs to {BASE[1]}", ["no teacher", "n=5"]),
    ]
    gains = grids_of(made)["Gains"]
    assert gains.title == f"to {BASE[1]}, against no teacher on the same labels"
    ((name, updates, *_),) = gains.rows
    assert name == "n=5" and updates == "3.50 (4.00, 3.00)"
    assert found.verdict[0].startswith(f"“n=5” reaches {BASE[1]} with the fewest updates: 15 (10, 20), 3.50 (4.00")
    assert found.figures[-1].title == f"Updates to {BASE[1]} over the stack's size"


def test_what_a_goal_costs_is_declared_with_the_interval_that_it_is_stored_with():
    history = pl.DataFrame(
        [("a", seed, 10, None, "validation_accuracy", 0.9) for seed in range(3)]
        + [("a", seed, 10, None, cost, 1.0 + seed) for seed in range(3) for cost in COSTS.values()],
        schema=SCHEMA,
        orient="row",
    )
    found = cost_of(history, range(3), 0.5)
    assert found.keys() == COSTS.keys()
    for cost, stored in found.items():
        for goal in ("_best", ".96 %", ".97 % of no teacher's best"):
            assert interval(stored["values"], support_of(METRICS, f"{cost}_to{goal}")) == stored
