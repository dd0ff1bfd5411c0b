"""Learners of every framework: one contract, closed forms of a step, and a restart that goes on exactly."""

import jax
import numpy as np
import optax
import pytest
import torch
from learners import (
    BATCH,
    CLASSES,
    INPUTS,
    LOGITS,
    RATE,
    WithFeatures,
    assert_same,
    batch,
    gradients,
    in_flax,
    in_sklearn,
    in_torch,
    seed_of,
    train,
    weights_of,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier

from palaver import channels
from palaver.data import load
from palaver.peers.learners import payload
from palaver.peers.learners.sklearn import SklearnLearner
from palaver.peers.learners.torch import TorchLearner
from palaver.types import NO_LABEL, Outputs, PalaverError

LEARNERS = {
    "flax": in_flax,
    "flax, dropout": lambda *args: in_flax(*args, hidden=(8,), dropout=0.5),
    "torch": in_torch,
    "torch, dropout and batch norm": lambda *args: in_torch(*args, module=WithFeatures),
    "SGDClassifier": in_sklearn,
    "MLPClassifier": lambda *args: in_sklearn(*args, estimator=MLPClassifier),
    "GaussianNB": lambda *args: in_sklearn(*args, estimator=GaussianNB),
    "MultinomialNB": lambda *args: in_sklearn(*args, estimator=MultinomialNB),
}
every_learner = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)


@every_learner
@pytest.mark.parametrize(
    "channel",
    [
        channels.labels(),
        channels.logits(temperature=2.0),
        channels.logits(bits=4, top=2),
        channels.labels_logits(mix=0.3),
    ],
)
def test_what_it_says_is_what_it_predicts(make, channel):
    learner = make(channel)
    train(learner, 6)
    x, *_ = batch(99)
    outputs = learner.predict(x)
    assert outputs.logits.shape == (BATCH, CLASSES) and outputs.features.shape[0] == BATCH
    assert outputs.logits.dtype == outputs.features.dtype == np.float32 and np.isfinite(outputs.logits).all()
    said = channel.decode(learner.encode(x))
    assert jax.tree.all(jax.tree.map(lambda leaf: isinstance(leaf, np.ndarray), learner.encode(x)))
    expected = channel.decode(channel.encode(outputs, np.full(BATCH, NO_LABEL)))
    np.testing.assert_allclose(said, expected, atol=1e-6)
    np.testing.assert_allclose(said.sum(-1), 1, atol=1e-6)


@every_learner
def test_what_it_says_of_a_batch_has_the_labels_that_are_known(make):
    channel = channels.labels()
    learner = make(channel)
    x, labels, _ = batch(0)
    labels[0] = NO_LABEL
    before = learner.predict(x).logits[0].argmax()
    said = channel.labels_of(learner.learn(x, labels, None, seed=seed_of(0), say=True))
    np.testing.assert_array_equal(said[1:], labels[1:])
    assert 0 <= said[0] < CLASSES
    if make in (in_flax, in_torch, in_sklearn):  # the same function in training and in evaluation
        assert said[0] == before


@every_learner
def test_to_speak_changes_nothing_in_the_learner(make):
    learner = make()
    train(learner, 4)
    before, (x, labels, target) = learner.arrays(), batch(5)
    for received in (None, target):
        learner.restore(before)
        assert learner.learn(x, labels, received, seed=seed_of(4)) is None
        silent = learner.arrays()
        learner.restore(before)
        assert learner.learn(x, labels, received, seed=seed_of(4), say=True) is not None
        assert_same(silent, learner.arrays())


nothing = pytest.mark.parametrize("received", [None, np.zeros((BATCH, CLASSES), np.float32)], ids=["own", "received"])


@every_learner
@nothing
def test_where_nothing_is_known_there_is_no_gradient(make, received):
    learner = make()
    train(learner, 4)
    before = learner.arrays()
    learner.learn(batch(5)[0], np.full(BATCH, NO_LABEL, np.int32), received, seed=seed_of(0))
    after = learner.arrays()
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # The forward pass is one all the same: random streams, whole numbers, go on, and the statistics of a batch norm.
    statistics = {f"module/trunk.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert not [name for name in changed - statistics if before[name].dtype.kind == "f"]
    assert isinstance(learner, SklearnLearner) <= (not changed)


@pytest.mark.parametrize("make", [lambda: in_flax(optimizer=optax.adam(0.01)), lambda: in_torch(optimizer=adam)])
@nothing
def test_where_nothing_is_known_momentum_goes_on(make, received):
    """Of gradients g and 0, Adam has the momentum 0.9 · 0.1 g and the scale 0.999 · 0.001 g²."""
    learner = make()
    x, labels, _ = batch(0)
    first = weights_of(learner)
    learner.learn(x, labels, None, seed=seed_of(0))  # a step of 0.01 times the gradient's sign
    second = weights_of(learner)
    learner.learn(batch(5)[0], np.full(BATCH, NO_LABEL, np.int32), received, seed=seed_of(1))
    share = 0.09 / (1 - 0.9**2) / (0.000999 / (1 - 0.999**2)) ** 0.5
    for one, two, three in zip(first, second, weights_of(learner), strict=True):
        np.testing.assert_allclose(np.abs(two - one), 0.01, rtol=1e-4)
        np.testing.assert_allclose(three - two, share * (two - one), rtol=1e-3)


@every_learner
def test_pixels_are_scaled(make):
    learner = make()
    train(learner, 6)
    pixels = np.random.default_rng(0).integers(256, size=(BATCH, INPUTS), dtype=np.uint8)
    scaled = pixels.astype(np.float32) / 255
    np.testing.assert_allclose(learner.predict(pixels).logits, learner.predict(scaled).logits, atol=1e-5)
    state = learner.arrays()
    learner.learn(pixels, np.zeros(BATCH, np.int32), None, seed=seed_of(0))
    of_pixels = learner.arrays()
    learner.restore(state)
    learner.learn(scaled, np.zeros(BATCH, np.int32), None, seed=seed_of(0))
    for name, array in learner.arrays().items():
        np.testing.assert_allclose(of_pixels[name], array, atol=1e-5, err_msg=name)


@every_learner
def test_images_and_rows_of_numbers_are_one_thing(make):
    learner = make()
    train(learner, 6)
    x, *_ = batch(1)
    np.testing.assert_array_equal(learner.predict(x.reshape(-1, 2, 2)).logits, learner.predict(x).logits)


@every_learner
def test_predictions_are_of_evaluation_mode(make):
    learner = make()
    train(learner, 6)
    x, *_ = batch(1)
    before, logits = learner.arrays(), learner.predict(x).logits
    np.testing.assert_array_equal(learner.predict(x).logits, logits)
    # Each example on its own: batch norm takes its running statistics, and keeps them.
    alone = np.concatenate([learner.predict(x[i : i + 1]).logits for i in range(BATCH)])
    np.testing.assert_allclose(alone, logits, atol=1e-5)
    learner.encode(x)
    assert_same(before, learner.arrays())


@pytest.mark.parametrize("make", [in_flax, in_torch])
@pytest.mark.parametrize("what", ["labels", "some labels", "distributions"])
def test_a_step_of_a_linear_model_is_the_closed_form(make, what):
    learner = make()
    x, labels, target = batch(0)
    if what == "some labels":
        labels[2:4] = NO_LABEL
    kernel, bias = weights_of(learner)
    p = np.exp(x @ kernel + bias)
    p /= p.sum(-1, keepdims=True)
    received = target if what == "distributions" else None
    wanted = target if what == "distributions" else np.eye(CLASSES)[labels]
    known = np.ones(BATCH, bool) if what == "distributions" else labels != NO_LABEL
    slope, offset = gradients(x[known], (p - wanted)[known])
    said = learner.learn(x, labels, received, seed=seed_of(0), say=True)
    after = weights_of(learner)
    np.testing.assert_allclose(after[0], kernel - RATE * slope, atol=1e-6)
    np.testing.assert_allclose(after[1], bias - RATE * offset, atol=1e-6)
    np.testing.assert_allclose(LOGITS.decode(said), p, atol=1e-6)  # of before the step


@pytest.mark.parametrize("make", [in_flax, in_torch])
def test_a_row_of_which_nothing_was_heard_has_no_part(make):
    x, labels, target = batch(0)
    target[1] = 0
    learner = make()
    kernel, bias = weights_of(learner)
    p = np.exp(x @ kernel + bias)
    error = p / p.sum(-1, keepdims=True) - target
    error[1] = 0
    learner.learn(x, labels, target, seed=seed_of(0))
    np.testing.assert_allclose(weights_of(learner)[0], kernel - RATE * gradients(x, error)[0], atol=1e-6)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


KEPT = {
    "flax, adam": lambda: in_flax(hidden=(8,), optimizer=optax.adam(0.01), dropout=0.5),
    "torch, adam": lambda: in_torch(module=WithFeatures, optimizer=adam),
    "torch, momentum": lambda: in_torch(module=WithFeatures, optimizer=momentum),
    "SGDClassifier": in_sklearn,
    "SGDClassifier, averaged": lambda: in_sklearn(
        estimator=lambda: SGDClassifier(loss="log_loss", average=20, random_state=3)
    ),
    "MLPClassifier, adam": lambda: in_sklearn(estimator=lambda: MLPClassifier((8, 5))),
    "MLPClassifier, sgd": lambda: in_sklearn(
        estimator=lambda: MLPClassifier((8,), solver="sgd", learning_rate="adaptive")
    ),
    "GaussianNB": lambda: in_sklearn(estimator=GaussianNB),
    "MultinomialNB": lambda: in_sklearn(estimator=MultinomialNB),
}
every_kept = pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)


@every_kept
def test_a_restart_goes_on_exactly(make, tmp_path):
    learner = make()
    train(learner, 10)
    np.savez(tmp_path / "saved.npz", **{name.replace("/", "|"): array for name, array in learner.arrays().items()})
    train(learner, 10, start=10)
    with np.load(tmp_path / "saved.npz", allow_pickle=False) as file:
        saved = {name.replace("|", "/"): file[name] for name in file}
    again = make()
    train(again, 3, start=50)  # whatever it learnt before is gone
    again.restore(saved)
    assert_same(saved, again.arrays())
    fresh = make()
    fresh.restore(saved)
    for other in (again, fresh):
        train(other, 10, start=10)
        assert_same(learner.arrays(), other.arrays())
        np.testing.assert_array_equal(learner.predict(batch(0)[0]).logits, other.predict(batch(0)[0]).logits)


@every_kept
def test_arrays_stay_as_they_were_while_it_learns_on(make):
    learner = make()
    train(learner, 4)
    saved = learner.arrays()
    before = {name: array.copy() for name, array in saved.items()}
    train(learner, 4, start=4)
    assert_same(before, saved)
    learner.restore(saved)
    train(learner, 4, start=4)
    assert_same(before, saved)


@every_kept
def test_arrays_of_another_model_are_refused(make):
    learner = make()
    train(learner, 4)
    own = learner.arrays()
    name = max(own, key=lambda name: own[name].size)
    others = [make for each, make in KEPT.items() if each.split(",")[0] != type(learner).__name__]
    strange = [own | {name: own[name][:-1]}, own | {name: own[name].astype(np.complex128)}, own | {"more": own[name]}]
    strange.append({each: array for each, array in own.items() if each != name})
    for make_other in others:
        other = make_other()
        train(other, 4)
        if other.arrays().keys() != own.keys():
            strange.append(other.arrays())
    assert len(strange) > 8
    for arrays in strange:
        with pytest.raises(ValueError, match="another model|not the arrays"):
            learner.restore(arrays)
        assert_same(own, learner.arrays())


@pytest.mark.parametrize("channel", [channels.none(), channels.features(), channels.gaussian()])
@pytest.mark.parametrize("make", [in_torch, in_sklearn])
def test_channels_without_classes_are_refused(make, channel):
    with pytest.raises(PalaverError, match=r"sends something else: give one of labels, labels\+logits, logits$|Gauss"):
        make(channel)


def test_learners_of_a_channel_compile_once():
    channel = channels.logits(bits=3)
    learners = [in_torch(channel), in_sklearn(channel)]
    compiled = []
    x, labels, _ = batch(0)
    for learner in [*learners, *[make(channel) for make in (in_torch, in_sklearn) for _ in range(4)]]:
        learner.learn(x, labels, None, seed=seed_of(0), say=True)
        learner.encode(x)
        compiled.append(payload._encode._cache_size())
    assert compiled[0] == compiled[-1]


def digits_learner(name, channel):
    torch.manual_seed(1)
    if name == "torch":
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        return TorchLearner(module, torch.optim.Adam(module.parameters(), lr=0.01), channel, classes=10)
    make = {
        "SGDClassifier": lambda: SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.02, penalty=None),
        "MLPClassifier": lambda: MLPClassifier((32,), learning_rate_init=0.003),
    }
    return SklearnLearner(make[name](), channel, classes=10)


@pytest.fixture(scope="module")
def teacher():
    """Digits, what a teacher says about them in 4 bits of its two largest classes, and its test accuracy in percent."""
    data, channel = load("digits"), channels.logits(bits=4, top=2)
    model = LogisticRegression(C=0.2, max_iter=500).fit(data.x_train.reshape(-1, 64) / 255.0, data.y_train)
    outputs = Outputs(model.predict_log_proba(data.x_train.reshape(-1, 64) / 255.0).astype(np.float32), None)
    said = np.asarray(channel.decode(channel.encode(outputs, None)))
    return data, channel, said, 100 * model.score(data.x_test.reshape(-1, 64) / 255.0, data.y_test)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["torch", "SGDClassifier", "MLPClassifier"])
def test_a_teacher_is_distilled(name, seed, teacher):
    data, channel, said, right = teacher
    learner, draws = digits_learner(name, channel), np.random.default_rng(seed)
    for step in range(400):
        rows = draws.choice(len(said), 32, replace=False)
        learner.learn(data.x_train[rows], np.full(32, NO_LABEL, np.int32), said[rows], seed=seed_of(step))
    assert 100 * (learner.predict(data.x_test).logits.argmax(-1) == data.y_test).mean() > right - 2
