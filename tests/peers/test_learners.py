"""Learners of every framework: one contract, closed forms of a step, and a restart that goes on exactly."""

import jax
import numpy as np
import optax
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier

from palaver import channels
from palaver.data import load
from palaver.models import MLP
from palaver.node import supervised
from palaver.peers.learners import payload
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.learners.sklearn import SklearnLearner
from palaver.peers.learners.torch import TorchLearner
from palaver.types import NO_LABEL, Outputs, PalaverError

CLASSES, INPUTS, BATCH, RATE = 3, 4, 6, 0.5
LOGITS = channels.logits()


class WithFeatures(torch.nn.Module):
    """An MLP with dropout and batch norm that also gives its hidden layer."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Linear(INPUTS, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU())
        self.drop, self.head = torch.nn.Dropout(0.5), torch.nn.Linear(width, CLASSES)

    def forward(self, x):
        features = self.drop(self.trunk(x.flatten(1)))
        return self.head(features), features


def in_flax(channel=LOGITS, *, hidden=(), optimizer=None, dropout=0.0):
    node = supervised(
        lambda rngs: MLP((INPUTS,), CLASSES, hidden=hidden, dropout=dropout, rngs=rngs),
        channel,
        optimizer=optimizer or optax.sgd(RATE),
    )
    return FlaxLearner(node, node.init(jax.random.key(0)))


def in_torch(channel=LOGITS, *, module=None, optimizer=None):
    torch.manual_seed(0)
    module = module() if module else torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(INPUTS, CLASSES))
    optimizer = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=RATE))
    return TorchLearner(module, optimizer(module.parameters()), channel, classes=CLASSES)


def linear(**given):
    return SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=RATE, **given)


def in_sklearn(channel=LOGITS, *, estimator=linear):
    return SklearnLearner(estimator(), channel, classes=CLASSES)


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


def batch(seed, rows=BATCH):
    """Inputs, labels, and distributions over the classes."""
    draws = np.random.default_rng(seed)
    target = draws.dirichlet(np.ones(CLASSES), rows).astype(np.float32)
    return draws.random((rows, INPUTS)).astype(np.float32), draws.integers(CLASSES, size=rows).astype(np.int32), target


def seed_of(step):
    return np.array([step, 7], np.uint32)


def train(learner, steps, *, start=0):
    """Own batches and received ones in turn, and some labels unknown."""
    for step in range(start, start + steps):
        x, labels, target = batch(step)
        if step % 2:
            learner.learn(x, np.full(BATCH, NO_LABEL, np.int32), target, seed=seed_of(step))
        else:
            labels[0] = NO_LABEL
            learner.learn(x, labels, None, seed=seed_of(step))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


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
    said = channel.labels_of(learner.learn(x, labels, None, seed=seed_of(0)))
    np.testing.assert_array_equal(said[1:], labels[1:])
    assert 0 <= said[0] < CLASSES
    if make in (in_flax, in_torch, in_sklearn):  # the same function in training and in evaluation
        assert said[0] == before


@every_learner
def test_a_batch_without_labels_changes_no_parameter(make):
    learner = make()
    train(learner, 0 if "flax" in str(make) else 4)
    before = learner.arrays()
    learner.learn(batch(5)[0], np.full(BATCH, NO_LABEL, np.int32), None, seed=seed_of(0))
    after = learner.arrays()
    assert before.keys() == after.keys()
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    # A flax node's random stream goes on all the same: whole numbers.
    assert not [name for name in changed if before[name].dtype.kind == "f"]
    assert isinstance(learner, FlaxLearner) or not changed


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


def gradients(x, error):
    """Of the mean cross-entropy of a linear model, where its probabilities are off by ``error [B, C]``."""
    return x.T @ error / len(x), error.mean(0)


def weights_of(learner):
    """``[D, C]`` and ``[C]``."""
    if isinstance(learner, FlaxLearner):
        head = learner.state.params["head"]
        return np.asarray(head["kernel"]), np.asarray(head["bias"])
    if isinstance(learner, TorchLearner):
        return tuple(part.detach().numpy().T.copy() for part in learner.module[1].parameters())
    return learner.estimator.coef_.T.copy(), learner.estimator.intercept_.copy()


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
    said = learner.learn(x, labels, received, seed=seed_of(0))
    after = weights_of(learner)
    np.testing.assert_allclose(after[0], kernel - RATE * slope, atol=1e-6)
    np.testing.assert_allclose(after[1], bias - RATE * offset, atol=1e-6)
    np.testing.assert_allclose(LOGITS.decode(said), p, atol=1e-6)  # of before the step


@pytest.mark.parametrize("what", ["labels", "distributions"])
def test_a_step_of_sgdclassifier_is_its_definition(what):
    """One-against-rest logistic regressions, row by row, each step times the row's weight."""
    learner = in_sklearn(estimator=lambda: linear(shuffle=False))
    x, labels, target = batch(0)
    received = target if what == "distributions" else None
    wanted = target if what == "distributions" else np.eye(CLASSES)[labels]
    kernel, bias = np.zeros((INPUTS, CLASSES)), np.zeros(CLASSES)
    for row, weights in zip(x, wanted, strict=True):
        for label in np.flatnonzero(weights > 0.01 / CLASSES):
            p = 1 / (1 + np.exp(-(row @ kernel + bias)))
            error = RATE * weights[label] * (p - np.eye(CLASSES)[label])
            kernel, bias = kernel - np.outer(row, error), bias - error
    learner.learn(x, labels, received, seed=seed_of(0))
    found = weights_of(learner)
    np.testing.assert_allclose(found[0], kernel, atol=1e-6)
    np.testing.assert_allclose(found[1], bias, atol=1e-6)


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


def test_naive_bayes_counts_what_it_hears():
    learner = in_sklearn(estimator=GaussianNB)
    x, labels, target = batch(0)
    learner.learn(x, labels, target, seed=seed_of(0))
    np.testing.assert_allclose(learner.estimator.class_count_, target.sum(0), atol=0.01 * BATCH)
    mean = (target[:, :, None] * x[:, None]).sum(0) / target.sum(0)[:, None]
    np.testing.assert_allclose(learner.estimator.theta_, mean, atol=0.01)


def test_before_the_first_step_scikit_learn_knows_nothing():
    learner = in_sklearn()
    outputs = learner.predict(batch(0)[0])
    np.testing.assert_allclose(outputs.logits, np.log(1 / CLASSES), rtol=1e-6)
    assert learner.arrays() == {}
    learner.learn(batch(0)[0], np.full(BATCH, NO_LABEL, np.int32), np.zeros((BATCH, CLASSES)), seed=seed_of(0))
    assert learner.arrays() == {}


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


def test_a_wider_input_is_another_model():
    learner, other = in_sklearn(), in_sklearn()
    train(learner, 2)
    other.learn(np.ones((2, INPUTS + 1), np.float32), np.array([0, 1], np.int32), None, seed=seed_of(0))
    with pytest.raises(ValueError, match="another model"):
        learner.restore(other.arrays())


def test_the_state_before_the_first_step_can_be_restored():
    learner = in_sklearn()
    train(learner, 3)
    learner.restore({})
    assert learner.arrays() == {}
    train(learner, 3)
    other = in_sklearn()
    train(other, 3)
    assert_same(learner.arrays(), other.arrays())


def test_scikit_learns_state_does_not_grow():
    learner = in_sklearn(estimator=MLPClassifier)
    train(learner, 5)
    before = sum(array.size for array in learner.arrays().values())
    train(learner, 20, start=5)
    assert sum(array.size for array in learner.arrays().values()) == before


def test_settings_are_the_sites_own():
    learner = in_sklearn(estimator=lambda: MLPClassifier((8,), alpha=0.5, batch_size=50))
    train(learner, 3)
    other = in_sklearn(estimator=lambda: MLPClassifier((8,), alpha=0.25))
    other.restore(learner.arrays())
    assert other.estimator.alpha == 0.25 and other.estimator.batch_size == "auto"


def test_a_batch_is_one_step_of_mlpclassifier():
    learner = in_sklearn(estimator=MLPClassifier)
    x, labels, target = batch(0, rows=300)
    learner.learn(x, labels, target, seed=seed_of(0))
    assert learner.estimator._optimizer.t == 1


def test_dropout_depends_on_the_seed_and_disturbs_nobody():
    def after(seed):
        learner = in_torch(module=WithFeatures)
        torch.manual_seed(3)
        learner.learn(*batch(0)[:2], None, seed=np.array(seed, np.uint32))
        assert torch.rand(()).item() == expected
        return learner.arrays()["module/head.weight"]

    torch.manual_seed(3)
    expected = torch.rand(()).item()
    np.testing.assert_array_equal(after([1, 2]), after([1, 2]))
    assert (after([1, 2]) != after([2, 2])).any()


def test_scikit_learn_depends_on_the_seed_and_disturbs_nobody():
    def after(seed):
        learner = in_sklearn(estimator=MLPClassifier)
        np.random.seed(3)  # noqa: NPY002
        learner.learn(*batch(0)[:2], None, seed=np.array(seed, np.uint32))
        assert np.random.random() == expected  # noqa: NPY002
        return learner.arrays()["coefs_/0"]

    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(after([1, 2]), after([1, 2]))
    assert (after([1, 2]) != after([2, 2])).any()


def test_features_are_those_of_the_module():
    learner = in_torch(module=WithFeatures)
    x, *_ = batch(0)
    outputs = learner.predict(x)
    with torch.no_grad():
        expected = learner.module.trunk(torch.tensor(x))
    np.testing.assert_array_equal(outputs.features, expected.numpy())
    assert in_torch().predict(x).features.shape == in_sklearn().predict(x).features.shape == (BATCH, 0)


@pytest.mark.parametrize("channel", [channels.none(), channels.features(), channels.gaussian()])
@pytest.mark.parametrize("make", [in_torch, in_sklearn])
def test_channels_without_classes_are_refused(make, channel):
    with pytest.raises(PalaverError, match=r"sends something else: give one of labels, labels\+logits, logits$|Gauss"):
        make(channel)


class Stubborn(SGDClassifier):
    """Has a state that is no array."""

    def partial_fit(self, x, y, classes=None, sample_weight=None):
        self.state_ = np.random.default_rng()
        return super().partial_fit(x, y, classes=classes, sample_weight=sample_weight)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (lambda: LogisticRegression(), "LogisticRegression has no partial_fit"),
        (lambda: SGDClassifier(), "SGDClassifier has no partial_fit or no predict_proba"),
        (lambda: Perceptron(), "Perceptron has no partial_fit or no predict_proba"),
        (lambda: linear(class_weight="balanced"), "partial_fit of SGDClassifier"),
        (lambda: Stubborn(loss="log_loss"), "partial_fit of Stubborn"),
    ],
)
def test_estimators_that_cannot_take_part_are_refused(estimator, said):
    with pytest.raises(PalaverError, match=said) as error:
        in_sklearn(estimator=estimator)
    assert "\n" not in str(error.value)


def test_an_optimiser_that_needs_a_closure_is_refused():
    with pytest.raises(PalaverError, match="optimizer"):
        in_torch(optimizer=torch.optim.LBFGS)


def test_a_module_of_other_classes_is_named():
    learner = in_torch(module=lambda: torch.nn.Linear(INPUTS, 5))
    with pytest.raises(PalaverError, match=r"logits \(6, 5\) for inputs \(6, 4\): make them \(6, 3\)"):
        learner.predict(batch(0)[0])


def test_learners_of_a_channel_compile_once():
    channel = channels.logits(bits=3)
    learners = [in_torch(channel), in_sklearn(channel)]
    compiled = []
    x, labels, _ = batch(0)
    for learner in [*learners, *[make(channel) for make in (in_torch, in_sklearn) for _ in range(4)]]:
        learner.learn(x, labels, None, seed=seed_of(0))
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
