"""Scores in few bits, by hand: what is sent, and what a receiver makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver import channels
from palaver.types import Outputs, PalaverError


def of_probabilities(*rows):
    return Outputs(logits=jnp.log(jnp.array(rows)), features=jnp.zeros((len(rows), 1)))


SKEWED = (0.04, 0.48, 0.06, 0.11, 0.31)


def test_payloads_of_few_bits_by_hand():
    sender = of_probabilities(SKEWED)
    half = channels.logits(bits=16).encode(sender, None)
    assert half.dtype == jnp.float16
    # The logits less their largest, to float16's 11 binary digits.
    np.testing.assert_allclose(half, np.log([np.divide(SKEWED, 0.48)]), rtol=2**-11)
    levels = channels.logits(bits=4).encode(sender, None)
    assert levels.values.tolist() == [[1, 7, 1, 2, 5]]  # 15 p = 0.6, 7.2, 0.9, 1.65, 4.65
    assert (levels.below, levels.values.dtype) == (16, jnp.uint8)
    two = channels.logits(bits=4, top=2).encode(sender, None)
    assert (two["classes"].values.tolist(), two["probabilities"].values.tolist()) == ([[1, 4]], [[7, 5]])
    exact = channels.logits(top=2).encode(sender, None)
    np.testing.assert_allclose(exact["probabilities"], [[0.48, 0.31]], rtol=1e-6)
    assert channels.logits(bits=16, top=2).encode(sender, None)["probabilities"].dtype == jnp.float16
    best = channels.logits(bits=0, top=1).encode(sender, None)
    assert (list(best), best["classes"].values.tolist(), best["classes"].below) == (["classes"], [[1]], 5)


@pytest.mark.parametrize(
    ("bits", "top", "sent", "expected"),
    [
        (4, 0, SKEWED, np.array([1, 7, 1, 2, 5]) / 16),
        (1, 0, SKEWED, np.full(5, 0.2)),  # none above a half: all levels are 0
        (32, 2, SKEWED, np.array([0.07, 0.48, 0.07, 0.07, 0.31])),  # 0.21 are missing
        (4, 2, SKEWED, np.array([1, 7, 1, 1, 5]) / 15),
        (1, 2, SKEWED, np.full(5, 0.2)),  # all are missing: the two get no less than the other three
        (2, 2, (0.01, 0.7, 0.01, 0.14, 0.14), np.array([1, 6, 1, 1, 1]) / 10),  # 2 and 0 of 3 levels, 1 is missing
        (1, 2, (0.0, 0.5001, 0.0, 0.0, 0.4999), np.eye(5)[1]),  # 1 and 0: nothing is missing
        (0, 1, SKEWED, np.eye(5)[1]),
        (0, 2, SKEWED, np.array([0, 1, 0, 0, 1]) / 2),
    ],
)
def test_what_is_not_sent_by_hand(bits, top, sent, expected):
    sender = of_probabilities(sent)
    channel = channels.logits(bits=bits, top=top)
    np.testing.assert_allclose(channel.decode(channel.encode(sender, None)), [expected], rtol=2e-6, atol=1e-7)


def test_forms_of_many_bits_agree():
    # With p in 8 bits a probability moves by at most half a level, and normalising by as little again.
    exact = jax.nn.softmax(jnp.asarray(np.random.default_rng(2).normal(size=(3, 5)), jnp.float32))
    sender = Outputs(logits=jnp.log(exact), features=jnp.zeros((3, 1)))
    for bits, apart in ((16, 3e-4), (8, 5 / 255), (4, 5 / 15)):
        channel = channels.logits(bits=bits)
        assert 0 < abs(channel.decode(channel.encode(sender, None)) - exact).max() < apart


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"bits": 9}, "bits is 9: give 32 or 16, 8 to 1 for levels, or 0 with top for class ids alone"),
        ({"bits": 33}, "bits is 33: give 0 to 32"),
        ({"bits": 4.0}, "bits is 4.0: give a whole number, 0 to 32"),
        ({"bits": 0}, "bits is 0 without top, so that nothing would be sent: give top, such as 1 for the argmax"),
        ({"top": -1}, "top is -1: give at least 0"),
        ({"top": True}, "top is True: give a whole number, at least 0"),
    ],
)
@pytest.mark.parametrize("make", [channels.logits, channels.labels_logits])
def test_bad_forms_are_named(make, form, words):
    with pytest.raises(PalaverError) as error:
        make(**form)
    assert str(error.value) == words


def test_the_largest_of_fewer_classes_are_refused():
    with pytest.raises(PalaverError, match="top is 5 for 5 classes: give fewer than there are, or 0 for all"):
        channels.logits(top=5).encode(of_probabilities(SKEWED), None)
