"""Who writes: all at once or one symbol after the other, of fixed or variable length."""

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
def test_shapes_and_reading_back(kind):
    own = kind((4, 4), **HOW, rngs=nnx.Rngs(1))
    features = own.features(X)
    assert features.shape == (6, 16)
    for draw in (drawn, soft):
        said = own.say(features, draw, jax.random.key(2))
        assert said.symbols.shape == said.logits.shape == (6, 7, 3)
        np.testing.assert_allclose(said.symbols.sum(-1), 1, rtol=1e-6)
        np.testing.assert_array_equal(said.alive, 1)
        # Reading a message gives the logits with which it was written.
        np.testing.assert_allclose(own.read(features, said.symbols), said.logits, atol=1e-5)


def test_all_at_once_by_hand():
    own = AllAtOnce((4, 4), **HOW, rngs=nnx.Rngs(1))
    flat = X.reshape(6, -1)
    layer = own.trunk.layers[0]
    features = jnp.maximum(flat @ layer.kernel[...] + layer.bias[...], 0)
    np.testing.assert_allclose(own.features(X), features, atol=1e-5)
    logits = (features @ own.heads.kernel[...] + own.heads.bias[...]).reshape(6, 7, 3)
    said = own.say(features, lambda _, logits: hard(logits), jax.random.key(0))
    np.testing.assert_array_equal(said.symbols.argmax(-1), logits.argmax(-1))


def test_a_recurrent_message_depends_on_what_was_said_before():
    own = Recurrent((4, 4), **HOW, rngs=nnx.Rngs(1))
    features = own.features(X)
    one = jax.nn.one_hot(jnp.zeros((6, 7), int), 3)
    other = one.at[:, 2].set(jnp.array([0.0, 1.0, 0.0]))
    a, b = own.read(features, one), own.read(features, other)
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert (jnp.abs(a[:, 3] - b[:, 3]).max(-1) > 1e-4).all()


def test_a_message_ends_once_and_stays_ended():
    own = Recurrent((4, 4), length=40, vocabulary=3, hidden=(16,), variable=True, rngs=nnx.Rngs(1))
    said = own.say(own.features(X), drawn, jax.random.key(3))
    ids, alive = np.asarray(said.symbols.argmax(-1)), np.asarray(said.alive)
    for message, living in zip(ids, alive, strict=True):
        ends = np.flatnonzero(message == END)
        assert len(ends), "a third of 40 symbols should be the end"
        assert (message[ends[0] :] == END).all()
        np.testing.assert_array_equal(living, np.arange(40) <= ends[0])


def test_a_soft_message_ends_as_surely_as_its_ends_multiply():
    own = Recurrent((4, 4), length=6, vocabulary=3, hidden=(16,), variable=True, rngs=nnx.Rngs(1))
    raw = jnp.array([0.5, 0.3, 0.2])
    said = own.say(own.features(X), lambda _, logits: jnp.broadcast_to(raw, logits.shape), jax.random.key(3))
    np.testing.assert_allclose(said.alive[0], 0.5 ** np.arange(6), rtol=1e-5)
    np.testing.assert_allclose(said.symbols[..., 1:], said.alive[..., None] * raw[1:], rtol=1e-5)
    np.testing.assert_allclose(said.symbols.sum(-1), 1, rtol=1e-5)

    def length(end):
        """Expected symbols when each ends the message with this probability: Σ (1 − e)^t."""
        raw = jnp.array([end, 1 - end, 0.0])
        draw = lambda _, logits: jnp.broadcast_to(raw, logits.shape)  # noqa: E731
        return own.say(own.features(X), draw, jax.random.key(3)).alive[0].sum()

    slope = -sum(t * 0.5 ** (t - 1) for t in range(6))
    np.testing.assert_allclose(jax.grad(length)(0.5), slope, rtol=1e-4)


def test_bits_of_variable_messages_are_those_of_all_that_can_be_said():
    # With two letters besides END and three places: nothing, 2, 4 and 8 messages of one, two and three letters.
    np.testing.assert_allclose(bits_available(3, 3, variable=True), np.log2(15))
    assert bits_available(3, 4) == 6


@pytest.mark.parametrize("kind", [AllAtOnce, Recurrent])
def test_clipped_logits(kind):
    free, clipped = (kind((4, 4), length=3, clip=clip, rngs=nnx.Rngs(0)) for clip in (0.0, 0.1))
    said = [own.say(own.features(X), lambda _, logits: logits, jax.random.key(3)) for own in (free, clipped)]
    first = np.asarray(said[0].logits[:, 0]), np.asarray(said[1].logits[:, 0])
    middle = first[0] - first[0].mean(-1, keepdims=True)
    np.testing.assert_allclose(first[1], 0.1 * np.tanh(middle / 0.1), rtol=1e-4, atol=1e-6)
    assert np.abs(middle).max() > 0.1
    read = clipped.read(clipped.features(X), said[1].symbols)
    np.testing.assert_allclose(read, said[1].logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"length": 0}, "length is 0"), ({"vocabulary": 1}, "vocabulary is 1"), ({"clip": -1.0}, "clip is -1.0")],
)
@pytest.mark.parametrize("kind", [AllAtOnce, Recurrent])
def test_bad_messages(kind, how, words):
    with pytest.raises(PalaverError, match=words):
        kind((4, 4), **how, rngs=nnx.Rngs(0))
