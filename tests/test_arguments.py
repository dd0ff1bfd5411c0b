"""Misuse of topologies, data, channels, models and objectives: one line that names the argument."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import palaver as pv

NAN = float("nan")
X, Y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 3
RNGS = nnx.Rngs(0)


def arrays(x=X, y=Y, **given):
    return pv.data.from_arrays(x, y, **given)


def mlp(*args, **given):
    return pv.models.MLP(*(args or ((4,), 3)), **given, rngs=RNGS)


def vae(**given):
    return pv.models.VAE((8, 8), **given, rngs=RNGS)


MISUSES = {
    "ring: nodes 4.0": ("nodes", lambda: pv.topology.ring(4.0)),
    "ring: nodes True": ("nodes", lambda: pv.topology.ring(True, 0)),
    "ring: nodes text": ("nodes", lambda: pv.topology.ring("4")),
    "ring: neighbours 2.5": ("neighbours", lambda: pv.topology.ring(4, 2.5)),
    "ring: neighbours True": ("neighbours", lambda: pv.topology.ring(4, True)),
    "ring: neighbours None": ("neighbours", lambda: pv.topology.ring(4, None)),
    "full: nodes 2.5": ("nodes", lambda: pv.topology.full(2.5)),
    "full: nodes None": ("nodes", lambda: pv.topology.full(None)),
    "random_regular: seed 1.5": ("seed", lambda: pv.topology.random_regular(6, 3, seed=1.5)),
    "random_regular: seed -1": ("seed", lambda: pv.topology.random_regular(6, 3, seed=-1)),
    "random_regular: seed text": ("seed", lambda: pv.topology.random_regular(6, 3, seed="a")),
    "random_regular: nodes 6.0": ("nodes", lambda: pv.topology.random_regular(6.0, 3)),
    "random_changing: rounds 1.5": ("rounds", lambda: pv.topology.random_changing(6, 3, rounds=1.5)),
    "random_changing: every 0.5": ("every", lambda: pv.topology.random_changing(6, 3, rounds=3, every=0.5)),
    "random_changing: seed -1": ("seed", lambda: pv.topology.random_changing(6, 3, rounds=3, seed=-1)),
    "random_changing: graphs 0": ("graphs", lambda: pv.topology.random_changing(6, 3, rounds=3, graphs=0)),
    "random_changing: graphs 2.5": ("graphs", lambda: pv.topology.random_changing(6, 3, rounds=9, graphs=2.5)),
    "from_graph: ragged": ("graph", lambda: pv.topology.from_graph([[0, 1], [0]])),
    "from_graph: text": ("graph", lambda: pv.topology.from_graph([["0", "1"], ["1", "0"]])),
    "from_graph: None": ("graph", lambda: pv.topology.from_graph(None)),
    "named: unhashable": ("topology", lambda: pv.topology.named(["ring"], 4)),
    "named: nodes 4.0": ("nodes", lambda: pv.topology.named("ring", 4.0)),
    "named: nodes 1.0": ("nodes", lambda: pv.topology.named("ring", 1.0)),
    "x ragged": ("x", lambda: arrays([[1.0, 2.0], [1.0]], [0, 1])),
    "x arrays of unequal length": ("x", lambda: arrays([np.zeros(2), np.zeros(3)], [0, 1])),
    "x objects": ("x", lambda: arrays(X.astype(object))),
    "x text": ("x", lambda: arrays(X.astype(str))),
    "x None": ("x", lambda: arrays(None)),
    "x complex": ("x", lambda: arrays(X.astype(complex))),
    "x NaN": ("x", lambda: arrays(np.where(X > 0.5, X, NAN))),
    "x of one axis": ("x", lambda: arrays(X[:, 0])),
    "x empty": ("x", lambda: arrays(X[:0], Y[:0])),
    "y shorter": ("y", lambda: arrays(y=Y[:-1])),
    "y negative": ("y", lambda: arrays(y=Y - 1)),
    "y floats": ("y", lambda: arrays(y=Y * 1.0)),
    "y one-hot": ("y", lambda: arrays(y=np.eye(3)[Y])),
    "y text": ("y", lambda: arrays(y=Y.astype(str))),
    "y ragged": ("y", lambda: arrays(y=[[0], [1, 2]])),
    "y beyond classes": ("y", lambda: arrays(classes=2)),
    "classes 3.0": ("classes", lambda: arrays(classes=3.0)),
    "classes True": ("classes", lambda: arrays(y=Y * 0, classes=True)),
    "classes 2**40": ("classes", lambda: arrays(classes=2**40)),
    "validation text": ("validation", lambda: arrays(validation="0.1")),
    "validation NaN": ("validation", lambda: arrays(validation=NAN)),
    "validation a count": ("validation", lambda: arrays(validation=5)),
    "test True": ("test", lambda: arrays(test=True)),
    "seed 0.5": ("seed", lambda: arrays(seed=0.5)),
    "seed 2**32": ("seed", lambda: arrays(seed=2**32)),
    "name None": ("name", lambda: arrays(name=None)),
    "subset: train 2.5": ("train", lambda: pv.data.subset(arrays(), 2.5, 1, 1)),
    "subset: test True": ("test", lambda: pv.data.subset(arrays(), 2, 1, True)),
    "load: a path": ("name", lambda: pv.data.load(None)),
    "split: nodes 2.5": ("nodes", lambda: pv.data.split("iid", Y, 2.5, 0)),
    "split: seed 0.5": ("seed", lambda: pv.data.split("iid", Y, 2, 0.5)),
    "split: alpha text": ("alpha", lambda: pv.data.split("dirichlet", Y, 2, 0, alpha="a")),
    "split: name a list": ("split", lambda: pv.data.split(["iid"], Y, 2, 0)),
    "logits: temperature text": ("temperature", lambda: pv.channels.logits(temperature="1")),
    "logits: temperature None": ("temperature", lambda: pv.channels.logits(temperature=None)),
    "logits: temperature True": ("temperature", lambda: pv.channels.logits(temperature=True)),
    "logits: an array of temperatures": ("temperature", lambda: pv.channels.logits(temperature=np.ones(2))),
    "labels_logits: mix text": ("mix", lambda: pv.channels.labels_logits(mix="half")),
    "labels_logits: mix NaN": ("mix", lambda: pv.channels.labels_logits(mix=NAN)),
    "features: weight NaN": ("weight", lambda: pv.channels.features(weight=NAN)),
    "gaussian: weight text": ("weight", lambda: pv.channels.gaussian(weight="1")),
    "elbo: beta NaN": ("beta", lambda: pv.objectives.elbo(beta=NAN)),
    "elbo: beta beyond float32": ("beta", lambda: pv.objectives.elbo(beta=1e308)),
    "logits: temperature below float32": ("temperature", lambda: pv.channels.logits(temperature=1e-300)),
    "elbo: beta text": ("beta", lambda: pv.objectives.elbo(beta="1")),
    "fit_temperature: steps 1.5": (
        "steps",
        lambda: pv.decision.fit_temperature(jnp.zeros((2, 3)), jnp.zeros(2, int), steps=1.5),
    ),
    "fit: steps 0": ("steps", lambda: fit(steps=0)),
    "fit: eval_every 0": ("eval_every", lambda: fit(eval_every=0)),
    "fit: patience 0": ("patience", lambda: fit(patience=0)),
    "fit: classes 2.5": ("classes", lambda: fit(classes=2.5)),
    "fit: penalty NaN": ("penalty", lambda: fit(penalty=NAN)),
    "fit: penalty -1": ("penalty", lambda: fit(penalty=-1)),
    "MLP: shape a number": ("shape", lambda: mlp(4, 3)),
    "MLP: shape of floats": ("shape", lambda: mlp((4.0,), 3)),
    "MLP: classes 2.5": ("classes", lambda: mlp((4,), 2.5)),
    "MLP: classes 0": ("classes", lambda: mlp((4,), 0)),
    "MLP: hidden a number": ("hidden", lambda: mlp(hidden=32)),
    "MLP: hidden 0": ("hidden", lambda: mlp(hidden=(0,))),
    "MLP: hidden 2.5": ("hidden", lambda: mlp(hidden=(2.5,))),
    "MLP: dropout NaN": ("dropout", lambda: mlp(dropout=NAN)),
    "MLP: dropout 1.5": ("dropout", lambda: mlp(dropout=1.5)),
    "MLP: dropout -0.1": ("dropout", lambda: mlp(dropout=-0.1)),
    "CNN: channels 2.5": ("channels", lambda: pv.models.CNN((8, 8), 3, channels=(2.5,), rngs=RNGS)),
    "VAE: latent 2.5": ("latent", lambda: vae(latent=2.5)),
    "VAE: latent 0": ("latent", lambda: vae(latent=0)),
    "VAE: widths a number": ("widths", lambda: vae(widths=8)),
    "BiGAN: latent True": ("latent", lambda: pv.models.BiGAN((8, 8), latent=True, rngs=RNGS)),
}


def fit(**given):
    return pv.probe.fit(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(X), jnp.asarray(Y), **{"classes": 3} | given)


@pytest.mark.parametrize(("argument", "misuse"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_in_one_line_that_names_the_argument(argument, misuse):
    with pytest.raises(pv.PalaverError) as error:
        misuse()
    line = str(error.value)
    assert re.search(rf"\b{argument}\b", line), line
    assert "\n" not in line and ": " in line
