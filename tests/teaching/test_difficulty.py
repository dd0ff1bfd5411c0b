"""Difficulty measures against numbers worked out by hand, the same in NumPy, JAX and PyTorch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaver.teaching.difficulty import MEASURES
from palaver.types import NO_LABEL, PalaverError

TEACHER = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32)
STUDENT = np.array([[0.25, 0.5, 0.25], [0.25, 0.75, 0.0]], np.float32)
LABELS = np.array([1, 0])
LOG2, LOG3 = math.log(2), math.log(3)
BY_HAND = {
    # −½ log ¼ − ¼ log ½ − ¼ log ¼ = (1 + ¼ + ½) log 2; −log ¼
    "cross-entropy": (1.75 * LOG2, 2 * LOG2),
    "euclidean": (math.sqrt(2) / 4, math.sqrt(2 * 0.75**2)),
    # the teacher's entropies are 1.5 log 2 and 0
    "kl": (0.25 * LOG2, 2 * LOG2),
    # M = (⅜, ⅜, ¼) and (⅝, ⅜, 0)
    "jensen-shannon": (
        0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3),
        0.5 * math.log(8 / 5) + 0.5 * (0.25 * math.log(2 / 5) + 0.75 * LOG2),
    ),
    # the teacher's choice is class 0: ½ − ¼, ¾ − ¼
    "margin": (0.25, 0.5),
    "student-loss": (LOG2, 2 * LOG2),
    # the teacher's own losses are log 4 and 0
    "reducible-loss": (-LOG2, 2 * LOG2),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_by_hand(array, measure):
    scores = MEASURES[measure](array(TEACHER), array(STUDENT), array(LABELS))
    assert type(scores) is type(array(TEACHER))
    np.testing.assert_allclose(np.asarray(scores), BY_HAND[measure], atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_zero_probabilities_are_finite_and_jit_is_the_same(measure):
    certain = np.eye(3, dtype=np.float32)
    wrong = np.roll(certain, 1, axis=0)
    scores = MEASURES[measure](certain, wrong, np.arange(3))
    assert np.isfinite(scores).all()
    assert (scores > MEASURES[measure](certain, certain, np.arange(3))).all()
    compiled = jax.jit(MEASURES[measure].measure)(jnp.asarray(certain), jnp.asarray(wrong), jnp.arange(3))
    np.testing.assert_allclose(compiled, scores, rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_libraries_agree_on_random_predictions(array, measure):
    rng = np.random.default_rng(0)
    teacher, student = rng.dirichlet(np.full(10, 0.3), (2, 64))
    labels = rng.integers(0, 10, 64)
    expected = MEASURES[measure](teacher, student, labels)  # in float64
    given_ = (array(teacher.astype(np.float32)), array(student.astype(np.float32)), array(labels))
    np.testing.assert_allclose(np.asarray(MEASURES[measure](*given_)), expected, rtol=1e-6, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_bounds_and_identities(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(5, 0.5), (2, 20))
    cross, kl, js = (MEASURES[name](p, q, None) for name in ("cross-entropy", "kl", "jensen-shannon"))
    assert (kl >= -1e-12).all()
    np.testing.assert_allclose(cross - kl, MEASURES["cross-entropy"](p, p, None), atol=1e-9)
    assert (js >= -1e-12).all() and (js <= LOG2 + 1e-12).all()
    np.testing.assert_allclose(js, MEASURES["jensen-shannon"](q, p, None), atol=1e-12)
    assert (MEASURES["euclidean"](p, q, None) <= math.sqrt(2)).all()
    margin = MEASURES["margin"](p, q, None)
    np.testing.assert_array_equal(margin < 0, q.argmax(-1) == p.argmax(-1))


@pytest.mark.parametrize("measure", ["student-loss", "reducible-loss"])
def test_labels_are_required_and_an_unknown_one_scores_lowest(array, measure):
    with pytest.raises(PalaverError, match=f"{measure.replace('-', '_')} needs the true labels"):
        MEASURES[measure](array(TEACHER), array(STUDENT), None)
    scores = np.asarray(MEASURES[measure](array(TEACHER), array(STUDENT), array(np.array([NO_LABEL, 0]))))
    assert scores[0] == -np.inf and np.isfinite(scores[1])


@pytest.mark.parametrize("measure", sorted(set(MEASURES) - {"student-loss"}))
def test_other_classes_are_refused(array, measure):
    with pytest.raises(PalaverError, match=r"\(2, 3\), the student's \(2, 2\)"):
        MEASURES[measure](array(TEACHER), array(STUDENT[:, :2]), array(LABELS))


def test_mixed_libraries_are_refused():
    with pytest.raises(PalaverError, match="one of NumPy, JAX, PyTorch"):
        MEASURES["kl"](TEACHER, jnp.asarray(STUDENT), None)
