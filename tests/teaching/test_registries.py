"""Entries of one's own in the registries: what they declare to need decides what a run trains on and asks for."""

from __future__ import annotations

import numpy as np
import pytest

from palaver.data import load
from palaver.studies.chapter import Configuration
from palaver.teaching import study
from palaver.teaching.arrays import is_class, namespace
from palaver.teaching.difficulty import MEASURES, MeasureEntry
from palaver.teaching.selection import RULES, RuleEntry
from palaver.teaching.settings import TeachingSettings
from palaver.teaching.targets import TARGETS, TargetEntry
from palaver.types import PalaverError

DIGITS = load("digits")
SMALL = TeachingSettings(
    data="digits", batch_size=8, epochs=1, eval_every=20, teacher_hidden=(16,), teacher_epochs=1, teacher_batch_size=16
)


def true_class_missing(teacher, student, labels=None):
    """``1 − Q(y)``; an example without a label would come first."""
    return 1 - namespace(student).sum(student * is_class(labels, student), axis=-1)


def last(settings):
    """Cost by metric at the end of a student's training."""
    made = study.prepare(Configuration("own", settings), DIGITS, [0], 1)
    state, evaluation = made.begin(), None
    while evaluation is None or not evaluation.finished:
        state, evaluation = made.advance(state)
    frame = evaluation.frame
    return dict(frame.filter(frame["round"] == frame["round"].max()).select("metric", "value").iter_rows())


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_measure_that_needs_labels_sees_only_examples_with_labels(monkeypatch, tmp_path):
    entry = MeasureEntry(true_class_missing, needs_labels=True, needs_teacher=False)
    monkeypatch.setitem(MEASURES, "true-class-missing", entry)
    changed = {"difficulty": "true-class-missing", "known": 0.1, "stack": (2,)}
    own = TeachingSettings(**vars(SMALL) | changed)
    assert own.needs_labels and not own.asks_teacher
    found = last(own)
    assert not list(tmp_path.rglob("*.npy"))  # no teacher was trained
    # An epoch of 1257 examples is 79 stacks of 16; training stops at the evaluation after it.
    assert (found["backward_passes"], found["forward_passes"], found["teacher_forwards"]) == (80, 80 * 24, 0)
    # The teacher of soft targets predicts each of the 126 labelled examples once, the chosen ones only.
    soft = TeachingSettings(**vars(SMALL) | changed | {"target": "soft"})
    assert soft.needs_labels and soft.asks_teacher
    assert last(soft)["teacher_forwards"] == 126
    with pytest.raises(PalaverError, match=r"for 126 training examples of digits: give a stack of at most 15"):
        study.check(TeachingSettings(**vars(soft) | {"stack": (16,)}), DIGITS, [0], None)


def test_a_rule_that_needs_no_scores_costs_no_predictions(monkeypatch):
    entry = RuleEntry(lambda _: lambda scores, uniforms, count: np.arange(count), needs_scores=False)
    monkeypatch.setitem(RULES, "first", entry)
    own = TeachingSettings(**vars(SMALL) | {"select": "first", "difficulty": "student-loss", "stack": (2,)})
    assert last(own)["forward_passes"] == 80 * 8
    assert not own.asks_teacher
    assert not TeachingSettings(**vars(own) | {"target": "soft"}).needs_labels


def test_a_target_that_needs_neither_labels_nor_a_teacher(monkeypatch):
    def make(_):
        return lambda teacher, labels: namespace(teacher).ones_like(teacher) / teacher.shape[-1]

    monkeypatch.setitem(TARGETS, "nothing", TargetEntry(make, needs_teacher=False))
    own = TeachingSettings(**vars(SMALL) | {"target": "nothing", "known": 0.1})
    assert not own.needs_labels and not own.asks_teacher
    assert last(own)["teacher_forwards"] == 0
