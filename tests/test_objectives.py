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


class Game(Tables):
    """Codes of 0.5, pictures of 0.3; a discriminator that adds the first pixel to three times the first number."""

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
    # D(x, E(x)) should be high and D(G(z), z) low; generator and encoder want the reverse.
    right, wrong = (1 / (1 + np.exp(-logit)) for logit in (real, fake))
    np.testing.assert_allclose(discriminator, -np.log(right).mean() - np.log(1 - wrong).mean(), rtol=1e-5)
    np.testing.assert_allclose(others, -np.log(1 - right).mean() - np.log(wrong).mean(), rtol=1e-5)
    np.testing.assert_array_equal(outputs.features, np.full((BATCH, LATENT), 0.5))
    metrics = adversarial().metrics(Game(), X, key)
    np.testing.assert_allclose(metrics["discriminator_accuracy"], ((real > 0).mean() + (fake < 0).mean()) / 2)
    np.testing.assert_allclose(metrics["reconstruction_error"], ((np.asarray(X) - 0.3) ** 2).mean(), rtol=1e-5)


def trained_bigan(steps):
    """A convolutional BiGAN's node, its state after so many steps on the same digits, and the digits."""

    def model(rngs):
        return BiGAN((8, 8), latent=LATENT, widths=(4, 8), convolutional=True, rngs=rngs)

    node, x = learner(model, adversarial(), channels.features()), jnp.asarray(load("digits").x_train[:64] / 255)
    state, step, batch = node.init(jax.random.key(0)), jax.jit(node.step), Batch(x, jnp.full(64, -1))
    for number in range(steps):
        state, *_ = step(jax.random.key(number), state, batch, jnp.zeros((64, LATENT)), False)
    return model, node, state, batch


def test_a_convolutional_discriminator_is_one_function_in_training_and_in_evaluation():
    model, _, state, batch = trained_bigan(100)
    logits = {}
    for mode in ("train", "eval"):
        module = nnx.merge(nnx.split(model(nnx.Rngs(0)), nnx.Param, ...)[0], state.params, state.extra)
        getattr(module, mode)()
        made = module.generate(jax.random.normal(jax.random.key(9), (64, LATENT)))
        pairs = jnp.concatenate([batch.x, made]), jnp.zeros((128, LATENT))
        logits[mode] = np.asarray(module.discriminate(*pairs))
    # It has learnt to tell them apart, and its running statistics are those of batches of both.
    apart = logits["train"][:64].mean() - logits["train"][64:].mean()
    assert apart > 1
    for half in (slice(0, 64), slice(64, 128)):
        assert abs(logits["train"][half].mean() - logits["eval"][half].mean()) < 0.2 * apart


def test_batch_statistics_of_those_that_do_not_listen_stand_still():
    _, node, state, batch = trained_bigan(1)
    for consume, expected in ((False, {"encoder", "generator", "discriminator"}), (True, {"encoder"})):
        after, *_ = node.step(jax.random.key(1), state, batch, jnp.zeros((64, LATENT)), consume)
        assert moved(state.extra, after.extra) == expected
        assert moved(state.params, after.params) == expected


def test_dcgans_advice():
    model, _, state, _ = trained_bigan(0)
    module = nnx.merge(nnx.split(model(nnx.Rngs(0)), nnx.Param, ...)[0], state.params, state.extra)
    first, second = module.discriminator.trunk.norms
    assert first is None and isinstance(second, nnx.BatchNorm)
    assert all(isinstance(norm, nnx.BatchNorm) for norm in [*module.encoder.trunk.norms, *module.generator.norms])
    below = jnp.array([-1.0])
    np.testing.assert_allclose(module.discriminator.trunk.activation(below), -0.2, rtol=1e-6)
    assert float(module.encoder.trunk.activation(below)[0]) == 0
    # Without biases before its norms a generator with ReLUs says of a code and of its half the same in training.
    module.train()
    z = jax.random.normal(jax.random.key(0), (64, LATENT))
    np.testing.assert_allclose(module.generate(z), module.generate(z / 2), atol=1e-3)


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
    # Even with momentum it moves only when something is heard.
    heard = two[0]
    local, *_ = projected.step(jax.random.key(2), heard, Batch(X, LABELS), payload, False)
    assert "projection" not in moved(heard.params, local.params)


def test_an_attribute_outside_the_objective_is_never_trained():
    def model(rngs):
        module = bigan(rngs)
        module.spare = nnx.Linear(2, 2, rngs=rngs)
        return module

    node = learner(model, adversarial())
    state = node.init(jax.random.key(0))
    after, *_ = node.step(jax.random.key(1), state, Batch(X, LABELS), (), False)
    assert moved(state.params, after.params) == {"encoder", "generator", "discriminator"}
    node.predict(after, X)


def test_a_collapse_is_seen_and_a_healthy_game_is_not():
    features, samples = np.array([[0.9, 0.5], [0.0, 0.5], [0.9, 0.001]]).T
    assert collapsed({"feature_variance": features, "sample_variance": samples}).tolist() == [False, True, True]
    units = {"active_units": np.array([0.0, 1.0, 7.0]), "feature_variance": np.array([0.001, 0.002, 0.5])}
    assert collapsed(units).tolist() == [True, False, False]


@every_kind
def test_a_constructed_collapse(kind):
    # An encoder or a generator whose last layer is zero says the same whatever it sees.
    model, objective, *_ = KINDS[kind]
    node = learner(model, objective)
    state = node.init(jax.random.key(0))
    assert not bool(collapsed(node.metrics(jax.random.key(1), state, X)))
    for part, layer in (("encoder", "head"), ("generator", "last"))[: 1 if kind == "vae" else 2]:
        broken = jax.tree.map(lambda leaf: leaf, state.params)
        broken[part][layer] = jax.tree.map(jnp.zeros_like, broken[part][layer])
        assert bool(collapsed(node.metrics(jax.random.key(1), state._replace(params=broken), X)))


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


def test_one_example_has_pictures_too():
    node = learner(vae, elbo())
    drawn = node.pictures(jax.random.key(1), node.init(jax.random.key(0)), X[:1])
    assert drawn["interpolations"].shape == (1, 1, *SHAPE)


def test_bad_settings_are_named():
    with pytest.raises(PalaverError, match="beta is inf"):
        elbo(beta=float("inf"))
    with pytest.raises(PalaverError, match="widths are empty"):
        VAE(SHAPE, widths=(), rngs=nnx.Rngs(0))
    with pytest.raises(PalaverError, match=r"2 convolutions for inputs of shape \(10, 10\)"):
        VAE((10, 10), widths=(2, 4), convolutional=True, rngs=nnx.Rngs(0))
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
