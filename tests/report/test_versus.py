"""Outputs on a reference set against everything else: best rates, fronts, sentences, tables, figures."""

import re

import polars as pl
import pytest

from palaver.baselines import METHODS
from palaver.exchange.report import report
from palaver.exchange.report.comparison import against, compared, front, sentences
from palaver.exchange.report.entries import best_rates, kind_of, variants, with_best_rates
from palaver.studies.record import SCHEMA
from palaver.studies.results import Result, read_result
from palaver.studies.statistics import interval

SPREAD = (-0.01, 0.0, 0.01)
OUTPUTS, FEDAVG, SILENT = {"channel": "logits", "reference": 0.1}, {"method": "fedavg", "reference": 0.1}, {}


def result_of(tmp_path, *rows, tested=True) -> Result:
    """A result of rows ``(family, name, settings, bits, collective, average)``; the test set is two points worse."""
    settings, found = [], []
    for family, name, own, bits, *accuracies in rows:
        settings.append({"configuration": name, "family": family, "settings": {"nodes": 10, "channel": "none"} | own})
        metrics = {"bits.payload": [bits] * 3}
        for measure, accuracy in zip(("collective_accuracy", "average_accuracy"), accuracies, strict=True):
            values = [None if accuracy is None else accuracy + shift for shift in SPREAD]
            metrics |= {measure: values}
            if tested:
                metrics[f"test_{measure}"] = [None if value is None else value - 0.02 for value in values]
        found.append({"configuration": name, "metrics": {key: interval(value) for key, value in metrics.items()}})
    empty = pl.DataFrame(schema=SCHEMA)
    return Result(tmp_path, {"rows": settings}, empty, {"seeds": 3, "rows": found})


def rates(own, *numbers):
    return [own | {"learning_rate": number} for number in numbers]


def test_of_variants_that_differ_in_the_rate_alone_the_best_on_validation_is_shown(tmp_path):
    slow, middle, fast = rates(FEDAVG, 0.0003, 0.001, 0.003)
    rows = [
        ("by class", "by class: FedAvg, lr 0.0003", slow, 5e6, 0.50, 0.45),
        ("by class", "by class: FedAvg, lr 0.001", middle, 5e6, 0.60, 0.40),
        ("by class", "by class: FedAvg, lr 0.003", fast, 5e6, None, None),  # a seed diverged
        ("by class", "by class: FedAvg, lr 0.001, often", middle | {"period": 1}, 5e8, 0.55, 0.55),
        ("i.i.d.", "i.i.d.: FedAvg, lr 0.001", middle, 5e6, 0.90, 0.90),
        ("i.i.d.", "i.i.d.: one model", {"nodes": 1}, 0.0, 0.95, 0.95),
    ]
    result = result_of(tmp_path, *rows)
    assert variants(result) == [[name for _, name, *_ in rows[:3]], *([name] for _, name, *_ in rows[3:])]
    best = best_rates(result, "collective_accuracy")
    assert [(entry.name, entry.rate) for entry in best] == [(rows[place][1], 0.001) for place in (1, 3, 4)]
    assert [entry.label for entry in best] == ["FedAvg", "FedAvg, lr 0.001, often", "i.i.d.: FedAvg, lr 0.001"]
    assert best[0].validated == pytest.approx(0.60) and best[0].accuracy["mean"] == pytest.approx(0.58)
    assert [entry.rate for entry in best_rates(result, "average_accuracy")] == [0.0003, 0.001, 0.001]
    # Kept are the best of each measure, and what has no rate to choose.
    kept = with_best_rates(result)
    for file in (kept.summary, kept.settings):
        assert [row["configuration"] for row in file["rows"]] == [rows[place][1] for place in (0, 1, 3, 4, 5)]
    assert len(result.summary["rows"]) == 6


def test_every_baseline_has_a_kind():
    kinds = {method: kind_of({"nodes": 10, "method": method, "reference": 0.1}) for method in METHODS}
    assert "other" not in kinds.values()
    for kind, methods in {"averaging": {"fedavg", "diloco", "gossip"}, "gradients": {"sync-sgd", "async-sgd"}}.items():
        assert {method for method, its in kinds.items() if its == kind} == methods
    ours = {"nodes": 10, "method": "exchange", "channel": "logits"}
    assert [kind_of(ours | own) for own in ({}, {"reference": 0.1}, {"reference_data": "mnist"})] == [
        "examples",
        "outputs",
        "outputs",
    ]
    assert kind_of(ours | {"channel": "none", "reference": 0.1}) == "silent" and kind_of(ours | {"nodes": 1}) is None


def test_on_the_front_nothing_is_better_for_as_few_bits(tmp_path):
    points = {"a": (0, 0.5), "b": (10, 0.7), "c": (10, 0.6), "d": (20, 0.7), "e": (30, 0.8), "f": (40, 0.79)}
    rows = [
        ("", name, FEDAVG | {"period": place}, bits, acc, acc)
        for place, (name, (bits, acc)) in enumerate(points.items())
    ]
    found = front(best_rates(result_of(tmp_path, *reversed(rows)), "collective_accuracy"))
    assert [entry.name for entry in found] == ["a", "b", "e"]


def of_two_families(tmp_path, **how):
    lean, fedavg = rates(OUTPUTS, 0.001)[0], rates(FEDAVG, 0.001)[0]
    return result_of(
        tmp_path,
        ("i.i.d.", "i.i.d.: silent", SILENT, 0.0, 0.905, 0.80),
        ("i.i.d.", "i.i.d.: lean", lean, 3e6, 0.90, 0.85),
        ("i.i.d.", "i.i.d.: FedAvg", fedavg, 25e6, 0.95, 0.95),
        ("by class", "by class: silent", SILENT, 0.0, 0.40, 0.15),
        ("by class", "by class: lean", lean, 3e6, 0.75, 0.65),
        ("by class", "by class: FedAvg, rare", fedavg | {"period": 500}, 2e6, 0.45, 0.30),
        ("by class", "by class: FedAvg", fedavg, 25e6, 0.43, 0.28),
        ("by class", "by class: synchronous", fedavg | {"method": "sync-sgd"}, 400e6, 0.97, 0.97),
        **how,
    )


def test_the_verdict_says_where_outputs_win_and_where_they_lose(tmp_path):
    result = of_two_families(tmp_path)
    # 2.48 points about each mean, as in tests of tables; the seeds of all differ alike, their differences not at all.
    lose, win = report(result).verdict
    assert lose == (
        "I.i.d., test accuracy of outputs on a reference set: as a collective 88.0 % [85.5, 90.5] (“lean”, 3 Mbit a "
        "node), which loses to “FedAvg” (25 Mbit), the only one that averages weights, by 5.0 points [5.0, 5.0] and "
        "loses to “silent” (0 bit), the only other that sends no more, by 0.5 points [0.5, 0.5]. As an average node "
        "83.0 % [80.5, 85.5], which loses to “FedAvg” (25 Mbit), the only one that averages weights, by 10.0 points "
        "[10.0, 10.0] and beats “silent” (0 bit), the only other that sends no more, by 5.0 points [5.0, 5.0]."
    )
    assert win == (
        "By class, test accuracy of outputs on a reference set: as a collective 73.0 % [70.5, 75.5] (“lean”, 3 Mbit a "
        "node), which beats “FedAvg, rare” (2 Mbit), the best that averages weights and the best other that sends no "
        "more, by 30.0 points [30.0, 30.0] and loses to “synchronous” (400 Mbit), the only one that averages "
        "gradients, by 22.0 points [22.0, 22.0]. As an average node 63.0 % [60.5, 65.5], which beats “FedAvg, rare” "
        "(2 Mbit), the best that averages weights and the best other that sends no more, by 35.0 points [35.0, 35.0] "
        "and loses to “synchronous” (400 Mbit), the only one that averages gradients, by 32.0 points [32.0, 32.0]."
    )


def test_a_difference_whose_interval_holds_0_and_seeds_too_few(tmp_path):
    result = of_two_families(tmp_path, tested=False)
    values = result.summary["rows"][2]["metrics"]["collective_accuracy"]
    values |= interval([0.93, 0.88, 0.92])  # ours 0.89, 0.90, 0.91: −4, 2, −1: s = 3 points, h = 4.3027 · √3
    said = sentences(against(compared(result)), "validation")[0]
    assert "validation accuracy of outputs on a reference set: as a collective 90.0 %" in said
    assert (
        "is not told apart from “FedAvg” (25 Mbit), the only one that averages weights: -1.0 points [-8.5, +6.5] and"
        in said
    )
    for row in result.summary["rows"]:
        for name, metric in row["metrics"].items():
            row["metrics"][name] = interval(metric["values"][:2])
    said = sentences(against(compared(result)), "validation")[1]
    assert "which is 30.0 points above “FedAvg, rare” (2 Mbit), the best that averages weights" in said
    assert "(too few seeds for an interval)" in said


def test_without_a_method_that_averages_nothing_is_compared(tmp_path):
    rows = ("i.i.d.", "silent", SILENT, 0.0, 0.9, 0.8), ("i.i.d.", "lean", OUTPUTS, 3e6, 0.92, 0.85)
    result = result_of(tmp_path, *rows)
    assert compared(result) == {}
    assert report(result).verdict[0].startswith("“lean” is right on 92.0 %")
    assert report(result).sections[0].title == "Results"


@pytest.fixture(scope="module")
def versus(chapters_folders):
    return chapters_folders["versus"]


def words_of(svg: str) -> list[str]:
    return re.findall(r">([^<]+)</text>", svg)


def test_points_on_the_front_are_named_beside_them(versus):
    from palaver.experiments import chapter

    families = compared(read_result(versus, chapter))
    assert list(families) == ["i.i.d.", "by class"]
    for place, measures in enumerate(families.values()):
        svg = (versus / "figures" / f"accuracy_over_bits_{place}.svg").read_text()
        written = " ".join(words_of(svg))
        assert "0 bit" in words_of(svg) and "Pareto front" in words_of(svg)
        for entries in measures.values():
            for entry in front(entries):
                assert entry.label in written and "lr" not in entry.label
    assert not (versus / "figures" / "accuracy_over_bits.svg").exists()


_RATES = "0.001 (smallest)", "0.003", "0.01 (largest)"


def test_tables_have_one_row_a_configuration_and_files_all_rates(versus, text_of):
    from palaver.experiments import chapter

    result = read_result(versus, chapter)
    sections = {section.title: section for section in report(result).sections}
    rows = sections["Results"].grids[0].rows
    several = [alike for alike in variants(result) if sum(row[0] in alike for row in rows) > 1]
    assert len(variants(result)) <= len(rows) <= len(variants(result)) + len(several) < len(result.summary["rows"])
    assert not sections["Results"].terminal and sections["The Pareto front"].terminal
    table = sections["The Pareto front"].grids[0]
    assert table.headers[2] == "learning rate" and {row[2] for row in table.rows} <= set(_RATES)
    assert "the learning rate that is best on validation examples" in text_of(versus)
