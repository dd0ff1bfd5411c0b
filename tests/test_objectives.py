"""Closed forms of the unsupervised objectives, their metrics and pictures, and the collapse detector."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quick
from palaver import topology
from palaver.data import load
from palaver.data.inputs import to_float
from palaver.exchange.description import collective
from palaver.exchange.shards import shards
from palaver.exchange.simulate import simulation
from palaver.models import VAE, BiGAN
from palaver.node import learner
from palaver.objectives import (
    OBJECTIVES,
    adversarial,
    collapsed,
    cross_entropy,
    elbo,
    kl_divergence,
    sample,
    standard_normal,
)
from palaver.objectives import _negative_log_likelihood as pixel_loss
from palaver.studies.seeds import seed_keys
from palaver.types import NO_LABEL, Batch, Gaussian, PalaverError

BATCH, SHAPE, LATENT = 6, (4, 5), 3
X = jnp.asarray(np.random.default_rng(0).random((BATCH, *SHAPE)), jnp.float32)
LABELS = jnp.full(BATCH, -1, jnp.int32)


def gaussian(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return Gaussian(*(jnp.asarray(scale * rng.normal(size=(2, 4)), jnp.float32) for _ in range(2)))


def log_density(z, g):
    return -0.5 * (jnp.log(2 * jnp.pi) + g.log_variance + (z - g.mean) ** 2 / jnp.exp(g.log_variance)).sum(-1)


@pytest.mark.parametrize("q", [gaussian(2), standard_normal(jnp.zeros((2, 4)))], ids=["any", "the prior"])
def test_kl_is_the_mean_log_ratio_of_samples(q):
    p = gaussian(1)
    z = jax.vmap(lambda k: sample(k, p))(jax.random.split(jax.random.key(0), 20_000))
    ratios = np.asarray(log_density(z, p) - log_density(z, q), np.float64)
    error = ratios.std(0) / np.sqrt(len(ratios))
    assert (np.abs(ratios.mean(0) - kl_divergence(p, q)) < 4 * error).all()
    assert (error < 0.1).all()
    np.testing.assert_allclose(kl_divergence(p, p), 0, atol=1e-6)


SCORES = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize("labels", [(3, 0, 1), (3, NO_LABEL, 1), (NO_LABEL, NO_LABEL, 2), (NO_LABEL,) * 3])
def test_only_examples_with_a_label_are_learned(labels):
    def loss(scores):
        batch = Batch(jnp.asarray(scores), jnp.array(labels, jnp.int32))
        return cross_entropy().losses(lambda x: x, batch, jax.random.key(0))[1][0]

    value, gradient = jax.value_and_grad(loss)(SCORES)
    known = [row for row, label in enumerate(labels) if label != NO_LABEL]
    p, expected, to_scores = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True), 0.0, np.zeros_like(SCORES)
    for row in known:
        expected -= np.log(p[row, labels[row]]) / len(known)
        to_scores[row] = (p[row] - np.eye(4)[labels[row]]) / len(known)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, to_scores, rtol=1e-5, atol=1e-7)
    others = [row for row in range(3) if row not in known]
    assert (np.asarray(gradient)[others] == 0).all()


def test_where_all_labels_are_known_the_loss_is_the_plain_mean_to_the_last_bit():
    rng = np.random.default_rng(2)
    scores, labels = jnp.asarray(rng.normal(size=(50, 7)), jnp.float32), jnp.asarray(rng.integers(0, 7, 50), jnp.int32)

    def plain(scores):
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    def ours(scores):
        return cross_entropy().losses(lambda x: x, Batch(scores, labels), jax.random.key(0))[1][0]

    jax.tree.map(np.testing.assert_array_equal, *(jax.jit(jax.value_and_grad(loss))(scores) for loss in (plain, ours)))


class Tables:
    """A module of constants: the same code for every input, the same image for every code."""

    latent = LATENT

    def __init__(self, mean, log_variance, logits):
        self.code, self.logits = (mean, log_variance), logits

    def encode(self, x):
        return Gaussian(*(jnp.full((x.shape[0], LATENT), value) for value in self.code))

    def decode(self, z):
        return jnp.broadcast_to(self.logits, (z.shape[0], *SHAPE))


@pytest.mark.parametrize("beta", [1.0, 4.0, 0.0])
def test_elbo_by_hand(beta):
    module = Tables(0.5, np.log(0.25), jnp.full(SHAPE, 2.0))
    _, (loss,) = elbo(beta=beta).losses(module, Batch(X, LABELS), jax.random.key(0))
    nll = -(np.asarray(X) * np.log(1 / (1 + np.exp(-2.0))) + (1 - np.asarray(X)) * np.log(1 / (1 + np.exp(2.0))))
    kl = LATENT * 0.5 * (0.25 + 0.25 - 1 - np.log(0.25))
    np.testing.assert_allclose(loss, nll.sum((1, 2)).mean() + beta * kl, rtol=1e-5)
    terms = elbo(beta=beta).metrics(module, X, jax.random.key(0))
    np.testing.assert_allclose(terms["elbo"], -nll.sum((1, 2)).mean() - kl, rtol=1e-5)
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-5)
    assert float(terms["active_units"]) == 0


def test_the_loss_of_pixels_is_the_cross_entropy_of_bernoulli_variables():
    # By log sigmoid, as optax has it; at 0, where the maximum in ours has a kink, and where exp(l) would overflow.
    logits = jnp.asarray([[-200.0, -3.0, 0.0, 0.0, 1e-4, 2.0, 30.0, 200.0]])
    x = jnp.asarray([[0.0, 0.25, 0.0, 1.0, 0.5, 0.75, 1.0, 0.5]])

    def by_log_sigmoid(logits, x):
        return optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)

    each = (logits.T, x.T)  # pixels that are examples: the sum of one
    np.testing.assert_allclose(pixel_loss(*each), by_log_sigmoid(*each), rtol=1e-6, atol=1e-7)
    for argument in (0, 1):
        (ours, theirs) = (
            jax.value_and_grad(lambda *a, f=f: f(*a).sum(), argument)(logits, x) for f in (pixel_loss, by_log_sigmoid)
        )
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6, atol=1e-7)


def test_the_elbo_is_a_bound_on_the_likelihood():
    # With one latent number p(x) is an integral to compute on a grid: the bound must be below it, and near it where the
    # encoder is good.
    weight = jnp.linspace(-1, 1, 20).reshape(SHAPE)

    class Line(Tables):
        def decode(self, z):
            return z[:, :1, None] * weight

    module = Line(0.3, np.log(0.8), None)
    grid = jnp.linspace(-8, 8, 4001)
    logits = grid[:, None, None] * weight
    per_pixel = -optax.sigmoid_binary_cross_entropy(logits[:, None], X[None])
    density = per_pixel.sum((2, 3)) - 0.5 * (jnp.log(2 * jnp.pi) + grid[:, None] ** 2)
    exact = jax.nn.logsumexp(density, axis=0) + jnp.log(grid[1] - grid[0])
    keys = jax.random.split(jax.random.key(0), 4000)
    prior = LATENT - 1  # the other codes add their divergence from the prior, and no more
    rest = prior * 0.5 * (0.8 + 0.09 - 1 - np.log(0.8))
    bounds = quick.jit(jax.vmap(lambda k: elbo().metrics(module, X, k)["elbo"]))(keys) + rest
    assert float(bounds.mean()) < float(exact.mean())
    assert float(exact.mean()) - float(bounds.mean()) < 1.0


class Game(Tables):
    """Codes of 0.5, images of 0.3; a discriminator that adds the first pixel to three times the first number."""

    def __init__(self):
        super().__init__(0.0, 0.0, None)

    def encode(self, x):
        return jnp.full((x.shape[0], LATENT), 0.5)

    def generate(self, z):
        return jnp.full((z.shape[0], *SHAPE), 0.3)

    def discriminate(self, x, z):
        return x[:, 0, 0] + 3 * z[:, 0]


def test_the_adversarial_game_by_hand():
    key = jax.random.key(3)
    z = np.asarray(jax.random.normal(key, (BATCH, LATENT)))[:, 0]
    outputs, (discriminator, others) = adversarial().losses(Game(), Batch(X, LABELS), key)
    real, fake = np.asarray(X)[:, 0, 0] + 1.5, 0.3 + 3 * z
    # The discriminator's loss falls with D(x, E(x)) and rises with D(G(z), z); that of the others is the reverse.
    right, wrong = (1 / (1 + np.exp(-logit)) for logit in (real, fake))
    np.testing.assert_allclose(discriminator, -np.log(right).mean() - np.log(1 - wrong).mean(), rtol=1e-5)
    np.testing.assert_allclose(others, -np.log(1 - right).mean() - np.log(wrong).mean(), rtol=1e-5)
    np.testing.assert_array_equal(outputs.features, np.full((BATCH, LATENT), 0.5))
    metrics = adversarial().metrics(Game(), X, key)
    np.testing.assert_allclose(metrics["discriminator_accuracy"], ((real > 0).mean() + (fake < 0).mean()) / 2)
    np.testing.assert_allclose(metrics["reconstruction_error"], ((np.asarray(X) - 0.3) ** 2).mean(), rtol=1e-5)


def test_collapsed_metrics_are_told_from_healthy_ones():
    features, samples = np.array([[0.9, 0.5], [0.0, 0.5], [0.9, 0.001]]).T
    assert collapsed({"feature_variance": features, "sample_variance": samples}).tolist() == [False, True, True]
    units = {"active_units": np.array([0.0, 1.0, 7.0]), "feature_variance": np.array([0.001, 0.002, 0.5])}
    assert collapsed(units).tolist() == [True, False, False]


def vae(rngs):
    return VAE(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


def bigan(rngs):
    return BiGAN(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


KINDS = {"vae": (vae, elbo()), "bigan": (bigan, adversarial())}


@pytest.mark.parametrize("kind", KINDS)
def test_a_constructed_collapse(kind):
    # The output of an encoder or a generator whose last layer is zero does not depend on its input.
    model, objective = KINDS[kind]
    node = learner(model, objective)
    state, metrics = quick.jit(node.init)(jax.random.key(0)), quick.jit(node.metrics)
    assert not bool(collapsed(metrics(jax.random.key(1), state, X)))
    for part, layer in (("encoder", "head"), ("generator", "last"))[: 1 if kind == "vae" else 2]:
        broken = jax.tree.map(lambda leaf: leaf, state.params)
        broken[part][layer] = jax.tree.map(jnp.zeros_like, broken[part][layer])
        assert bool(collapsed(metrics(jax.random.key(1), state._replace(params=broken), X)))


def test_pictures_are_grids_of_pixels():
    for kind in KINDS:
        model, objective = KINDS[kind]
        node = learner(model, objective)
        drawn = quick.jit(node.pictures)(jax.random.key(1), quick.jit(node.init)(jax.random.key(0)), X)
        assert drawn["reconstructions"].shape == (2, BATCH, *SHAPE)
        assert drawn["samples"].shape == (2, BATCH, *SHAPE)
        assert drawn["interpolations"].shape == (BATCH // 2, BATCH, *SHAPE)
        np.testing.assert_array_equal(drawn["reconstructions"][0], X)
        # An interpolation between two codes starts and ends at the reconstructions of both.
        np.testing.assert_allclose(drawn["interpolations"][:, 0], drawn["reconstructions"][1, :3], atol=1e-5)
        np.testing.assert_allclose(drawn["interpolations"][:, -1], drawn["reconstructions"][1, 3:], atol=1e-5)
        for grid in drawn.values():
            assert float(grid.min()) >= 0
            assert float(grid.max()) <= 1


def test_a_vae_on_digits_reaches_its_bound():
    digits = load("digits")
    node = learner(
        lambda rngs: VAE(digits.shape, latent=8, widths=(128,), rngs=rngs), elbo(), optimizer=optax.adam(3e-3)
    )
    group = collective(node, topology.ring(1, 0), p_consume=0, batch_size=64)
    sim = simulation(group, shards(digits.x_train, digits.y_train, 1, [0, 1]))
    metrics = sim.map_nodes(lambda node, state, x: node.metrics(jax.random.key(1), state, to_float(x)))
    bound = metrics(sim.advance(sim.init(seed_keys([0, 1])), 900), digits.x_validation)["elbo"]
    # The best decoder that ignores its input gives each pixel's mean; no decoder of these pixels, which are not binary,
    # can be better than their own entropy.
    pixels, validation = (x.reshape(len(x), -1) / 255 for x in (digits.x_train, digits.x_validation))
    mean = np.clip(pixels.mean(0), 1e-3, 1 - 1e-3)
    constant = (validation * np.log(mean) + (1 - validation) * np.log(1 - mean)).sum(1).mean()
    clipped = np.clip(validation, 1e-9, 1 - 1e-9)
    ceiling = (validation * np.log(clipped) + (1 - validation) * np.log(1 - clipped)).sum(1).mean()
    assert (np.asarray(bound) > -25.2).all()
    assert constant < -27
    assert (np.asarray(bound) < ceiling).all()


def test_one_example_has_pictures_too():
    node = learner(vae, elbo())
    drawn = jax.eval_shape(lambda key: node.pictures(key, node.init(key), X[:1]), jax.random.key(0))
    assert drawn["interpolations"].shape == (1, 1, *SHAPE)


def test_names_in_settings():
    found = {name: make(SimpleNamespace(beta=4.0)) for name, make in OBJECTIVES.items()}
    assert {name: len(objective.parts or ()) for name, objective in found.items()} == {
        "labels": 0,
        "vae": 0,
        "bigan": 2,
    }
    module, batch, key = Tables(0.5, 0.3, jnp.zeros(SHAPE)), Batch(X, LABELS), jax.random.key(0)
    assert found["vae"].losses(module, batch, key)[1] == elbo(beta=4.0).losses(module, batch, key)[1]


def test_collapse_is_seen_by_whichever_variance_there_is():
    assert collapsed({"feature_variance": [0.001, 0.5]}).tolist() == [True, False]
    assert collapsed({"sample_variance": [0.5, 0.001], "feature_variance": [0.5, 0.5]}).tolist() == [False, True]


def test_a_bad_beta_is_named():
    with pytest.raises(PalaverError, match="beta is inf"):
        elbo(beta=float("inf"))
    with pytest.raises(PalaverError, match="beta is -1: give a finite number, 0 or more"):
        elbo(beta=-1)
