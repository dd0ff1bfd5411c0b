"""What a run takes is told before it runs, and refused where the machine does not have it."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from palaver import host
from palaver.cli import main
from palaver.data import load
from palaver.exchange.build import make_collective, make_shards
from palaver.exchange.footprint import footprint as of_collective
from palaver.exchange.mapping import received_shapes
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.simulate import simulation
from palaver.language.footprint import footprint as of_language
from palaver.language.generators import GENERATORS
from palaver.language.information import CRITICS
from palaver.language.settings import LanguageSettings, make_language
from palaver.studies import budget, memory
from palaver.studies.memory import abstract, nbytes, peak
from palaver.studies.seeds import seed_keys
from palaver.teaching import footprint as of_teaching_module
from palaver.teaching.footprint import footprint as of_teaching
from palaver.teaching.settings import TeachingSettings
from palaver.types import Batch

DIGITS = load("digits")
REFUSED = {
    "collective --nodes 1000 --widths 2048 2048": ("nodes 1000", "widths 2048 2048"),
    "collective --inbox 200000000": ("inbox 200000000",),
    "collective --widths 2000000000": ("widths 2000000000",),
    "collective --batch-size 2000000000": ("batch_size 2000000000",),
    "collective --seeds 100000000": ("seeds 100000000",),
    "language --length 1000000": ("length 1000000",),
    "language --data digits --critic-hidden 2000000000": ("critic_hidden 2000000000",),
    "teaching --data digits --hidden 2000000000": ("hidden 2000000000",),
    "teaching --data digits --target soft --teacher-hidden 2000000000": ("teacher_hidden 2000000000",),
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_made(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if command.startswith("language --length"):
        command += " --data digits"
    assert main(["run", *command.split(), "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "of memory" in line and "are free" in line
    assert any(f"{setting} takes most of it" in line for setting in REFUSED[command.removesuffix(" --data digits")])
    assert not list(Path().iterdir())


def test_a_label_that_makes_too_many_classes_is_the_data_sets_fault(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("one.npz", x=np.zeros((100, 3), np.float32), y=np.array([2**31 - 2] + [0] * 99))
    for chapter in ("collective", "teaching", "language"):
        assert main(["run", chapter, "--data", "npz:one.npz", "--seeds", "1", "--out", "run"]) == 2
        assert "a data set with fewer classes" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["one.npz"]


def test_a_plan_is_shown_and_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "collective", "--nodes", "3", "--dry-run", "--out", "run"]) == 0
    shown = capsys.readouterr().out
    parameters = make_collective(CollectiveSettings(nodes=3), DIGITS).groups[0][0].parameters()
    assert "3 nodes, labels, full" in shown and f"{3 * parameters:,}" in shown
    assert not list(Path().iterdir())


def test_the_limit_is_what_is_free(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget, "available", lambda devices: 10_000)
    assert main(["run", "collective", "--scale", "tiny", "--out", "run"]) == 2
    assert "10 kB are free" in capsys.readouterr().err


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_CONTAINER", tmp_path)
    free = memory.available()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 100\n")  # files are given up
    assert memory.available() > free / 2
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.available() == 600


def test_peak_counts_what_is_alive_at_once():
    x = abstract(100)
    assert peak(lambda x: (jnp.sin(x) + 1) * 2, x) == 2 * 400  # an operation's argument and its result
    assert peak(lambda x: jnp.sin(x) + jnp.cos(jnp.sin(x)), x) == 3 * 400
    assert peak(lambda x: jax.lax.fori_loop(0, 9, lambda _, y: jnp.sin(jnp.cos(y)), x), x) < 4 * 400
    assert peak(jax.jit(lambda x: jnp.sin(jnp.cos(x))), x) == 2 * 400


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "vae", "channel": "gaussian"}, {"model": "cnn", "widths": (4,)}]
)
def test_a_step_takes_about_what_xla_gives_it(settings):
    """Between what XLA allocates and twice as much: it fuses operations, whose results then never exist."""
    node = make_collective(CollectiveSettings(**settings), DIGITS).groups[0][0]
    x, y = abstract(32, 8, 8), abstract(32, dtype=jnp.int32)
    state = jax.eval_shape(node.init, jax.random.key(0))
    received = received_shapes(node, node.payload(x, y))
    args = jax.random.key(0), state, Batch(x, y), received, abstract(dtype=bool)
    told = jax.jit(node.step).lower(*args).compile().memory_analysis()
    allocated = told.temp_size_in_bytes + told.output_size_in_bytes
    assert 0.8 * allocated < peak(node.step, *args) < 2 * allocated


def test_the_state_and_the_bits_of_a_collective_are_as_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = CollectiveSettings(
        nodes=4, rounds=400, channel="logits", topology="ring", rebroadcast=False, p_consume=0.4
    )
    told = of_collective(settings, DIGITS, 3, 1)
    node = make_collective(settings, DIGITS).groups[0][0]
    assert told.memory["learners"] == 3 * 4 * nbytes(node.init(jax.random.key(0)))
    assert told.parameters == 4 * node.parameters()
    flags = "--nodes 4 --rounds 400 --eval-every 400 --channel logits --topology ring --no-rebroadcast --p-consume 0.4"
    assert main(["run", "collective", *flags.split(), "--seeds", "3", "--out", "run"]) == 0
    sent = pl.read_parquet("run/metrics.parquet").filter(pl.col("metric").is_in(["bits.examples", "bits.payload"]))
    per_node = sent.group_by("seed").agg(pl.col("value").sum())
    # A little more than expected: a node that wants to read and finds nothing may broadcast.
    assert told.bits == pytest.approx(4 * per_node["value"].mean(), rel=0.1)


TALKS = {
    "everything that was heard": {"combine": "mean", "channel": "logits", "payload_bits": 4, "half_life": 100.0},
    "packets": {"channel": "labels", "least_change": 1e-6, "rebroadcast": False},
    "another reference set": {
        "reference": 0.0,
        "reference_data": "digits",
        "channel": "labels",
        "combine": "mean",
    },
}


@pytest.mark.parametrize("talk", TALKS)
def test_what_is_heard_and_said_of_a_reference_set_is_as_told(talk):
    small = {"nodes": 4, "rounds": 400, "burn_in": 40, "topology": "ring", "widths": (4,), "inbox": 3, "examples": 500}
    settings = CollectiveSettings(**small | {"reference": 0.2} | TALKS[talk])
    data = settings.load(load)
    told, group = of_collective(settings, data, 3, 1), make_collective(settings, data)
    sim = simulation(group, make_shards(settings, data, [0, 1, 2]))
    state = sim.advance(sim.init(seed_keys([0, 1, 2])), settings.rounds)
    sent = sim.sent(state)
    assert sent["bits.examples"].sum() == 0
    per_seed = sum(sent[f"bits.{part}"].sum(1).mean() for part in ("indices", "payload"))
    # Labels seldom change, so that few are new: the plan tells the most that can be sent.
    assert told.bits is not None and per_seed <= 1.1 * told.bits
    if not settings.least_change:
        assert told.bits == pytest.approx(per_seed, rel=0.1)
    assert told.memory.get("heard", 0) == nbytes(state.heard)
    assert told.memory.get("said", 0) == nbytes(state.said)
    assert bool(state.heard) == (settings.combine == "mean") and bool(state.said) == bool(settings.least_change)
    packets = nbytes((state.packets, state.outgoing))
    assert packets <= told.memory["packets"] <= 2 * packets


def test_bits_of_a_falling_chance_are_the_sum_over_rounds():
    for half_life in (1e-30, 3.0, 200.0, 1e30):
        few = CollectiveSettings(nodes=4, rounds=300, burn_in=7, topology="ring", p_broadcast=0.5, half_life=half_life)
        chance = sum(0.5 * 0.5 ** min(step / half_life, 1000) for step in range(7, 300))
        bits = 32 * (4 + DIGITS.bits_per_example)
        assert of_collective(few, DIGITS, 1, 1).bits == pytest.approx(4 * 2 * chance * bits, rel=1e-6)


def test_the_state_of_a_language_is_as_told():
    settings = LanguageSettings(
        data="digits", hidden=(8,), critic_hidden=8, length=4, level="receiving", agents=3, steps=10
    )
    told = of_language(settings, DIGITS, 2, 1)
    state = make_language(settings, DIGITS).init(jax.random.key(0))
    assert told.memory["learners"] == 2 * nbytes(state)
    assert told.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert told.bits == 10 * 64 * 3 * 4  # steps, examples, pairs of agents, bits of a message


def test_more_examples_than_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for chapter in ("collective", "teaching", "language"):
        assert main(["run", chapter, "--data", "digits", "--examples", "1258"]) == 2
        assert "examples is 1258 of the 1257 training examples of digits" in capsys.readouterr().err


def test_rows_that_share_their_networks_are_traced_once(monkeypatch):
    traced = []
    monkeypatch.setattr(of_teaching_module, "peak", lambda *args: traced.append(args) or peak(*args))
    small = {"data": "digits", "hidden": (5, 7), "teacher_hidden": (9,), "stack": (2,)}
    rows = [TeachingSettings(**small, difficulty=difficulty) for difficulty in ("cross-entropy", "margin")]
    first, second = (of_teaching(row, DIGITS, 3, 1) for row in rows)
    assert first.memory["working memory"] == second.memory["working memory"] > 0
    # A step of the student and of the teacher, the student's predictions of the stack and of the validation set.
    assert len(traced) == 4


def test_languages_that_share_a_network_trace_it_once_and_compile_nothing(monkeypatch):
    make, critic, made, compiled = GENERATORS["all-at-once"], CRITICS["joint"], [], []
    monkeypatch.setitem(GENERATORS, "all-at-once", lambda *args: made.append("generator") or make(*args))
    monkeypatch.setitem(CRITICS, "joint", lambda *args: made.append("critic") or critic(*args))
    small = {"data": "digits", "hidden": (5,), "length": 7}
    rows = [LanguageSettings(**small, level="both"), LanguageSettings(**small, level="both", weight=1.0, view="halves")]
    bits = {of_language(row, DIGITS, 2, 1).bits for row in rows}
    assert bits == {4000 * 64 * 2 * 7.0}
    # Its shape, the width of its features, and the initial parameters.
    assert (made.count("generator"), made.count("critic")) == (3, 2)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **named: compiled.append(event) if "backend_compile" in event else None
    )
    of_language(LanguageSettings(**small, agents=3, level="receiving"), DIGITS, 2, 1)
    assert not compiled


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--nodes", "2000"], "nodes is 2000 for 1000 training examples of digits: give at most 1000"),
        (
            ["--fraction", "0.001"],
            "nodes is 10 for 1 training examples of digits (fraction 0.001 of them): give fewer nodes or a larger "
            "fraction",
        ),
        (
            ["--fraction", "0.5", "--reference", "0.99"],
            "nodes is 10 for 5 training examples of digits (fraction 0.5, reference 0.99 of them): give fewer nodes or "
            "a larger fraction or a smaller reference",
        ),
        (
            ["--reference", "0.01"],
            "reference is 0.01, 10 rows, for a batch_size of 32: give at least 32 rows",
        ),
        (
            ["--reference-data", "digits", "--batch-size", "1258"],
            "reference_data digits has 1257 rows, for a batch_size of 1258: give at least 1258 rows",
        ),
        (
            ["--reference-data", "npz:other.npz"],
            "reference_data npz:other.npz has inputs of shape (3,) and type float32, digits of (8, 8) and uint8: give "
            "one with the same",
        ),
    ],
)
def test_numbers_that_do_not_fit_the_data(given, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", x=np.zeros((100, 3), np.float32), y=np.arange(100) % 10)
    assert main(["run", "collective", "--scale", "tiny", "--dry-run", *given]) == 2
    assert capsys.readouterr().err == f"palaver: {line}\n"
