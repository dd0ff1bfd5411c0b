"""Table 3.1: its rows, what everything costs, and students with a teacher end to end on digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest

import browser as chrome
from palaver.cli import main
from palaver.data import load
from palaver.experiments import EXPERIMENTS, students, teacher
from palaver.experiments.costs import costs
from palaver.experiments.folder import SCHEMA, Checkpoints, open_folder
from palaver.experiments.lessons import TeachingSettings, corrupted
from palaver.experiments.study import Row
from palaver.report import Result, interval, read_result, write_report
from palaver.report.teaching import baselines, gain, gains_grid, larger_grid, verdict
from palaver.types import PalaverError

THESIS = {
    "no teacher": (0.964, 39_000),
    "n=2 cross-entropy soft": (0.969, 25_000),
    "n=2 cross-entropy true": (0.965, 18_700),
    "n=2 euclidean soft": (0.968, 18_700),
    "n=2 random soft": (0.967, 32_800),
    "n=5 cross-entropy soft": (0.968, 13_700),
    "n=5 cross-entropy true": (0.968, 9_100),
}
SMALL = {"batch_size": 8, "teacher_hidden": (32,), "teacher_epochs": 8, "epochs": 12, "patience": 4, "data": "digits"}


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
def test_rows(scale):
    rows = {row.configuration: row for row in EXPERIMENTS["table-3.1"].rows(scale, None)}
    told = {
        name: (row.thesis["test_accuracy"], row.thesis["updates_to_best"]) for name, row in rows.items() if row.thesis
    }
    assert told == ({} if scale == "tiny" else THESIS)
    factors = {name: row.thesis.get("times_fewer_updates") for name, row in rows.items() if row.thesis}
    assert {name for name, times in factors.items() if times == 4} == {name for name in told if "n=5" in name}
    assert {name for name, times in factors.items() if times == 1} == {name for name in told if "random" in name}
    assert sum(times == 2 for times in factors.values()) == (0 if scale == "tiny" else 3)
    for row in rows.values():
        row.settings.check()
    for where in ("20 % flipped: ", "10 % known: "):
        for name in THESIS:
            assert where + name in rows
    assert not any(row.thesis for row in EXPERIMENTS["table-3.1"].rows(scale, "cifar10"))
    if scale != "tiny":
        assert {max(row.settings.stack) for row in rows.values()} >= {1, 2, 5, 10, 20, 50, 100}


def test_costs_by_hand():
    digits = load("digits")
    own = TeachingSettings(data="digits", hidden=(32, 32), batch_size=32, teacher_hidden=(1200, 1200))
    forward = 2 * (64 * 32 + 32 * 32 + 32 * 10)
    above = 2 * (64 * 1200 + 1200 * 1200 + 1200 * 10)
    trained = 100 * 32 * (3 * forward - 2 * 64 * 32)
    assert costs(own, digits, 1257, 100) == (100, 3200, 0, trained, trained)
    soft = replace(own, stack=(5,), target="soft")
    taught = costs(soft, digits, 1257, 100)
    assert taught == (100, 19_200, 1257, trained + 16_000 * forward + 1257 * above, trained + 16_000 * forward)
    # A random choice asks the student nothing; the teacher speaks of the chosen ones only.
    assert costs(replace(soft, select="uniform"), digits, 1257, 10)[1:3] == (320, 320)
    # Selective backprop has no teacher.
    rival = costs(replace(own, stack=(5,), difficulty="student-loss"), digits, 1257, 100)
    assert rival[2] == 0 and rival.flops == rival.student_flops
    # Ten updates with a stack of five, then ninety without a stack; the teacher says nothing of the latter's labels.
    shrinking = replace(own, stack=(5, 1), stack_from=(0, 10))
    assert costs(shrinking, digits, 50_000, 100)[:3] == (100, 10 * 160 + 100 * 32, 10 * 160)
    assert costs(shrinking, digits, 50_000, 4)[:3] == (4, 4 * 160 + 4 * 32, 4 * 160)


def test_corrupted_labels():
    mnist_like = load("digits")
    labels, rows = corrupted(TeachingSettings(data="digits", flipped=0.2, known=0.1), mnist_like)
    wrong = (labels != mnist_like.y_train).mean()
    assert abs(wrong - 0.2) < 4 * np.sqrt(0.16 / len(labels))
    assert labels.min() >= 0 and labels.max() < 10
    assert len(rows) == len({*rows}) == 126
    clean, everything = corrupted(TeachingSettings(data="digits"), mnist_like)
    np.testing.assert_array_equal(clean, mnist_like.y_train)
    assert len(everything) == len(labels)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A whole run on digits: three rows of table 3.1, two of them under few labels too."""
    tmp = tmp_path_factory.mktemp("teaching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp / "cache"))
        names = ["no teacher", "n=2 cross-entropy soft", "n=5 cross-entropy soft"]
        names += ["10 % known: no teacher", "10 % known: n=2 random soft"]
        rows = [row for row in EXPERIMENTS["table-3.1"].rows("tiny", None) if row.configuration in names]
        experiment = EXPERIMENTS["table-3.1"]._replace(rows=lambda _scale, _data: rows)
        patch.setitem(EXPERIMENTS, "table-3.1", experiment)
        assert main(["run", "table-3.1", "--scale", "tiny", "--seeds", "2", "--out", str(tmp / "run")]) == 0
        assert len(list((tmp / "cache" / "palaver" / "teachers").glob("*.npy"))) == 2  # one a set of labels
    return read_result(tmp / "run")


def test_a_run_on_digits(result):
    rows = {row["configuration"]: row["metrics"] for row in result.summary["rows"]}
    assert result.summary["kind"] == "teaching"
    wanted = {f"{cost}_to_{goal}" for cost in ("updates", "seconds", "flops") for goal in (95, 96, 97)}
    for name, metrics in rows.items():
        assert wanted | {"test_accuracy"} <= set(metrics)
        history = result.metrics.filter(pl.col("configuration") == name)
        for place, seed in enumerate((0, 1)):
            wide = history.filter(pl.col("seed") == seed).pivot("metric", index="round", values="value").sort("round")
            assert metrics["validation_accuracy"]["values"][place] == wide["validation_accuracy"].max()
            best = wide.filter(pl.col("validation_accuracy") == wide["validation_accuracy"].max())["round"][0]
            assert metrics["updates_to_best"]["values"][place] == best
            assert metrics["updates"]["values"][place] == wide["round"].max()
            reached = wide.filter(pl.col("validation_accuracy") >= 0.95)
            for cost, column in (("updates", "round"), ("flops", "flops"), ("seconds", "seconds")):
                said = metrics[f"{cost}_to_95"]["values"][place]
                assert said == (float(reached[column][0]) if len(reached) else None)
                assert metrics[f"{cost}_to_best"]["values"][place] == wide.filter(pl.col("round") == best)[column][0]
    told = {row["configuration"]: row["teacher"] for row in result.summary["rows"]}
    assert told["no teacher"] is None and told["n=2 cross-entropy soft"] == told["n=5 cross-entropy soft"]
    assert told["n=2 cross-entropy soft"]["test_accuracy"] > 0.9
    assert min(told["n=2 cross-entropy soft"].values()) > 0
    assert rows["no teacher"]["test_accuracy"]["mean"] > 0.85
    assert rows["n=2 cross-entropy soft"]["test_accuracy"]["mean"] > 0.85


def test_a_student_stops_when_it_has_not_got_better_for_long(result):
    settings = {row["configuration"]: row["settings"] for row in result.settings["rows"]}
    own = settings["no teacher"]
    (row,) = (row for row in result.summary["rows"] if row["configuration"] == "no teacher")
    epoch = 1257 / own["batch_size"]
    for best, last in zip(
        row["metrics"]["updates_to_best"]["values"], row["metrics"]["updates"]["values"], strict=True
    ):
        waited = (last - best) / epoch
        assert (
            own["patience"] <= waited < own["patience"] + own["eval_every"] / epoch + 1e-9
            or last / epoch >= own["epochs"]
        )


def test_gains_are_against_no_teacher_on_the_same_labels(result):
    assert baselines(result) == {
        "no teacher": "no teacher",
        "n=2 cross-entropy soft": "no teacher",
        "n=5 cross-entropy soft": "no teacher",
        "10 % known: no teacher": "10 % known: no teacher",
        "10 % known: n=2 random soft": "10 % known: no teacher",
    }
    rows = {row["configuration"]: row["metrics"]["updates_to_best"]["values"] for row in result.summary["rows"]}
    expected = np.divide(rows["no teacher"], rows["n=5 cross-entropy soft"])
    found = gain(result, "n=5 cross-entropy soft", "no teacher", "updates_to_best")
    np.testing.assert_allclose(found["values"], expected)
    np.testing.assert_allclose(found["mean"], expected.mean())


def test_what_needs_labels():
    for changed, needs in (
        ({}, True),
        ({"target": "soft", "difficulty": "student-loss"}, False),  # nothing is scored
        ({"target": "soft", "difficulty": "student-loss", "stack": (5,)}, True),
        ({"target": "mixed", "stack": (5,)}, False),
        ({"target": "soft", "stack": (5,), "select": "uniform", "difficulty": "reducible-loss"}, False),
    ):
        assert TeachingSettings(**changed).needs_labels == needs


def summary_of(updates):
    """A result in memory: configuration, stack, and updates to 96 % by seed."""
    metrics = {
        name: {"updates_to_96": interval(values), "seconds_to_96": interval(values)}
        for name, (_, values) in updates.items()
    }
    rows = [{"configuration": name, "metrics": metrics[name]} for name in updates]
    own = {"flipped": 0.0, "known": 1.0, "select": "top", "difficulty": "cross-entropy"}
    settings = [
        {"configuration": name, "settings": own | {"stack": [n], "target": "true" if n == 1 else "soft"}}
        for name, (n, _) in updates.items()
    ]
    return Result(Path(), {"rows": settings}, pl.DataFrame(schema=SCHEMA), {"rows": rows})


def test_the_verdict_by_hand():
    alone, five = (1, [4000.0, 6000.0]), (5, [1000.0, 2000.0])
    told = verdict(summary_of({"no teacher": alone, "n=5": five})).split("\n")
    # The ratios are 4 and 3: mean 3.5, t(1) = 12.706 standard errors of 0.5.
    assert told[0] == (
        "“n=5” reaches 96 % with the fewest updates: 1,500 [-4,853, 7,853], 3.50 [-2.85, 9.85] times fewer than "
        "“no teacher” (an interval that does not exclude 1)."
    )
    sure = verdict(summary_of({"no teacher": (1, [4000.0, 6000.0]), "n=5": (5, [1000.0, 1500.0])}))
    assert sure.startswith(
        "“n=5” reaches 96 % with the fewest updates: 1,250 [-1,927, 4,427], 4.00 [4.00, 4.00] times fewer"
    )
    assert "exclude" not in sure
    assert told[1].startswith("“n=5” reaches 96 % with the fewest seconds")
    assert verdict(summary_of({"n=5": five})).startswith("“n=5” reaches 96 % with the fewest updates: 1,500 [")
    assert "“no teacher”" in verdict(summary_of({"no teacher": alone, "n=5": (5, [1000.0, None])}))
    assert verdict(summary_of({"n=5": (5, [1000.0, None])})) == "No configuration reached 96 % with every seed."


def test_stacks_beyond_five_by_hand():
    told = summary_of({"no teacher": (1, [40.0, 60.0]), "n=5": (5, [10.0, 20.0]), "n=20": (20, [8.0, 16.0])})
    right = {"no teacher": [0.95, 0.96], "n=5": [0.96, 0.97], "n=20": [0.97, 0.98]}
    for row in told.summary["rows"]:
        row["metrics"]["test_accuracy"] = interval(right[row["configuration"]])
    grid = larger_grid(told)
    assert grid.title == "to 96 %, against “n=5”"
    assert grid.rows == [("n=20", "1.25 [1.25, 1.25]", "1.25 [1.25, 1.25]", "+2.00 [+2.00, +2.00]")]
    assert larger_grid(summary_of({"no teacher": (1, [40.0]), "n=2": (2, [20.0])})).rows == []


def test_the_thesis_claims_stand_beside_ours():
    told = summary_of({"no teacher": (1, [4000.0, 6000.0]), "n=5": (5, [1000.0, 1500.0])})
    told.summary["rows"][1]["thesis"] = {"times_fewer_updates": 4.0}
    (row,) = gains_grid(told).rows
    assert row[:3] == ("n=5", "4.00 [4.00, 4.00]", "4")


def test_the_page(result):
    page = write_report(result.folder)
    found = chrome.check_page(page, width=1100)
    assert {"curves", "curves_few_labels"} <= set(found["figures"])
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == [] and found["too_wide"] == 0
    words = page.read_text()
    assert "10 % known: n=2 random soft" in words and "teacher&#x27;s forward passes" in words
    first = words
    assert write_report(result.folder).read_text() == first


def test_a_teacher_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digits = load("digits")
    own = teacher.TeacherSettings("digits", 0.0, 1.0, (32,), 0.0, 8, 3, 8)
    rows = np.arange(len(digits.y_train))
    made = teacher.taught(own, digits, digits.y_train, rows).table
    assert made.probabilities.shape == (len(digits.y_train) + len(digits.y_validation) + len(digits.y_test), 10)
    right = made.probabilities[: len(rows)].argmax(1) == digits.y_train
    assert right.mean() > 0.8

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(teacher, "_trained", never)
    again = teacher.taught(own, digits, digits.y_train, rows)
    np.testing.assert_array_equal(again.table.probabilities, made.probabilities)
    changed = digits._replace(x_train=np.where(digits.x_train == digits.x_train[0, 0, 3], 1, digits.x_train))
    for data, labels in ((digits, digits.y_train[::-1].copy()), (changed, digits.y_train)):
        with pytest.raises(AssertionError, match="trained again"):
            teacher.taught(own, data, labels, rows)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(students, "_BLOCK", 3)
    own = TeachingSettings(**SMALL, stack=(2, 4), stack_from=(0, 150), target="soft", select="proportional")
    row, digits = Row("x", own, {}), load("digits")

    def ready():
        return students.KIND.prepare(row, digits, [0, 1], 1)

    study = ready()
    state, first = study.advance(study.state)
    checkpoints = Checkpoints(open_folder(tmp_path / "run", resume=False, overwrite=False), 0)
    checkpoints.save(first.round, state)
    other = ready()
    restored = checkpoints.restore(first.round, other.state)
    checkpoints.close()
    rounds: set[int] = set()
    for _ in range(2):
        state, seen = study.advance(state)
        restored, again = other.advance(restored)
        rounds |= {*seen.frame["round"].to_list()}
        without = [each.frame.filter(pl.col("metric") != "seconds") for each in (seen, again)]
        assert without[0].equals(without[1])
    jax.tree.map(np.testing.assert_array_equal, state[0].nodes.params, restored[0].nodes.params)
    assert rounds == {150, 190, 230, 270, 310, 350}  # looked at where the stack's size changes


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"flipped": 1.0}, "flipped is 1.0"),
        ({"known": 0.0}, "known is 0.0"),
        ({"stack": (2, 3)}, r"stack_from is \(0,\): give 2 updates"),
        ({"stack": (2, 3), "stack_from": (5, 0)}, "ascending"),
        ({"stack": (0,)}, "stages are"),
        ({"select": "hardest", "share": 0.0}, "share is 0"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_bad_settings(changed, told):
    with pytest.raises(PalaverError, match=told):
        TeachingSettings(**changed).check()


def test_a_stack_that_the_data_cannot_fill(tmp_path, monkeypatch, capsys):
    settings = TeachingSettings(data="digits", stack=(50,), known=0.5)
    rows = [Row("too large", settings, {})]
    monkeypatch.setitem(EXPERIMENTS, "table-3.1", EXPERIMENTS["table-3.1"]._replace(rows=lambda *_: rows))
    assert main(["run", "table-3.1", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert said == (
        "palaver: a stack of 50 minibatches of 32 for 628 training examples of digits: give a stack of at most 19\n"
    )
    assert list(tmp_path.iterdir()) == []
