"""The page and its figures: right numbers, same bytes twice, nothing from outside."""

import json
import re
from xml.etree import ElementTree

import polars as pl
import pytest

from palaver.report import accuracy_over_bits, accuracy_over_rounds, graph, read_result, temperature, write_report
from palaver.report.page import verdict


def change(folder, name, edit):
    found = json.loads((folder / name).read_text())
    edit(found)
    (folder / name).write_text(json.dumps(found))


def text_of(page: str) -> str:
    """What a reader sees: tags out, entities in."""
    from html import unescape

    return unescape(re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def test_the_page_holds_the_numbers(result_folder):
    told = text_of(write_report(result_folder).read_text())
    assert "logits53.4 [50.9, 55.9]79.061.1 [58.6, 63.6]84.8> 1,000 (0 of 3 seeds)–950 [826, 1,074]5,300" in told
    assert "> 1,000 (0 of 3 seeds)12,800850 [726, 974]3,100" in told
    assert "> 1,000 (1 of 3 seeds)" in told
    assert "silent59.1 [56.6, 61.6]57.6 [55.1, 60.1]58.1" in told
    assert "98.3 Mbit20.5 Mbit9.6 Gbit80.8 ×" in told
    assert "silent46.4 [46.4, 46.4]57.1" in told  # the test set, two points below


def test_the_verdict_compares_like_with_like(result_folder):
    assert verdict(read_result(result_folder)) == (
        "Of the configurations that talk, “10 nodes, labels <b>& all</b>” decides best: it is right on 63.3 % "
        "[60.8, 65.8] of the validation examples as a collective, 4.2 points above “10 nodes, silent” at 59.1 % "
        "[56.6, 61.6] under the same decision rule (the 95 % intervals overlap)."
    )


def test_the_verdict_says_so_when_talking_hurts(result_folder):
    def only_features(summary):
        summary["rows"] = [row for row in summary["rows"] if row["configuration"].endswith(("silent", "features"))]

    change(result_folder, "summary.json", only_features)
    told = verdict(read_result(result_folder))
    assert "“10 nodes, features” decides best" in told
    assert "1.6 points below “10 nodes, silent”" in told


def test_the_verdict_does_not_order_what_is_level(result_folder):
    def level(summary):
        summary["rows"][2]["metrics"]["collective_accuracy"].update(mean=0.5912)

    change(result_folder, "summary.json", lambda summary: (level(summary), summary["rows"].pop(3)))
    assert "as a collective, level with “10 nodes, silent” at 59.1 %" in verdict(read_result(result_folder))


def test_the_verdict_without_a_mean(result_folder):
    def lose(summary):
        for row in summary["rows"]:
            row["metrics"]["collective_accuracy"].update(mean=None, low=None, high=None)

    change(result_folder, "summary.json", lose)
    assert verdict(read_result(result_folder)).startswith("No configuration has a collective accuracy in every one")
    write_report(result_folder)


def test_same_files_same_bytes(result_folder):
    def everything():
        page = write_report(result_folder)
        return {path.name: path.read_bytes() for path in [page, *sorted((result_folder / "figures").iterdir())]}

    first = everything()
    assert first == everything()
    assert sorted(first) == [
        *("accuracy_over_bits.svg", "accuracy_over_rounds.svg", "decision_rules.svg", "graph.svg"),
        *("report.html", "temperature.svg"),
    ]


def test_words_from_files_are_escaped_and_nothing_is_fetched(result_folder):
    page = write_report(result_folder).read_text()
    assert "<b>& all</b>" not in page
    assert "10 nodes, labels &lt;b&gt;&amp; all&lt;/b&gt;" in page
    assert "exchange &lt;tiny&gt;" in page
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)


def test_diverged_seeds_are_told(result_folder):
    change(result_folder, "summary.json", lambda summary: summary["rows"][4].update(diverged={"2": 1650}))
    assert "“10 nodes, features” diverged: seed 2 at round 1,650." in text_of(write_report(result_folder).read_text())


def test_no_notice_without_a_diverged_seed(result_folder):
    assert "diverged" not in text_of(write_report(result_folder).read_text())


def test_settings_are_split_into_shared_and_different(result_folder):
    told = text_of(write_report(result_folder).read_text())
    shared, differ = told.split("What tells the configurations apart")
    assert "datadigits" in shared
    assert "rounds1000" in shared
    assert re.search(r"10 nodes, logits10\"?logits21\.0", differ)


def test_a_run_without_graph_or_talk_draws_less_and_leaves_nothing_old(result_folder):
    write_report(result_folder)
    change(result_folder, "settings.json", lambda settings: settings.pop("graph"))
    metrics = pl.read_parquet(result_folder / "metrics.parquet")
    metrics.filter(~pl.col("metric").str.starts_with("bits.")).write_parquet(result_folder / "metrics.parquet")
    page = write_report(result_folder).read_text()
    drawn = {path.stem for path in (result_folder / "figures").iterdir()}
    assert drawn == {"accuracy_over_rounds", "decision_rules", "temperature"}
    assert set(re.findall(r'data-figure="(\w+)"', page)) == drawn


def test_a_band_ends_where_a_seed_is_lost(result_folder):
    result = read_result(result_folder)
    lost = (pl.col("seed") == 2) & (pl.col("round") > 500)
    torn = result._replace(metrics=result.metrics.with_columns(value=pl.when(~lost).then(pl.col("value"))))
    gone = result._replace(metrics=result.metrics.filter(~lost))
    # A seed whose values are null and one whose rows are missing look the same, and not like three whole seeds.
    assert accuracy_over_rounds(torn) == accuracy_over_rounds(gone)
    assert accuracy_over_rounds(torn) != accuracy_over_rounds(result)


def test_figures_are_well_formed(result_folder):
    result = read_result(result_folder)
    for svg in (accuracy_over_rounds(result), accuracy_over_bits(result), graph(result), temperature()):
        root = ElementTree.fromstring(svg)
        assert float(root.get("width").removesuffix("pt")) == pytest.approx(504)  # 7 inches: 672 pixels


def _words(svg: str) -> list[str]:
    """Text drawn as outlines keeps its words in a comment."""
    return [words.strip() for words in re.findall(r"<!--(.*?)-->", svg, flags=re.DOTALL)]


def test_the_graph_counts_its_links_once(result_folder):
    assert "10 nodes, 10 links" in _words(graph(read_result(result_folder)))


def test_a_large_graph_is_a_sample_and_says_so(result_folder):
    ring = {"nodes": 1000, "edges": [[i, (i + 1) % 1000] for i in range(1000)]}
    change(result_folder, "settings.json", lambda settings: settings.update(graph=ring))
    told = _words(graph(read_result(result_folder)))
    # Breadth first from node 0: an arc of 200 nodes with 199 links between them.
    assert "a sample of 200 nodes and 199 links, out of 1,000 nodes, 1,000 links" in told
    full = {"nodes": 150, "edges": [[i, j] for i in range(150) for j in range(i)]}
    change(result_folder, "settings.json", lambda settings: settings.update(graph=full))
    told = _words(graph(read_result(result_folder)))
    assert "a sample of 150 nodes and 5,000 links, out of 150 nodes, 11,175 links" in told


def test_temperature_bars_are_softmax():
    def height(number, tau):
        outline = re.search(rf'id="probability-{number}-at-{tau}">\s*<path d="([^"]*)"', svg)[1]
        ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", outline)]
        return max(ys) - min(ys)

    svg = temperature()
    # softmax(1, 2, 4, 8): e⁸ against e⁴ is e⁴ = 54.6 times as high; at τ = 4 the exponents are a quarter.
    assert height(3, "1") / height(2, "1") == pytest.approx(54.598, rel=1e-3)
    assert height(3, "4") / height(0, "4") == pytest.approx(5.7546, rel=1e-3)  # e^(7/4)
    total = sum(height(number, "8") for number in range(4))
    assert total == pytest.approx(sum(height(number, "0.5") for number in range(4)), rel=1e-5)
    assert height(3, "0.5") / total == pytest.approx(0.99966, abs=1e-4)  # 1 / (1 + e⁻⁸ + e⁻¹² + e⁻¹⁴)


def test_the_round_of_the_accuracies_is_told(result_folder):
    assert "on validation examples, at round 1,000." in text_of(write_report(result_folder).read_text())

    def earlier(settings):
        for row in settings["rows"]:
            row["settings"]["report_round"] = 500

    change(result_folder, "settings.json", earlier)
    assert "on validation examples, at round 500." in text_of(write_report(result_folder).read_text())


def test_a_seed_that_left_no_row_is_missed(result_folder):
    result = read_result(result_folder)
    fewer = result._replace(metrics=result.metrics.filter(pl.col("seed") < 2))
    nobody = result._replace(metrics=result.metrics.with_columns(value=pl.lit(None, pl.Float64)))
    assert accuracy_over_rounds(fewer) == accuracy_over_rounds(nobody)
