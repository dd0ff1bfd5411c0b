"""Training without labels from Python: what the history says is each node's own probe."""

import jax
import numpy as np
import pytest

import palaver as pv
from palaver import probe
from palaver.data import load
from palaver.engines import probing

DIGITS = load("digits")


def group(*nodes):
    return pv.collective(*nodes, pv.topology.full(2), p_consume=0.5, batch_size=16)


def vae(rngs):
    return pv.models.VAE(DIGITS.shape, latent=4, widths=(16,), rngs=rngs)


def test_the_history_is_of_each_nodes_probe():
    node = pv.learner(vae, pv.objectives.elbo(), pv.channels.gaussian())
    history = pv.train(group(node), DIGITS, rounds=4, seeds=2, eval_every=2)
    assert history.nodes.shape == (2, 2, 2)
    own = jax.tree.map(lambda leaf: leaf[1, 0], history.state.nodes[0])  # seed 1, node 0
    parts = (np.asarray(x, np.float32) / 255 for x in (DIGITS.x_train, DIGITS.x_validation, DIGITS.x_test))
    train, seen, held_out = (node.predict(own, x).features for x in parts)
    found = probe.fit(train, DIGITS.y_train, seen, DIGITS.y_validation, classes=10)
    assert abs(float(found.accuracy) - history.nodes[-1, 1, 0]) < 0.012  # two examples: floats are summed otherwise
    probes = probing(history.simulation, DIGITS)(history.state)
    agree = np.asarray(found.logits(held_out)).argmax(-1) == probes.test[1, 0].argmax(-1)
    assert agree.mean() > 0.98
    np.testing.assert_allclose(probes.accuracy, history.nodes[-1], atol=1e-6)
    together = probes.validation.argmax(-1)
    unanimous = (together[1, 0] == together[1, 1]) & (together[1, 0] == DIGITS.y_validation)
    assert history.rules["majority"][-1, 1] >= unanimous.mean()


def test_nodes_that_say_classes_and_nodes_that_do_not_do_not_mix():
    silent = pv.learner(vae, pv.objectives.elbo())
    classes = pv.supervised(lambda rngs: pv.models.MLP(DIGITS.shape, 10, rngs=rngs))
    with pytest.raises(pv.PalaverError, match="all must learn labels, or none"):
        pv.train(group([(silent, 1), (classes, 1)]), DIGITS, rounds=1)
    narrow = pv.supervised(lambda rngs: pv.models.MLP(DIGITS.shape, 3, rngs=rngs))
    with pytest.raises(pv.PalaverError, match=r"\(1, 3\), digits has 10 classes"):
        pv.train(group(narrow), DIGITS, rounds=1)
