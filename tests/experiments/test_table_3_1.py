"""Table 3.1: its rows, and students with a teacher end to end on digits."""

from __future__ import annotations

import jax
import numpy as np
import polars as pl
import pytest

import browser as chrome
from palaver.cli import main
from palaver.data import load
from palaver.experiments import chapter
from palaver.report.page import write_report
from palaver.studies.chapter import Configuration
from palaver.studies.checkpoints import Checkpoints
from palaver.studies.results import read_result
from palaver.teaching import study
from palaver.teaching.goals import COSTS, without_teacher
from palaver.teaching.report import report
from palaver.teaching.settings import TeachingSettings
from tables import configurations

THESIS = {
    "no teacher": (0.964, 39_000),
    "n=2 cross-entropy soft": (0.969, 25_000),
    "n=2 cross-entropy true": (0.965, 18_700),
    "n=2 euclidean soft": (0.968, 18_700),
    "n=2 random soft": (0.967, 32_800),
    "n=5 cross-entropy soft": (0.968, 13_700),
    "n=5 cross-entropy true": (0.968, 9_100),
}
DIGITS = load("digits")
SMALL = {"batch_size": 8, "teacher_hidden": (32,), "teacher_epochs": 8, "epochs": 12, "patience": 4, "data": "digits"}


@pytest.mark.parametrize("scale", ["tiny", "cpu", "thesis"])
def test_rows(scale):
    rows = {row.name: row for row in configurations("table-3.1", scale)}
    thesis = {name: row.thesis for name, row in rows.items() if row.thesis}
    numbers = {name: (own["test_accuracy"], own["updates_to_best"]) for name, own in thesis.items()}
    assert numbers == ({} if scale == "tiny" else THESIS)
    factors = {name: own.get("times_fewer_updates") for name, own in thesis.items()}
    assert {name for name, times in factors.items() if times == 4} == {name for name in thesis if "n=5" in name}
    assert {name for name, times in factors.items() if times == 1} == {name for name in thesis if "random" in name}
    assert sum(times == 2 for times in factors.values()) == (0 if scale == "tiny" else 3)
    for where in ("20 % flipped: ", "10 % known: "):
        for name in THESIS:
            assert where + name in rows
    assert {row.settings.goals for row in rows.values()} == {() if scale == "tiny" else (0.95, 0.96, 0.97)}
    for data in ("cifar10", "digits"):
        elsewhere = configurations("table-3.1", scale, data=data)
        assert not any(row.thesis or row.settings.goals for row in elsewhere)
        assert {row.settings.data for row in elsewhere} == {data}
    if scale != "tiny":
        assert {max(row.settings.stack) for row in rows.values()} >= {1, 2, 5, 10, 20, 50, 100}


NONE, TWO, FIVE = "no teacher", "n=2 cross-entropy soft", "n=5 cross-entropy soft"
FEW, FEW_RANDOM = "10 % known: no teacher", "10 % known: n=2 random soft"
SHARES = {f"{percent} % of no teacher's best": percent / 100 for percent in (97, 98, 99)}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Rows of table 3.1 on digits: no teacher and two stacks; two rows where few labels are known too."""
    tmp = tmp_path_factory.mktemp("teaching")
    only = [word for name in (NONE, "n=? cross-entropy soft", FEW, FEW_RANDOM) for word in ("--only", name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp / "cache"))
        args = ["run", "table-3.1", "--data", "digits", "--seeds", "2", *only]
        assert main([*args, "--out", str(tmp / "run")]) == 0
        assert len(list((tmp / "cache" / "palaver" / "teachers").glob("*.npy"))) == 2  # one a set of labels
    return read_result(tmp / "run")


def history_of(result, name):
    """Evaluations of each of both seeds, a column a metric."""
    own = result.metrics.filter(pl.col("configuration") == name)
    return [
        own.filter(pl.col("seed") == seed).pivot("metric", index="round", values="value").sort("round")
        for seed in (0, 1)
    ]


def test_a_run_on_digits(result):
    rows = {row["configuration"]: row["metrics"] for row in result.summary["rows"]}
    assert list(rows) == [NONE, TWO, FIVE, FEW, FEW_RANDOM]
    assert (result.summary["chapter"], result.summary["overrides"]) == ("teaching", {"data": "digits"})
    for name, metrics in rows.items():
        for place, wide in enumerate(history_of(result, name)):
            assert metrics["validation_accuracy"]["values"][place] == wide["validation_accuracy"].max()
            best = wide.filter(pl.col("validation_accuracy") == wide["validation_accuracy"].max())
            assert metrics["updates"]["values"][place] == wide["round"].max()
            for cost, column in (COSTS | {"updates": "round"}).items():
                assert metrics[f"{cost}_to_best"]["values"][place] == best[column][0]
    teachers = {row["configuration"]: row["teacher"] for row in result.summary["rows"]}
    assert teachers[NONE] is None and teachers[TWO] == teachers[FIVE] != teachers[FEW_RANDOM]
    assert teachers[TWO]["test_accuracy"] > 0.9
    assert min(teachers[TWO].values()) > 0
    timings = {row["configuration"]: row["timings"] for row in result.summary["rows"]}
    assert timings[NONE] == {} and min(timings[TWO].values()) > 0
    assert sorted(timings[TWO]) == ["table_seconds", "training_seconds"]
    assert rows[NONE]["test_accuracy"]["mean"] > 0.85
    assert rows[TWO]["test_accuracy"]["mean"] > 0.85


def test_goals_on_other_data_are_shares_of_the_best_without_a_teacher(result):
    """Of the best on the same labels, the mean over seeds; a seed's cost is that of its first evaluation so good."""
    assert result.summary["goals"] == list(SHARES)
    rows = {row["configuration"]: row["metrics"] for row in result.summary["rows"]}
    best = {
        base: np.mean([wide["validation_accuracy"].max() for wide in history_of(result, base)]) for base in (NONE, FEW)
    }
    assert 0.5 < best[FEW] < best[NONE] - 0.05 < 1
    reached = 0
    for name, metrics in rows.items():
        for goal, share in SHARES.items():
            accuracy = share * best[FEW if name.startswith("10 % known") else NONE]
            for place, wide in enumerate(history_of(result, name)):
                first = wide.filter(pl.col("validation_accuracy") >= accuracy)
                reached += len(first) > 0
                for cost, column in COSTS.items():
                    found = metrics[f"{cost}_to.{goal}"]["values"][place]
                    assert found == (first[column][0] if len(first) else None)
        of_goals = [metrics[f"updates_to.{goal}"]["values"] for goal in SHARES]
        assert all(a <= b for a, b in zip(*of_goals[:2], strict=True) if a and b)
    assert 10 < reached < 30


def test_a_student_stops_when_it_has_not_got_better_for_long(result):
    settings = {row["configuration"]: row["settings"] for row in result.settings["rows"]}
    own = settings[NONE]
    (row,) = (row for row in result.summary["rows"] if row["configuration"] == NONE)
    epoch = 1257 / own["batch_size"]
    for best, last in zip(
        row["metrics"]["updates_to_best"]["values"], row["metrics"]["updates"]["values"], strict=True
    ):
        waited = (last - best) / epoch
        assert (
            own["patience"] <= waited < own["patience"] + own["eval_every"] / epoch + 1e-9
            or last / epoch >= own["epochs"]
        )


@pytest.fixture(scope="module")
def named(result):
    """The same run, had its settings named accuracies that all but the last row reach."""
    goals = {"goals": (0.5, 0.925, 0.96)}
    settings = {row["configuration"]: TeachingSettings(**row["settings"] | goals) for row in result.settings["rows"]}
    rows = [row | {"metrics": {}} for row in result.summary["rows"]]
    concluded = study.conclude([Configuration(*row) for row in settings.items()], rows, result.metrics)
    return result._replace(summary=result.summary | {"rows": rows} | concluded)


def test_named_goals(named):
    assert named.summary["goals"] == ["50 %", "92.5 %", "96 %"]
    for row in named.summary["rows"]:
        for place, wide in enumerate(history_of(named, row["configuration"])):
            for goal, accuracy in (("50 %", 0.5), ("92.5 %", 0.925), ("96 %", 0.96)):
                first = wide.filter(pl.col("validation_accuracy") >= accuracy)
                for cost, column in COSTS.items():
                    found = row["metrics"][f"{cost}_to.{goal}"]["values"][place]
                    assert found == (first[column][0] if len(first) else None)


def grids_of(result):
    return {section.title: section.grids[0] for section in report(result).sections}


def test_gains_are_against_no_teacher_on_the_same_labels(result, named):
    settings = {row["configuration"]: row["settings"] for row in result.settings["rows"]}
    assert without_teacher(settings) == {NONE: NONE, TWO: NONE, FIVE: NONE, FEW: FEW, FEW_RANDOM: FEW}
    gains = grids_of(result)["Gains"]
    assert gains.title == "to 98 % of no teacher's best, against no teacher on the same labels"
    assert [row[0] for row in gains.rows] == [TWO, FIVE, FEW_RANDOM]
    rows = {row["configuration"]: row["metrics"] for row in named.summary["rows"]}
    gains = grids_of(named)["Gains"]
    assert gains.title == "to 92.5 %, against no teacher on the same labels"
    for name, updates, *costs_ in gains.rows[:2]:
        ours, theirs = (rows[of]["updates_to.92.5 %"]["values"] for of in (name, NONE))
        assert updates.startswith(f"{np.divide(theirs, ours).mean():.2f} (")  # two seeds: both values
        ours, theirs = (rows[of]["flops_to.92.5 %"]["values"] for of in (name, NONE))
        assert costs_[-1].startswith(f"{np.divide(theirs, ours).mean():.2f} (")  # two seeds: both values
    assert gains.rows[2][1] == "–"


def test_a_single_student(tmp_path, monkeypatch):
    """A configuration of one's own has no row without a teacher beside it: goals are shares of its own best."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    args = ["run", "teaching", "--scale", "tiny", "--stack", "2", "--target", "soft", "--select", "uniform"]
    args += ["--epochs", "3", "--teacher-epochs", "4", "--teacher-hidden", "32", "--seeds", "2"]
    assert main([*args, "--out", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run")
    (row,) = result.summary["rows"]
    assert row["configuration"] == "n=2 uniform cross-entropy soft"
    assert (result.summary["chapter"], result.summary["experiment"]) == ("teaching", "teaching")
    assert result.summary["goals"] == [f"{percent} % of its own best" for percent in (97, 98, 99)]
    histories = history_of(result, row["configuration"])
    mean = np.mean([wide["validation_accuracy"].max() for wide in histories])
    for place, wide in enumerate(histories):
        first = wide.filter(pl.col("validation_accuracy") >= 0.98 * mean)
        found = row["metrics"]["updates_to.98 % of its own best"]["values"][place]
        assert found == (first["round"][0] if len(first) else None)
    assert "updates to 98 % of its own best" in (tmp_path / "run" / "report.html").read_text()


def test_the_page(result):
    page = write_report(result.folder, chapter)
    found = chrome.check_page(page, width=1100)
    assert {"curves", "curves_few_labels"} <= set(found["figures"])
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == [] and found["too_wide"] == 0
    words = page.read_text()
    assert FEW_RANDOM in words and "teacher&#39;s forward passes" in words
    assert "updates to 98 % of no teacher&#39;s best" in words
    assert write_report(result.folder, chapter).read_text() == words


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "_BLOCK", 3)
    own = TeachingSettings(**SMALL, stack=(2, 4), stack_from=(0, 150), target="soft", select="proportional")

    def ready():
        return study.prepare(Configuration("x", own), DIGITS, [0, 1], 1)

    first, other = ready(), ready()
    state, begun = first.advance(first.begin())
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(begun.step, state, {})
    found = checkpoints.restore(other.begin())
    assert found is not None and found.step == begun.step
    restored = found.state
    updates: set[int] = set()
    for _ in range(2):
        state, evaluation = first.advance(state)
        restored, again = other.advance(restored)
        updates |= {*evaluation.frame["round"].to_list()}
        without = [each.frame.filter(pl.col("metric") != "seconds") for each in (evaluation, again)]
        assert without[0].equals(without[1])
    jax.tree.map(np.testing.assert_array_equal, state[0].nodes.params, restored[0].nodes.params)
    assert updates == {150, 190, 230, 270, 310, 350}  # evaluated also where the stack's size changes
