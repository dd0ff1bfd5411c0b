"""A student's settings: what they refuse, what they need, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palaver.cli import main
from palaver.data import load
from palaver.teaching import study
from palaver.teaching.costs import costs
from palaver.teaching.settings import TeachingSettings, corrupted
from palaver.types import PalaverError

DIGITS = load("digits")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"flipped": 1.0}, r"flipped is 1\.0: give a finite number in \[0, 1\)"),
        ({"known": 0.0}, r"known is 0\.0: give a finite number in \(0, 1\]"),
        ({"stack": (2, 3)}, r"stack_from is \(0,\): give 2 updates"),
        ({"stack": (2, 3), "stack_from": (5, 0)}, "ascending"),
        ({"stack": (2, 3), "stack_from": (5, 9)}, "the first of them 0"),
        ({"stack": (0,)}, "stack holds 0: give a list, not empty, of whole numbers of at least 1"),
        ({"goals": (0.9, 96.0)}, r"goals holds 96\.0"),
        ({"select": "hardest", "share": 0.0}, r"share is 0\.0"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_bad_settings(changed, message):
    with pytest.raises(PalaverError, match=message):
        TeachingSettings(**changed)


def test_a_stack_that_the_data_cannot_fill(tmp_path, capsys):
    args = ["run", "teaching", "--data", "digits", "--stack", "50", "--known", "0.5", "--out", str(tmp_path / "x")]
    assert main(args) == 2
    assert capsys.readouterr().err == (
        "palaver: a stack of 50 minibatches of 32 for 628 training examples of digits: give a stack of at most 19\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("devices", [2, 8])
def test_several_devices_are_refused(tmp_path, capsys, devices):
    args = ["run", "teaching", "--scale", "tiny", "--devices", str(devices), "--out", str(tmp_path / "x")]
    assert main(args) == 2
    assert capsys.readouterr().err == (f"palaver: devices is {devices}: give 1, since teaching trains on one device\n")
    for allowed in (None, 1):
        study.check(TeachingSettings(data="digits"), DIGITS, [0], allowed)


def test_what_needs_labels():
    for changed, needs in (
        ({}, True),
        ({"target": "soft", "difficulty": "student-loss"}, False),  # nothing is scored
        ({"target": "soft", "difficulty": "student-loss", "stack": (5,)}, True),
        ({"target": "mixed", "stack": (5,)}, False),
        ({"target": "soft", "stack": (5,), "select": "uniform", "difficulty": "reducible-loss"}, False),
    ):
        assert TeachingSettings(**changed).needs_labels == needs


def test_costs_by_hand():
    own = TeachingSettings(data="digits", hidden=(32, 32), batch_size=32, teacher_hidden=(1200, 1200))
    forward = 2 * (64 * 32 + 32 * 32 + 32 * 10)
    above = 2 * (64 * 1200 + 1200 * 1200 + 1200 * 10)
    trained = 100 * 32 * (3 * forward - 2 * 64 * 32)
    assert costs(own, DIGITS, 1257, 100) == (100, 3200, 0, trained, trained)
    soft = replace(own, stack=(5,), target="soft")
    taught = costs(soft, DIGITS, 1257, 100)
    assert taught == (100, 19_200, 1257, trained + 16_000 * forward + 1257 * above, trained + 16_000 * forward)
    # A random choice needs no predictions of the student; the teacher predicts the chosen examples only.
    assert costs(replace(soft, select="uniform"), DIGITS, 1257, 10)[1:3] == (320, 320)
    # Selective backprop has no teacher.
    rival = costs(replace(own, stack=(5,), difficulty="student-loss"), DIGITS, 1257, 100)
    assert rival[2] == 0 and rival.flops == rival.student_flops
    # Ten updates with a stack of five, then ninety without a stack, which train on labels and need no teacher.
    shrinking = replace(own, stack=(5, 1), stack_from=(0, 10))
    assert costs(shrinking, DIGITS, 50_000, 100)[:3] == (100, 10 * 160 + 100 * 32, 10 * 160)
    assert costs(shrinking, DIGITS, 50_000, 4)[:3] == (4, 4 * 160 + 4 * 32, 4 * 160)


def test_corrupted_labels():
    labels, rows = corrupted(TeachingSettings(data="digits", flipped=0.2, known=0.1), DIGITS)
    wrong = (labels != DIGITS.y_train).mean()
    assert abs(wrong - 0.2) < 4 * np.sqrt(0.16 / len(labels))
    assert labels.min() >= 0 and labels.max() < 10
    assert len(rows) == len({*rows}) == 126
    clean, everything = corrupted(TeachingSettings(data="digits"), DIGITS)
    np.testing.assert_array_equal(clean, DIGITS.y_train)
    assert len(everything) == len(labels)
