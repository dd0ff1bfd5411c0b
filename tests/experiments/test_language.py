"""Languages end to end on digits: the run, what it measures, the page, and bad input."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import browser as chrome
from palaver.cli import main
from palaver.data import load
from palaver.experiments import chapter
from palaver.language import study
from palaver.language.report import report
from palaver.language.settings import LanguageSettings, make_language
from palaver.language.train import language_training
from palaver.report.page import write_report
from palaver.studies.record import SCHEMA
from palaver.studies.results import Result, read_result
from palaver.studies.seeds import seed_keys
from palaver.studies.statistics import interval
from tables import configurations

TINY = ["--scale", "tiny", "--seeds", "2", "--steps", "60", "--eval-every", "20", "--length", "8"]
SHORT = ["--steps", "4", "--eval-every", "2", "--examples", "200", "--seeds", "1", "--batch-size", "16"]
EVERY = {
    *("probe_accuracy", "message_probe_accuracy", "validation_probe_accuracy", "validation_message_probe_accuracy"),
    *("message_entropy", "symbol_entropy", "critics_information", "topographic_similarity", "information"),
    *("message_nll", "temperature", "agreement"),
}


def run(folder, *flags):
    return main(["run", "language", *TINY, *flags, "--out", str(folder)])


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    assert run(folder, "--level", "both") == 0
    return read_result(folder)


@pytest.fixture
def nothing_afterwards(monkeypatch):
    """Leaves out the critic and the decoder that are trained at the end, which take most of a short run."""
    monkeypatch.setattr(study, "_decoded", lambda of, language, test: ({}, np.zeros(of.data.x_test.shape)))


def test_a_run_on_digits(result):
    (row,) = result.summary["rows"]
    assert result.summary["chapter"] == "language" and row["bits_available"] == 8 and row["crosses_wire"] is False
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
        own = dict(student.select("metric", "value").iter_rows())
        for name in ("probe_accuracy", "message_entropy", "critics_information"):
            np.testing.assert_allclose(wide[name][-1], own[name])
        assert (wide["message_entropy"] <= np.log2(270)).all() and (wide["symbol_entropy"] <= 8).all()
        assert (wide["message_entropy"] <= wide["symbol_entropy"] + 1e-9).all()
        assert (wide["critics_information"] <= np.log(270) + 1e-4).all()
        assert 0 < metrics["mutual_information"]["values"][place] <= np.log(270) + 1e-4
        assert metrics["mutual_information"] == metrics["mutual_information.end"]
        assert wide["temperature"].to_list() == [4.0, 4.0, 4.0]
        # A decoder's picture from eight bits is better than the mean picture, whose error is the pixels' variance.
        assert 0 < wide["reconstruction_error"][-1] < 0.09


def test_what_is_trained_afterwards_depends_on_a_seed_alone(monkeypatch):
    """Not on its place among the seeds; and critic and decoder have keys of their own."""
    monkeypatch.setattr(study, "reconstruct", lambda key, *data, **how: jnp.full((8, 8), jax.random.uniform(key)))
    monkeypatch.setattr(study, "estimate", lambda *data, key, **how: jax.random.uniform(key))
    settings = LanguageSettings(data="digits", hidden=(8,), critic_hidden=8, length=4)
    data = settings.load(load)
    game = make_language(settings, data)
    training = language_training(game, data.x_train, data.y_train, batch_size=64)

    def decoded(*seeds):
        of = study._Prepared(settings, game, training, data, seeds)
        state = training.init(seed_keys(seeds))
        return study._decoded(of, state, study._score(of, state, "test"))

    (together, _), (alone, of_decoder) = decoded(0, 2, 3), decoded(3)
    for name in ("mutual_information", "reconstruction_error"):
        assert together[name][-1] == alone[name][0] and len(set(together[name])) == 3
    assert of_decoder[0, 0] != alone["mutual_information"][0]


@pytest.mark.parametrize(
    "flags",
    [
        (
            *("--view", "halves", "--estimator", "straight-through", "--level", "receiving", "--vocabulary", "3"),
            *("--information", "barber-agakov", "--critic", "likelihood", "--clip", "1"),
        ),
        ("--view", "crops", "--information", "info-nce", "--critic", "separable", "--level", "feedback"),
        (
            *("--generator", "recurrent", "--variable-length", "--length-cost", "0.01", "--vocabulary", "5"),
            *("--view", "additive", "--information", "donsker-varadhan", "--all-pairs", "--level", "both"),
        ),
        (
            *("--estimator", "reinforce", "--agents", "4", "--topology", "ring", "--level", "both"),
            *("--information", "info-nce"),
        ),
        ("--agents", "3", "--level", "both", "--length", "32", "--seeds", "2"),  # crashed jaxlib
    ],
)
def test_every_choice_runs(flags, tmp_path, nothing_afterwards):
    """Each with two evaluations, on few examples; that it learns is tested where it is measured."""
    assert run(tmp_path / "run", *SHORT, *flags) == 0
    (row,) = read_result(tmp_path / "run").summary["rows"]
    values = [value for metric in row["metrics"].values() for value in metric["values"]]
    assert values and np.isfinite(values).all()
    assert row["crosses_wire"] == ("reinforce" in flags)
    assert "agreement" in row["metrics"]
    assert ("length" in row["metrics"]) == ("--variable-length" in flags)
    assert (tmp_path / "run" / "report.html").exists()


def test_probes_of_an_agent_that_does_not_learn_still_learn(tmp_path, nothing_afterwards):
    assert run(tmp_path / "run", "--agents", "1", "--learning-rate", "0") == 0
    made = read_result(tmp_path / "run")
    wide = made.metrics.filter(pl.col("node").is_null() & (pl.col("seed") == 0))
    wide = wide.pivot("metric", index="round", values="value").sort("round")
    assert wide["message_entropy"].n_unique() == 1 and wide["symbol_entropy"].n_unique() == 1
    assert wide["probe_accuracy"].n_unique() == 3 and wide["probe_accuracy"][-1] > 0.3
    (row,) = made.summary["rows"]
    assert "agreement" not in row["metrics"] and row["crosses_wire"] is False


def grid_of(result, title):
    (grid,) = (section.grids[0] for section in report(result).sections if section.title == title)
    return grid


def test_the_tables_rows():
    for scale in ("tiny", "cpu", "thesis"):
        rows = {row.name: row for row in configurations("table-4.1", scale)}
        numbers = {name: row.thesis["probe_accuracy"] for name, row in rows.items() if row.thesis}
        thesis = {"none": 0.644, "receiving": 0.657, "feedback": 0.694, "both": 0.714}
        assert numbers == ({} if scale == "tiny" else thesis)
        for name, level in (("none", "none"), ("receiving", "receiving"), ("feedback", "feedback"), ("both", "both")):
            own = rows[name].settings
            assert own.level == level and (own.length, own.vocabulary, own.noise) == (32, 2, 0.1)
            assert own.weight == {"receiving": 0.01}.get(level, 0.005)
        # Every choice that the thesis leaves open is a row.
        settings = [row.settings for row in rows.values()]
        assert {own.estimator for own in settings} == {"gumbel-softmax", "straight-through", "reinforce"}
        assert {own.information for own in settings} == {
            "jensen-shannon",
            "donsker-varadhan",
            "info-nce",
            "barber-agakov",
        }
        # Each has a row without communication that differs in nothing else.
        communicating = {name for name, row in rows.items() if row.settings.level != "none"}
        stored = [{"configuration": name, "settings": asdict(row.settings)} for name, row in rows.items()]
        nothing = [{"configuration": name, "metrics": {}} for name in rows]
        made = Result(Path(), {"rows": stored}, pl.DataFrame(schema=SCHEMA), {"rows": nothing})
        assert {name for name, *_ in grid_of(made, "Communication").rows} == communicating
        assert max(own.length for own in settings) > 32 and max(own.vocabulary for own in settings) > 2
        assert {own.generator for own in settings} == {"all-at-once", "recurrent"}
        assert any(own.variable_length for own in settings) and max(own.agents for own in settings) > 2
    assert not any(row.thesis for row in configurations("table-4.1", "cpu", data="digits"))


def test_the_page(result):
    page = write_report(result.folder, chapter)
    found = chrome.check_page(page, width=1100)
    assert {"curves_0", "messages_0"} <= set(found["figures"])
    assert found["console"] == [] and found["too_wide"] == 0
    assert write_report(result.folder, chapter).read_bytes() == page.read_bytes()
    (row,) = grid_of(result, "Results").rows
    assert row[0].startswith("2 agents, both, 8 of 2 symbols")
    assert grid_of(result, "Messages").rows[0][-1] == "no"


def test_the_report_loads_no_engine():
    program = """
import sys
import palaver.language.report
engines = {f"palaver.language.{name}" for name in ("game", "study", "train")} | {"palaver.node"}
assert not engines & {*sys.modules}, engines & {*sys.modules}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def made_of(result, settings, metrics):
    """The result with other settings and metrics, by configuration."""
    rows = [{"configuration": name, "settings": own} for name, own in settings.items()]
    summary = [{"configuration": name, "metrics": own} for name, own in metrics.items()]
    return result._replace(folder=Path(), settings={"rows": rows}, summary={"rows": summary})


def test_the_verdict_by_hand(result):
    settings = {"a": {"level": "none", "weight": 0.0}, "b": {"level": "both", "weight": 0.5}}

    def made(features, messages):
        values = {"a": ([0.5, 0.6, 0.55], [0.5, 0.5, 0.5]), "b": (features, messages)}
        names = ("probe_accuracy", "message_probe_accuracy.end")
        metrics = {name: dict(zip(names, map(interval, own), strict=True)) for name, own in values.items()}
        rows = made_of(result, settings, metrics)
        for row in rows.summary["rows"]:
            row |= {"bits_available": 8, "crosses_wire": False}
        return rows

    better = made([0.6, 0.7, 0.65], [0.4, 0.7, 0.55])
    ((*names, features, messages),) = grid_of(better, "Communication").rows
    assert names == ["b", "a"]
    # Differences of −10, 20 and 5 points: s = 15, half-width 4.302653 · 15 / √3.
    assert features.startswith("+10.0") and messages == "+5.0 [-32.3, +42.3]"
    assert report(better).verdict == [
        "Of 1 comparison by a probe of features, communication helps in 1 (“b”) and harms in 0; undecided: 0.",
        "Of 1 comparison by a probe of hard messages, communication helps in 0 and harms in 0; undecided: 1.",
    ]
    assert report(made([0.4, 0.5, 0.45], [0.4, None, 0.5])).verdict == [
        "Of 1 comparison by a probe of features, communication helps in 0 and harms in 1 (“b”); undecided: 0.",
        "Of 1 comparison by a probe of hard messages, communication helps in 0 and harms in 0; undecided: 0; "
        "without an interval, for fewer than 3 seeds with values: 1.",
    ]
    summary, own = ({"rows": content["rows"][1:]} for content in (better.summary, better.settings))
    alone = better._replace(summary=summary, settings=own)
    assert report(alone).verdict == [
        "“b”: a linear probe of features is right on 65.0 % [52.6, 77.4] of the test examples, one of hard messages on "
        "55.0 % [17.7, 92.3]."
    ]
    settings["b"]["length"] = 3
    alone = made([0.4, 0.5, 0.45], [0.4, None, 0.5])
    assert report(alone).verdict == ["No two configurations differ in communication alone."]


def test_what_differs_in_communication_alone_is_drawn_together(result):
    settings = {
        "long": {"length": 64, "level": "none"},
        "none": {"length": 32, "level": "none", "weight": 1.0},
        "both": {"length": 32, "level": "both", "weight": 2.0},
        "short": {"length": 8, "level": "none"},
        "ring": {"length": 32, "level": "both", "weight": 2.0, "topology": "ring"},
    }
    together, rest = report(made_of(result, settings, {name: {} for name in settings})).figures
    assert (together.name, rest.name) == ("curves_0", "curves_1")
    assert together.title.endswith(": none; both; ring") and rest.title.endswith(": long; short")


def bad(tmp_path, capsys, flags, *words):
    assert main(["run", "language", "--scale", "tiny", *flags, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not list(tmp_path.glob("x*"))


def test_bad_input(tmp_path, capsys):
    for flags, words in (
        (("--agents", "0"), ("agents is 0", "at least 1")),
        (("--agents", "1", "--level", "both"), ("level is both with 1 agent",)),
        (("--noise", "2"), ("noise is 2.0", "[0, 1]")),
        (("--view", "crops", "--crop", "0"), ("crop is 0.0", "(0, 1]")),
        (("--length", "0"), ("length is 0",)),
        (("--vocabulary", "1"), ("vocabulary is 1",)),
        (("--variable-length",), ("variable_length is True", "all-at-once")),
        (("--length-cost", "1"), ("length_cost is 1.0", "variable_length")),
        (("--temperature", "0.1"), ("lowest is 0.5", "at most temperature (0.1)")),
        (("--estimator", "reinforce", "--samples", "0"), ("samples is 0",)),
        (("--batch-size", "1"), ("batch_size is 1", "at least 2")),
        (("--batch-size", "5000"), ("batch_size is 5000", "at most 1257")),
        (("--weight", "-1"), ("weight is -1.0", "at least 0")),
        (("--level", "loud"), ("loud",)),
        (
            ("--view", "additive", "--information", "barber-agakov", "--critic", "likelihood"),
            ("view is additive", "give another"),
        ),
        (("--predict", "sample", "--estimator", "reinforce"), ("predict is sample: give auto or distribution",)),
        (("--predict", "sample", "--estimator", "straight-through"), ("predict is sample: give auto",)),
        (("--predict", "sample", "--generator", "recurrent"), ("predict is sample", "generator all-at-once")),
        (("--clip", "-1"), ("clip is -1.0", "at least 0")),
        (("--information", "barber-agakov"), ("critic is joint", "give likelihood if and only if")),
        (("--agents", "3", "--topology", "random", "--neighbours", "1", "--level", "both"), ("neighbours", "even")),
        (("--agents", "3", "--neighbours", "1"), ("topology full",)),
        (("--examples", "8", "--batch-size", "2"), ("fewer than 3 examples",)),
        (("--devices", "2"), ("devices is 2: give 1",)),
    ):
        bad(tmp_path, capsys, flags, *words)
