"""The page and its figures: right numbers, same bytes twice, nothing from outside."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from synthetic import edited, with_figures

from palaver.exchange.report import figures, report
from palaver.exchange.report.verdict import verdict
from palaver.experiments import chapter
from palaver.report.drawing import curve_of
from palaver.report.page import write_report
from palaver.studies.results import read_result
from palaver.types import PalaverError


def change(folder, name, edit):
    found = json.loads((folder / name).read_text())
    edit(found)
    (folder / name).write_text(json.dumps(found))


def test_the_page_holds_the_numbers(labelled_folder, text_of):
    told = text_of(labelled_folder)
    assert "logits53.4[50.9, 55.9]79.061.1[58.6, 63.6]84.8" in told
    assert "logits> 1,000(0 of 3 seeds)–950[834, 1,083]5,300" in told
    assert "> 1,000(0 of 3 seeds)12,800850[734, 984]3,100" in told
    assert "> 1,000(1 of 3 seeds)" in told
    assert "silent59.1[56.6, 61.6]57.6[55.1, 60.1]58.1" in told
    assert "98.3 Mbit0 bit20.5 Mbit9.6 Gbit80.85.0" in told
    assert "silent46.457.1" in told  # the test set, two points below, the same in every seed
    assert "data: digits · scale tiny · seeds: 3 · version 0.0 · cpu · 83 s · target 60.0 %" in told


def test_the_verdict_compares_like_with_like(labelled, labelled_folder, text_of):
    assert verdict(labelled) == (
        "Of those that communicate, “10 nodes, labels <b>& all</b>” is best on validation: it is right on 63.3 % "
        "[60.8, 65.7] of the validation examples as a collective, 4.2 points above “10 nodes, silent” at 59.1 % "
        "[56.6, 61.6] under the same decision rule (the 95 % intervals overlap)."
    )
    assert verdict(labelled) in text_of(labelled_folder)


def test_the_verdict_of_a_single_configuration(labelled):
    def alone(place):
        return lambda summary: summary.update(rows=summary["rows"][place : place + 1])

    # The collective and the average node differ by as much in every seed.
    assert verdict(edited(labelled, alone(3))) == (
        "“10 nodes, logits” is right on 61.1 % [58.6, 63.6] of the validation examples as a collective, its average "
        "node on 53.4 % [50.9, 55.9]; combining predictions changes that by +7.7 points."
    )
    assert verdict(edited(labelled, alone(0))) == (
        "“1 node, all the data” is right on 62.0 % [59.5, 64.5] of the validation examples."
    )


def test_the_verdict_says_so_when_communication_hurts(labelled):
    def only_features(summary):
        summary["rows"] = [row for row in summary["rows"] if row["configuration"].endswith(("silent", "features"))]

    told = verdict(edited(labelled, only_features))
    assert told.startswith("“10 nodes, features” is right on")
    assert "1.6 points below “10 nodes, silent”" in told


def test_the_verdict_does_not_order_what_is_level(labelled):
    def level(summary):
        summary["rows"][2]["metrics"]["collective_accuracy"].update(mean=0.5912)
        summary["rows"].pop(3)

    assert "as a collective, level with “10 nodes, silent” at 59.1 %" in verdict(edited(labelled, level))


def test_the_verdict_without_a_mean(labelled):
    def lose(summary):
        for row in summary["rows"]:
            row["metrics"]["collective_accuracy"].update(mean=None, low=None, high=None)

    findings = report(edited(labelled, lose))
    assert findings.verdict == ["No configuration has a collective accuracy in every one of its seeds."]
    assert all(figure.draw() for figure in findings.figures[:3])


@pytest.mark.parametrize("which", ["labelled", "unlabelled"])
def test_same_files_same_bytes(which, request):
    def everything(folder):
        return {file.name: file.read_bytes() for file in [folder / "report.html", *(folder / "figures").iterdir()]}

    first = everything(request.getfixturevalue(f"{which}_folder"))
    folder = request.getfixturevalue(f"{which}_copy")
    write_report(folder, chapter)
    assert first == everything(folder)
    shared = ["accuracy_over_bits.svg", "accuracy_over_rounds.svg", "decision_rules.svg", "graph.svg"]
    own = ["temperature.svg"] if which == "labelled" else ["learning.svg", "pictures_0.svg", "pictures_4.svg"]
    assert sorted(first) == sorted([*shared, *own, "report.html"])


def test_words_from_files_are_escaped_and_nothing_is_fetched(labelled_folder):
    page = (labelled_folder / "report.html").read_text()
    assert "<b>& all</b>" not in page
    assert "10 nodes, labels &lt;b&gt;&amp; all&lt;/b&gt;" in page
    assert "exchange &lt;tiny&gt;" in page
    assert not re.search(r"https?:|<script|<link|@import|url\((?!#)|href=\"(?!#|data:image/png)", page)


def test_notices_stand_on_the_page(labelled, labelled_copy):
    assert report(labelled).notices == []
    assert 'class="notice"' not in (labelled_copy / "report.html").read_text()

    def edit(summary):
        summary["rows"][4].update(diverged={"2": 1650})
        summary["overrides"] = {"rounds": 1000, "widths": [8, 16]}

    change(labelled_copy, "summary.json", edit)
    page = write_report(labelled_copy, with_figures(lambda _: False)).read_text()
    assert re.findall(r'<p class="notice">(.*?)</p>', page) == [
        "Under other settings than the experiment&#39;s own: rounds 1000, widths 8 16. The "
        "thesis&#39;s numbers are of its own settings.",
        "“10 nodes, features” diverged: seed 2 at round 1,650. It has no mean where a seed has no value: a mean over "
        "the other seeds would be too good.",
    ]
    assert page.count('<th scope="col">thesis (its own settings)</th>') == 4
    assert '<th scope="col">thesis</th>' not in page


def test_settings_are_split_into_shared_and_different(labelled_folder, text_of):
    shared, differ = text_of(labelled_folder).split("What tells the configurations apart")
    assert "datadigits" in shared
    assert "rounds1000" in shared
    assert re.search(r"10 nodes, logits10\"?logits21\.0", differ)


def test_a_run_without_graph_or_communication_draws_less_and_leaves_nothing_old(labelled_copy):
    change(labelled_copy, "settings.json", lambda settings: settings.pop("graph"))
    metrics = pl.read_parquet(labelled_copy / "metrics.parquet")
    metrics.filter(~pl.col("metric").str.starts_with("bits.")).write_parquet(labelled_copy / "metrics.parquet")
    page = write_report(labelled_copy, chapter).read_text()
    drawn = {path.stem for path in (labelled_copy / "figures").iterdir()}
    assert drawn == {"accuracy_over_rounds", "decision_rules", "temperature"}
    assert set(re.findall(r'data-figure="(\w+)"', page)) == drawn


def test_a_chapter_that_is_not_known_is_refused(labelled_copy):
    change(labelled_copy, "summary.json", lambda summary: summary.update(chapter="gossip"))
    with pytest.raises(PalaverError, match="'gossip' is no chapter: choose one of collective, teaching, language"):
        write_report(labelled_copy, chapter)


def test_a_band_ends_where_a_seed_is_lost(labelled):
    lost = (pl.col("seed") == 2) & (pl.col("round") > 500)
    torn = labelled._replace(metrics=labelled.metrics.with_columns(value=pl.when(~lost).then(pl.col("value"))))
    gone = labelled._replace(metrics=labelled.metrics.filter(~lost))
    name, metric = "10 nodes, silent", "collective_accuracy"
    rounds, *lines = curve_of(labelled, name, metric)
    # Seeds at the last round: 58.1, 59.1, 60.1; half-width 4.302653 / √3 = 2.484 points.
    assert [line[-1] for line in lines] == pytest.approx([0.591, 0.591 - 0.02484, 0.591 + 0.02484], abs=1e-5)
    expected = [np.where(rounds > 500, np.nan, line) for line in lines]
    # A seed whose values are null and one whose rows are missing look the same, and not like three whole seeds.
    for result in (torn, gone):
        np.testing.assert_array_equal(curve_of(result, name, metric), [rounds, *expected])
    assert figures.over_rounds(gone) not in ([], figures.over_rounds(labelled))


def test_a_seed_that_left_no_row_is_missed(labelled):
    fewer = labelled._replace(metrics=labelled.metrics.filter(pl.col("seed") < 2))
    assert all(np.isnan(line).all() for line in curve_of(fewer, "10 nodes, silent", "collective_accuracy")[1:])


def test_figures_are_well_formed(labelled_folder):
    for path in (labelled_folder / "figures").iterdir():
        root = ElementTree.fromstring(path.read_text())
        # A drawing of 3.5 inches, or it and its legend, 12 points apart.
        assert float(root.get("width").removesuffix("pt")) == (252 if path.stem == "graph" else 516)


def _words(svg: str) -> str:
    """All text of a drawing."""
    return " ".join(re.findall(r">([^<]+)</text>", svg))


def test_the_graph_counts_its_links_once(labelled_folder):
    assert "10 nodes, 10 links" in _words((labelled_folder / "figures" / "graph.svg").read_text())


def test_a_large_graph_is_a_sample_and_says_so(labelled):
    ring = {"nodes": 1000, "edges": [[i, (i + 1) % 1000] for i in range(1000)]}
    told = _words(*figures.graph(edited(labelled, settings=lambda settings: settings.update(graph=ring))))
    # Breadth first from node 0: an arc of 200 nodes with 199 links between them.
    assert "a sample of 200 nodes and 199 links, out of 1,000 nodes, 1,000 links" in told
    full = {"nodes": 150, "edges": [[i, j] for i in range(150) for j in range(i)]}
    told = _words(*figures.graph(edited(labelled, settings=lambda settings: settings.update(graph=full))))
    assert "a sample of 150 nodes and 5,000 links, out of 150 nodes, 11,175 links" in told


def test_temperature_bars_are_softmax(labelled_folder):
    def height(number, tau):
        outline = re.search(rf'id="probability-{number}-at-{tau}">\s*<path d="([^"]*)"', svg)[1]
        ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", outline)]
        return max(ys) - min(ys)

    svg = (labelled_folder / "figures" / "temperature.svg").read_text()
    # softmax(1, 2, 4, 8): e⁸ against e⁴ is e⁴ = 54.6 times as high; at τ = 4 the exponents are a quarter.
    assert height(3, "1") / height(2, "1") == pytest.approx(54.598, rel=1e-3)
    assert height(3, "4") / height(0, "4") == pytest.approx(5.7546, rel=1e-3)  # e^(7/4)
    total = sum(height(number, "8") for number in range(4))
    assert total == pytest.approx(sum(height(number, "0.5") for number in range(4)), rel=1e-5)
    assert height(3, "0.5") / total == pytest.approx(0.99966, abs=1e-4)  # 1 / (1 + e⁻⁸ + e⁻¹² + e⁻¹⁴)


def test_the_round_of_the_accuracies_is_told(labelled_folder, labelled, text_of):
    assert "on validation examples, at round 1,000." in text_of(labelled_folder)

    def earlier(settings):
        for row in settings["rows"]:
            row["settings"]["report_round"] = 500

    results = report(edited(labelled, settings=earlier)).sections[0]
    assert "on validation examples, at round 500." in results.note


def test_the_page_is_rebuilt_from_files_in_another_place(labelled_copy):
    assert read_result(labelled_copy).summary["experiment"] == "exchange <tiny>"
    assert write_report(str(labelled_copy), with_figures(lambda _: False)) == labelled_copy / "report.html"
