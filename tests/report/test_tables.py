"""Tables: the numbers are there, in the promised form, on the terminal at the promised width."""

import io
import json
import re

import pytest
from rich.console import Console
from synthetic import edited, make_teaching

from palaver.exchange.chapter import CHAPTER
from palaver.exchange.report import report
from palaver.report.grids import compare_grid, expand, measured_cell, metric_grid
from palaver.report.terminal import print_table, show, to_table
from palaver.studies.findings import Grid, Metric
from palaver.studies.formats import count, percent
from palaver.studies.results import read_result
from palaver.teaching.report import report as of_students
from palaver.types import PalaverError

TITLES = ("Results", "On the test set", "Decision rules", "Nodes", "Who answers", "Bits")
"""Columns of a terminal that each table fits; 120 is also what is printed where there is no terminal."""

COMPARED = [metric for metric in CHAPTER.metrics if metric.compare]


def shown(table, width=100) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.export_text().splitlines()


def section(result, title) -> list[str]:
    """The lines of a section's tables."""
    found = next(section for section in report(result).sections if section.title == title)
    return [line for grid in found.grids for line in shown(to_table(grid, stacked=True))]


def line_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.strip().startswith(start))


def test_cells():
    accuracy = {"mean": 0.845, "low": 0.839, "high": 0.851, "values": []}
    assert measured_cell(accuracy, percent) == "84.5 [83.9, 85.1]"
    assert measured_cell({"mean": 0.845, "low": None, "high": None, "values": [0.845]}, percent) == "84.5"
    assert measured_cell({"mean": 0.845, "low": 0.845, "high": 0.845, "values": [0.845] * 2}, percent) == "84.5"
    assert (
        measured_cell({"mean": 0.845, "low": None, "high": None, "values": [0.86, 0.83]}, percent)
        == "84.5 (86.0, 83.0)"
    )
    assert measured_cell({"mean": 0.845, "low": None, "high": None, "values": [0.845] * 2}, percent) == "84.5"
    assert measured_cell({"mean": None, "values": [0.8, None]}, percent) == "– (1 of 2 seeds)"
    assert measured_cell({"mean": None, "values": [None, None]}, percent) == "–"
    assert measured_cell(None, percent) == "–"
    rounds = {"mean": 5300.0, "low": 5100.0, "high": 5500.0, "values": []}
    assert measured_cell(rounds, count) == "5,300 [5,100, 5,500]"
    some = {"mean": None, "values": [1.0, 2.0, 3.0, None, None]}
    assert measured_cell(some, count, beyond="> 13,000") == "> 13,000 (3 of 5 seeds)"
    assert measured_cell({"mean": None, "values": [None]}, count, beyond="> 900") == "> 900 (0 of 1 seeds)"


def test_metrics_that_begin_alike_become_one_column_each(labelled):
    alike, other, missing = (
        Metric("collective_accuracy.*", "by {}"),
        Metric("average_accuracy", "alone"),
        Metric("x", ""),
    )
    assert [(metric.name, metric.label) for metric in expand([other, missing, alike], labelled.summary)] == [
        ("average_accuracy", "alone"),
        ("collective_accuracy.confidence", "by confidence"),
        ("collective_accuracy.entropy_as_printed", "by entropy as printed"),
        *((f"collective_accuracy.{rule}", f"by {rule}") for rule in ("majority", "mean", "product")),
    ]


def test_a_grid_of_some_configurations_and_of_none(labelled):
    metrics = [Metric("accuracy", "%", form=percent)]
    grid = metric_grid(labelled, "some", metrics, only=["10 nodes, silent"], suffix="")
    assert grid.rows == []
    metrics = [Metric("average", "alone %", form=percent), Metric("test_average", "unseen %", form=percent)]
    assert metric_grid(labelled, "some", metrics, only=["10 nodes, silent"], suffix="_accuracy") == Grid(
        "exchange <tiny> (tiny, 3 seeds): some",
        ("configuration", "alone %", "thesis", "unseen %"),
        [("10 nodes, silent", "48.4 [45.9, 50.9]", "71.1", "46.4")],
    )


def test_results(labelled):
    lines = section(labelled, "Results")
    # Last values x − 0.01, x, x + 0.01: s = 0.01, half-width 4.302653 · 0.01 / √3 = 2.48 points.
    place = lines.index(line_of(lines, "10 nodes, logits"))
    means, intervals = (" ".join(line.split()) for line in lines[place : place + 2])
    assert means == "10 nodes, logits 53.4 79.0 61.1 84.8"
    assert intervals == "[50.9, 55.9] [58.6, 63.6]"
    reached = lines[next(at for at, line in enumerate(lines) if "rounds to 60.0 %" in line) :]
    place = reached.index(line_of(reached, "10 nodes, logits"))
    means, intervals = (" ".join(line.split()) for line in reached[place : place + 2])
    assert means == "10 nodes, logits > 1,000 – 950 5,300"
    assert intervals == "(0 of 3 seeds) [834, 1,083]"
    place = reached.index(line_of(reached, "10 nodes, silent"))
    assert reached[place].split()[-2:] == ["1,000", "–"]
    assert reached[place + 1].split()[-4:] == ["(1", "of", "3", "seeds)"]
    assert "exchange <tiny> (tiny, 3 seeds): validation accuracy" in lines[0]


def test_bits_to_the_target(labelled):
    """(98,304 + 20,480) bits a round: 113 Mbit at round 950, 119 Mbit at round 1,000; silent nodes sent nothing."""
    lines = section(labelled, "Results")
    reached = lines[next(at for at, line in enumerate(lines) if "bits sent per node until 60.0 %" in line) :]
    place = reached.index(line_of(reached, "10 nodes, logits"))
    means, intervals = (" ".join(line.split()) for line in reached[place : place + 2])
    assert means == "10 nodes, logits > 119 Mbit 113 Mbit"
    assert intervals == "(0 of 3 seeds) [99 Mbit, 129 Mbit]"
    place = reached.index(line_of(reached, "10 nodes, silent"))
    assert " ".join(reached[place].split()) == "10 nodes, silent – –"
    assert reached[place + 1].split() == ["(1", "of", "3", "seeds)"]


def test_nodes_apart_and_decisions_of_some(labelled):
    # Average 53.4, its own labels 10 points above, the worst node 10 below; collective 61.1, less 10, 4 and 2 points.
    assert line_of(section(labelled, "Nodes"), "10 nodes, logits").split()[-3:] == ["63.4", "43.4", "5.0"]
    lines = section(labelled, "Who answers")
    assert line_of(lines, "10 nodes, logits").split()[-3:] == ["51.1", "57.1", "59.1"]
    assert "10 % of them 25 % of them 50 % of them" in " ".join(" ".join(lines).split())


def test_a_row_without_the_thesis_has_no_such_column(labelled):
    def forget(summary):
        for row in summary["rows"]:
            row["thesis"] = {}

    assert any("thesis" in line for line in section(labelled, "Results"))
    assert not any("thesis" in line for line in section(edited(labelled, forget), "Results"))


def test_under_other_settings_the_thesis_is_told_apart(labelled):
    def override(summary):
        summary["overrides"] = {"rounds": 40, "widths": [8, 16]}

    other = edited(labelled, override)
    headers = metric_grid(other, "accuracy", COMPARED[:1]).headers
    assert headers == ("configuration", "average %", "thesis (its own settings)")
    console = Console(width=200, record=True, file=io.StringIO(), color_system=None)
    show(console, other, report(other))
    said = console.export_text()
    assert "Under other settings than the experiment's own: rounds 40" in said and "widths 8 16" in said
    assert said.splitlines()[-1] == "3 seeds on digits, 83 s on cpu"


def test_rules_hold_every_row_and_rule(labelled):
    lines = section(labelled, "Decision rules")
    header = " ".join(" ".join(lines[: lines.index(line_of(lines, "─"))]).split())
    assert "entropy as" in header
    assert "confidence % printed % majority % mean % product %" in header
    silent = lines.index(line_of(lines, "10 nodes, silent"))
    assert lines[silent].split()[-5:] == ["59.1", "57.6", "58.1", "58.7", "59.4"]
    assert lines[silent + 1].split()[:2] == ["[56.6,", "61.6]"]


def test_bits(labelled):
    lines = section(labelled, "Bits")
    # 98,304 and 20,480 bits a round for 1,000 rounds, 2 · 32 · 150,000 for gradients: 80.8 times; a twentieth dropped.
    said = " ".join(line_of(lines, "10 nodes, logits").split())
    assert said == "10 nodes, logits 98.3 Mbit 0 bit 20.5 Mbit 9.6 Gbit 80.8 5.0"
    assert line_of(lines, "10 nodes, silent").split()[-2:] == ["–", "–"]


@pytest.mark.parametrize(("runs", "width"), [(1, 100), (3, 100), (4, 100), (5, 120)])
def test_runs_side_by_side(labelled, runs, width):
    results = [labelled._replace(folder=labelled.folder / f"run-{place}") for place in range(runs)]
    lines = shown(to_table(compare_grid(results, COMPARED), stacked=runs > 3), width)
    assert sum("run-" in line for line in lines) == 1
    assert [f"run-{place}" for place in range(runs)] == re.findall(r"run-\d", "".join(lines))
    logits = lines.index(line_of(lines, "10 nodes, logits"))
    assert "".join(lines[logits : logits + 2]).count("[50.9, 55.9]") == runs
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)


def test_runs_of_other_configurations_leave_cells_empty(labelled):
    fewer = edited(labelled, lambda summary: summary["rows"].pop(1))
    grid = compare_grid([labelled, fewer], COMPARED[:2])
    assert [row for row in grid.rows if row[0] == "10 nodes, silent"] == [
        ("10 nodes, silent", "average % ↑", "48.4 [45.9, 50.9]", "–")
    ]


def test_too_many_runs(labelled):
    with pytest.raises(PalaverError, match="6 runs to compare: give 1 to 5 at a time"):
        compare_grid([labelled] * 6, COMPARED)


@pytest.mark.parametrize("title", TITLES)
def test_nothing_is_cut_off(labelled, title):
    lines = section(labelled, title)
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert all(line.count("[") == line.count("]") for line in lines)


def test_the_values_of_two_seeds_go_below_their_mean_and_names_stay_whole():
    grid = Grid(
        "two", ("configuration", "%"), [("fast (lr 0.1)", "84.5 (86.0, 83.0)"), ("all [10]", "84.5 [80.0, 88.1]")]
    )
    lines = [line.split() for line in shown(to_table(grid, stacked=True)) if "(" in line or "[" in line]
    assert lines == [["fast", "(lr", "0.1)", "84.5"], ["(86.0,", "83.0)"], ["all", "[10]", "84.5"], ["[80.0,", "88.1]"]]


def test_a_table_wider_than_the_terminal_keeps_its_columns():
    console = Console(width=30, record=True, file=io.StringIO(), color_system=None)
    print_table(console, to_table(Grid("wide", ("row", *"abcdefgh"), [("one", *["1,234.5"] * 8)])))
    assert console.export_text().count("1,234.5") == 8
    assert console.width == 30


def test_a_teachers_seconds_are_shown_from_the_timings(tmp_path):
    """And from the teacher's facts, where results of before these were apart have them."""

    def teachers(result):
        return next(section.grids[0] for section in of_students(result).sections if section.title == "Teachers")

    folder = make_teaching(tmp_path / "run")
    before = read_result(folder)
    summary = json.loads((folder / "summary.json").read_text())
    taught = summary["rows"][1]
    own = {name: taught["teacher"].pop(name) for name in ("training_seconds", "table_seconds")}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert teachers(read_result(folder)).rows == [("n=5", "98.0", "20", "–", "1,000", "–")]
    summary["timings"]["rows"] = {"n=5": own}
    (folder / "summary.json").write_text(json.dumps(summary))
    for result in (before, read_result(folder)):
        assert teachers(result).rows == [("n=5", "98.0", "20", "3", "1,000", "0.1")]
        assert of_students(result).verdict[-1].endswith("took up to 3.1 s, once.")
