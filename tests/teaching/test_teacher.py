"""The teacher of chapter 3: trained once for its settings and labels, then read from the cache folder."""

from __future__ import annotations

import numpy as np
import pytest

from palaver.data import load
from palaver.teaching.costs import operations
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.teacher import load_or_train_teacher

DIGITS = load("digits")
LABELS = DIGITS.y_train.astype(np.int32)
ROWS = np.arange(200)
SETTINGS = TeachingSettings(
    teacher_hidden=(64,), teacher_dropout=0.2, teacher_batch_size=16, teacher_patience=8, teacher_epochs=8
)


def test_operations_by_hand():
    forward = 2 * (64 * 16 + 16 * 10)
    # The backward pass: gradients to the weights of both layers, and to the inputs of the second alone.
    assert operations(DIGITS, (16,)) == (forward, forward + forward + 2 * 16 * 10)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "palaver" / "teachers"


def test_trained_once_for_its_labels(folder, capsys):
    made = load_or_train_teacher(SETTINGS, DIGITS, LABELS, ROWS)
    assert "training the teacher" in capsys.readouterr().err
    again = load_or_train_teacher(SETTINGS, DIGITS, LABELS, ROWS)
    assert capsys.readouterr().err == ""
    assert again.facts == made.facts and again.table.path == made.table.path
    np.testing.assert_array_equal(again.table.probabilities, made.table.probabilities)
    assert len(list(folder.iterdir())) == 3  # the table, its checksums and the facts

    inputs = (DIGITS.x_train, DIGITS.x_validation, DIGITS.x_test)
    assert made.table.probabilities.shape == (sum(map(len, inputs)), 10)
    test = made.table.probabilities[-len(DIGITS.y_test) :].argmax(1)
    assert made.facts["test_accuracy"] == (test == DIGITS.y_test).mean() > 0.5
    assert made.facts["epochs"] == 8
    assert made.facts["training_flops"] == 8 * 200 * operations(DIGITS, (64,))[1]

    other = LABELS.copy()
    other[0] = (other[0] + 1) % 10
    load_or_train_teacher(SETTINGS, DIGITS, other, ROWS)
    assert "training the teacher" in capsys.readouterr().err
    assert len(list(folder.glob("*.npy"))) == 2
