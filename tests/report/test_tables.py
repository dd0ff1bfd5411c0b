"""The terminal's tables: the numbers are there, in the promised form, at the promised width."""

import io
import json
import re

import pytest
from rich.console import Console
from synthetic import make_result

from palaver.report import bits_table, compare_table, last_rounds, read_result, results_table, rules_table
from palaver.report.tables import accuracy_cell, human_bits, percent, rounds_cell
from palaver.types import PalaverError


def shown(table, width=100) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.export_text().splitlines()


def line_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.strip().startswith(start))


@pytest.mark.parametrize(
    ("bits", "text"),
    [(0, "0 bit"), (999, "999 bit"), (1000, "1 kbit"), (24_576_000, "24.6 Mbit"), (999_999_999, "1 Gbit"),
     (9.6e9, "9.6 Gbit"), (5e21, "5,000 Ebit"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_bits_for_people(bits, text):
    assert human_bits(bits) == text


def test_cells():
    assert percent(0.8449) == "84.5"
    assert accuracy_cell({"mean": 0.845, "low": 0.839, "high": 0.851, "values": []}) == "84.5 [83.9, 85.1]"
    assert accuracy_cell({"mean": 0.845, "low": None, "high": None, "values": [0.845]}) == "84.5"
    assert accuracy_cell({"mean": None, "values": [0.8, None]}) == "– (1 of 2 seeds)"
    assert accuracy_cell(None) == "–"
    assert rounds_cell({"mean": 5300.0, "low": 5100.0, "high": 5500.0, "values": []}) == "5,300 [5,100, 5,500]"
    assert rounds_cell({"mean": None, "values": [1.0, 2.0, 3.0, None, None]}, 13_000) == "> 13,000 (3 of 5 seeds)"
    assert rounds_cell({"mean": None, "values": [None]}) == "> end (0 of 1 seeds)"


def test_results(result_folder):
    result = read_result(result_folder)
    lines = shown(results_table(result.summary, last_rounds(result)))
    # Last values x − 0.01, x, x + 0.01: s = 0.01, half-width 4.302653 · 0.01 / √3 = 2.48 points.
    logits = " ".join(line_of(lines, "10 nodes, logits").split())
    assert logits == "10 nodes, logits 53.4 [50.9, 55.9] 79.0 61.1 [58.6, 63.6] 84.8 950 [826, 1,074] 5,300"
    place = lines.index(line_of(lines, "10 nodes, silent"))
    assert lines[place].split()[-2:] == ["1,000", "–"]
    assert lines[place + 1].split() == ["(1", "of", "3", "seeds)"]


def test_a_row_without_the_thesis_has_no_such_column(result_folder):
    summary = read_result(result_folder).summary
    for row in summary["rows"]:
        row["thesis"] = {}
    assert not any("thesis" in line for line in shown(results_table(summary)))


def test_rules_hold_every_row_and_rule(result_folder):
    lines = shown(rules_table(read_result(result_folder).summary))
    header = " ".join(" ".join(lines[: lines.index(line_of(lines, "─"))]).split())
    assert "entropy as" in header
    assert "confidence % printed % majority % mean % product %" in header
    silent = lines.index(line_of(lines, "10 nodes, silent"))
    assert lines[silent].split()[-5:] == ["59.1", "57.6", "58.1", "58.7", "59.4"]
    assert lines[silent + 1].split()[:2] == ["[56.6,", "61.6]"]


def test_bits(result_folder):
    summary = read_result(result_folder).summary
    row = next(row for row in summary["rows"] if row["configuration"] == "10 nodes, logits")
    row["metrics"] |= {name: {"mean": mean, "values": [mean]} for name, mean in (("sent", 480.0), ("dropped", 24.0))}
    lines = shown(bits_table(summary))
    # 98,304 and 20,480 bits a round for 1,000 rounds, 2 · 32 · 150,000 for gradients: 80.8 times; 24 / 480 dropped.
    said = " ".join(line_of(lines, "10 nodes, logits").split())
    assert said == "10 nodes, logits 98.3 Mbit 20.5 Mbit 9.6 Gbit 80.8 × 5.0"
    assert line_of(lines, "10 nodes, silent").split()[-1] == "–"


@pytest.mark.parametrize(("runs", "width"), [(1, 100), (3, 100), (4, 100), (5, 120)])
def test_runs_side_by_side(tmp_path, runs, width):
    results = [read_result(make_result(tmp_path / f"run-{place}")) for place in range(runs)]
    lines = shown(compare_table(results), width)
    assert sum("run-" in line for line in lines) == 1
    assert [f"run-{place}" for place in range(runs)] == re.findall(r"run-\d", "".join(lines))
    logits = lines.index(line_of(lines, "10 nodes, logits"))
    assert "".join(lines[logits : logits + 2]).count("[50.9, 55.9]") == runs


def test_too_many_runs(result_folder):
    with pytest.raises(PalaverError, match="6 runs to compare: give 1 to 5 at a time"):
        compare_table([read_result(result_folder)] * 6)


@pytest.mark.parametrize("make", [results_table, rules_table, bits_table])
def test_nothing_is_cut_off_at_100_columns(result_folder, make):
    lines = shown(make(read_result(result_folder).summary))
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert all(line.count("[") == line.count("]") for line in lines)


def test_reading_refuses_in_one_line(tmp_path, result_folder):
    with pytest.raises(PalaverError, match="nowhere is not a folder: "):
        read_result(tmp_path / "nowhere")
    with pytest.raises(PalaverError, match=r"has no settings\.json: "):
        read_result(tmp_path)
    (result_folder / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(PalaverError, match=r"cannot read .*metrics\.parquet \(.*\): run the experiment again") as error:
        read_result(result_folder)
    assert "\n" not in str(error.value)
    (result_folder / "summary.json").write_text('{"rows": ')
    with pytest.raises(PalaverError, match=r"cannot read .*summary\.json \("):
        read_result(result_folder)
    (result_folder / "summary.json").write_text(json.dumps({"rows": [{}]}))
    with pytest.raises(PalaverError, match="has no list 'rows' of configurations"):
        read_result(result_folder)
