"""Closed forms of the unsupervised objectives, who descends what, and the collapse detector."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from palaver import channels, topology
from palaver.data import load
from palaver.engines import collective, seed_keys, shards, simulation
from palaver.engines.simulate import as_input
from palaver.models import VAE, BiGAN
from palaver.node import learner
from palaver.objectives import adversarial, collapsed, elbo, kl_divergence, sample, standard_normal
from palaver.types import Batch, Gaussian, PalaverError

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


class Tables:
    """A module of constants: one code for every input, one picture for every code."""

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


def test_the_elbo_is_a_bound_on_the_likelihood():
    # With one latent number p(x) is an integral one can do: the bound must be below it, and near for a good encoder.
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
    bounds = jax.vmap(lambda k: elbo().metrics(module, X, k)["elbo"])(keys) + rest
    assert float(bounds.mean()) < float(exact.mean())
    assert float(exact.mean()) - float(bounds.mean()) < 1.0


def vae(rngs):
    return VAE(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


def bigan(rngs):
    return BiGAN(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


KINDS = {
    "vae": (vae, elbo(), channels.gaussian(), {"encoder"}, {"decoder"}),
    "bigan": (bigan, adversarial(), channels.features(), {"encoder"}, {"generator", "discriminator"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def moved(before, after):
    """Names of the module's parts that changed."""
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    return {name for name, leaves in same.items() if not all(jax.tree.leaves(leaves))}


@every_kind
def test_what_is_heard_moves_the_encoder_alone(kind):
    model, objective, channel, listens, others = KINDS[kind]
    node = learner(model, objective, channel)
    state = node.init(jax.random.key(0))
    batch, payload = Batch(X, LABELS), jax.tree.map(lambda s: jnp.ones(s.shape), node.payload(X, LABELS))
    step = jax.jit(node.step)
    local, said, _ = step(jax.random.key(1), state, batch, payload, False)
    assert moved(state.params, local.params) == listens | others
    np.testing.assert_array_equal(said, node.predict(state, X).features)
    # After a local step the optimiser has momentum: what does not listen must stand still all the same.
    heard, _, loss = step(jax.random.key(2), local, batch, payload, True)
    assert moved(local.params, heard.params) == listens
    np.testing.assert_allclose(loss, channel.loss(node.predict(local, X), payload), rtol=1e-5)


@every_kind
def test_each_part_descends_its_own_loss(kind):
    model, objective, channel, _, _ = KINDS[kind]
    node = learner(model, objective, channel, optimizer=optax.sgd(1.0))
    state, key = node.init(jax.random.key(0)), jax.random.key(1)
    after, _, _ = node.step(key, state, Batch(X, LABELS), jnp.zeros(node.payload(X, LABELS).shape), False)
    definition, params = nnx.split(model(nnx.Rngs(0)), nnx.Param)

    def loss(params, place):
        return objective.losses(nnx.merge(definition, params), Batch(X, LABELS), key)[1][place]

    parts = objective.parts or (("encoder", "decoder"),)
    nnx.replace_by_pure_dict(params, state.params)
    for place, names in enumerate(parts):
        slope = nnx.to_pure_dict(jax.grad(loss)(params, place))
        for name in names:
            expected = jax.tree.map(lambda p, g: p - g, state.params[name], slope[name])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), after.params[name], expected)


def test_a_projection_starts_as_the_identity_and_learns():
    plain, projected = (learner(bigan, adversarial(), channels.features(), projection=p) for p in (0, LATENT))
    a, b = plain.init(jax.random.key(0)), projected.init(jax.random.key(0))
    assert projected.parameters() == plain.parameters() + LATENT * LATENT + LATENT
    payload = jnp.ones((BATCH, LATENT))
    for consume in (False, True):
        one = plain.step(jax.random.key(1), a, Batch(X, LABELS), payload, consume)
        two = projected.step(jax.random.key(1), b, Batch(X, LABELS), payload, consume)
        np.testing.assert_allclose(one[2], two[2], rtol=1e-5)
        np.testing.assert_array_equal(one[1], two[1])  # what is said is not projected
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
            one[0].params,
            {name: part for name, part in two[0].params.items() if name != "projection"},
        )
        still = (two[0].params["projection"]["kernel"] == jnp.eye(LATENT)).all()
        assert bool(still) != consume


def test_a_collapse_is_seen_and_a_healthy_game_is_not():
    accuracy, features, samples = np.array([[0.8, 0.9, 0.5], [1.0, 0.9, 0.5], [0.8, 0.0, 0.5], [0.8, 0.9, 0.001]]).T
    assert collapsed(accuracy, features, samples).tolist() == [False, True, True, True]


def test_a_constructed_collapse():
    # An encoder and a generator whose last layers are zero say the same whatever they see.
    node = learner(bigan, adversarial())
    state = node.init(jax.random.key(0))
    healthy = node.metrics(jax.random.key(1), state, X)
    for part, layer in (("encoder", "head"), ("generator", "last")):
        broken = jax.tree.map(lambda leaf: leaf, state.params)
        broken[part][layer] = jax.tree.map(jnp.zeros_like, broken[part][layer])
        found = node.metrics(jax.random.key(1), state._replace(params=broken), X)
        for metrics, expected in ((healthy, False), (found, True)):
            said = [metrics[name] for name in ("discriminator_accuracy", "feature_variance", "sample_variance")]
            assert bool(collapsed(*said)) == expected


def test_pictures_are_grids_of_pixels():
    for kind in KINDS:
        model, objective, *_ = KINDS[kind]
        node = learner(model, objective)
        drawn = node.pictures(jax.random.key(1), node.init(jax.random.key(0)), X)
        assert drawn["reconstructions"].shape == (2, BATCH, *SHAPE)
        assert drawn["samples"].shape == (2, BATCH, *SHAPE)
        assert drawn["interpolations"].shape == (BATCH // 2, BATCH, *SHAPE)
        np.testing.assert_array_equal(drawn["reconstructions"][0], X)
        # A walk from code to code starts and ends at the reconstructions of both.
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
    look = sim.ask(lambda node, state, x: node.metrics(jax.random.key(1), state, as_input(x)))
    bound = look(sim.advance(sim.init(seed_keys([0, 1])), 900), digits.x_validation)["elbo"]
    # The best decoder that says the same for every image knows each pixel's mean; no decoder of these pixels, which
    # are not binary, can be better than their own entropy.
    pixels, seen = (x.reshape(len(x), -1) / 255 for x in (digits.x_train, digits.x_validation))
    mean = np.clip(pixels.mean(0), 1e-3, 1 - 1e-3)
    blind = (seen * np.log(mean) + (1 - seen) * np.log(1 - mean)).sum(1).mean()
    clipped = np.clip(seen, 1e-9, 1 - 1e-9)
    ceiling = (seen * np.log(clipped) + (1 - seen) * np.log(1 - clipped)).sum(1).mean()
    assert (np.asarray(bound) > -25.2).all()
    assert blind < -27
    assert (np.asarray(bound) < ceiling).all()


def test_bad_settings_are_named():
    with pytest.raises(PalaverError, match="beta is -1: give 0 or more"):
        elbo(beta=-1)
    with pytest.raises(PalaverError, match="no decoder to train") as caught:
        learner(bigan, elbo()._replace(parts=(("encoder", "decoder"),)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [VAE, BiGAN])
@pytest.mark.parametrize("shape", [(8, 8), (16, 8, 3)])
def test_convolutional_shapes(kind, shape):
    def model(rngs):
        return kind(shape, latent=LATENT, widths=(2, 4), convolutional=True, rngs=rngs)

    node = learner(model, elbo() if kind is VAE else adversarial())
    x = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)
    state = jax.eval_shape(node.init, jax.random.key(0))
    said = jax.eval_shape(node.predict, state, x)
    assert said.features.shape == (BATCH, 2 * LATENT if kind is VAE else LATENT)
    assert said.logits.shape == (BATCH, 0)
    drawn = jax.eval_shape(node.pictures, jax.random.key(0), state, x)
    assert drawn["samples"].shape == (2, BATCH, *shape)
    if shape == (8, 8) and kind is VAE:
        # Convolutions 1→2→4 by 4 × 4, norms, 2 · 2 · 4 to 2 · 3; back: 3 to 16, norms, 4→2→1, and a bias.
        encoder = 16 * 2 + 16 * 2 * 4 + 2 * (2 + 4) + (16 * 6 + 6)
        assert node.parameters() == encoder + (3 * 16 + 2 * (4 + 2) + 16 * 4 * 2 + 16 * 2 + 1)
