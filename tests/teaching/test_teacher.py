"""The teacher of chapter 3: trained once for its settings and labels, then read from the cache folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palaver.data import load
from palaver.teaching import teacher
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
    assert (again.facts, again.timings) == (made.facts, made.timings) and again.table.path == made.table.path
    np.testing.assert_array_equal(again.table.probabilities, made.table.probabilities)
    assert len(list(folder.iterdir())) == 3  # the table, its checksums and the facts

    inputs = (DIGITS.x_train, DIGITS.x_validation, DIGITS.x_test)
    assert made.table.probabilities.shape == (sum(map(len, inputs)), 10)
    test = made.table.probabilities[-len(DIGITS.y_test) :].argmax(1)
    assert made.facts["test_accuracy"] == (test == DIGITS.y_test).mean() > 0.5
    assert made.facts["epochs"] == 8
    assert sorted(made.timings) == ["table_seconds", "training_seconds"] and min(made.timings.values()) > 0
    assert made.facts["training_flops"] == 8 * 200 * operations(DIGITS, (64,))[1]

    other = LABELS.copy()
    other[0] = (other[0] + 1) % 10
    load_or_train_teacher(SETTINGS, DIGITS, other, ROWS)
    assert "training the teacher" in capsys.readouterr().err
    assert len(list(folder.glob("*.npy"))) == 2


def test_a_teacher_belongs_to_its_data_and_labels():
    own = SETTINGS
    labels, rows = DIGITS.y_train, np.arange(len(DIGITS.y_train))
    changed = DIGITS._replace(x_train=np.where(DIGITS.x_train == DIGITS.x_train[0, 0, 3], 1, DIGITS.x_train))
    asked = [
        (own, DIGITS, labels, rows),
        (own, changed, labels, rows),
        (own, DIGITS, labels[::-1], rows),
        (own, DIGITS, labels, rows[1:]),
        (replace(own, teacher_epochs=9), DIGITS, labels, rows),
    ]
    assert len({teacher._cache_path(*each) for each in asked}) == len(asked)
    assert teacher._cache_path(own, load("digits"), labels.copy(), rows) == teacher._cache_path(*asked[0])


def test_another_recipe_is_another_teacher(monkeypatch):
    before = teacher._cache_path(SETTINGS, DIGITS, LABELS, ROWS)
    monkeypatch.setattr(teacher, "_RECIPE", teacher._RECIPE + 1)
    assert teacher._cache_path(SETTINGS, DIGITS, LABELS, ROWS) != before
