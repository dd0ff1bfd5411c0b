"""What is scikit-learn's own: closed forms of its steps, its state, and which estimators can take part."""

import numpy as np
import pytest
from learners import BATCH, CLASSES, INPUTS, RATE, assert_same, batch, in_sklearn, linear, seed_of, train, weights_of
from sites import LEAN, world
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from palaver.peers.learners.sklearn import SklearnLearner
from palaver.types import NO_LABEL, PalaverError


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


def test_naive_bayes_counts_what_it_hears():
    learner = in_sklearn(estimator=GaussianNB)
    x, labels, target = batch(0)
    learner.learn(x, labels, target, seed=seed_of(0))
    np.testing.assert_allclose(learner.estimator.class_count_, target.sum(0), atol=0.01 * BATCH)
    mean = (target[:, :, None] * x[:, None]).sum(0) / target.sum(0)[:, None]
    np.testing.assert_allclose(learner.estimator.theta_, mean, atol=0.01)


class Falls(SGDClassifier):
    """It fails at large inputs once it has learnt from them."""

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        super().partial_fit(X, y, classes, sample_weight)
        if np.abs(X).max() > 10:
            raise ValueError("underflow or overflow")
        return self


def test_an_estimator_that_fails_at_what_it_receives_is_as_it_was():
    learner = in_sklearn(estimator=lambda: Falls(loss="log_loss"))
    train(learner, 4)
    before = learner.arrays()
    x, labels, target = batch(5)
    with pytest.raises(ValueError, match="overflow"):
        learner.learn(100 + x, labels, target, seed=seed_of(5))
    assert_same(before, learner.arrays())
    train(learner, 2)


def test_before_the_first_step_scikit_learn_knows_nothing():
    learner = in_sklearn()
    outputs = learner.predict(batch(0)[0])
    np.testing.assert_allclose(outputs.logits, np.log(1 / CLASSES), rtol=1e-6)
    assert learner.arrays() == {}
    learner.learn(batch(0)[0], np.full(BATCH, NO_LABEL, np.int32), np.zeros((BATCH, CLASSES)), seed=seed_of(0))
    assert learner.arrays() == {}


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
    assert (after([1, 2]) != after([1, 3])).any()


class Counting(GaussianNB):
    """Counts its predictions."""

    predictions = 0

    def predict_proba(self, x):
        self.predictions += 1
        return super().predict_proba(x)


def test_it_predicts_only_where_it_speaks():
    peer = world(3, 30, p_broadcast=0.3).sites[0].peer
    estimator = Counting()
    peer.learner = SklearnLearner(estimator, LEAN, classes=10)
    spoke = sum(bool(peer.turn().outgoing) for _ in range(30))
    assert estimator.predictions == spoke
    assert 3 < spoke < 20


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
