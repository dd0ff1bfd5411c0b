"""Settings in place of an experiment's own: they change what a configuration leaves open, never what makes it."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from palaver import experiments
from palaver.cli import main
from tables import configurations

# Of each experiment: a setting that some or all configurations leave open.
OPEN = {
    "quickstart": {"rounds": 90, "temperature": 0.25, "skew": 0.3},
    "versus": {"temperature": 2.0, "eval_examples": 7},
    "sweeps": {"rounds": 90, "batch_size": 8, "channel": "logits"},
    "table-2.1": {"rounds": 9, "temperature": 2.0, "model": "mlp", "topology": "ring", "neighbours": 4},
    "table-2.3": {"rounds": 90, "learning_rate": 0.01, "latent": 4},
    "table-3.1": {"batch_size": 8, "flipped": 0.3, "share": 0.4},
    "table-4.1": {"learning_rate": 0.01, "weight": 0.3, "batch_size": 20, "length": 8},
}
# Of each experiment but sweeps, whose families have nothing in common: what tells all its configurations apart.
MADE_OF = {
    "quickstart": ["--nodes", "3"],
    "versus": ["--learning-rate", "0.1"],
    "table-2.1": ["--channel", "logits"],
    "table-2.3": ["--objective", "vae"],
    "table-3.1": ["--stack", "3"],
    "table-4.1": ["--level", "both"],
}


def test_every_experiment_is_here():
    assert OPEN.keys() == {*MADE_OF, "sweeps"} == experiments.EXPERIMENTS.keys()


@pytest.mark.parametrize("scale", ["tiny", "cpu"])
@pytest.mark.parametrize("name", OPEN)
def test_a_configuration_keeps_what_makes_it(name, scale):
    given = OPEN[name]
    for row in experiments.rows(name, scale, given):
        settings = asdict(row.under(given).settings)
        assert {each: settings[each] for each in row.own} == dict(row.own), row.name
        taken = {each: value for each, value in given.items() if each not in row.own}
        assert {each: settings[each] for each in taken} == taken, row.name


@pytest.mark.parametrize("name", OPEN)
def test_configurations_differ_in_what_makes_them(name):
    own = [repr((row.family, sorted(row.own.items()))) for row in experiments.rows(name, "cpu", {})]
    assert len(set(own)) == len(own)


def test_what_follows_from_a_setting_follows_the_given_one():
    rows = {row.name: row.settings for row in configurations("table-2.3", "cpu", rounds=90)}
    assert {row.rounds for name, row in rows.items() if "untrained" in name} == {0}
    assert {row.rounds for name, row in rows.items() if "untrained" not in name} == {90}
    assert {row.burn_in for name, row in rows.items() if "burn-in" in name} == {30}
    rows = {row.name: row.settings for row in configurations("table-4.1", "cpu", length=8, batch_size=20)}
    assert rows["twice as long: both"].length == 16 and rows["halves, InfoNCE: both"].batch_size == 40
    assert rows["untrained agents"].learning_rate == 0


@pytest.mark.parametrize("name", MADE_OF)
def test_what_makes_every_configuration_cannot_be_given(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    setting = MADE_OF[name][0].removeprefix("--").replace("-", "_")
    assert main(["run", name, *MADE_OF[name]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"palaver: {setting} is set by every configuration of {name} itself: leave it out, or give")
    assert not list(tmp_path.iterdir())


def test_a_setting_that_others_follow_from_is_checked_first(tmp_path, capsys):
    own = tmp_path / "own.toml"
    own.write_text('rounds = "many"\n')
    assert main(["run", "table-2.3", "--settings", str(own), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"palaver: {own}: rounds is 'many': give a whole number of at least 0"
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]
