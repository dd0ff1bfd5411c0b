"""The comparison with every rival: which configurations it has, and that all stand on the same ground."""

import json

import pytest

from palaver.baselines import METHODS
from palaver.cli import main
from palaver.experiments import rows
from palaver.experiments.versus import OTHERS, RATES, SPLITS
from tables import configurations

ROUNDS = {"tiny": 80, "cpu": 2000, "thesis": 4000}


@pytest.mark.parametrize("scale", ROUNDS)
@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10"])
def test_all_have_the_same_labelled_examples_at_three_rates(data, scale):
    found = configurations("versus", scale, data=data)
    assert len({row.name for row in found}) == len(found) == 3 * len({row.name.rpartition(", lr ")[0] for row in found})
    for row in found:
        own = row.settings
        assert row.name.startswith(f"{row.family}: ") and row.name.endswith(f", lr {own.learning_rate:g}")
        assert own.learning_rate in RATES and own.data == data and own.rounds == ROUNDS[scale]
        # An evaluation never falls between two averages.
        assert own.method not in ("fedavg", "diloco") or own.eval_every % own.period == 0
    labelled = {round(row.settings.fraction * (1 - row.settings.reference), 9) for row in found}
    assert labelled == {{"digits": 0.75}.get(data, 0.97)}


def test_every_rival_is_there_and_every_way_to_differ():
    found = configurations("versus", "cpu")
    assert {row.settings.method for row in found} == {*METHODS, "exchange"}
    assert list(dict.fromkeys(row.family for row in found)) == [*SPLITS, *OTHERS]
    assert {row.settings.period for row in found if row.settings.method == "fedavg"} == {1, 16, 100, 500}
    averaging = [row for row in configurations("versus", "cpu", data="cifar10") if row.settings.method == "fedavg"]
    assert averaging and {row.settings.norm for row in averaging} == {"group"}
    mixed = {row.settings.group for row in found if row.family.startswith("Kinds")}
    assert ("mlp:4", "cnn:16-32:3", "linear:3") in mixed and len(mixed) == 4


def test_a_short_run_has_fewer_periods_and_other_data_another_network():
    short = rows("versus", "tiny", {})
    assert {row.own["period"] for row in short if "period" in row.own} == {1, 16}
    assert {row.base.model for row in rows("versus", "cpu", {"data": "cifar10"})} == {"cnn"}
    assert {row.base.reference for row in rows("versus", "cpu", {"reference": 0.4})} == {0.4}


def test_two_of_them_side_by_side(tmp_path, capsys):
    only = [
        word
        for name in ("silent", "outputs, lean", "FedAvg, every 16")
        for word in ("--only", f"by class: {name}, lr 0.003")
    ]
    flags = ["--scale", "tiny", "--seeds", "3", *only, "--out", str(tmp_path / "run")]
    assert main(["run", "versus", *flags]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    bits = [row["metrics"]["bits.payload"]["mean"] for row in summary["rows"]]
    assert bits[0] == 0 and 0 < bits[1] < bits[2] == 5 * 64 * 3466
    printed = " ".join(capsys.readouterr().out.split())
    assert "by class" in printed and "FedAvg, every 16" in printed
