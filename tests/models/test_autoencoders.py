"""VAE and BiGAN: sizes by hand, DCGAN's advice, and batch norm that is the same in training and in evaluation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import quick
from palaver import channels
from palaver.data import load
from palaver.models import AUTOENCODERS, VAE, BiGAN
from palaver.node import learner
from palaver.objectives import OBJECTIVES, adversarial, elbo
from palaver.types import Batch, PalaverError

BATCH, LATENT = 6, 3


def bigan(rngs):
    return BiGAN((8, 8), latent=LATENT, widths=(4, 8), convolutional=True, rngs=rngs)


def module_of(state):
    definition = nnx.split(nnx.eval_shape(lambda: bigan(nnx.Rngs(0))), nnx.Param, ...)[0]
    return nnx.merge(definition, state.params, state.model_state)


NODE = learner(bigan, adversarial(), channels.features())
BATCH_OF_DIGITS = Batch(jnp.asarray(load("digits").x_train[:64] / 255), jnp.full(64, -1))


@quick.jit
def step(key, state, consume):
    return NODE.step(key, state, BATCH_OF_DIGITS, jnp.zeros((64, LATENT)), consume)[0]


@pytest.fixture(scope="module")
def begun():
    return quick.jit(NODE.init)(jax.random.key(0))


def test_a_convolutional_discriminator_is_one_function_in_training_and_in_evaluation(begun):
    state = begun
    for number in range(100):
        state = step(jax.random.key(number), state, False)

    @partial(quick.jit, static_argnames="mode")
    def discriminate(state, mode):
        module = module_of(state)
        getattr(module, mode)()
        generated = module.generate(jax.random.normal(jax.random.key(9), (64, LATENT)))
        return module.discriminate(jnp.concatenate([BATCH_OF_DIGITS.x, generated]), jnp.zeros((128, LATENT)))

    logits = {mode: np.asarray(discriminate(state, mode)) for mode in ("train", "eval")}
    # It has learnt to tell them apart, and its running statistics are those of batches of both.
    apart = logits["train"][:64].mean() - logits["train"][64:].mean()
    assert apart > 1
    for half in (slice(0, 64), slice(64, 128)):
        assert abs(logits["train"][half].mean() - logits["eval"][half].mean()) < 0.2 * apart


def moved(before, after):
    """Names of the module's parts that changed."""
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    return {name for name, leaves in same.items() if not all(jax.tree.leaves(leaves))}


def test_received_packets_leave_batch_statistics_of_other_parts_unchanged(begun):
    state = step(jax.random.key(0), begun, False)
    for consume, expected in ((False, {"encoder", "generator", "discriminator"}), (True, {"encoder"})):
        after = step(jax.random.key(1), state, consume)
        assert moved(state.model_state, after.model_state) == expected
        assert moved(state.params, after.params) == expected


def test_dcgans_advice(begun):
    module = module_of(begun)
    first, second = module.discriminator.trunk.norms
    assert first is None and isinstance(second, nnx.BatchNorm)
    assert all(isinstance(norm, nnx.BatchNorm) for norm in [*module.encoder.trunk.norms, *module.generator.norms])
    below = jnp.array([-1.0])
    np.testing.assert_allclose(module.discriminator.trunk.activation(below), -0.2, rtol=1e-6)
    assert float(module.encoder.trunk.activation(below)[0]) == 0
    # A generator with ReLUs and no biases before its norms gives the same for a code and for half of it in training.

    @quick.jit
    def generate(state, z):
        module = module_of(state)
        module.train()
        return module.generate(z)

    z = jax.random.normal(jax.random.key(0), (64, LATENT))
    np.testing.assert_allclose(generate(begun, z), generate(begun, z / 2), atol=1e-3)


@pytest.mark.parametrize("kind", [VAE, BiGAN])
@pytest.mark.parametrize("shape", [(8, 8), (16, 8, 3)])
def test_convolutional_shapes(kind, shape):
    def model(rngs):
        return kind(shape, latent=LATENT, widths=(2, 4), convolutional=True, rngs=rngs)

    node = learner(model, elbo() if kind is VAE else adversarial())
    x = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)
    state = jax.eval_shape(node.init, jax.random.key(0))
    outputs = jax.eval_shape(node.predict, state, x)
    assert outputs.features.shape == (BATCH, 2 * LATENT if kind is VAE else LATENT)
    assert outputs.logits.shape == (BATCH, 0)
    drawn = jax.eval_shape(node.pictures, jax.random.key(0), state, x)
    assert drawn["samples"].shape == (2, BATCH, *shape)
    if shape == (8, 8) and kind is VAE:
        # Convolutions 1→2→4 by 4 × 4, norms, 2 · 2 · 4 to 2 · 3; back: 3 to 16, norms, 4→2→1, and a bias.
        encoder = 16 * 2 + 16 * 2 * 4 + 2 * (2 + 4) + (16 * 6 + 6)
        assert node.parameters() == encoder + (3 * 16 + 2 * (4 + 2) + 16 * 4 * 2 + 16 * 2 + 1)


def test_names_in_settings():
    assert set(AUTOENCODERS) == set(OBJECTIVES) - {"labels"}
    for name, kind in (("vae", VAE), ("bigan", BiGAN)):
        made = AUTOENCODERS[name]
        module = nnx.eval_shape(
            lambda made=made: made((8, 8), latent=3, widths=(4,), convolutional=True, rngs=nnx.Rngs(0))
        )
        assert isinstance(module, kind)
        assert module.latent == 3


def test_bad_shapes_are_named():
    with pytest.raises(PalaverError, match="widths is empty"):
        VAE((4, 5), widths=(), rngs=nnx.Rngs(0))
    with pytest.raises(PalaverError, match=r"2 convolutions for inputs of shape \(10, 10\)"):
        VAE((10, 10), widths=(2, 4), convolutional=True, rngs=nnx.Rngs(0))
