"""Settings from Python, flags, TOML and a stored run pass the same validation: one line, the field, what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import pytest

from palaver import experiments
from palaver.arguments import FLOAT32
from palaver.channels import CHANNELS
from palaver.cli import main
from palaver.data import SPLITS
from palaver.exchange.settings import CollectiveSettings
from palaver.language.estimators import ESTIMATORS
from palaver.language.generators import GENERATORS
from palaver.language.information import CRITICS
from palaver.language.information import OBJECTIVES as INFORMATION
from palaver.language.observation import VIEWS
from palaver.language.settings import LanguageSettings
from palaver.models import MODELS, Architecture
from palaver.objectives import OBJECTIVES
from palaver.studies.chapter import Configuration
from palaver.studies.folder import Folder
from palaver.studies.plan import Plan, stored_plan
from palaver.studies.settings import changed, read_toml
from palaver.teaching.difficulty import MEASURES
from palaver.teaching.selection import RULES
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.targets import TARGETS
from palaver.topology import TOPOLOGIES, from_graph
from palaver.types import NO_PEER, PalaverError

SAID = "leave out nodes, model and widths, which it says"
KINDS = f"give model:count or model:widths:count, such as mlp:6 or cnn:16-32-64:4, with a model of {', '.join(MODELS)}"
REFUSED = [
    ("collective", {"topology": "star"}, "topology is 'star': choose one of ring, full, random, random-changing"),
    ("collective", {"model": "transformer"}, "model is 'transformer': choose one of auto, mlp, cnn, linear"),
    ("collective", {"channel": "gradients"}, f"channel is 'gradients': choose one of {', '.join(CHANNELS)}"),
    ("language", {"estimator": "magic"}, f"estimator is 'magic': choose one of {', '.join(ESTIMATORS)}"),
    ("teaching", {"difficulty": "vibes"}, f"difficulty is 'vibes': choose one of {', '.join(MEASURES)}"),
    ("collective", {"nodes": 0}, "nodes is 0: give a whole number of at least 1"),
    ("collective", {"p_consume": 2.0}, "p_consume is 2.0: give a finite number in [0, 1]"),
    ("collective", {"learning_rate": float("inf")}, "learning_rate is inf: give a finite number above 0"),
    ("collective", {"target": 1.0}, "target is 1.0: give a finite number in (0, 1)"),
    ("collective", {"widths": [8, 0]}, "widths holds 0: give a list of whole numbers of at least 1"),
    ("teaching", {"flipped": 1.0}, "flipped is 1.0: give a finite number in [0, 1)"),
    ("teaching", {"known": 0.0}, "known is 0.0: give a finite number in (0, 1]"),
    ("language", {"vocabulary": 70_000}, "vocabulary is 70000: give a whole number in [2, 65536]"),
    ("language", {"hidden": []}, "hidden is (): give a list, not empty, of whole numbers of at least 1"),
    # rules that need several fields
    (
        "collective",
        {"channel": "gaussian"},
        "channel is gaussian: give one of none, labels, logits, labels+logits, features for objective labels",
    ),
    (
        "collective",
        {"neighbours": 3},
        "neighbours is 3 with topology full: leave it out, or choose ring or random",
    ),
    ("collective", {"reference": 0.1, "reference_data": "digits"}, "reference is 0.1: give 0 with reference_data"),
    ("collective", {"reference": 1.0}, "reference is 1.0: give a finite number in [0, 1)"),
    ("collective", {"combine": "mean"}, "combine is mean: give latest without a reference set"),
    ("collective", {"combine": "sum", "reference": 0.1}, "combine is 'sum': choose one of latest, mean"),
    ("collective", {"weighted": True, "reference": 0.1}, "weighted is True: give False unless combine is mean"),
    ("collective", {"least_change": 0.1}, "least_change is 0.1: give 0 without a reference set"),
    ("collective", {"decay": 1.1, "reference": 0.1}, "decay is 1.1: give a finite number in [0, 1]"),
    (
        "collective",
        {"channel": "features", "reference": 0.1, "least_change": 0.1},
        "channel is features: give one of labels, labels+logits, logits with combine mean or least_change, which "
        "take probabilities",
    ),
    (
        "collective",
        {"channel": "features", "reference": 0.1, "combine": "mean"},
        "channel is features: give one of labels, labels+logits, logits with combine mean or least_change, which "
        "take probabilities",
    ),
    (
        "collective",
        {"objective": "vae", "channel": "features", "labelled": 0.5},
        "labelled is 0.5: give 1 for objective vae, which uses no labels",
    ),
    ("collective", {"labelled": 0.0}, "labelled is 0.0: give a finite number in (0, 1]"),
    ("collective", {"asleep": 1.0}, "asleep is 1.0: give a finite number in [0, 1)"),
    ("collective", {"asleep_rounds": 0}, "asleep_rounds is 0: give a whole number of at least 1"),
    ("collective", {"slow": 11}, "slow is 11: give 0 to nodes (10)"),
    ("collective", {"slow_every": 0}, "slow_every is 0: give a whole number of at least 1"),
    ("collective", {"vanish": 10}, "vanish is 10: give 0 to 9, so that a node is left"),
    (
        "collective",
        {"gate": "twin", "reference": 0.1},
        "gate is twin: give none unless combine is mean, so that nodes remember what each other say of the reference "
        "set",
    ),
    (
        "collective",
        {"liars": 2},
        "liars is 2: give 0 unless combine is mean, so that nodes remember what each other say of the reference set",
    ),
    (
        "collective",
        {"reference": 0.1, "combine": "mean", "liars": 10},
        "liars is 10: give 0 to 9, so that a node is honest",
    ),
    ("collective", {"lie": "white"}, "lie is 'white': choose one of flipped, constant, random, mimicry"),
    ("collective", {"vanish_at": 5}, "vanish_at is 5: give 0, or vanish of at least 1 too"),
    ("collective", {"half_life": -1.0}, "half_life is -1.0: give a finite number of at least 0"),
    ("collective", {"payload_bits": 0}, "payload_bits is 0: give 32, 16, or 8 to 1, or top of at least 1 too"),
    ("collective", {"group": ["mlp:2", "linear:3"], "nodes": 6}, f"group is mlp:2 linear:3: {SAID}"),
    ("collective", {"group": ["mlp:2"], "widths": [8]}, f"group is mlp:2: {SAID}"),
    ("collective", {"group": ["mlp:2"], "model": "cnn"}, f"group is mlp:2: {SAID}"),
    *(
        ("collective", {"group": ["linear:1", text]}, f"group has {text!r}: {KINDS}")
        for text in ("mlp", "mlp:0", "mlp:8:8:2", "mlp:8-:2", "mlp:x:2", "gru:2", "mlp:2000000", "mlp:²", "mlp: 2", "")
    ),
    ("teaching", {"stack": [1, 4]}, "stack_from is (0,): give 2 updates, one for each stack"),
    ("teaching", {"stack_from": [1]}, "stack_from is (1,): give updates in ascending order, the first of them 0"),
    ("collective", {"beta": 1e308}, f"beta is 1e+308: {FLOAT32}"),
    ("language", {"temperature": 1e-300}, f"temperature is 1e-300: {FLOAT32}"),
    ("language", {"lowest": 5.0}, "lowest is 5.0: give at most temperature (4.0)"),
    (
        "language",
        {"level": "both", "agents": 1},
        "level is both with 1 agent: give at least 2 agents, or level none",
    ),
]
# What flags cannot say: their text becomes a number or is refused.
WRONG_TYPES = [
    ("collective", {"nodes": "four"}, "nodes is 'four': give a whole number of at least 1"),
    ("collective", {"nodes": 4.0}, "nodes is 4.0: give a whole number of at least 1"),
    ("collective", {"nodes": True}, "nodes is True: give a whole number of at least 1"),
    ("collective", {"p_consume": "half"}, "p_consume is 'half': give a finite number in [0, 1]"),
    ("collective", {"projection": 1}, "projection is 1: give True or False"),
    ("collective", {"widths": 8}, "widths is 8: give a list of whole numbers of at least 1"),
    ("collective", {"widths": [8, "x"]}, "widths holds 'x': give a list of whole numbers of at least 1"),
    ("collective", {"data": 3}, "data is 3: give text"),
    ("collective", {"topology": 3}, "topology is 3: give one of ring, full, random, random-changing"),
    ("language", {"predict": "mean"}, "predict is 'mean': give one of auto, sample, distribution"),
    ("teaching", {"goals": [0.5, 2]}, "goals holds 2: give a list of finite numbers in (0, 1]"),
]
PYTHON = {"collective": CollectiveSettings, "teaching": TeachingSettings, "language": LanguageSettings}


def toml_of(given) -> str:
    return "".join(
        f"{name} = {'inf' if value == float('inf') else json.dumps(value)}\n" for name, value in given.items()
    )


def flags_of(given) -> list[str]:
    def words(value):
        return [] if value is True else [str(each) for each in (value if isinstance(value, list) else [value])]

    # A kind of nodes has a flag of its own; other lists follow one flag.
    each = [(name, kind) for name, value in given.items() for kind in (value if name == "group" else [value])]
    return [word for name, value in each for word in (f"--{name.replace('_', '-')}", *words(value))]


def stored(chapter, given, folder):
    """The plan of an interrupted run in whose ``settings.json`` somebody has changed these settings."""
    folder = Folder(folder, folder.with_name(f"{folder.name}.partial"))
    folder.partial.mkdir(exist_ok=True)
    settings = experiments.chapter(chapter).scales["tiny"]
    content = Plan(chapter, "tiny", experiments.chapter(chapter), [Configuration("mine", settings)], [0], 1).to_json()
    content["rows"][0]["settings"] |= given
    (folder.partial / "settings.json").write_text(json.dumps(content))
    return stored_plan(folder, experiments.chapter)


def refused(args, capsys) -> str:
    """The one line on the standard error of a command that ends with exit code 2."""
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("chapter", "given", "line"), [*REFUSED, *WRONG_TYPES])
def test_python_toml_and_stored_runs_are_refused_alike(chapter, given, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PalaverError) as error:
        PYTHON[chapter](**given)
    assert str(error.value) == line

    Path("own.toml").write_text(toml_of(given))
    assert refused(["run", chapter, "--settings", "own.toml"], capsys) == f"palaver: own.toml: {line}"
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]

    with pytest.raises(PalaverError) as error:
        stored(chapter, given, tmp_path / "run")
    path = tmp_path / "run.partial" / "settings.json"
    assert str(error.value) == f"{path} cannot be resumed from (“mine”: {line}): start anew with --overwrite"


@pytest.mark.parametrize(("chapter", "given", "line"), REFUSED)
def test_flags_are_refused_alike(chapter, given, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refused(["run", chapter, *flags_of(given)], capsys) == f"palaver: {line}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--nodes", "four"], ["--nodes takes INT", "'four'"]),
        (["--p-consume", "half"], ["--p-consume takes FLOAT", "'half'"]),
        (["--widths", "8", "x"], ["--widths takes [INT [INT ...]]", "'x'"]),
        (["--topology"], ["--topology needs a value"]),
        (["--nodez", "3"], ["'--nodez' is no flag or argument of palaver run collective"]),
        (["--scale", "medium"], ["--scale is 'medium': choose one of tiny, cpu, thesis"]),
    ],
)
def test_flags_of_the_wrong_form_name_themselves(flags, words, capsys):
    line = refused(["run", "collective", *flags], capsys)
    assert all(word in line for word in words), line
    assert line.endswith("; see palaver run collective --help")


def test_unknown_settings_are_named(tmp_path, capsys):
    known = "nodez is no setting: choose among "
    with pytest.raises(PalaverError, match=f"^{known}.*nodes"):
        CollectiveSettings(nodez=3)
    with pytest.raises(PalaverError, match=f"^here: {known}.*nodes"):
        changed(CollectiveSettings(), {"nodez": 3}, "here: ")
    with pytest.raises(PalaverError, match=f"“mine”: {known}.*nodes"):
        stored("collective", {"nodez": 3}, tmp_path / "run")
    file = tmp_path / "own.toml"
    file.write_text("nodez = 3\n")
    assert f"palaver: {file}: {known}" in refused(["run", "collective", "--settings", str(file)], capsys)


def test_a_mistake_in_an_experiment_names_its_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = "“10 sites, silent”: topology is 'star': choose one of ring, full, random, random-changing"
    assert refused(["run", "quickstart", "--topology", "star"], capsys) == f"palaver: {told}"
    Path("own.toml").write_text('topology = "star"\n')
    line = refused(["run", "quickstart", "--settings", "own.toml"], capsys)
    assert line == f"palaver: own.toml: {told}"


def test_a_settings_file(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('p-consume = 0.25\nwidths = [8, 16]\ntopology = "ring"\n')
    own = changed(CollectiveSettings(), read_toml(file), "")
    assert (own.p_consume, own.widths, own.topology) == (0.25, (8, 16), "ring")
    file.write_text("p-consume = 0.25\np_consume = 0.5\n")
    with pytest.raises(PalaverError, match="sets p_consume twice, with - and with _: keep one of them"):
        read_toml(file)
    for broken in (b"nodes = \n", b"\xff"):
        file.write_bytes(broken)
        with pytest.raises(PalaverError, match=r"settings file .*own\.toml cannot be read: [^\n]*$"):
            read_toml(file)
    with pytest.raises(PalaverError, match="cannot be read"):
        read_toml(tmp_path / "missing.toml")


def test_what_is_given_is_kept(tmp_path):
    own = CollectiveSettings(p_consume=1, widths=[8, 16], learning_rate=0.01)
    assert (own.p_consume, own.widths, own.learning_rate) == (1.0, (8, 16), 0.01)
    assert own == CollectiveSettings(p_consume=1.0, widths=(8, 16), learning_rate=0.01)
    with pytest.raises(AttributeError):
        own.nodes = 3
    plan = stored("collective", {"nodes": 4, "widths": [8], "topology": "ring"}, tmp_path / "run")
    tiny = experiments.chapter("collective").scales["tiny"]
    assert plan.configurations == [
        Configuration("mine", changed(tiny, {"nodes": 4, "widths": (8,), "topology": "ring"}, ""))
    ]


@pytest.mark.parametrize(
    ("registry", "make"),
    [
        (TOPOLOGIES, lambda name: CollectiveSettings(topology=name).topology),
        (TOPOLOGIES, lambda name: LanguageSettings(topology=name).topology),
        (CHANNELS, lambda name: CollectiveSettings(channel=name).channel),
        (MODELS, lambda name: CollectiveSettings(model=name).model),
        (OBJECTIVES, lambda name: CollectiveSettings(objective=name).objective),
        (SPLITS, lambda name: CollectiveSettings(split=name).split),
        (VIEWS, lambda name: LanguageSettings(view=name).view),
        (GENERATORS, lambda name: LanguageSettings(generator=name).generator),
        (ESTIMATORS, lambda name: LanguageSettings(estimator=name).estimator),
        (INFORMATION, lambda name: LanguageSettings(information=name).information),
        (CRITICS, lambda name: LanguageSettings(critic=name).critic),
        (MEASURES, lambda name: TeachingSettings(difficulty=name).difficulty),
        (RULES, lambda name: TeachingSettings(select=name).select),
        (TARGETS, lambda name: TeachingSettings(target=name).target),
    ],
)
def test_an_entry_of_a_registry_is_a_choice_while_it_is_there(registry, make, monkeypatch):
    with pytest.raises(PalaverError, match="is 'mine': choose one of"):
        make("mine")
    with monkeypatch.context() as added:
        added.setitem(registry, "mine", next(iter(registry.values())))
        assert make("mine") == "mine"
    with pytest.raises(PalaverError, match="is 'mine': choose one of"):
        make("mine")


def test_a_model_of_ones_own_is_refused_where_it_would_not_be_trained(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", Architecture(False, MODELS["mlp"].classifier))
    assert CollectiveSettings(model="mine").model == "mine"
    with pytest.raises(PalaverError, match="model is mine: give one of auto, mlp, cnn for objective vae"):
        CollectiveSettings(model="mine", objective="vae", channel="features")


def test_one_node_ignores_the_graph():
    assert CollectiveSettings(nodes=1, topology="ring", neighbours=4).make_topology(1, 1)(0).tolist() == [[NO_PEER]]


@pytest.mark.parametrize("change", ["version", "burn_in"])
def test_a_run_of_another_version_is_not_resumed(change, tmp_path):
    stored("collective", {}, tmp_path / "run")
    folder = Folder(tmp_path / "run", tmp_path / "run.partial")
    content = json.loads(folder.settings.read_text())
    if change == "version":
        content["version"] = "0.0.1"
    else:
        del content["rows"][0]["settings"][change]
    folder.settings.write_text(json.dumps(content))
    with pytest.raises(
        PalaverError, match=r"cannot be resumed from \((palaver 0\.0\.1 wrote it|“mine” has no burn_in)"
    ):
        stored_plan(folder, experiments.chapter)


def star(nodes, neighbours, **_):
    """Node 0 in the middle, joined to every other."""
    return from_graph(nx.star_graph(nodes - 1))


def test_a_topology_of_ones_own_is_accepted_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TOPOLOGIES, "star", star)
    topology = CollectiveSettings(nodes=4, topology="star").make_topology(4, 1)
    assert topology(0).tolist() == [[1, 2, 3], [0, -1, -1], [0, -1, -1], [0, -1, -1]]
    Path("own.toml").write_text('topology = "star"\n')
    assert changed(CollectiveSettings(), read_toml(Path("own.toml")), "").topology == "star"
    assert stored("language", {"topology": "star"}, tmp_path / "stored").configurations[0].settings.topology == "star"
    # A mistake elsewhere shows that flags and file were taken.
    for flags in (["--topology", "star"], ["--settings", "own.toml"]):
        assert "inbox is 0" in refused(["run", "collective", *flags, "--inbox", "0"], capsys)
