"""What every channel must keep to, and each one's loss and gradient in closed form."""

import math
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from palaver import channels
from palaver.channels.forms import BITS
from palaver.types import NO_LABEL, Outputs, PalaverError

BATCH, CLASSES, DEPTH = 3, 5, 8
FORMS = {(bits, 0): f"logits, {bits} bits" for bits in BITS[:-1]} | {
    (bits, top): f"logits, {bits} bits of {top}"
    for bits, top in ((32, 1), (0, 1), (32, 3), (16, 3), (4, 3), (1, 3), (0, 3))
}

CHANNELS = {
    "none": channels.none(),
    "labels": channels.labels(),
    "logits": channels.logits(),
    "logits, hard": channels.logits(temperature=0.25),
    "labels+logits": channels.labels_logits(mix=0.3, temperature=2.0),
    "features": channels.features(weight=2.5),
    "gaussian": channels.gaussian(weight=1.5),
    "labels+logits, lean": channels.labels_logits(mix=0.3, temperature=2.0, bits=4, top=3),
} | {name: channels.logits(temperature=2.0, bits=bits, top=top) for (bits, top), name in FORMS.items()}
SIZES = {
    "none": 0,
    "labels": 3,
    "logits": 5 * 32,
    "logits, hard": 5 * 32,
    "labels+logits": 3 + 5 * 32,
    "features": 8 * 32,
    "gaussian": 8 * 32,
    "labels+logits, lean": 3 + 3 * (3 + 4),
} | {name: top * (3 + bits) if top else 5 * bits for (bits, top), name in FORMS.items()}
"""Bits of one example: a class id takes 3, since 4 < C = 5 ≤ 8."""


def loss_of(channel, outputs, payload):
    """The loss of a receiver with these outputs on a payload."""
    return channel.loss(outputs, payload if channel.decode is None else channel.decode(payload))


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


def received(bits, top):
    """What a receiver knows of the sender's distributions in this form, in float64."""
    p = softmax(SENDER.logits)
    if not 0 < bits <= 8:
        return p if top == 0 else largest(p, p if bits else np.ones_like(p), top)
    levels = 2**bits - 1
    quantised = np.round(p * levels) / levels
    if top:
        return largest(p, quantised, top)
    return np.where(quantised.any(-1, keepdims=True), quantised, 1)


def largest(p, sent, top):
    """``sent`` of the largest classes by ``p``; the others share what is missing to 1."""
    found = np.zeros_like(p)
    for row, of_row, values in zip(found, p, sent, strict=True):
        ids = sorted(range(CLASSES), key=lambda c: -of_row[c])[:top]
        others = max(0, 1 - values[ids].sum()) / (CLASSES - top)
        row[:] = others
        for c in ids:
            row[c] = max(values[c], others)
    return found


def tempered(p, temperature):
    return p ** (1 / temperature) / (p ** (1 / temperature)).sum(-1, keepdims=True)


def target(name):
    """The target distribution of the receiver."""
    hard = np.eye(CLASSES)[np.asarray(LABELS)]
    found = {
        "labels": hard,
        "logits": softmax(SENDER.logits),
        "logits, hard": softmax(np.asarray(SENDER.logits) / 0.25),
        "labels+logits": 0.3 * hard + 0.7 * softmax(np.asarray(SENDER.logits) / 2.0),
        "labels+logits, lean": 0.3 * hard + 0.7 * tempered(received(4, 3), 2.0),
    } | {other: tempered(received(*form), 2.0) for form, other in FORMS.items()}
    return found[name]


@every_channel
def test_loss_and_gradient_in_closed_form(name):
    channel = CHANNELS[name]
    payload = channel.encode(SENDER, LABELS)
    loss, gradient = jax.value_and_grad(partial(loss_of, channel))(RECEIVER, payload)
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
    # Numbers of 16 bits are rounded to 11 binary digits.
    rounding = 1e-3 if "16 bits" in name else 0
    np.testing.assert_allclose(loss, expected, rtol=1e-5 + rounding, atol=1e-7)
    np.testing.assert_allclose(gradient.logits, to_logits, rtol=1e-4, atol=1e-6 + rounding / 4)
    np.testing.assert_allclose(gradient.features, to_features, rtol=1e-4, atol=1e-6)


@every_channel
def test_the_target_is_a_distribution_and_the_loss_its_cross_entropy(name):
    channel = CHANNELS[name]
    if channel.decode is None:
        assert name in ("none", "features", "gaussian")
        return
    payload = channel.encode(SENDER, LABELS)
    found = channel.decode(payload)
    np.testing.assert_allclose(found.sum(-1), np.ones(BATCH), rtol=1e-6)
    np.testing.assert_allclose(found, target(name), atol=1e-6 + 3e-4 * ("16 bits" in name))
    expected = -(found * np.log(softmax(RECEIVER.logits))).sum(-1).mean()
    np.testing.assert_allclose(loss_of(channel, RECEIVER, payload), expected, rtol=1e-5)


@every_channel
def test_gradient_is_the_numerical_one(name):
    channel = CHANNELS[name]
    payload = channel.encode(SENDER, LABELS)
    check_grads(lambda own: loss_of(channel, own, payload), (RECEIVER,), order=1, modes=["rev"], atol=5e-3, rtol=5e-3)


@every_channel
def test_no_gradient_reaches_the_sender(name):
    channel = CHANNELS[name]

    def loss(sender):
        payload = channel.encode(Outputs(*sender), LABELS)
        return loss_of(channel, RECEIVER, payload)

    for leaf in jax.tree.leaves(jax.grad(loss)(SENDER)):
        assert not np.asarray(leaf).any()


@every_channel
def test_a_payload_has_the_batch_in_front(name):
    for batch in (1, BATCH):
        sender = jax.tree.map(lambda a, batch=batch: a[:batch], SENDER)
        payload = CHANNELS[name].encode(sender, LABELS[:batch])
        assert all(leaf.shape[0] == batch for leaf in jax.tree.leaves(payload))


@every_channel
@pytest.mark.parametrize("batch", [1, BATCH])
def test_declared_bits_are_the_encoded_size_and_the_packet_is_the_payload(name, batch):
    channel = CHANNELS[name]
    sender = jax.tree.map(lambda a: a[:batch], SENDER)
    payload, shapes = (of(channel.encode, sender, LABELS[:batch]) for of in (lambda f, *a: f(*a), jax.eval_shape))
    assert channel.bits(shapes) == SIZES[name]
    packet = channels.pack(payload)
    assert len(packet) == math.ceil(batch * SIZES[name] / 8)
    found = channels.unpack(shapes, packet)
    assert jax.tree.structure(found) == jax.tree.structure(payload)
    for leaf, sent in zip(jax.tree.leaves(found), jax.tree.leaves(payload), strict=True):
        assert leaf.dtype == sent.dtype
        np.testing.assert_array_equal(leaf, sent)


@every_channel
@pytest.mark.parametrize("labels", [LABELS, jnp.full_like(LABELS, NO_LABEL)])
def test_gradient_is_finite_against_its_own_payload(name, labels):
    # In a round that a node spends on its own data the loss is taken against its own payload, and masked; a gradient
    # that is not finite would pass through the mask.
    channel = CHANNELS[name]
    gradient = jax.grad(lambda own: loss_of(channel, own, channel.encode(SENDER, labels)))(SENDER)
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
        return payload, loss_of(channel, receiver, payload)

    for sender, labels in ((SENDER, LABELS), (RECEIVER, LABELS[::-1])):
        payload, loss = step(RECEIVER, sender, labels)
        plain = channel.encode(sender, labels)
        jax.tree.map(np.testing.assert_array_equal, payload, plain)
        np.testing.assert_allclose(loss, loss_of(channel, RECEIVER, plain), rtol=1e-6)
    assert traced == [name]


@every_channel
def test_vmap_is_a_loop_over_nodes(name):
    channel = CHANNELS[name]
    stack = jax.tree.map(lambda *a: jnp.stack(a), RECEIVER, SENDER)
    payloads = jax.vmap(channel.encode, (0, None))(stack, LABELS)
    losses = jax.vmap(partial(loss_of, channel))(jax.tree.map(lambda a: a[::-1], stack), payloads)
    one = loss_of(channel, SENDER, channel.encode(RECEIVER, LABELS))
    two = loss_of(channel, RECEIVER, channel.encode(SENDER, LABELS))
    np.testing.assert_allclose(losses, [one, two], rtol=1e-6)


def test_names_in_settings():
    settings = SimpleNamespace(temperature=2.0, mix=0.3, feature_weight=2.5, payload_bits=4, top=3, corrected=True)
    expected = {
        "none": channels.none(),
        "labels": channels.labels(),
        "logits": channels.logits(temperature=2.0, bits=4, top=3, corrected=True),
        "labels+logits": channels.labels_logits(mix=0.3, temperature=2.0, bits=4, top=3, corrected=True),
        "features": channels.features(weight=2.5),
        "gaussian": channels.gaussian(weight=2.5),
    }
    assert set(expected) == set(channels.CHANNELS)
    for name, channel in expected.items():
        found, payload = channels.CHANNELS[name](settings), channel.encode(SENDER, LABELS)
        jax.tree.map(np.testing.assert_array_equal, found.encode(SENDER, LABELS), payload)
        assert float(loss_of(found, RECEIVER, payload)) == float(loss_of(channel, RECEIVER, payload))


def test_payloads():
    assert CHANNELS["labels"].encode(SENDER, LABELS).values.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(CHANNELS["logits"].encode(SENDER, LABELS), SENDER.logits)
    np.testing.assert_array_equal(CHANNELS["features"].encode(SENDER, LABELS), SENDER.features)
    both = CHANNELS["labels+logits"].encode(SENDER, LABELS)
    assert both["labels"].values.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(both["logits"], SENDER.logits)
    assert CHANNELS["none"].encode(SENDER, LABELS) == ()


@every_channel
@pytest.mark.parametrize("size", [1e30, 1e-30, 0.0])
def test_extreme_scores_are_sent_as_finite_numbers(name, size):
    if name in ("features", "gaussian"):
        return
    channel = CHANNELS[name]
    sender = SENDER._replace(logits=jnp.array([[0, 1, 2, 3, 4], [0, 0, 0, 0, 0], [1, 1, -1, -1, -1]]) * size)
    payload = channel.encode(sender, jnp.full(BATCH, NO_LABEL))
    for leaf in jax.tree.leaves(payload):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    loss, gradient = jax.value_and_grad(partial(loss_of, channel))(RECEIVER, payload)
    assert np.isfinite(loss) and np.isfinite(gradient.logits).all()


@pytest.mark.parametrize("name", ["labels", "labels+logits", "labels+logits, lean"])
def test_a_label_that_the_sender_does_not_have_is_its_own_best_class(name):
    channel = CHANNELS[name]
    best = np.asarray(SENDER.logits).argmax(-1).tolist()
    assert best != LABELS.tolist()
    for known, expected in (
        (LABELS, LABELS.tolist()),
        (jnp.full_like(LABELS, NO_LABEL), best),
        (LABELS.at[1].set(NO_LABEL), [4, best[1], 2]),
    ):
        payload = channel.encode(SENDER, known)
        assert channel.labels_of(payload).tolist() == expected
        shapes = jax.eval_shape(channel.encode, SENDER, known)
        assert channel.labels_of(channels.unpack(shapes, channels.pack(payload))).tolist() == expected


@pytest.mark.parametrize("make", [channels.logits, channels.labels_logits])
def test_corrected_logits_are_largest_for_the_label_where_it_is_known(make):
    outputs = Outputs(jnp.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [0.0, -1.0, 4.0]]), jnp.zeros((3, 1)))
    known = jnp.array([0, NO_LABEL, 2])
    sent, raw = make(corrected=True).encode(outputs, known), make().encode(outputs, known)
    if make is channels.labels_logits:
        sent, raw = sent["logits"], raw["logits"]
    np.testing.assert_array_equal(raw, outputs.logits)
    np.testing.assert_array_equal(sent, [[3, 1, 2], [1, 3, 2], [0, -1, 4]])


@pytest.mark.parametrize("name", ["logits", "logits, hard", "features", "gaussian", *FORMS.values()])
def test_labels_are_not_sent(name):
    channel = CHANNELS[name]
    jax.tree.map(np.testing.assert_array_equal, channel.encode(SENDER, LABELS), channel.encode(SENDER, LABELS * 0))


@pytest.mark.parametrize(
    ("classes", "dtype", "bits"),
    [
        (1, "uint8", 0),
        (2, "uint8", 1),
        (10, "uint8", 4),
        (256, "uint8", 8),
        (257, "uint16", 9),
        (65536, "uint16", 16),
        (65537, "int32", 17),
    ],
)
def test_labels_travel_in_the_fewest_bits_and_are_held_in_the_smallest_type(classes, dtype, bits):
    channel = channels.labels()
    uniform = Outputs(logits=jnp.zeros((2, classes)), features=jnp.zeros((2, 1)))
    payload = channel.encode(uniform, jnp.array([0, classes - 1], jnp.int32))
    assert payload.values.dtype == dtype
    assert payload.values.tolist() == [0, classes - 1]
    assert channel.bits(payload) == bits
    assert channels.unpack(payload, channels.pack(payload)).values.tolist() == [0, classes - 1]
    # Uniform logits: log C for each, whatever the label; the highest id is not lost on the way.
    np.testing.assert_allclose(loss_of(channel, uniform, payload), math.log(classes), rtol=1e-5)


def test_the_mix_at_its_ends():
    payload = CHANNELS["labels+logits"].encode(SENDER, LABELS)
    only_labels, only_logits = channels.labels_logits(mix=1.0), channels.labels_logits(mix=0.0)
    np.testing.assert_allclose(
        loss_of(only_labels, RECEIVER, payload), loss_of(channels.labels(), RECEIVER, payload["labels"]), rtol=1e-6
    )
    np.testing.assert_allclose(
        loss_of(only_logits, RECEIVER, payload), loss_of(channels.logits(), RECEIVER, SENDER.logits), rtol=1e-6
    )


def test_temperature_hardens_and_softens():
    # τ → 0: the sender's most probable class; τ → ∞: the uniform distribution.
    log_p = np.log(softmax(RECEIVER.logits))
    best = np.asarray(SENDER.logits).argmax(-1)
    cold = loss_of(channels.logits(temperature=1e-3), RECEIVER, SENDER.logits)
    hot = loss_of(channels.logits(temperature=1e6), RECEIVER, SENDER.logits)
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
        loss_of(channels.gaussian(), odd, odd.features)


@pytest.mark.parametrize("value", [-0.01, 1.01, math.inf, math.nan])
def test_bad_mix_is_named(value):
    with pytest.raises(PalaverError, match=rf"mix is {value}: give a number in \[0, 1\]"):
        channels.labels_logits(mix=value)
