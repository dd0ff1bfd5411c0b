"""A node's training step: which parts of a module descend which loss, on its own and on received batches."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import quick
from palaver import channels
from palaver.models import VAE, BiGAN
from palaver.node import learner
from palaver.objectives import adversarial, elbo
from palaver.types import Batch, PalaverError

BATCH, SHAPE, LATENT = 6, (4, 5), 3
X = jnp.asarray(np.random.default_rng(0).random((BATCH, *SHAPE)), jnp.float32)
OWN = Batch(X, jnp.full(BATCH, -1, jnp.int32))


def vae(rngs):
    return VAE(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


def bigan(rngs):
    return BiGAN(SHAPE, latent=LATENT, widths=(7,), rngs=rngs)


KINDS = {
    "vae": (vae, elbo(), channels.gaussian(), {"encoder"}, {"decoder"}),
    "bigan": (bigan, adversarial(), channels.features(), {"encoder"}, {"generator", "discriminator"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def compiled(kind, projection=0):
    """The node and its initial state, the step compiled once for all tests."""
    model, objective, channel, *_ = KINDS[kind]
    node = learner(model, objective, channel, projection=projection)
    return node._replace(step=quick.jit(node.step)), quick.jit(node.init)(jax.random.key(0))


def moved(before, after):
    """Names of the module's parts that changed."""
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    return {name for name, leaves in same.items() if not all(jax.tree.leaves(leaves))}


@every_kind
def test_received_packets_train_the_encoder_alone(kind):
    _, _, channel, trained, others = KINDS[kind]
    node, state = compiled(kind)
    received = jax.tree.map(lambda s: jnp.ones(s.shape), node.payload(X, OWN.labels))
    local, info = node.step(jax.random.key(1), state, OWN, received, False)
    assert moved(state.params, local.params) == trained | others
    np.testing.assert_array_equal(info.payload, node.predict(state, X).features)
    # After a local step the optimiser has momentum: parts that packets do not train must not move all the same.
    after, info = node.step(jax.random.key(2), local, OWN, received, True)
    assert moved(local.params, after.params) == trained
    np.testing.assert_allclose(info.loss, channel.loss(node.predict(local, X), received), rtol=1e-5)


@every_kind
def test_each_part_descends_its_own_loss(kind):
    model, objective, channel, _, _ = KINDS[kind]
    node = learner(model, objective, channel, optimizer=optax.sgd(1.0))
    state, key = quick.jit(node.init)(jax.random.key(0)), jax.random.key(1)
    after, _ = quick.jit(node.step)(key, state, OWN, jnp.zeros(node.payload(X, OWN.labels).shape), False)
    definition, params = nnx.split(nnx.eval_shape(lambda: model(nnx.Rngs(0))), nnx.Param)

    @quick.jit
    def grads(params):
        return jax.jacrev(lambda params: objective.losses(nnx.merge(definition, params), OWN, key)[1])(params)

    parts = objective.parts or (("encoder", "decoder"),)
    nnx.replace_by_pure_dict(params, state.params)
    for names, found in zip(parts, grads(params), strict=True):
        grad = nnx.to_pure_dict(found)
        for name in names:
            expected = jax.tree.map(lambda p, g: p - g, state.params[name], grad[name])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), after.params[name], expected)


def test_a_projection_starts_as_the_identity_and_learns():
    (plain, a), (projected, b) = (compiled("bigan", projection) for projection in (0, LATENT))
    assert projected.parameters() == plain.parameters() + LATENT * LATENT + LATENT
    received = jnp.ones((BATCH, LATENT))
    for consume in (False, True):
        one, plain_info = plain.step(jax.random.key(1), a, OWN, received, consume)
        two, info = projected.step(jax.random.key(1), b, OWN, received, consume)
        np.testing.assert_allclose(plain_info.loss, info.loss, rtol=1e-5)
        np.testing.assert_array_equal(plain_info.payload, info.payload)  # what is sent is not projected
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
            one.params,
            {name: part for name, part in two.params.items() if name != "projection"},
        )
        unchanged = (two.params["projection"]["kernel"] == jnp.eye(LATENT)).all()
        assert bool(unchanged) != consume
    # Even with momentum it moves only on received batches.
    local, _ = projected.step(jax.random.key(2), two, OWN, received, False)
    assert "projection" not in moved(two.params, local.params)


def test_an_attribute_outside_the_objective_is_never_trained():
    def model(rngs):
        module = bigan(rngs)
        module.spare = nnx.Linear(2, 2, rngs=rngs)
        return module

    node = learner(model, adversarial())
    state = quick.jit(node.init)(jax.random.key(0))
    after, _ = quick.jit(node.step)(jax.random.key(1), state, OWN, (), False)
    assert moved(state.params, after.params) == {"encoder", "generator", "discriminator"}
    node.predict(after, X)


def test_a_missing_part_is_named():
    with pytest.raises(PalaverError, match="no decoder to train") as caught:
        learner(bigan, elbo()._replace(parts=(("encoder", "decoder"),)))
    assert "\n" not in str(caught.value)


def test_a_node_is_described_with_its_module_made_once():
    made = []

    def model(rngs):
        made.append(rngs)
        return VAE((8, 8), widths=(8,), latent=4, convolutional=False, rngs=rngs)

    assert learner(model, elbo()).parameters() > 0
    assert len(made) == 1
