"""The linear probe against scikit-learn's logistic regression, and its early stopping."""

from functools import partial

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import quick
from palaver import probe
from palaver.data import load

DIGITS = load("digits")


def features(x, seed):
    """A random ReLU layer's outputs, at very different scales."""
    weight = np.random.default_rng(seed).normal(size=(64, 24)) / 8
    return np.maximum(x.reshape(len(x), -1) / 255 @ weight, 0).astype(np.float32) * 10 ** np.linspace(-3, 3, 24)


def test_all_nodes_at_once_are_scikit_learns_within_half_a_point():
    few = 628  # of the training part, so that 899 examples are left to resolve half a point
    x_test = np.concatenate([DIGITS.x_train[few:], DIGITS.x_test])
    y, y_test = DIGITS.y_train[:few], np.concatenate([DIGITS.y_train[few:], DIGITS.y_test])
    parts = (DIGITS.x_train[:few], DIGITS.x_validation, x_test)
    train, validation, test = (np.stack([features(x, seed) for seed in range(3)]) for x in parts)

    @quick.jit
    def together(train, validation, test):
        def one(train, validation, test):
            found = probe.fit(train, y, validation, DIGITS.y_validation, classes=10)
            return found.logits(test), found.accuracy

        return jax.vmap(one)(train, validation, test)

    logits, accuracy = together(train, validation, test)
    for node in range(3):
        scale = StandardScaler().fit(train[node])
        theirs = LogisticRegression(max_iter=2000).fit(scale.transform(train[node]), y)
        ours = float((logits[node].argmax(-1) == y_test).mean())
        assert abs(ours - theirs.score(scale.transform(test[node]), y_test)) <= 0.005
        assert float(accuracy[node]) >= theirs.score(scale.transform(validation[node]), DIGITS.y_validation) - 0.005


def test_early_stopping_keeps_the_best_evaluation():
    # One feature is the label in four of five examples; the others are noise, to which a separating fit overfits.
    rng = np.random.default_rng(0)
    y, y_validation = rng.integers(0, 2, 100), np.arange(400) % 2
    truth = np.where(rng.random(100) < 0.8, y, 1 - y) * 2.0 - 1
    x = np.column_stack([truth, rng.normal(size=(100, 60))]).astype(np.float32)
    validation = np.column_stack([y_validation * 2.0 - 1, rng.normal(size=(400, 60))]).astype(np.float32)

    fit = quick.jit(partial(probe.fit, classes=2, penalty=1e-6, patience=3))

    def accuracy(steps, eval_every):
        found = fit(x, y, validation, y_validation, steps=steps, eval_every=eval_every)
        counted = float((found.logits(validation).argmax(-1) == y_validation).mean())
        np.testing.assert_allclose(found.accuracy, counted, atol=1e-6)
        return counted

    early, late = [accuracy(1, step) for step in (1, 2, 3)], accuracy(1, 60)
    assert late < max(early) - 0.03
    assert accuracy(60, 1) >= max(early)


fit_two_classes = quick.jit(partial(probe.fit, classes=2))


def test_a_constant_feature_is_not_scaled():
    x = np.column_stack([np.arange(20.0), np.full(20, 0.1337)]).astype(np.float32)
    y = np.arange(20) // 10
    found = fit_two_classes(x, y, x, y)
    assert float(found.scale[1]) == 1.0  # its mean in float32 is not quite 0.1337
    assert np.isfinite(found.weight).all()
    assert float(found.accuracy) == 1.0


def test_features_that_are_not_finite_have_no_accuracy():
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) // 10
    torn = np.where(x == 7, np.nan, x)
    assert np.isnan(fit_two_classes(torn, y, x, y).accuracy)
    assert np.isnan(fit_two_classes(x, y, torn, y).accuracy)
