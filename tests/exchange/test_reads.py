"""A setting that nothing reads is refused, and one that is called unread changes nothing."""

from dataclasses import fields, replace

import pytest

from palaver.channels import CHANNELS
from palaver.cli import main
from palaver.data import load
from palaver.exchange.build import make_collective
from palaver.exchange.reads import READERS, unread
from palaver.exchange.settings import CollectiveSettings

OTHERS = {
    "skew": 0.1,
    "decay": 0.5,
    "latent": 8,
    "momentum": 0.9,
    "norm": "group",
    "mix": 0.3,
    "temperature": 0.5,
    "payload_bits": 16,
    "top": 2,
    "feature_weight": 2.0,
    "asleep_rounds": 5,
    "slow_every": 3,
    "graph_seed": 4,
    "redraw_every": 7,
    "lie": "random",
}


def test_every_reader_is_of_a_setting():
    assert set(READERS) <= {field.name for field in fields(CollectiveSettings)}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_unread_by_default_describes_the_same_collective(name):
    """Of a small model, whose nodes are the same objects where they are the same."""
    base = CollectiveSettings(model="mlp", widths=(4,))
    assert unread(base, name)
    described = []
    for settings in (base, replace(base, **{name: OTHERS[name]})):
        group = make_collective(settings, load("digits"))
        described.append((group.protocol, group.capacity, group.overflow, group.talk, group.presence.whole))
    assert described[0] == described[1]


@pytest.mark.parametrize(
    ("given", "name", "reader"),
    [
        ("--mix 0.3", "mix is 0.3", "channel labels+logits"),
        ("--channel features --temperature 0.5", "temperature is 0.5", "channel logits or labels+logits"),
        ("--method fedavg --period 4 --inbox 3", "inbox is 3", "nodes that exchange packets, combine latest"),
        ("--reference 0.2 --no-rebroadcast", "rebroadcast is False", "nodes that exchange packets, of own examples"),
        ("--model mlp --norm group", "norm is group", "model cnn"),
        ("--lie random", "lie is random", "liars of at least 1"),
        ("--slow-every 3", "slow_every is 3", "slow of at least 1"),
        ("--momentum 0.9", "momentum is 0.9", "optimizer sgd"),
        ("--optimizer sgd --adam-beta1 0.5", "adam_beta1 is 0.5", "optimizer adam"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(given, name, reader, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "collective", "--scale", "tiny", "--out", "run", *given.split()]) == 2
    line = capsys.readouterr().err
    assert line == f"palaver: {name}, which has a meaning only for {reader}: leave it out\n"
    assert not list(tmp_path.iterdir())


def test_a_table_takes_a_setting_that_one_of_its_configurations_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    only = ["--only", "by class: own examples, labels*lr 0.003"]
    table = ["run", "versus", "--scale", "tiny", "--dry-run", *only]
    assert main([*table, "--mix", "0.3"]) == 0
    assert main([*table, "--outer-rate", "0.3"]) == 2
    assert "outer_rate is 0.3, which has a meaning only for method diloco" in capsys.readouterr().err
    away = ["run", "versus", "--scale", "tiny", "--dry-run", "--asleep", "0.3"]
    assert main(away) == 2
    assert "which needs all; or choose other configurations with --only" in capsys.readouterr().err
    assert main([*away, *only]) == 0


def test_channels_that_are_scores_read_their_form():
    for name in CHANNELS:
        settings = CollectiveSettings(channel=name, objective="vae" if name == "gaussian" else "labels")
        assert bool(unread(settings, "temperature")) == (name not in ("logits", "labels+logits"))
