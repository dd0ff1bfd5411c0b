"""Generators of messages: all at once or one symbol after the other, of fixed or variable length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from palaver.language.estimators import hard
from palaver.language.generators import END, AllAtOnce, Recurrent, bits_available
from palaver.types import PalaverError

X = jax.random.uniform(jax.random.key(0), (6, 4, 4))
HOW = {"length": 7, "vocabulary": 3, "hidden": (16,)}


def drawn(key, logits):
    return hard(logits + jax.random.gumbel(key, logits.shape))


def soft(key, logits):
    return jax.nn.softmax(logits + jax.random.gumbel(key, logits.shape))


@pytest.mark.parametrize("kind", [AllAtOnce, Recurrent])
def test_shapes_and_the_logits_of_a_given_message(kind):
    own = kind((4, 4), **HOW, rngs=nnx.Rngs(1))
    features = own.features(X)
    assert features.shape == (6, 16)
    for draw in (drawn, soft):
        message = own.generate(features, draw, jax.random.key(2))
        assert message.symbols.shape == message.logits.shape == (6, 7, 3)
        np.testing.assert_allclose(message.symbols.sum(-1), 1, rtol=1e-6)
        np.testing.assert_array_equal(message.mask, 1)
        # Given a message, the logits are those with which it was generated.
        np.testing.assert_allclose(own.logits(features, message.symbols), message.logits, atol=1e-5)


def test_all_at_once_by_hand():
    own = AllAtOnce((4, 4), **HOW, rngs=nnx.Rngs(1))
    flat = X.reshape(6, -1)
    layer = own.trunk.layers[0]
    features = jnp.maximum(flat @ layer.kernel[...] + layer.bias[...], 0)
    np.testing.assert_allclose(own.features(X), features, atol=1e-5)
    logits = (features @ own.heads.kernel[...] + own.heads.bias[...]).reshape(6, 7, 3)
    message = own.generate(features, lambda _, logits: hard(logits), jax.random.key(0))
    np.testing.assert_array_equal(message.symbols.argmax(-1), logits.argmax(-1))


def test_a_recurrent_message_depends_on_its_symbols_so_far():
    own = Recurrent((4, 4), **HOW, rngs=nnx.Rngs(1))
    features = own.features(X)
    one = jax.nn.one_hot(jnp.zeros((6, 7), int), 3)
    other = one.at[:, 2].set(jnp.array([0.0, 1.0, 0.0]))
    a, b = own.logits(features, one), own.logits(features, other)
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert (jnp.abs(a[:, 3] - b[:, 3]).max(-1) > 1e-4).all()


def test_a_message_ends_once_and_stays_ended():
    own = Recurrent((4, 4), length=40, vocabulary=3, hidden=(16,), variable=True, rngs=nnx.Rngs(1))
    message = own.generate(own.features(X), drawn, jax.random.key(3))
    ids, masks = np.asarray(message.symbols.argmax(-1)), np.asarray(message.mask)
    for row, mask in zip(ids, masks, strict=True):
        ends = np.flatnonzero(row == END)
        assert len(ends), "a third of 40 symbols should be the end"
        assert (row[ends[0] :] == END).all()
        np.testing.assert_array_equal(mask, np.arange(40) <= ends[0])


def test_the_mask_of_a_soft_message_is_the_product_of_its_symbols_not_being_the_end():
    own = Recurrent((4, 4), length=6, vocabulary=3, hidden=(16,), variable=True, rngs=nnx.Rngs(1))
    raw = jnp.array([0.5, 0.3, 0.2])
    message = own.generate(own.features(X), lambda _, logits: jnp.broadcast_to(raw, logits.shape), jax.random.key(3))
    np.testing.assert_allclose(message.mask[0], 0.5 ** np.arange(6), rtol=1e-5)
    np.testing.assert_allclose(message.symbols[..., 1:], message.mask[..., None] * raw[1:], rtol=1e-5)
    np.testing.assert_allclose(message.symbols.sum(-1), 1, rtol=1e-5)

    def length(end):
        """Expected symbols when each ends the message with this probability: Σ (1 − e)^t."""
        raw = jnp.array([end, 1 - end, 0.0])
        draw = lambda _, logits: jnp.broadcast_to(raw, logits.shape)  # noqa: E731
        return own.generate(own.features(X), draw, jax.random.key(3)).mask[0].sum()

    expected = -sum(t * 0.5 ** (t - 1) for t in range(6))
    np.testing.assert_allclose(jax.grad(length)(0.5), expected, rtol=1e-4)


def test_bits_of_variable_messages_count_all_possible_ones():
    # With two symbols besides END and three positions: the empty message, and 2, 4 and 8 of one, two and three symbols.
    np.testing.assert_allclose(bits_available(3, 3, variable=True), np.log2(15))
    assert bits_available(3, 4) == 6


@pytest.mark.parametrize("kind", [AllAtOnce, Recurrent])
def test_clipped_logits(kind):
    free, clipped = (kind((4, 4), length=3, clip=clip, rngs=nnx.Rngs(0)) for clip in (0.0, 0.1))
    messages = [own.generate(own.features(X), lambda _, logits: logits, jax.random.key(3)) for own in (free, clipped)]
    first = np.asarray(messages[0].logits[:, 0]), np.asarray(messages[1].logits[:, 0])
    centred = first[0] - first[0].mean(-1, keepdims=True)
    np.testing.assert_allclose(first[1], 0.1 * np.tanh(centred / 0.1), rtol=1e-4, atol=1e-6)
    assert np.abs(centred).max() > 0.1
    again = clipped.logits(clipped.features(X), messages[1].symbols)
    np.testing.assert_allclose(again, messages[1].logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"length": 0}, "length is 0"), ({"vocabulary": 1}, "vocabulary is 1"), ({"clip": -1.0}, "clip is -1.0")],
)
@pytest.mark.parametrize("kind", [AllAtOnce, Recurrent])
def test_bad_messages(kind, how, words):
    with pytest.raises(PalaverError, match=words):
        kind((4, 4), **how, rngs=nnx.Rngs(0))
