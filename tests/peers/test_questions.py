"""What becomes of answers, by hand."""

import math

import numpy as np
import pytest

from palaver.peers.questions import decided

SURE = np.log(np.float32([[0.98, 0.01, 0.01]]))
EVEN = np.zeros((1, 3), np.float32)


def made(found, sizes, rule="confidence"):
    latest = dict.fromkeys(found, 5.0)
    return decided(found, latest, sizes, ("a", "b", "c"), rule)


def test_who_is_sure_decides_and_who_is_not_has_no_weight():
    result = made({"a": {0: SURE}, "b": {0: EVEN}}, [1])
    assert [voice.status for voice in result.voices.values()] == ["answered", "answered", "absent"]
    assert [voice.weight for voice in result.voices.values()] == pytest.approx([1, 0, 0])
    assert [voice.milliseconds for voice in result.voices.values()] == [5, 5, None]
    assert result.distribution[0] == pytest.approx([0.98, 0.01, 0.01], abs=1e-6)
    assert result.entropy[0] == pytest.approx(-(0.98 * math.log(0.98) + 0.02 * math.log(0.01)), abs=1e-5)


def test_who_answers_a_part_in_time_is_late_and_counts_there():
    result = made({"a": {0: SURE, 1: SURE}, "b": {1: SURE[:, ::-1]}}, [1, 1], "mean")
    assert result.voices["b"].status == "late"
    assert result.distribution[:, 0] == pytest.approx([0.98, 0.495])
    assert [voice.weight for voice in result.voices.values()] == pytest.approx([0.75, 0.25, 0])


def test_answers_of_another_number_of_classes_are_left_out():
    result = made({"a": {0: SURE}, "b": {0: np.zeros((1, 5), np.float32)}, "c": {0: SURE}}, [1], "mean")
    assert result.distribution.shape == (1, 3)
    assert result.voices["b"].status == "absent"


def test_nobody_in_time():
    result = made({}, [2])
    assert result.nobody
    assert result.distribution.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("rule", ["confidence", "entropy_as_printed", "mean", "majority", "product"])
def test_numbers_as_far_apart_as_there_are_give_finite_weights(rule):
    far = np.float32([[3e38, -3e38, 0]])
    result = made({"a": {0: far}, "b": {0: EVEN}}, [1], rule)
    assert np.isfinite(result.distribution).all()
    assert sum(voice.weight for voice in result.voices.values()) == pytest.approx(1)
