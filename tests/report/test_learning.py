"""Nodes that learn without labels: panels, statistics, collapse, and the words for a linear probe's accuracy."""

import io
import json
import math
import re
from html import unescape
from xml.etree import ElementTree

import polars as pl
import pytest
from rich.console import Console
from unlabelled import LATENT, make_unlabelled

from palaver.report import (
    compare_table,
    latent_grids,
    learning,
    read_result,
    results_table,
    warning_lines,
    write_report,
)
from palaver.report.learning import over_nodes
from palaver.report.verdict import verdict


@pytest.fixture
def folder(tmp_path):
    return make_unlabelled(tmp_path / "run")


def change(folder, edit, name="summary.json"):
    found = json.loads((folder / name).read_text())
    edit(found)
    (folder / name).write_text(json.dumps(found))


def text_of(page) -> str:
    return unescape(re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)))


def panels(svg: str) -> list[str]:
    return re.findall(r'id="panel-(\w+)"', svg)


def test_one_panel_a_quantity(folder):
    result = read_result(folder)
    svg = learning(result)
    ElementTree.fromstring(svg)
    assert panels(svg) == list(LATENT["vae"] | LATENT["bigan"])
    words = [each.strip() for each in re.findall(r"<!--(.*?)-->", svg)]
    for unit in ("nats an example", "units", "accuracy, %", "squared error a pixel", "times the data's", "round"):
        assert unit in words
    vae = result._replace(metrics=result.metrics.filter(pl.col("configuration").str.starts_with("VAE")))
    assert panels(learning(vae)) == list(LATENT["vae"])
    assert not any("BiGAN" in each for each in re.findall(r"<!--(.*?)-->", learning(vae)))
    assert learning(result) == svg
    write_report(folder)
    assert not (folder / "figures" / "temperature.svg").exists()


def test_without_such_quantities_there_is_neither_figure_nor_table(result_folder):
    result = read_result(result_folder)
    assert learning(result) is None and latent_grids(result) == []
    told = text_of(write_report(result_folder))
    assert (result_folder / "figures" / "temperature.svg").exists()  # it belongs to exchanged logits
    assert "Latent statistics" not in told and "What the nodes learn" not in told
    assert not (result_folder / "figures" / "learning.svg").exists()


def test_latent_statistics_by_hand(folder):
    grids = latent_grids(read_result(folder))
    assert [grid.headers[0] for grid in grids] == ["configuration"] * 2  # VAEs and BiGANs have a table each
    rows = {row[0]: dict(zip(grid.headers, row, strict=True)) for grid in grids for row in grid.rows}
    # Seeds at −104.3 · (0.95, 1, 1.05), nodes' tenths cancel: s = 5.215, half-width 4.302653 · 5.215 / √3 = 12.955.
    assert rows["VAE, 10 nodes, silent"]["ELBO, nats"] == "-104.3 [-117.3, -91.3]"
    assert rows["VAE, 10 nodes, silent"]["active units"] == "14.0 [12.3, 15.7]"
    assert "discriminator %" not in rows["VAE, 10 nodes, silent"]
    assert rows["BiGAN, 10 nodes, features"]["discriminator %"] == "64.5 [56.5, 72.5]"
    assert rows["BiGAN, 10 nodes, features"]["squared error a pixel"] == "0.0312 [0.0273, 0.0351]"
    assert rows["BiGAN, 1 node"]["linear probe, validation %"] == "46.0 [40.3, 51.7]"
    assert "ELBO, nats" not in rows["BiGAN, 1 node"]
    assert "64.5[56.5, 72.5]" in text_of(write_report(folder))  # the interval below its mean


def test_a_node_without_a_value_leaves_no_mean(folder):
    result = read_result(folder)
    lost = (pl.col("node") == 3) & (pl.col("seed") == 1) & (pl.col("metric") == "kl")
    for gone in (None, math.nan):
        torn = result._replace(
            metrics=result.metrics.with_columns(value=pl.when(lost).then(pl.lit(gone)).otherwise("value"))
        )
        values = over_nodes(torn, "VAE, 10 nodes, silent", "kl").filter(pl.col("round") == 600)["value"].to_list()
        assert values[0] == pytest.approx(25.2 * 0.95) and math.isnan(values[1])
        grid = latent_grids(torn)[0]
        assert grid.rows[1][grid.headers.index("KL, nats")] == "– (2 of 3 seeds)"


def test_a_seed_that_diverged_has_no_statistics(folder):
    change(folder, lambda summary: summary["rows"][1].update(diverged={"2": 300}))
    assert latent_grids(read_result(folder))[0].rows[1][1] == "– (2 of 3 seeds)"
    metrics = pl.read_parquet(folder / "metrics.parquet")
    metrics.filter((pl.col("seed") != 2) | (pl.col("round") < 300)).write_parquet(folder / "metrics.parquet")
    assert latent_grids(read_result(folder))[0].rows[1][1] == "– (2 of 3 seeds)"


def test_the_verdict_compares_talking_with_silent_in_each_family(folder):
    assert verdict(read_result(folder)).split("\n") == [
        "VAE: “VAE, 10 nodes, features” is right on 42.7 % [40.2, 45.2] of the test examples as a collective, 2.5 "
        "points below “VAE, 10 nodes, silent” at 45.2 % [42.7, 47.7] under the same decision rule (the 95 % intervals "
        "overlap).",
        "BiGAN: “BiGAN, 10 nodes, features” is right on 51.2 % [48.7, 53.7] of the test examples as a collective, 6.3 "
        "points above “BiGAN, 10 nodes, silent” at 44.9 % [42.4, 47.4] under the same decision rule (the 95 % "
        "intervals do not overlap).",
    ]
    page = write_report(folder)
    assert page.read_text().count('<p class="verdict">') == 2


def test_the_verdict_where_there_is_nothing_to_compare(folder):
    def without(*names):
        def edit(summary):
            summary["rows"] = [row for row in summary["rows"] if row["configuration"] not in names]

        return edit

    change(folder, without("VAE, 10 nodes, silent", "BiGAN, 10 nodes, features"))
    vae, bigan = verdict(read_result(folder)).split("\n")
    assert vae.endswith("as a collective; there is no silent configuration of as many nodes to compare it with.")
    assert bigan.startswith(
        "BiGAN: no configuration talks; “BiGAN, 1 node” is best on validation: it is right on 46.9 %"
    )
    lost = {"mean": None, "low": None, "high": None, "values": [None]}
    change(folder, lambda summary: summary["rows"][1]["metrics"].update(collective_accuracy=lost))
    vae = verdict(read_result(folder)).split("\n")[0]
    assert vae == "VAE: no configuration that talks has a collective accuracy in every one of its seeds."


def test_the_verdict_where_the_silent_ones_have_no_mean(folder):
    lost = {"mean": None, "low": None, "high": None, "values": [None]}
    change(folder, lambda summary: summary["rows"][1]["metrics"].update(collective_accuracy=lost))
    vae = verdict(read_result(folder)).split("\n")[0]
    assert vae.endswith("; “VAE, 10 nodes, silent”, as many silent nodes, has no mean to compare it with.")


def test_of_several_that_talk_the_best_is_named(folder):
    def another(found):
        found["rows"].append(found["rows"][2] | {"configuration": "VAE, 10 nodes, more"})

    change(folder, another)
    change(folder, another, "settings.json")
    told = "VAE: of those that talk, “VAE, 10 nodes, {}” is best on validation: "
    assert verdict(read_result(folder)).startswith(told.format("features"))

    def validated(summary):  # the test set has no say in which is the best
        for row, mean in ((2, 0.43), (-1, 0.44)):
            metrics = summary["rows"][row]["metrics"] | {"validation_average_accuracy": {"mean": mean}}
            summary["rows"][row] = summary["rows"][row] | {"metrics": metrics}

    change(folder, validated)
    assert verdict(read_result(folder)).startswith(told.format("more"))


def test_a_linear_probe_is_named_and_no_round_to_target(folder):
    result = read_result(folder)
    told = text_of(write_report(folder))
    assert "validation examples" not in told and "Rounds to target" not in told and "rounds to" not in told
    assert "Collective validation accuracy" not in told
    assert "Collective test accuracy of the linear probe, %, when the same answers" in told
    assert "at round 600: the test accuracy of a linear probe, a linear classifier" in told
    assert "The test accuracy of a linear probe" in told  # the first figure's caption
    words = re.findall(r"<!--(.*?)-->", (folder / "figures" / "accuracy_over_rounds.svg").read_text())
    assert "test accuracy of the linear probe, %" in [each.strip() for each in words]
    console = Console(width=100, record=True, file=io.StringIO(), color_system=None)
    console.print(results_table(result.summary), compare_table([result, result]))
    lines = console.export_text()
    assert "table-2.3 (tiny, 3 seeds): test accuracy of the linear probe" in lines
    assert "target" not in lines


def test_collapsed_nodes_are_told(folder):
    def collapse(summary):
        summary["rows"][4]["collapsed"] = {"0": [1, 2, 7], "1": [], "2": [4]}
        summary["rows"][5] |= {"collapsed": {}, "certain": {"2": [0]}}

    assert warning_lines(read_result(folder).summary) == []
    assert "collapsed:" not in text_of(write_report(folder))
    change(folder, collapse)
    lines = warning_lines(read_result(folder).summary)
    assert lines == [
        "“BiGAN, 10 nodes, silent” collapsed: 3 nodes of seed 0, 1 node of seed 2. Their codes or samples hardly "
        "depend on the input any more.",
        "“BiGAN, 10 nodes, features” has discriminators that are right on more than 99 %: 1 node of seed 2. These "
        "leave generator and encoder little to learn from.",
    ]
    page = write_report(folder)
    assert all(f'<p class="notice">{line}</p>' in page.read_text() for line in lines)


def test_untrained_nodes_are_no_rivals(folder):
    assert "“BiGAN, 10 nodes, silent”" in verdict(read_result(folder))
    change(folder, lambda settings: settings["rows"][4]["settings"].update(rounds=0), "settings.json")
    assert "there is no silent configuration" in verdict(read_result(folder))
