"""A chapter is one folder and one line: one made outside palaver runs as those inside do; so do registry entries."""

from __future__ import annotations

import json
import re
import shlex
import signal
from datetime import UTC, datetime
from pathlib import Path

import jax.numpy as jnp
import networkx as nx
import polars as pl
import pytest

from palaver.cli import main
from palaver.decision import RULES
from palaver.studies import runner
from palaver.topology import TOPOLOGIES, from_graph


def summary_of(folder):
    return json.loads((Path(folder) / "summary.json").read_text())


def refused(args, capsys) -> str:
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_it_is_listed_and_its_settings_are_flags(toy, capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^toy +fits one parameter to the mean of noisy numbers$", said, re.MULTILINE)
    assert re.search(r"^two-toys +two toy configurations$", said, re.MULTILINE)
    assert main(["run", "toy", "--help"]) == 0
    said = capsys.readouterr().out
    for flag in ("--mean", "--noise", "--numbers", "--rate", "--steps", "--eval-every"):
        assert flag in said


def test_mistakes_are_refused_before_anything_is_made(toy, tmp_path, capsys):
    assert refused(["run", "toy", "--rate", "2.5"], capsys) == "palaver: rate is 2.5: give a finite number in (0, 2)"
    assert refused(["run", "two-toys", "--steps", "0"], capsys).startswith("palaver: “exact”: steps is 0: give a whole")
    assert refused(["run", "toy", "--nodes", "3"], capsys).startswith("palaver: '--nodes' is no flag or argument")
    assert refused(["run", "toy", "--numbers", "1"], capsys).startswith("palaver: numbers is 1: give at least 2")
    Path("own.toml").write_text("rate = 'fast'\n")
    line = refused(["run", "toy", "--settings", "own.toml"], capsys)
    assert line == "palaver: own.toml: rate is 'fast': give a finite number in (0, 2)"
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]


def test_it_runs_and_is_reported_and_compared(toy, capsys):
    assert main(["run", "two-toys", "--scale", "tiny", "--out", "run"]) == 0
    said = capsys.readouterr().out
    # The estimate moves from 0 by a tenth of what is left: 3 (1 − 0.9²⁰) = 2.6353 without noise, in both seeds.
    assert "exact: 20 steps, estimate 2.635" in said
    assert "two-toys (tiny, 2 seeds): estimates" in said and "“exact” found 2.64." in said
    rows = {row["configuration"]: row["metrics"] for row in summary_of("run")["rows"]}
    assert rows["exact"]["estimate"]["values"] == pytest.approx([3 * (1 - 0.9**20)] * 2, rel=1e-5)
    assert rows["exact"]["loss"]["mean"] == pytest.approx((3 * 0.9**20) ** 2 / 2, rel=1e-4)
    first, second = rows["noisy"]["estimate"]["values"]
    assert 1 < first < 4 and 1 < second < 4 and first != second
    page = Path("run/report.html").read_bytes()
    for words in ("Estimates", "“exact” found 2.64.", 'data-figure="fit"', "Half the mean squared error.", "thesis"):
        assert words.encode() in page
    assert 'id="panel-estimate"' in Path("run/figures/fit.svg").read_text()

    assert main(["run", "toy", "--scale", "tiny", "--noise", "0", "--seeds", "1", "--out", "own"]) == 0
    assert summary_of("own")["rows"][0]["configuration"] == "mean 3"
    capsys.readouterr()
    assert main(["report", "run"]) == 0
    assert Path("run/report.html").read_bytes() == page
    assert main(["compare", "run", "own"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith(" exact ")).split() == ["exact", "estimate", "2.635", "–"]
    assert next(line for line in lines if line.startswith(" mean 3 ")).split()[2:] == ["estimate", "–", "2.635"]


def test_an_override_is_recorded_and_told(toy, capsys):
    args = ["run", "two-toys", "--scale", "tiny", "--mean", "5", "--steps", "10", "--only", "ex*", "--out", "run"]
    assert main(args) == 0
    summary = summary_of("run")
    assert summary["overrides"] == {"mean": 5.0, "steps": 10}
    assert [row["configuration"] for row in summary["rows"]] == ["exact"]
    assert summary["rows"][0]["metrics"]["estimate"]["mean"] == pytest.approx(5 * (1 - 0.9**10), rel=1e-5)
    told = "Under other settings than the experiment's own: mean 5.0, steps 10. The thesis"
    chosen = "Only configurations whose names fit ex* were run."
    shown = capsys.readouterr().out.replace("\n", " ")
    assert told in shown and chosen in shown
    page = Path("run/report.html").read_text()
    assert told.replace("'", "&#39;") in page and chosen in page and "thesis (its own settings)" in page


def test_interrupted_it_goes_on_to_the_same_bits(toy, monkeypatch, capsys):
    run = ["run", "two-toys", "--scale", "tiny", "--seeds", "3", "--eval-every", "5"]
    assert main([*run, "--out", "whole"]) == 0

    def interrupt(step):
        calls.append(step)
        if len(calls) == 6:  # in the middle of the second configuration
            signal.raise_signal(signal.SIGINT)

    calls = []
    monkeypatch.setattr(toy, "evaluated", interrupt)
    capsys.readouterr()
    assert main([*run, "--out", "run"]) == 130
    assert "palaver run two-toys --resume run goes on from here" in capsys.readouterr().err
    assert calls == [5, 10, 15, 20, 5, 10] and not Path("run").exists()
    assert refused(["run", "two-toys", "--resume", "run", "--rate", "0.2"], capsys).startswith("palaver: --resume run")
    assert main(["run", "two-toys", "--resume", "run"]) == 0
    assert calls[6:] == [15, 20]
    whole, again = (pl.read_parquet(Path(folder) / "metrics.parquet") for folder in ("whole", "run"))
    assert whole.equals(again)
    assert summary_of("whole")["rows"] == summary_of("run")["rows"]
    assert Path("whole/figures/fit.svg").read_bytes() == Path("run/figures/fit.svg").read_bytes()


def settings_of(folder):
    return json.loads((Path(folder) / "settings.json").read_text())


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (
            [
                "run",
                "two-toys",
                "--scale=tiny",
                "--only",
                "ex*",
                "--steps",
                "10",
                "--first-seed",
                "3",
                "--mean",
                "-2.5",
            ],
            "palaver run two-toys --scale tiny --seeds 2 --first-seed 3 --only 'ex*' --mean -2.5 --steps 10",
        ),
        (["run", "toy", "--scale", "tiny", "--rate", "0.5"], "palaver run toy --scale tiny --seeds 3 --rate 0.5"),
        (["run", "toy", "--settings", "own.toml"], "palaver run toy --scale cpu --seeds 3 --noise 0.0"),
    ],
)
def test_the_command_in_the_settings_makes_the_same_run(toy, args, command):
    Path("own.toml").write_text("noise = 0.0\n")
    assert main([*args, "--out", "run"]) == 0
    once = settings_of("run")
    assert once["command"] == command
    assert main([*shlex.split(command)[1:], "--out", "again"]) == 0
    assert {**settings_of("again"), "date": once["date"]} == once
    assert summary_of("again")["rows"] == summary_of("run")["rows"]


def test_the_date_is_when_the_run_first_began(toy, monkeypatch):
    monkeypatch.setattr(toy, "evaluated", lambda step: signal.raise_signal(signal.SIGINT))
    assert main(["run", "toy", "--scale", "tiny", "--out", "run"]) == 130
    monkeypatch.setattr(runner, "_now", lambda: "2002-01-01T00:00:00+00:00")
    monkeypatch.setattr(toy, "evaluated", lambda step: None)
    assert main(["run", "toy", "--resume", "run"]) == 0
    assert settings_of("run")["date"] == "2001-02-03T04:05:06+00:00"
    assert "2001-02-03 04:05 UTC" in Path("run/report.html").read_text()


def test_the_date_is_todays_in_universal_time():
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(runner._now()) <= datetime.now(UTC)


def first_node(logits, answered):
    """The distribution of node 0, whatever the others say."""
    return jnp.exp(logits[0]) / jnp.exp(logits[0]).sum(-1, keepdims=True)


def star(nodes, neighbours, **_):
    """Node 0 in the middle, joined to every other."""
    return from_graph(nx.star_graph(nodes - 1))


def test_a_rule_and_a_topology_of_ones_own_appear_everywhere(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["run", "collective", "--scale", "tiny", "--nodes", "3", "--rounds", "4", "--eval-every", "2", "--seeds", "2"]
    with monkeypatch.context() as added:
        added.setitem(RULES, "first_node", first_node)
        added.setitem(TOPOLOGIES, "star", star)
        assert main([*run, "--topology", "star", "--examples", "90", "--widths", "4", "--out", "run"]) == 0
    settings = json.loads(Path("run/settings.json").read_text())
    assert settings["rows"][0]["configuration"] == "3 nodes, labels, star"
    assert settings["graph"] == {"nodes": 3, "edges": [[0, 1], [0, 2]]}
    assert "first node %" in capsys.readouterr().out
    (row,) = summary_of("run")["rows"]
    found = row["metrics"]["collective_accuracy.first_node"]
    history = pl.read_parquet("run/metrics.parquet").filter(pl.col("round") == 4)
    node = history.filter((pl.col("metric") == "accuracy") & (pl.col("node") == 0)).sort("seed")["value"]
    assert found["values"] == node.to_list()
    assert "test_collective_accuracy.first_node" in row["metrics"]

    # What is shown comes from the files: both are gone again.
    assert "first_node" not in RULES
    page = Path("run/report.html").read_bytes()
    assert b'<th scope="col">first node %</th>' in page
    assert ">first node</text>" in Path("run/figures/decision_rules.svg").read_text()
    assert main(["report", "run"]) == 0
    assert Path("run/report.html").read_bytes() == page
    capsys.readouterr()
    assert main(["compare", "run", "run"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "by first node" in line)
    assert line.split()[3] == f"{100 * found['mean']:.1f}"
