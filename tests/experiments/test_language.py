"""Languages end to end on digits: the run, what it measures, resuming, the page, and bad input."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import browser as chrome
from palaver.cli import main
from palaver.experiments import EXPERIMENTS
from palaver.report import read_result, write_report
from palaver.report.files import Result
from palaver.report.language import gains_grid, messages_grid, probes_grid, verdict, words

TINY = ["--scale", "tiny", "--seeds", "2", "--steps", "60", "--eval-every", "20", "--length", "8"]
EVERY = {
    *("probe_accuracy", "message_probe_accuracy", "validation_probe_accuracy", "validation_message_probe_accuracy"),
    *(
        "message_entropy",
        "symbol_entropy",
        "critics_information",
        "topographic_similarity",
        "information",
        "likelihood",
    ),
    *("temperature", "agreement"),
}


def run(folder, *flags):
    return main(["run", "language", *TINY, *flags, "--out", str(folder)])


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    assert run(folder, "--level", "both") == 0
    return read_result(folder)


def test_a_run_on_digits(result):
    (row,) = result.summary["rows"]
    assert result.summary["kind"] == "language" and row["bits_available"] == 8 and row["crosses_wire"] is False
    metrics = row["metrics"]
    assert EVERY | {f"{name}.end" for name in EVERY} | {"best_step", "reconstruction_error.end"} <= set(metrics)
    group = result.metrics.filter(pl.col("node").is_null())
    for place, seed in enumerate((0, 1)):
        wide = group.filter(pl.col("seed") == seed).pivot("metric", index="round", values="value").sort("round")
        assert wide["round"].to_list() == [20, 40, 60]
        best = int(wide["validation_probe_accuracy"].arg_max())
        assert metrics["best_step"]["values"][place] == wide["round"][best]
        for name in EVERY:
            assert metrics[name]["values"][place] == wide[name][best]
            assert metrics[f"{name}.end"]["values"][place] == wide[name][-1]
        # The group's value is the student's, agent 1's.
        student = result.metrics.filter((pl.col("node") == 1) & (pl.col("seed") == seed) & (pl.col("round") == 60))
        told = dict(student.select("metric", "value").iter_rows())
        for name in ("probe_accuracy", "message_entropy", "critics_information"):
            np.testing.assert_allclose(wide[name][-1], told[name])
        assert (wide["message_entropy"] <= np.log2(270)).all() and (wide["symbol_entropy"] <= 8).all()
        assert (wide["message_entropy"] <= wide["symbol_entropy"] + 1e-9).all()
        assert (wide["critics_information"] <= np.log(270) + 1e-4).all()
        assert 0 < metrics["mutual_information"]["values"][place] <= np.log(270) + 1e-4
        assert metrics["mutual_information"] == metrics["mutual_information.end"]
        assert wide["temperature"].to_list() == [4.0, 4.0, 4.0]
        # What a decoder makes of eight bits is better than the mean picture, whose error is the pixels' variance.
        assert 0 < wide["reconstruction_error"][-1] < 0.09


def test_the_same_seed_is_the_same_run(result, tmp_path):
    assert run(tmp_path / "again", "--level", "both") == 0
    again = read_result(tmp_path / "again")
    assert again.metrics.equals(result.metrics) and again.summary["rows"] == result.summary["rows"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--view", "halves", "--estimator", "straight-through", "--level", "receiving"),
        ("--view", "crops", "--information", "info-nce", "--critic", "separable", "--level", "feedback"),
        ("--view", "additive", "--information", "donsker-varadhan", "--all-pairs"),
        (
            "--generator",
            "recurrent",
            "--variable-length",
            "--length-cost",
            "0.01",
            "--vocabulary",
            "5",
            "--level",
            "both",
        ),
        (
            "--estimator",
            "reinforce",
            "--agents",
            "4",
            "--topology",
            "ring",
            "--level",
            "both",
            "--information",
            "info-nce",
        ),
        ("--agents", "1", "--learning-rate", "0"),
        ("--agents", "3", "--level", "both", "--length", "32", "--seeds", "2"),  # crashed jaxlib
        ("--information", "barber-agakov", "--critic", "likelihood", "--clip", "1", "--vocabulary", "3"),
    ],
)
def test_every_choice_runs(flags, tmp_path):
    """Each with two evaluations, on few examples; that it learns is tested where it is measured."""
    short = ["--steps", "4", "--eval-every", "2", "--examples", "200", "--seeds", "1", "--batch-size", "16"]
    assert run(tmp_path / "run", *short, *flags) == 0
    (row,) = read_result(tmp_path / "run").summary["rows"]
    values = [value for metric in row["metrics"].values() for value in metric["values"]]
    assert values and np.isfinite(values).all()
    assert row["crosses_wire"] == ("reinforce" in flags)
    assert ("agreement" in row["metrics"]) == ("--agents" not in flags or "1" not in flags)
    assert ("length" in row["metrics"]) == ("--variable-length" in flags)
    assert write_report(tmp_path / "run").exists()


def test_agents_that_do_not_learn_still_have_readers(tmp_path):
    assert run(tmp_path / "run", "--learning-rate", "0") == 0
    group = read_result(tmp_path / "run").metrics.filter(pl.col("node").is_null() & (pl.col("seed") == 0))
    wide = group.pivot("metric", index="round", values="value").sort("round")
    assert wide["message_entropy"].n_unique() == 1 and wide["symbol_entropy"].n_unique() == 1
    assert wide["probe_accuracy"].n_unique() == 3 and wide["probe_accuracy"][-1] > 0.3


def test_the_tables_rows():
    for scale in ("tiny", "cpu", "thesis"):
        rows = {row.configuration: row for row in EXPERIMENTS["table-4.1"].rows(scale, None)}
        told = {name: row.thesis["probe_accuracy"] for name, row in rows.items() if row.thesis}
        thesis = {"none": 0.644, "receiving": 0.657, "feedback": 0.694, "both": 0.714}
        assert told == ({} if scale == "tiny" else thesis)
        for name, level in (("none", "none"), ("receiving", "receiving"), ("feedback", "feedback"), ("both", "both")):
            own = rows[name].settings
            assert own.level == level and (own.length, own.vocabulary, own.noise) == (32, 2, 0.1)
            assert own.weight == {"receiving": 0.01}.get(level, 0.005)
        for row in rows.values():
            row.settings.check()
        # Every open end of the chapter is a row.
        settings = [row.settings for row in rows.values()]
        assert {own.estimator for own in settings} == {"gumbel-softmax", "straight-through", "reinforce"}
        assert {own.information for own in settings} == {
            "jensen-shannon",
            "donsker-varadhan",
            "info-nce",
            "barber-agakov",
        }
        # What each costs can be told from what communication does there.
        talking = {name for name, row in rows.items() if row.settings.level != "none"}
        stored = [{"configuration": name, "settings": asdict(row.settings)} for name, row in rows.items()]
        nothing = [{"configuration": name, "metrics": {}} for name in rows]
        compared = gains_grid(Result(Path(), {"rows": stored}, pl.DataFrame(), {"rows": nothing}))
        assert {name for name, *_ in compared.rows} == talking
        assert max(own.length for own in settings) > 32 and max(own.vocabulary for own in settings) > 2
        assert {own.generator for own in settings} == {"all-at-once", "recurrent"}
        assert any(own.variable_length for own in settings) and max(own.agents for own in settings) > 2
    assert not any(row.thesis for row in EXPERIMENTS["table-4.1"].rows("cpu", "digits"))


def test_the_page(result):
    page = write_report(result.folder)
    found = chrome.check_page(page, width=1100)
    assert {"curves_0", "said_0"} <= set(found["figures"])
    assert found["console"] == [] and found["too_wide"] == 0
    assert write_report(result.folder).read_bytes() == page.read_bytes()
    (row,) = probes_grid(result.summary).rows
    assert row[0].startswith("2 agents, both, 8 of 2 symbols")
    assert messages_grid(result.summary).rows[0][-1] == "no"


def test_the_verdict_by_hand(result):
    silent, talking = {"level": "none", "weight": 0.0}, {"level": "both", "weight": 0.5}

    def metrics(features, messages):
        from palaver.report import interval

        return {"probe_accuracy": interval(features), "message_probe_accuracy.end": interval(messages)}

    told = result._replace(
        settings={"rows": [{"configuration": "a", "settings": silent}, {"configuration": "b", "settings": talking}]},
        summary={
            "rows": [
                {"configuration": "a", "metrics": metrics([0.5, 0.6], [0.5, 0.5])},
                {"configuration": "b", "metrics": metrics([0.6, 0.7], [0.4, 0.7])},
            ]
        },
    )
    assert gains_grid(told).rows == [("b", "a", "+10.0 [+10.0, +10.0]", "+5.0 [-185.6, +195.6]")]
    assert verdict(told) == (
        "Of 1 comparison by a reader of features, communication helps in 1 (“b”) and harms in 0; undecided: 0.\n"
        "Of 1 comparison by a reader of hard messages, communication helps in 0 and harms in 0; undecided: 1."
    )
    told.summary["rows"][1]["metrics"] = metrics([0.4, 0.5], [0.4, None])
    assert verdict(told) == (
        "Of 1 comparison by a reader of features, communication helps in 0 and harms in 1 (“b”); undecided: 0.\n"
        "Of 1 comparison by a reader of hard messages, communication helps in 0 and harms in 0; undecided: 0; "
        "without an interval, for too few seeds: 1."
    )
    talking["length"] = 3
    assert verdict(told) == "No two configurations differ in communication alone."


def test_what_differs_in_communication_alone_is_drawn_together(result):
    def row(name, **settings):
        return {"configuration": name, "settings": settings}

    told = result._replace(
        settings={
            "rows": [
                row("long", length=64, level="none"),
                row("none", length=32, level="none", weight=1.0),
                row("both", length=32, level="both", weight=2.0),
                row("short", length=8, level="none"),
                row("ring", length=32, level="both", weight=2.0, topology="ring"),
            ]
        }
    )
    title, _ = words(told, "curves_0")
    rest, _ = words(told, "curves_1")
    assert title.endswith(": none; both; ring") and rest.endswith(": long; short")


def bad(tmp_path, capsys, flags, *words):
    assert main(["run", "language", "--scale", "tiny", *flags, "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said
    assert not list(tmp_path.glob("x*"))


def test_bad_input(tmp_path, capsys):
    for flags, told in (
        (("--agents", "0"), ("agents is 0", "at least 1")),
        (("--agents", "1", "--level", "both"), ("level is both with 1 agent",)),
        (("--noise", "2"), ("noise is 2.0", "[0, 1]")),
        (("--view", "crops", "--crop", "0"), ("size of crops is 0.0", "(0, 1]")),
        (("--length", "0"), ("length is 0",)),
        (("--vocabulary", "1"), ("vocabulary is 1",)),
        (("--variable-length",), ("variable_length is True", "all-at-once")),
        (("--length-cost", "1"), ("length_cost is 1.0", "variable_length")),
        (("--temperature", "0.1"), ("temperatures from 0.1",)),
        (("--estimator", "reinforce", "--samples", "0"), ("0 samples",)),
        (("--batch-size", "1"), ("batch_size is 1", "at least 2")),
        (("--batch-size", "5000"), ("batch_size is 5000", "at most 1257")),
        (("--weight", "-1"), ("weight is -1.0", "0 or more")),
        (("--level", "loud"), ("loud",)),
        (
            ("--view", "additive", "--information", "barber-agakov", "--critic", "likelihood"),
            ("view is additive", "give another"),
        ),
        (("--clip", "-1"), ("clip is -1.0", "0 (none) or more")),
        (("--information", "barber-agakov"), ("critic is joint", "give likelihood with")),
        (("--agents", "3", "--topology", "random", "--neighbours", "1", "--level", "both"), ("neighbours", "even")),
        (("--agents", "3", "--neighbours", "1"), ("topology full",)),
        (("--examples", "8", "--batch-size", "2"), ("fewer than 3 examples",)),
    ):
        bad(tmp_path, capsys, flags, *told)
