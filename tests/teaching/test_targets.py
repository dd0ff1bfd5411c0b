"""Targets by hand, the same in NumPy, JAX and PyTorch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from palaver.teaching import targets
from palaver.types import NO_LABEL, PalaverError

TEACHER = np.array([[0.64, 0.32, 0.04], [0.2, 0.2, 0.6]], np.float32)
LABELS = np.array([1, NO_LABEL])


def of(target, array, labels=LABELS):
    distributions = target(array(TEACHER), None if labels is None else array(labels))
    assert type(distributions) is type(array(TEACHER))
    return np.asarray(distributions)


def test_true_is_one_hot_and_an_unknown_label_is_no_loss(array):
    np.testing.assert_array_equal(of(targets.true(), array), [[0, 1, 0], [0, 0, 0]])
    with pytest.raises(PalaverError, match="needs labels"):
        of(targets.true(), array, None)


def test_soft(array):
    np.testing.assert_array_equal(of(targets.soft(), array, None), TEACHER)
    # τ = 2: roots 0.8, 0.5657, 0.2 over their sum; τ = ½: squares
    roots = np.sqrt(TEACHER)
    np.testing.assert_allclose(of(targets.soft(temperature=2), array), roots / roots.sum(1, keepdims=True), atol=1e-6)
    squares = TEACHER**2
    np.testing.assert_allclose(
        of(targets.soft(temperature=0.5), array), squares / squares.sum(1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(of(targets.soft(temperature=0.01), array)[1], [0, 0, 1], atol=1e-6)


def test_mixed(array):
    found = of(targets.mixed(weight=0.25), array)
    np.testing.assert_allclose(found[0], 0.75 * TEACHER[0] + [0, 0.25, 0], atol=1e-6)
    np.testing.assert_array_equal(found[1], TEACHER[1])  # its label is not known
    np.testing.assert_array_equal(of(targets.mixed(weight=0.25), array, None), TEACHER)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_by_name(array, name):
    expected = {
        "true": targets.true(),
        "soft": targets.soft(temperature=2),
        "mixed": targets.mixed(weight=0.25, temperature=2),
    }
    made = targets.TARGETS[name].make(SimpleNamespace(target_temperature=2, mix=0.25))
    np.testing.assert_array_equal(of(made, array), of(expected[name], array))


def test_bad_hyper_parameters():
    for bad in (0, -1, float("inf")):
        with pytest.raises(PalaverError, match="temperature is"):
            targets.soft(temperature=bad)
    with pytest.raises(PalaverError, match="weight is -1"):
        targets.mixed(weight=-1)
