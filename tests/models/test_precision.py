"""Mixed precision: products are of bfloat16 numbers and added up in float32, everything else is float32."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import palaver as pv
import quick
from palaver import channels
from palaver.data import load
from palaver.exchange.build import make_collective
from palaver.exchange.settings import CollectiveSettings
from palaver.models import CNN, MLP, VAE, BiGAN, convolution
from palaver.models.convolution import Doubling, halving, patches_conv, patches_conv_transpose
from palaver.models.precision import dense_product
from palaver.node import learner, supervised
from palaver.objectives import adversarial, elbo
from palaver.types import Batch, PalaverError

SHAPE, BATCH = (8, 8), 6


def autoencoder(kind, objective, dtype):
    how = {"latent": 3, "widths": (4, 8), "convolutional": True, "dtype": dtype}
    return learner(lambda rngs: kind(SHAPE, rngs=rngs, **how), objective(), channels.features())


NODES = {
    "mlp": lambda dtype: supervised(
        lambda rngs: MLP(SHAPE, 5, hidden=(7,), dropout=0.1, dtype=dtype, rngs=rngs), channels.logits()
    ),
    "cnn": lambda dtype: supervised(
        lambda rngs: CNN(SHAPE, 5, channels=(4, 8), dropout=0.1, dtype=dtype, rngs=rngs), channels.logits()
    ),
    "vae": partial(autoencoder, VAE, elbo),
    "bigan": partial(autoencoder, BiGAN, adversarial),
}
PRODUCTS = {"mlp": 2 + 2 + 1, "cnn": 3 + 3 + 2, "vae": 6 + 6 + 5, "bigan": 0}
"""Of a step: forward, to the parameters, and to the inputs of all layers but those whose input is the image.

A BiGAN's are not counted, since its losses share some."""


def step_of(node):
    x, labels = jnp.ones((BATCH, *SHAPE)), jnp.zeros(BATCH, jnp.int32)
    payload = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), node.payload(x, labels))
    return lambda state: node.step(jax.random.key(1), state, Batch(x, labels), payload, jnp.bool_(False))


def equations(jaxpr):
    """All of a program's, also those of programs within it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NODES)
def test_operands_have_the_type_and_nothing_else_has(name, dtype):
    node = NODES[name](dtype)
    state = jax.eval_shape(node.init, jax.random.key(0))
    program = jax.make_jaxpr(step_of(node))(state)
    products = [eqn for eqn in equations(program.jaxpr) if eqn.primitive.name == "dot_general"]
    assert len(products) >= PRODUCTS[name]
    for eqn in products:
        assert [v.aval.dtype for v in eqn.invars] == [dtype, dtype], eqn
        assert [v.aval.dtype for v in eqn.outvars] == [jnp.float32], eqn
    kept = [*jax.tree.leaves(state), *program.out_avals]
    assert {a.dtype for a in kept if jnp.issubdtype(a.dtype, jnp.inexact)} == {jnp.dtype(jnp.float32)}
    outputs = jax.eval_shape(node.predict, state, jnp.ones((BATCH, *SHAPE)))
    assert {a.dtype for a in outputs} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", NODES)
def test_a_step_in_bfloat16_is_near_to_one_in_float32(name):
    def both(key):
        nodes = NODES[name](jnp.float32), NODES[name](jnp.bfloat16)
        state = nodes[0].init(key)
        return [step_of(node)(state)[1].loss for node in nodes]

    whole, mixed = map(float, quick.jit(both)(jax.random.key(0)))
    assert whole != mixed
    assert abs(whole - mixed) < 0.02 * abs(whole)


def rounded(a):
    return a.astype(jnp.bfloat16).astype(jnp.float32)


def dense(x, kernel):
    return dense_product(jnp.bfloat16)(x, kernel, None)


def conv(x, kernel):
    return patches_conv(x, kernel, (2, 2), ((1, 1), (1, 1)), dtype=jnp.bfloat16)


def conv_transpose(x, kernel):
    return patches_conv_transpose(x, kernel, (2, 2), ((1, 1), (1, 1)), dtype=jnp.bfloat16)


def in_float32(function):
    return {dense: jnp.matmul, conv: partial(patches_conv, strides=(2, 2), padding=((1, 1), (1, 1)))}.get(
        function, partial(patches_conv_transpose, strides=(2, 2), padding=((1, 1), (1, 1)))
    )


@pytest.mark.parametrize(
    ("function", "shape", "kernel"),
    [(dense, (6, 5), (5, 3)), (conv, (2, 8, 6, 3), (4, 4, 3, 5)), (conv_transpose, (2, 4, 3, 5), (4, 4, 3, 5))],
)
def test_products_are_exact_products_of_rounded_numbers(function, shape, kernel):
    # A product of two bfloat16 numbers is exact in float32: only the order of the additions is left to the backend.
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape, kernel))
    value, pull = jax.vjp(function, x, kernel)
    expected, expected_pull = jax.vjp(in_float32(function), rounded(x), rounded(kernel))
    g = jnp.asarray(rng.normal(size=value.shape), jnp.float32)
    for found, exact in zip((value, *pull(g)), (expected, *expected_pull(rounded(g))), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)


def test_layers_off_the_cpu_compute_the_same(monkeypatch):
    def outputs():
        down = halving(3, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        up = Doubling(4, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
        return down(x), up(down(x)), jax.grad(lambda x: (up(down(x)) ** 2).sum())(x)

    here = quick.jit(lambda: outputs())()
    convolution._convolution.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "gpu")
        there = quick.jit(lambda: outputs())()
    convolution._convolution.cache_clear()
    for ours, native in zip(here, there, strict=True):
        assert native.dtype == jnp.float32
        # There, results are rounded to bfloat16 too, by at most one part in 256.
        np.testing.assert_allclose(native, ours, atol=float(jnp.abs(ours).max()) / 64)


ACCURACY = CollectiveSettings(nodes=2, batch_size=32, channel="logits", learning_rate=0.003)


@pytest.mark.parametrize("settings", [ACCURACY, replace(ACCURACY, model="cnn", widths=(4, 8))], ids=["mlp", "cnn"])
def test_accuracy_is_that_of_float32(settings):
    data, seeds = load("digits"), 3

    def accuracy(precision):
        group = make_collective(replace(settings, precision=precision), data)
        return pv.train(group, data, rounds=200, seeds=seeds, eval_every=200, rules={}).nodes[-1].mean(axis=1)

    found = {precision: accuracy(precision) for precision in ("float32", "bfloat16")}
    assert found["float32"].mean() > 0.85
    difference = found["bfloat16"] - found["float32"]
    assert (difference != 0).any()
    half = stats.t.ppf(0.975, seeds - 1) * difference.std(ddof=1) / seeds**0.5
    assert abs(difference.mean()) < max(0.01, half)


def test_other_precisions_are_refused():
    with pytest.raises(PalaverError, match="^precision is 'float16': give one of float32, bfloat16$"):
        CollectiveSettings(precision="float16")
    for dtype in (jnp.float16, "half", 16):
        for make in (partial(MLP, SHAPE, 5), partial(CNN, SHAPE, 5, channels=(4,)), partial(VAE, SHAPE)):
            with pytest.raises(PalaverError, match="^dtype is .*: give jnp.float32 or jnp.bfloat16$"):
                make(dtype=dtype, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("objective", ["vae", "bigan"])
def test_the_setting_reaches_every_objective(objective):
    settings = CollectiveSettings(objective=objective, channel="features", nodes=2, precision="bfloat16")
    node = make_collective(settings, load("digits")).groups[0][0]
    program = jax.make_jaxpr(step_of(node))(jax.eval_shape(node.init, jax.random.key(0)))
    types = {v.aval.dtype for e in equations(program.jaxpr) if e.primitive.name == "dot_general" for v in e.invars}
    assert types == {jnp.dtype(jnp.bfloat16)}
