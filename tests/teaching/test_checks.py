"""Misuse of the teacher's stack and table: one line that names the argument."""

import re

import numpy as np
import pytest

from palaver.decision import mean
from palaver.teaching import TeacherStack, committee, precompute, selection, targets
from palaver.types import PalaverError

NAN = float("nan")
BATCHES = [(np.full((4, 2), place, np.float32), np.zeros(4, int)) for place in range(4)]


def uniform(x):
    return np.full((len(x), 3), 1 / 3, np.float32)


def stack(batches=BATCHES, student=uniform, teacher=uniform, **given):
    return TeacherStack(batches, student, teacher, **given)


def table(data=BATCHES[0][0], **given):
    return precompute(uniform, data, "/nonexistent/folder/table.npy", **given)


MISUSES = {
    "batches a number": ("batches", lambda: stack(4)),
    "batches None": ("batches", lambda: stack(None)),
    "student a name": ("student_predict", lambda: stack(student="model")),
    "teacher a name": ("teacher", lambda: stack(teacher="model")),
    "size 2.5": ("size", lambda: stack(size=2.5)),
    "size True": ("size", lambda: stack(size=True)),
    "size text": ("size", lambda: stack(size="5")),
    "size None": ("size", lambda: stack(size=None)),
    "size 0": ("size", lambda: stack(size=0)),
    "size of a schedule, text": ("size", lambda: next(iter(stack(size=lambda update: "two")))),
    "size of a schedule, NaN": ("size", lambda: next(iter(stack(size=lambda update: NAN)))),
    "count 2.5": ("count", lambda: stack(count=2.5)),
    "count True": ("count", lambda: stack(count=True)),
    "count 0": ("count", lambda: stack(count=0)),
    "difficulty a name": ("difficulty", lambda: stack(difficulty="cross_entropy")),
    "select a name": ("select", lambda: stack(select="top")),
    "select a factory": ("select", lambda: next(iter(stack(select=selection.top)))),
    "target a name": ("target", lambda: stack(target="soft")),
    "target a factory": ("target", lambda: next(iter(stack(target=targets.soft)))),
    "difficulty of another shape": ("difficulty", lambda: next(iter(stack(difficulty=lambda p, q, y: p)))),
    "drop_last text": ("drop_last", lambda: stack(drop_last="no")),
    "seed -1": ("seed", lambda: stack(seed=-1)),
    "seed 0.5": ("seed", lambda: stack(seed=0.5)),
    "seed text": ("seed", lambda: stack(seed="a")),
    "precompute: teacher a name": ("teacher", lambda: precompute("model", BATCHES[0][0], "/nonexistent/t.npy")),
    "precompute: data a number": ("data", lambda: table(4)),
    "precompute: batch_size 0": ("batch_size", lambda: table(batch_size=0)),
    "precompute: batch_size 2.5": ("batch_size", lambda: table(batch_size=2.5)),
    "precompute: batch_size True": ("batch_size", lambda: table(batch_size=True)),
    "precompute: version None": ("version", lambda: table(version=None)),
    "precompute: version a number": ("version", lambda: table(version=2)),
    "precompute: path None": ("path", lambda: precompute(uniform, BATCHES[0][0], None)),
    "proportional: temperature NaN": ("temperature", lambda: selection.proportional(temperature=NAN)),
    "proportional: temperature text": ("temperature", lambda: selection.proportional(temperature="1")),
    "top_and_random: share NaN": ("share", lambda: selection.top_and_random(share=NAN)),
    "from_hardest: share text": ("share", lambda: selection.from_hardest(share="0.1")),
    "stages: sizes 2.5": ("sizes", lambda: selection.stages({0: 2.5})),
    "stages: sizes a list": ("sizes", lambda: selection.stages([20, 5])),
    "stages: an update of text": ("sizes", lambda: selection.stages({0: 2, "late": 5})),
    "soft: temperature True": ("temperature", lambda: targets.soft(temperature=True)),
    "mixed: weight NaN": ("weight", lambda: targets.mixed(weight=NAN)),
    "mixed: weight text": ("weight", lambda: targets.mixed(weight="half")),
    "committee: logits an array": ("logits", lambda: committee(np.zeros((2, 4, 3)), mean)),
    "committee: rule a name": ("rule", lambda: committee(lambda x: np.zeros((2, len(x), 3)), "mean")),
    "committee: logits of two axes": (
        "logits",
        lambda: committee(lambda x: np.zeros((len(x), 3)), mean)(BATCHES[0][0]),
    ),
}


@pytest.mark.parametrize(("argument", "misuse"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_in_one_line_that_names_the_argument(argument, misuse):
    with pytest.raises(PalaverError) as error:
        misuse()
    line = str(error.value)
    assert re.search(rf"\b{argument}\b", line), line
    assert "\n" not in line and ": " in line
