"""Nodes that learn without labels: panels, statistics, collapse, and the words for a linear probe's accuracy."""

import io
import re
from xml.etree import ElementTree

import polars as pl
from rich.console import Console
from synthetic import LATENT, edited

from palaver.exchange.chapter import CHAPTER
from palaver.exchange.report import report
from palaver.exchange.report.metrics import LATENT as METRICS
from palaver.exchange.report.sections import warning_lines
from palaver.exchange.report.verdict import verdict
from palaver.report.drawing import configurations, panels
from palaver.report.grids import compare_grid
from palaver.report.terminal import show, to_table

LOST = {"mean": None, "low": None, "high": None, "values": [None]}


def panels_of(svg: str) -> list[str]:
    return re.findall(r'id="panel-(\w+)"', svg)


def words_of(svg: str) -> list[str]:
    return re.findall(r">([^<]+)</text>", svg)


def latent_grids(result):
    return next(section for section in report(result).sections if section.title == "Latent statistics").grids


def test_one_panel_a_metric(unlabelled_folder, unlabelled):
    svg = (unlabelled_folder / "figures" / "learning.svg").read_text()
    ElementTree.fromstring(svg)
    assert panels_of(svg) == list(LATENT["vae"] | LATENT["bigan"])
    for unit in ("nats an example", "units", "validation accuracy, %", "squared error a pixel", "times the data's"):
        assert unit in words_of(svg)
    vae = unlabelled._replace(metrics=unlabelled.metrics.filter(pl.col("configuration").str.starts_with("VAE")))
    svg = "".join(panels(vae, configurations(vae), METRICS, "round"))
    assert panels_of(svg) == list(LATENT["vae"])
    assert "round" in words_of(svg)
    assert not any("BiGAN" in each for each in words_of(svg))
    assert not (unlabelled_folder / "figures" / "temperature.svg").exists()


def test_without_such_metrics_there_is_neither_figure_nor_table(labelled_folder, labelled, text_of):
    assert panels(labelled, configurations(labelled), METRICS, "round") == [] and latent_grids(labelled) == []
    told = text_of(labelled_folder)
    assert (labelled_folder / "figures" / "temperature.svg").exists()  # it belongs to exchanged logits
    assert "Latent statistics" not in told and "What the nodes learn" not in told
    assert not (labelled_folder / "figures" / "learning.svg").exists()


def test_latent_statistics_by_hand(unlabelled, unlabelled_folder, text_of):
    grids = latent_grids(unlabelled)
    assert [grid.headers[0] for grid in grids] == ["configuration"] * 2  # VAEs and BiGANs have a table each
    rows = {row[0]: dict(zip(grid.headers, row, strict=True)) for grid in grids for row in grid.rows}
    # Seeds at −104.3 · (0.95, 1, 1.05): s = 5.215, half-width h = 4.302653 · 5.215 / √3 = 12.955. The files hold m ± h
    # of all metrics, as an older version wrote them; shown is 14 exp(± h / m), with h / m = 0.12421, and so on.
    assert rows["VAE, 10 nodes, silent"]["ELBO, nats"] == "-104.3 [-117.3, -91.3]"
    assert rows["VAE, 10 nodes, silent"]["active units"] == "14.0 [12.4, 15.9]"
    assert "discriminator %" not in rows["VAE, 10 nodes, silent"]
    assert rows["BiGAN, 10 nodes, features"]["discriminator %"] == "64.5 [56.2, 72.1]"
    assert rows["BiGAN, 10 nodes, features"]["squared error a pixel"] == "0.0312 [0.0276, 0.0353]"
    assert rows["BiGAN, 1 node"]["linear probe, validation %"] == "46.0 [40.4, 51.7]"
    assert "ELBO, nats" not in rows["BiGAN, 1 node"]
    assert "64.5[56.2, 72.1]" in text_of(unlabelled_folder)  # the interval below its mean


def test_a_seed_without_a_value_leaves_no_mean(unlabelled):
    kl = {"mean": None, "low": None, "high": None, "values": [25.2, None, 25.2]}
    grid = latent_grids(edited(unlabelled, lambda summary: summary["rows"][1]["metrics"].update(kl=kl)))[0]
    assert grid.rows[1][grid.headers.index("KL, nats")] == "– (2 of 3 seeds)"


def test_the_verdict_compares_communicating_with_silent_in_each_family(unlabelled, unlabelled_folder):
    assert verdict(unlabelled).split("\n") == [
        "VAE: “VAE, 10 nodes, features” is right on 42.7 % [40.2, 45.2] of the test examples as a collective, 2.5 "
        "points below “VAE, 10 nodes, silent” at 45.2 % [42.7, 47.7] under the same decision rule (the 95 % intervals "
        "overlap).",
        "BiGAN: “BiGAN, 10 nodes, features” is right on 51.2 % [48.7, 53.7] of the test examples as a collective, 6.3 "
        "points above “BiGAN, 10 nodes, silent” at 44.9 % [42.4, 47.4] under the same decision rule (the 95 % "
        "intervals do not overlap).",
    ]
    page = (unlabelled_folder / "report.html").read_text()
    assert page.count('<p class="verdict">') == 3 and "sentences of the thesis that were tested" in page


def test_the_verdict_where_there_is_nothing_to_compare(unlabelled):
    def without(*names):
        def edit(summary):
            summary["rows"] = [row for row in summary["rows"] if row["configuration"] not in names]

        return edit

    fewer = edited(unlabelled, without("VAE, 10 nodes, silent", "BiGAN, 10 nodes, features"))
    vae, bigan = verdict(fewer).split("\n")
    assert vae.endswith("as a collective; there is no silent configuration of as many nodes to compare it with.")
    assert bigan.startswith(
        "BiGAN: no configuration communicates; “BiGAN, 1 node” is best on validation: it is right on 46.9 %"
    )
    lost = edited(fewer, lambda summary: summary["rows"][1]["metrics"].update(collective_accuracy=LOST))
    vae = verdict(lost).split("\n")[0]
    assert vae == "VAE: no configuration that communicates has a collective accuracy in every one of its seeds."


def test_the_verdict_where_the_silent_ones_have_no_mean(unlabelled):
    lost = edited(unlabelled, lambda summary: summary["rows"][1]["metrics"].update(collective_accuracy=LOST))
    vae = verdict(lost).split("\n")[0]
    assert vae.endswith("; “VAE, 10 nodes, silent”, as many silent nodes, has no mean to compare it with.")


def test_of_several_that_communicate_the_best_is_named(unlabelled):
    def another(found):
        found["rows"].append(found["rows"][2] | {"configuration": "VAE, 10 nodes, more"})

    more = edited(unlabelled, another, another)
    told = "VAE: of those that communicate, “VAE, 10 nodes, {}” is best on validation: "
    assert verdict(more).startswith(told.format("features"))

    def validated(summary):  # the test set has no say in which is the best
        for row, mean in ((2, 0.43), (-1, 0.44)):
            metrics = summary["rows"][row]["metrics"] | {"validation_average_accuracy": {"mean": mean}}
            summary["rows"][row] = summary["rows"][row] | {"metrics": metrics}

    assert verdict(edited(more, validated)).startswith(told.format("more"))


def test_a_linear_probe_is_named_and_no_round_to_target(unlabelled, unlabelled_folder, text_of):
    told = text_of(unlabelled_folder)
    assert "on validation examples, at round" not in told and "Rounds to target" not in told and "rounds to" not in told
    assert "Collective validation accuracy" not in told
    assert "Collective test accuracy of the linear probe, %, when the same outputs" in told
    assert "at round 600: the test accuracy of a linear probe, a linear classifier" in told
    assert "The test accuracy of a linear probe" in told  # the first figure's caption
    words = words_of((unlabelled_folder / "figures" / "accuracy_over_rounds.svg").read_text())
    assert "test accuracy of the linear probe, %" in words
    console = Console(width=100, record=True, file=io.StringIO(), color_system=None)
    show(console, unlabelled, report(unlabelled))
    console.print(to_table(compare_grid([unlabelled] * 2, [metric for metric in CHAPTER.metrics if metric.compare])))
    lines = console.export_text()
    assert "table-2.3 (tiny, 3 seeds): test accuracy of the linear probe" in lines
    assert "target" not in lines
    assert "latent statistics" not in lines  # only on the page


def test_collapsed_nodes_are_told(unlabelled, unlabelled_folder):
    def collapse(summary):
        summary["rows"][4]["collapsed"] = {"0": [1, 2, 7], "1": [], "2": [4]}
        summary["rows"][5] |= {"collapsed": {}, "certain": {"2": [0]}}

    assert warning_lines(unlabelled.summary) == []
    assert 'class="notice"' not in (unlabelled_folder / "report.html").read_text()
    lost = edited(unlabelled, collapse)
    assert report(lost).notices == [
        "“BiGAN, 10 nodes, silent” collapsed: 3 nodes of seed 0, 1 node of seed 2. Their codes or generated "
        "samples hardly vary any more.",
        "“BiGAN, 10 nodes, features” has discriminators that are right on more than 99 %: 1 node of seed 2. Generator "
        "and encoder learn little from these.",
    ]


def test_untrained_nodes_are_no_rivals(unlabelled):
    assert "“BiGAN, 10 nodes, silent”" in verdict(unlabelled)
    untrained = edited(unlabelled, settings=lambda settings: settings["rows"][4]["settings"].update(rounds=0))
    assert "there is no silent configuration" in verdict(untrained)
