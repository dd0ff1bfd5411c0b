"""What every channel must keep to, and each one's loss and gradient in closed form."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from palaver import channels
from palaver.types import NO_LABEL, Outputs, PalaverError

BATCH, CLASSES, DEPTH = 3, 5, 8

CHANNELS = {
    "none": channels.none(),
    "labels": channels.labels(),
    "logits": channels.logits(),
    "logits, hard": channels.logits(temperature=0.25),
    "labels+logits": channels.labels_logits(mix=0.3, temperature=2.0),
    "features": channels.features(weight=2.5),
    "gaussian": channels.gaussian(weight=1.5),
}
BITS = {
    "none": 0,
    "labels": 8,
    "logits": 5 * 32,
    "logits, hard": 5 * 32,
    "labels+logits": 8 + 5 * 32,
    "features": 8 * 32,
    "gaussian": 8 * 32,
}

every_channel = pytest.mark.parametrize("name", CHANNELS)


def outputs(seed):
    rng = np.random.default_rng(seed)
    return Outputs(
        logits=jnp.asarray(rng.normal(size=(BATCH, CLASSES)), jnp.float32),
        features=jnp.asarray(rng.normal(size=(BATCH, DEPTH)), jnp.float32),
    )


RECEIVER, SENDER = outputs(1), outputs(2)
LABELS = jnp.array([4, 0, 2], jnp.int32)


def softmax(z):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def target(name):
    """The target distribution of the receiver."""
    hard = np.eye(CLASSES)[np.asarray(LABELS)]
    return {
        "labels": hard,
        "logits": softmax(SENDER.logits),
        "logits, hard": softmax(np.asarray(SENDER.logits) / 0.25),
        "labels+logits": 0.3 * hard + 0.7 * softmax(np.asarray(SENDER.logits) / 2.0),
    }[name]


@every_channel
def test_loss_and_gradient_in_closed_form(name):
    channel = CHANNELS[name]
    payload = channel.encode(SENDER, LABELS)
    loss, gradient = jax.value_and_grad(channel.loss)(RECEIVER, payload)
    assert loss.shape == ()
    to_logits, to_features = np.zeros((BATCH, CLASSES)), np.zeros((BATCH, DEPTH))
    if name == "none":
        expected = 0.0
    elif name == "features":
        apart = np.asarray(RECEIVER.features, float) - np.asarray(SENDER.features, float)
        expected, to_features = 2.5 * 0.5 * (apart**2).sum() / BATCH, 2.5 * apart / BATCH
    elif name == "gaussian":
        (m, s), (mean, log) = (np.split(np.asarray(o.features, np.float64), 2, -1) for o in (RECEIVER, SENDER))
        # KL(N(mean, e^log) ‖ N(m, e^s)) and its derivatives in the receiver's m and s.
        expected = 1.5 * 0.5 * (s - log + (np.exp(log) + (mean - m) ** 2) / np.exp(s) - 1).sum() / BATCH
        by_mean, by_log = (m - mean) / np.exp(s), 0.5 * (1 - (np.exp(log) + (mean - m) ** 2) / np.exp(s))
        to_features = 1.5 * np.concatenate([by_mean, by_log], -1) / BATCH
    else:
        p, q = softmax(RECEIVER.logits), target(name)
        expected, to_logits = -(q * np.log(p)).sum() / BATCH, (p - q) / BATCH
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient.logits, to_logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient.features, to_features, rtol=1e-4, atol=1e-6)


@every_channel
def test_gradient_is_the_numerical_one(name):
    channel = CHANNELS[name]
    payload = channel.encode(SENDER, LABELS)
    check_grads(lambda own: channel.loss(own, payload), (RECEIVER,), order=1, modes=["rev"], atol=5e-3, rtol=5e-3)


@every_channel
def test_no_gradient_reaches_the_sender(name):
    channel = CHANNELS[name]

    def loss(sender):
        payload = channel.encode(Outputs(*sender), LABELS)
        return channel.loss(RECEIVER, payload)

    for leaf in jax.tree.leaves(jax.grad(loss)(SENDER)):
        assert not np.asarray(leaf).any()


@every_channel
def test_a_payload_has_the_batch_in_front(name):
    for batch in (1, BATCH):
        sender = jax.tree.map(lambda a, batch=batch: a[:batch], SENDER)
        payload = CHANNELS[name].encode(sender, LABELS[:batch])
        assert all(leaf.shape[0] == batch for leaf in jax.tree.leaves(payload))


@every_channel
def test_declared_bits_are_the_encoded_size(name):
    channel = CHANNELS[name]
    payload = channel.encode(SENDER, LABELS)
    example = [np.asarray(leaf)[0].tobytes() for leaf in jax.tree.leaves(payload)]
    shapes = jax.eval_shape(channel.encode, SENDER, LABELS)
    assert channel.bits(shapes) == 8 * sum(map(len, example)) == BITS[name]


@every_channel
@pytest.mark.parametrize("labels", [LABELS, jnp.full_like(LABELS, NO_LABEL)])
def test_gradient_is_finite_against_its_own_payload(name, labels):
    # In a round that a node spends on its own data the loss is taken against its own payload, and masked; a gradient
    # that is not finite would pass through the mask.
    channel = CHANNELS[name]
    gradient = jax.grad(lambda own: channel.loss(own, channel.encode(SENDER, labels)))(SENDER)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()


@every_channel
def test_jit_changes_nothing_and_compiles_once(name):
    channel = CHANNELS[name]
    traced = []

    @jax.jit
    def step(receiver, sender, labels):
        traced.append(name)
        payload = channel.encode(sender, labels)
        return payload, channel.loss(receiver, payload)

    for sender, labels in ((SENDER, LABELS), (RECEIVER, LABELS[::-1])):
        payload, loss = step(RECEIVER, sender, labels)
        plain = channel.encode(sender, labels)
        jax.tree.map(np.testing.assert_array_equal, payload, plain)
        np.testing.assert_allclose(loss, channel.loss(RECEIVER, plain), rtol=1e-6)
    assert traced == [name]


@every_channel
def test_vmap_is_a_loop_over_nodes(name):
    channel = CHANNELS[name]
    stack = jax.tree.map(lambda *a: jnp.stack(a), RECEIVER, SENDER)
    payloads = jax.vmap(channel.encode, (0, None))(stack, LABELS)
    losses = jax.vmap(channel.loss)(jax.tree.map(lambda a: a[::-1], stack), payloads)
    one = channel.loss(SENDER, channel.encode(RECEIVER, LABELS))
    two = channel.loss(RECEIVER, channel.encode(SENDER, LABELS))
    np.testing.assert_allclose(losses, [one, two], rtol=1e-6)


def test_names_in_settings():
    settings = SimpleNamespace(temperature=2.0, mix=0.3, feature_weight=2.5)
    expected = {
        "none": channels.none(),
        "labels": channels.labels(),
        "logits": channels.logits(temperature=2.0),
        "labels+logits": channels.labels_logits(mix=0.3, temperature=2.0),
        "features": channels.features(weight=2.5),
        "gaussian": channels.gaussian(weight=2.5),
    }
    assert set(expected) == set(channels.CHANNELS)
    for name, channel in expected.items():
        found, payload = channels.CHANNELS[name](settings), channel.encode(SENDER, LABELS)
        jax.tree.map(np.testing.assert_array_equal, found.encode(SENDER, LABELS), payload)
        assert float(found.loss(RECEIVER, payload)) == float(channel.loss(RECEIVER, payload))


def test_payloads():
    np.testing.assert_array_equal(CHANNELS["labels"].encode(SENDER, LABELS), LABELS)
    np.testing.assert_array_equal(CHANNELS["logits"].encode(SENDER, LABELS), SENDER.logits)
    np.testing.assert_array_equal(CHANNELS["features"].encode(SENDER, LABELS), SENDER.features)
    both = CHANNELS["labels+logits"].encode(SENDER, LABELS)
    np.testing.assert_array_equal(both["labels"], LABELS)
    np.testing.assert_array_equal(both["logits"], SENDER.logits)
    assert CHANNELS["none"].encode(SENDER, LABELS) == ()


@pytest.mark.parametrize("name", ["logits", "logits, hard", "features", "gaussian"])
def test_labels_are_not_sent(name):
    channel = CHANNELS[name]
    np.testing.assert_array_equal(channel.encode(SENDER, LABELS), channel.encode(SENDER, LABELS * 0))


@pytest.mark.parametrize(
    ("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32")]
)
def test_labels_travel_in_the_smallest_type(classes, dtype):
    channel = channels.labels()
    uniform = Outputs(logits=jnp.zeros((2, classes)), features=jnp.zeros((2, 1)))
    payload = channel.encode(uniform, jnp.array([0, classes - 1], jnp.int32))
    assert payload.dtype == dtype
    assert payload.tolist() == [0, classes - 1]
    # Uniform logits: log C for each, whatever the label; the highest id is not lost on the way.
    np.testing.assert_allclose(channel.loss(uniform, payload), math.log(classes), rtol=1e-5)


def test_the_mix_at_its_ends():
    payload = CHANNELS["labels+logits"].encode(SENDER, LABELS)
    only_labels, only_logits = channels.labels_logits(mix=1.0), channels.labels_logits(mix=0.0)
    np.testing.assert_allclose(only_labels.loss(RECEIVER, payload), channels.labels().loss(RECEIVER, LABELS), rtol=1e-6)
    np.testing.assert_allclose(
        only_logits.loss(RECEIVER, payload), channels.logits().loss(RECEIVER, SENDER.logits), rtol=1e-6
    )


def test_temperature_hardens_and_softens():
    # τ → 0: the sender's most probable class; τ → ∞: the uniform distribution.
    log_p = np.log(softmax(RECEIVER.logits))
    best = np.asarray(SENDER.logits).argmax(-1)
    cold = channels.logits(temperature=1e-3).loss(RECEIVER, SENDER.logits)
    hot = channels.logits(temperature=1e6).loss(RECEIVER, SENDER.logits)
    np.testing.assert_allclose(cold, -log_p[np.arange(BATCH), best].mean(), rtol=1e-5)
    np.testing.assert_allclose(hot, -log_p.mean(), rtol=1e-5)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, -math.inf, math.nan])
def test_bad_numbers_are_named(value):
    with pytest.raises(PalaverError, match=f"temperature is {value}: give a finite number above 0"):
        channels.logits(temperature=value)
    with pytest.raises(PalaverError, match=f"temperature is {value}: give a finite number above 0"):
        channels.labels_logits(temperature=value)
    with pytest.raises(PalaverError, match=f"weight is {value}: give a finite number above 0"):
        channels.features(weight=value)
    with pytest.raises(PalaverError, match=f"weight is {value}: give a finite number above 0"):
        channels.gaussian(weight=value)


def test_a_gaussian_has_as_many_means_as_variances():
    odd = Outputs(logits=jnp.zeros((2, 0)), features=jnp.zeros((2, 7)))
    with pytest.raises(PalaverError, match="features are 7 wide"):
        channels.gaussian().loss(odd, odd.features)


@pytest.mark.parametrize("value", [-0.01, 1.01, math.inf, math.nan])
def test_bad_mix_is_named(value):
    with pytest.raises(PalaverError, match=rf"mix is {value}: give a number in \[0, 1\]"):
        channels.labels_logits(mix=value)
