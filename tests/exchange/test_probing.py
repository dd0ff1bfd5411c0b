"""Training without labels: what the history says is each node's own probe, from Python and on the command line."""

from dataclasses import asdict

import jax
import numpy as np
import polars as pl
import pytest

import palaver as pv
from palaver import probe
from palaver.cli import main
from palaver.data import load
from palaver.exchange.build import make_collective
from palaver.exchange.probing import probing
from palaver.exchange.settings import CollectiveSettings
from palaver.studies.results import read_result

SETTINGS = CollectiveSettings(
    examples=400, objective="vae", channel="gaussian", nodes=2, latent=4, widths=(16,), rounds=12, eval_every=6
)
DIGITS = SETTINGS.load(load)
SEEDS = [0, 1]


def group(*nodes):
    return pv.collective(*nodes, pv.topology.full(2), p_consume=0.5, batch_size=16)


def vae(rngs):
    return pv.models.VAE(DIGITS.shape, latent=4, widths=(16,), rngs=rngs)


@pytest.fixture(scope="module")
def trained():
    """The nodes of a collective, and its history."""
    collective = make_collective(SETTINGS, DIGITS)
    history = pv.train(collective, DIGITS, rounds=12, seeds=SEEDS, eval_every=6)
    ((node, _),) = collective.groups
    return node, history


def test_the_history_is_of_each_nodes_probe(trained):
    node, history = trained
    assert history.nodes.shape == (2, 2, 2)
    of_nodes = history.metrics.filter(pl.col("node").is_not_null())
    wide = of_nodes.pivot("metric", index=["round", "seed", "node"], values="value").sort("round", "seed", "node")
    validated = wide["probe_accuracy"].to_numpy().reshape(2, 2, 2)
    own = jax.tree.map(lambda leaf: leaf[1, 0], history.state.nodes[0])  # seed 1, node 0
    parts = (np.asarray(x, np.float32) / 255 for x in (DIGITS.x_train, DIGITS.x_validation, DIGITS.x_test))
    train, seen, held_out = (node.predict(own, x).features for x in parts)
    found = probe.fit(train, DIGITS.y_train, seen, DIGITS.y_validation, classes=10)
    assert abs(float(found.accuracy) - validated[-1, 1, 0]) < 0.021  # two examples: floats are summed otherwise
    probes = probing(history.simulation, DIGITS)(history.state)
    agree = np.asarray(found.logits(held_out)).argmax(-1) == probes.test[1, 0].argmax(-1)
    assert agree.mean() > 0.98
    np.testing.assert_allclose(probes.accuracy, validated[-1], atol=1e-6)
    # The history's accuracies are those of the test set, of each node's best stage by validation.
    last = (probes.test.argmax(-1) == DIGITS.y_test).mean(-1)
    better = validated[1] > validated[0]
    np.testing.assert_allclose(history.nodes[1], np.where(better, last, history.nodes[0]), atol=1e-6)
    assert better.any() and not better.all()
    # If both nodes' best stage is the last, the majority of two is right where both are.
    for seed in np.flatnonzero(better.all(1)):
        together = probes.test[seed].argmax(-1)
        unanimous = (together[0] == together[1]) & (together[0] == DIGITS.y_test)
        assert history.rules["majority"][-1, seed] >= unanimous.mean()


def test_the_command_line_gives_the_same_numbers(trained, tmp_path):
    _, history = trained
    flags = [
        word
        for name in ("examples", "objective", "channel", "nodes", "latent", "widths", "rounds", "eval_every")
        for word in (f"--{name.replace('_', '-')}", str(asdict(SETTINGS)[name]).strip("(,)"))
    ]
    assert main(["run", "collective", *flags, "--seeds", "2", "--out", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run")
    (row,) = result.summary["rows"]
    assert history.metrics.drop("configuration").equals(result.metrics.drop("configuration"))
    for part in ("metrics", "diverged", "collapsed"):
        assert history.summary[part] == row[part]
    assert {"elbo", "probe_accuracy", "validation_average_accuracy", "bits.payload"} <= set(row["metrics"])
    np.testing.assert_allclose(history.nodes[-1].mean(1), row["metrics"]["average_accuracy"]["values"], rtol=1e-6)


def test_nodes_with_and_without_labels_do_not_mix():
    unlabelled = pv.learner(vae, pv.objectives.elbo())
    classes = pv.supervised(lambda rngs: pv.models.MLP(DIGITS.shape, 10, rngs=rngs))
    with pytest.raises(pv.PalaverError, match="all must learn labels, or none"):
        pv.train(group([(unlabelled, 1), (classes, 1)]), DIGITS, rounds=1)
    narrow = pv.supervised(lambda rngs: pv.models.MLP(DIGITS.shape, 3, rngs=rngs))
    with pytest.raises(pv.PalaverError, match=r"\(1, 3\), digits has 10 classes"):
        pv.train(group(narrow), DIGITS, rounds=1)
