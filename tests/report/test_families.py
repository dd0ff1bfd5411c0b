"""Long tables have a heading for every family of rows, heat maps a scale; the page says when and how it was made."""

import json
import re
from itertools import pairwise

import pytest
from chapters import make_teaching

from palaver import experiments
from palaver.experiments import chapter
from palaver.report.page import write_report
from palaver.studies.findings import Findings

FAMILIES = {
    "teaching": {
        "Table 3.1": 7,
        "Rivals from the literature": 2,
        "Beyond the thesis": 8,
        "20 % of the labels flipped": 9,
        "10 % of the labels known": 9,
    },
    "language": {
        "Table 4.1": 4,
        "Views that complement each other": 8,
        "What may turn the order": 13,
        "Open ends, on halves": 19,
        "Messages that a decoder can turn back": 10,
    },
}
HEADING = r'<th scope="rowgroup" colspan="\d+"><span>(.*?)</span></th>'


def results_of(folder) -> str:
    return re.search(r"<h2>Results</h2>.*?</table>", (folder / "report.html").read_text(), re.DOTALL)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_stand_below_the_heading_of_their_family(chapters_folders, name):
    bodies = re.findall(r"<tbody>.*?</tbody>", results_of(chapters_folders[name]), re.DOTALL)
    found = {re.search(HEADING, body)[1]: body.count('<th scope="row"') for body in bodies}
    assert found == FAMILIES[name]


def test_every_row_of_a_long_table_has_a_family():
    for name in experiments.EXPERIMENTS:
        rows = experiments.rows(name, "cpu", {})
        families = [row.family for row in rows]
        assert len(rows) <= 8 or all(families), name
        # A family's rows follow each other.
        changes = sum(one != other for one, other in pairwise(families))
        assert changes == len(set(families)) - 1, name
        assert [row.under().family for row in rows] == families


def test_rows_without_families_have_no_heading(labelled_folder):
    page = (labelled_folder / "report.html").read_text()
    assert "rowgroup" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)


def test_the_command_and_the_date_are_told_where_they_are_known(chapters_folders, text_of, labelled_folder):
    told = text_of(chapters_folders["language"])
    assert "Made by palaver run table-4.1 --scale tiny --seeds 3" in told
    assert "83 s · 2026-03-04 05:06 UTC" in told
    assert told.count("palaver run") == 1  # not among the settings
    older = text_of(labelled_folder)
    assert "Made by" not in older and "UTC" not in older


def test_a_command_is_escaped(tmp_path, text_of):
    folder = make_teaching(tmp_path / "run")
    settings = json.loads((folder / "settings.json").read_text())
    settings["command"] = "palaver run x --only '<b>* *'"
    (folder / "settings.json").write_text(json.dumps(settings))
    write_report(folder, lambda name: chapter(name)._replace(report=lambda _: Findings([], [], [], [])))
    assert "<b>*" not in (folder / "report.html").read_text()
    assert "palaver run x --only '<b>* *'" in text_of(folder)


@pytest.mark.parametrize(("row", "symbol"), [(0, "the second symbol"), (1, "this symbol")])
def test_the_heat_maps_of_messages_have_a_scale(chapters_folders, row, symbol):
    svg = (chapters_folders["language"] / "figures" / f"messages_{row}.svg").read_text()
    words = re.findall(r">([^<]+)</text>", svg[svg.index('id="scale"') :])
    assert words == ["0", "25", "50", "75", "100", f"messages with {symbol} at this position, %"]
