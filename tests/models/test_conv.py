"""The convolution by patches against XLA's own, and the sizes of the small models by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import quick
from palaver.models import CNN, MLP, MODELS, NORMS
from palaver.models.convolution import Doubling, patches_conv, patches_conv_transpose
from palaver.node import supervised
from palaver.types import Batch, Outputs, PalaverError


@pytest.mark.parametrize(
    ("shape", "stride", "out", "padding"),
    [
        ((2, 8, 8, 3), 2, 5, ((1, 1), (1, 1))),  # the CNN's layers
        ((1, 6, 10, 1), 2, 4, ((1, 1), (1, 1))),  # one channel, not square
        ((3, 4, 4, 2), 2, 1, ((0, 0), (0, 0))),  # no padding: one pixel out
        ((2, 9, 6, 2), 3, 3, ((2, 1), (0, 3))),  # 6 × 6 kernel, uneven padding
        ((2, 5, 4, 3), 1, 2, ((0, 1), (1, 0))),  # 2 × 2 kernel
    ],
)
def test_patches_conv_is_the_convolution(shape, stride, out, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(2 * stride, 2 * stride, shape[-1], out)), jnp.float32)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )

    _close(lambda x, k: patches_conv(x, k, (stride, stride), padding), reference, x, kernel)


def _close(ours, reference, *arguments):
    """Value and gradients of both, under a random weighting of the output."""
    weight = jnp.asarray(np.random.default_rng(1).normal(size=reference(*arguments).shape), jnp.float32)

    def both(f):
        return quick.jit(jax.value_and_grad(lambda x, k: (f(x, k) * weight).sum(), (0, 1)))(*arguments)

    np.testing.assert_allclose(ours(*arguments), reference(*arguments), rtol=1e-5, atol=1e-4)
    (value, gradients), (expected, theirs) = both(ours), both(reference)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-3)
    for found, reference_grad in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(found, reference_grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("shape", "out"), [((2, 4, 4, 3), 5), ((1, 3, 5, 1), 2), ((2, 1, 1, 4), 1)])
def test_transposed_patches_are_the_transposed_convolution(shape, out):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(4, 4, out, shape[-1])), jnp.float32)

    def reference(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (2, 2), ((2, 2), (2, 2)), transpose_kernel=True, precision="highest")

    _close(lambda x, k: patches_conv_transpose(x, k, (2, 2), ((1, 1), (1, 1))), reference, x, kernel)
    assert reference(x, kernel).shape == (shape[0], 2 * shape[1], 2 * shape[2], out)


@pytest.mark.parametrize(
    ("grid", "stride", "padding"),
    [
        ((2, 3, 4), 2, ((0, 0), (0, 0))),
        ((1, 2, 3), 3, ((2, 1), (0, 3))),  # 6 × 6 kernel; nine rows less three
        ((2, 4, 3), 2, ((0, 1), (1, 2))),  # an odd number of rows and of columns
        ((2, 4, 3), 1, ((0, 1), (1, 0))),  # 2 × 2 kernel
        ((1, 4, 4), 2, ((3, 2), (2, 3))),  # more than a stride
    ],
)
def test_transposed_patches_with_any_padding(grid, stride, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(*grid, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(2 * stride, 2 * stride, 2, 3)), jnp.float32)
    sides = (stride * (n + 1) - sum(pad) for n, pad in zip(grid[1:], padding, strict=True))
    like = jnp.zeros((grid[0], *sides, 2))

    def reference(x, kernel):
        def forth(image):
            return jax.lax.conv_general_dilated(
                image,
                kernel,
                (stride, stride),
                padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision="highest",
            )

        return jax.vjp(forth, like)[1](x)[0]

    _close(lambda x, k: patches_conv_transpose(x, k, (stride, stride), padding), reference, x, kernel)


def test_it_is_the_transpose_in_the_sense_of_the_inner_product():
    # <conv(a), b> = <a, conv^T(b)> for any a, b.
    rng = np.random.default_rng(2)
    a, b = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 8, 8, 3), (2, 4, 4, 5)))
    kernel, padding = jnp.asarray(rng.normal(size=(4, 4, 3, 5)), jnp.float32), ((1, 1), (1, 1))
    forth = jnp.vdot(patches_conv(a, kernel, (2, 2), padding), b)
    back = jnp.vdot(a, patches_conv_transpose(b, kernel, (2, 2), padding))
    np.testing.assert_allclose(forth, back, rtol=1e-4)


def test_doubling_keeps_the_variance():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 64)), jnp.float32)
    y = Doubling(64, 32, rngs=nnx.Rngs(0))(nnx.relu(x))
    assert y.shape == (8, 16, 16, 32)
    assert 0.8 < float(y[:, 2:-2, 2:-2].var()) < 1.25


def test_patches_conv_by_hand():
    # A 4 × 4 kernel of ones over a 4 × 4 image of 0..15, padded by 1, stride 2: sums of the 3 × 3 corners.
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    found = patches_conv(x, jnp.ones((4, 4, 1, 1)), (2, 2), ((1, 1), (1, 1)))
    assert found[0, ..., 0].tolist() == [[45.0, 54.0], [81.0, 90.0]]


def test_patches_conv_of_many_nodes():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(3, 2, 4, 4, 2)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 4, 4, 2, 3)), jnp.float32)

    def grad(x, kernel):
        return jax.grad(lambda k: (patches_conv(x, k, (2, 2), ((1, 1), (1, 1))) ** 2).sum())(kernel)

    together = jax.vmap(grad)(x, kernels)
    np.testing.assert_allclose(
        together, jnp.stack([grad(*pair) for pair in zip(x, kernels, strict=True)]), rtol=1e-4, atol=1e-3
    )


def cnn(rngs):
    return CNN((8, 12, 3), 5, channels=(2, 4), rngs=rngs)


def mlp(rngs):
    return MLP((2, 3), 5, hidden=(4, 7), rngs=rngs)


def test_cnn_by_hand():
    node = supervised(cnn)
    # Two 4 × 4 convolutions without bias, scale and shift of two norms, and 2 · 3 · 4 features to 5 classes.
    assert node.parameters() == (16 * 3 * 2 + 16 * 2 * 4) + 2 * (2 + 4) + (2 * 3 * 4 * 5 + 5)
    outputs = jax.eval_shape(lambda x: cnn(nnx.Rngs(0))(x), jnp.zeros((6, 8, 12, 3)))
    assert outputs.logits.shape == (6, 5)
    assert outputs.features.shape == (6, 2 * 3 * 4)
    grey = jax.eval_shape(lambda x: CNN((8, 8), 5, channels=(2,), rngs=nnx.Rngs(0))(x), jnp.zeros((1, 8, 8)))
    assert grey.features.shape == (1, 4 * 4 * 2)


def test_cnn_normalises_by_the_batch_and_keeps_running_statistics():
    # Standard scores in training: the first norm's outputs, before the ReLU, have mean 0 and variance 1; its running
    # mean moves a tenth of the way to the batch's.
    @quick.jit
    def first_layer(x):
        model = CNN((4, 4), 2, channels=(3,), rngs=nnx.Rngs(0))
        before = model.trunk.layers[0](x)
        return before, model.trunk.norms[0](before), model.trunk.norms[0].mean[...]

    x = np.random.default_rng(0).normal(loc=3, size=(64, 4, 4, 1)).astype(np.float32)
    before, scores, running = map(np.asarray, first_layer(x))
    np.testing.assert_allclose(scores.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(scores.var((0, 1, 2)), 1, rtol=1e-3)
    np.testing.assert_allclose(running, 0.1 * before.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("width", "groups"), [(3, 1), (8, 2), (16, 4)])
def test_group_norm_by_hand(width, groups):
    # Groups of 4 channels of one example, over its pixels and the group: mean 0 and variance 1, before scale and shift.
    @quick.jit
    def first_layer(x):
        model = CNN((8, 8), 2, channels=(width,), norm="group", rngs=nnx.Rngs(0))
        before = model.trunk.layers[0](x)
        return before, model.trunk.norms[0](before), model(x)

    x = np.random.default_rng(0).normal(loc=3, size=(5, 8, 8)).astype(np.float32)
    before, scores, outputs = jax.tree.map(np.asarray, first_layer(x[..., None]))
    grouped = before.astype(np.float64).reshape(5, 4, 4, groups, width // groups)
    expected = (grouped - grouped.mean((1, 2, 4), keepdims=True)) / grouped.std((1, 2, 4), keepdims=True)
    np.testing.assert_allclose(scores, expected.reshape(before.shape), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(outputs.features, np.maximum(scores, 0).reshape(5, -1), rtol=1e-6)


def test_group_norm_has_no_state_and_sees_one_example():
    # So a network whose weights are averaged needs nothing else to be averaged, and is the same in evaluation.
    node = supervised(lambda rngs: CNN((8, 8), 5, channels=(8, 16), norm="group", rngs=rngs))
    assert jax.tree.leaves(jax.eval_shape(node.init, jax.random.key(0)).model_state) == []

    @quick.jit
    def forward(x):
        model = CNN((8, 8), 5, channels=(8, 16), norm="group", rngs=nnx.Rngs(0))
        training = model(x).logits
        model.eval()
        return training, model(x).logits, model(x[2:3]).logits

    training, evaluated, alone = forward(np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32))
    np.testing.assert_array_equal(training, evaluated)
    np.testing.assert_allclose(alone, evaluated[2:3], rtol=1e-4, atol=1e-5)


def test_parameters_of_every_norm_by_hand():
    # 16 · 3 · 2 + 16 · 2 · 4 of the kernels, and 2 · 3 · 4 features to 5 classes.
    kernels, head = 16 * 3 * 2 + 16 * 2 * 4, 2 * 3 * 4 * 5 + 5
    for norm, of_norm in {"batch": 2 * (2 + 4), "group": 2 * (2 + 4), "none": 2 + 4}.items():
        node = supervised(lambda rngs, norm=norm: CNN((8, 12, 3), 5, channels=(2, 4), norm=norm, rngs=rngs))
        assert node.parameters() == kernels + of_norm + head
    assert set(NORMS) == {"batch", "group", "none"}


def test_without_a_norm_a_convolution_has_a_bias():
    @quick.jit
    def forward(x):
        model = CNN((4, 4), 2, channels=(3,), norm="none", rngs=nnx.Rngs(0))
        layer = model.trunk.layers[0]
        plain = layer(x)
        layer.bias[...] = jnp.array([1.0, 2.0, -3.0])
        return plain, model(x).features

    plain, features = forward(np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32))
    np.testing.assert_allclose(
        features, np.maximum(plain + np.array([1, 2, -3]), 0).reshape(2, -1), rtol=1e-5, atol=1e-6
    )


def test_another_norm_is_refused():
    with pytest.raises(PalaverError, match="^norm is 'layer': choose one of batch, group, none$"):
        CNN((8, 8), 5, norm="layer", rngs=nnx.Rngs(0))


def test_linear_has_no_hidden_layers():
    node = supervised(lambda rngs: MODELS["linear"].classifier((2, 3), 5, widths=(7, 9), dropout=0.5, rngs=rngs))
    assert (node.parameters(), MODELS["linear"].hidden) == (6 * 5 + 5, False)

    @quick.jit
    def forward(x):
        model = MODELS["linear"].classifier((2, 3), 5, widths=(7,), dropout=0.5, rngs=nnx.Rngs(0))
        return model(x), model.head.kernel[...]

    x = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    outputs, kernel = forward(x)
    np.testing.assert_array_equal(outputs.features, x.reshape(3, 6))
    np.testing.assert_allclose(outputs.logits, x.reshape(3, 6) @ kernel, rtol=1e-5, atol=1e-6)


def test_mlp_by_hand():
    assert supervised(mlp).parameters() == (6 * 4 + 4) + (4 * 7 + 7) + (7 * 5 + 5)

    @quick.jit
    def forward(x):
        model = mlp(nnx.Rngs(0))
        return model(x), [(layer.kernel[...], layer.bias[...] + 0) for layer in (*model.trunk.layers, model.head)]

    x = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    outputs, layers = jax.tree.map(np.asarray, forward(x))
    hidden = x.reshape(3, 6)
    for kernel, bias in layers[:-1]:
        hidden = np.maximum(hidden @ kernel + bias, 0)
    np.testing.assert_allclose(outputs.features, hidden, rtol=1e-4, atol=1e-5)
    logits = hidden @ layers[-1][0] + layers[-1][1]
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)


def test_names_in_settings():
    sizes = {"mlp": (64 * 2 + 2) + (2 * 5 + 5), "cnn": (16 * 2 + 2 * 2) + (4 * 4 * 2 * 5 + 5), "linear": 64 * 5 + 5}
    assert {name for name, architecture in MODELS.items() if architecture.convolutional} == {"cnn"}
    assert set(sizes) == set(MODELS)
    for name, size in sizes.items():
        made = MODELS[name].classifier
        node = supervised(lambda rngs, made=made: made((8, 8), 5, widths=(2,), dropout=0.1, rngs=rngs))
        assert node.parameters() == size


@pytest.mark.parametrize("make", [partial(MLP, hidden=(2000,)), partial(CNN, channels=(500,))])
def test_dropout_only_in_training(make):
    @quick.jit
    def forward(x):
        model, without = (make((4, 4), 3, dropout=rate, rngs=nnx.Rngs(0)) for rate in (0.25, 0.0))
        training = model(x).features, without(x).features
        model.eval()
        without.eval()
        return *training, model(x).features, without(x).features

    dropped, whole, *evaluated = map(np.asarray, forward(jax.random.normal(jax.random.key(1), (8, 4, 4))))
    np.testing.assert_array_equal(*evaluated)
    kept = dropped[whole > 0] > 0
    # A quarter dropped (5 standard errors of the share), the rest scaled up by 4 / 3.
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / kept.size)
    np.testing.assert_allclose(dropped[dropped > 0], whole[dropped > 0] * 4 / 3, rtol=1e-5)


def test_bare_logits_are_their_own_features():
    node = supervised(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
    assert node.parameters() == 2 * 3 + 3
    state = quick.jit(node.init)(jax.random.key(0))
    x = jnp.array([[1.0, -2.0]])
    outputs = quick.jit(node.predict)(state, x)
    expected = np.asarray(x) @ np.asarray(state.params["kernel"]) + np.asarray(state.params["bias"])
    assert isinstance(outputs, Outputs)
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs.features, outputs.logits)
    # One step of Adam from rest moves each parameter by its learning rate, against the gradient's sign.
    batch = Batch(x=x, labels=jnp.array([1], jnp.int32))
    after, (payload, loss) = quick.jit(node.step)(jax.random.key(1), state, batch, (), jnp.bool_(False))
    p = np.exp(expected) / np.exp(expected).sum()
    assert payload == ()
    np.testing.assert_allclose(loss, -np.log(p[0, 1]), rtol=1e-5)
    gradient = np.asarray(x).T @ (p - np.eye(3)[[1]])
    moved = np.asarray(after.params["kernel"]) - np.asarray(state.params["kernel"])
    np.testing.assert_allclose(moved, -1e-3 * np.sign(gradient), rtol=1e-3)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(PalaverError, match="the model has no nnx.Param: give a module with something to train"):
        supervised(lambda rngs: nnx.Dropout(0.5, rngs=rngs))
