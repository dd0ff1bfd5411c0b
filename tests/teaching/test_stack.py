"""The teacher stack in NumPy, JAX and PyTorch: what it yields, counts and refuses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from palaver import decision
from palaver.teaching import Counts, Table, TeacherStack, committee, difficulty, precompute, selection, targets
from palaver.types import NO_LABEL, PalaverError

EXAMPLES, BATCH, CLASSES = 40, 4, 3
RNG = np.random.default_rng(0)
X = np.arange(EXAMPLES, dtype=np.float32)[:, None] + np.array([0, 100], np.float32)
Y = RNG.integers(0, CLASSES, EXAMPLES)
TEACHER, STUDENT = RNG.dirichlet(np.full(CLASSES, 0.5), (2, EXAMPLES)).astype(np.float32)


def batches(array, *, labels=True, index=False, examples=EXAMPLES):
    for start in range(0, examples, BATCH):
        rows = slice(start, min(start + BATCH, examples))
        batch = [array(X[rows])]
        if labels or index:
            batch.append(array(Y[rows]) if labels else None)
        if index:
            batch.append(array(np.arange(EXAMPLES)[rows]))
        yield tuple(batch) if len(batch) > 1 else batch[0]


def predicting(table, array):
    """A model that looks its predictions up by the first pixel."""
    return lambda x: array(table[np.asarray(x)[:, 0].astype(int)])


def stack(array, given, **options):
    return TeacherStack(given, predicting(STUDENT, array), predicting(TEACHER, array), **options)


def rows_of(x):
    return np.asarray(x)[:, 0].astype(int).tolist()


def test_the_hardest_of_every_stack_with_the_teachers_distributions(array):
    compressed = stack(array, batches(array), size=5)
    found = list(compressed)
    scores = -(TEACHER * np.log(STUDENT)).sum(1)
    assert len(found) == 2
    for start, (x, target) in zip((0, 20), found, strict=True):
        expected = start + np.argsort(-scores[start : start + 20], kind="stable")[:BATCH]
        assert rows_of(x) == expected.tolist()
        assert type(x) is type(target) is type(array(X))
        np.testing.assert_allclose(np.asarray(target), TEACHER[expected], rtol=1e-6)
    assert compressed.counts == Counts(updates=2, student_forwards=40, teacher_forwards=40, chosen=8)


def test_true_labels_go_with_their_examples(array):
    for x, target in stack(array, batches(array), size=2, target=targets.true()):
        np.testing.assert_array_equal(np.asarray(target).argmax(1), Y[rows_of(x)])


def test_a_stack_of_one_keeps_its_minibatch(array):
    found = list(stack(array, batches(array), size=1))
    assert [sorted(rows_of(x)) for x, _ in found] == np.arange(EXAMPLES).reshape(-1, BATCH).tolist()


def test_examples_without_labels(array):
    labelled = [rows_of(x) for x, _ in stack(array, batches(array), size=5)]
    assert [rows_of(x) for x, _ in stack(array, batches(array, labels=False), size=5)] == labelled
    with pytest.raises(PalaverError, match="student_loss needs the true labels"):
        next(iter(stack(array, batches(array, labels=False), difficulty=difficulty.student_loss)))


def test_the_last_stack_may_be_short(array):
    found = [rows_of(x) for x, _ in stack(array, batches(array, examples=27), size=5)]
    assert [len(rows) for rows in found] == [4, 4]  # 20 examples, then 7
    assert len(list(stack(array, batches(array, examples=22), size=5))[1][1]) == 2  # only two are left
    assert len(list(stack(array, batches(array, examples=27), size=5, drop_last=True))) == 1


def test_a_table_is_looked_up_by_row(array, tmp_path):
    table = precompute(predicting(TEACHER, array), array(X), tmp_path / "teacher.npy", batch_size=7)
    computed = stack(array, batches(array), size=5)
    looked_up = TeacherStack(batches(array, index=True), predicting(STUDENT, array), table, size=5)
    for (x, target), (same_x, same_target) in zip(computed, looked_up, strict=True):
        assert rows_of(x) == rows_of(same_x)
        np.testing.assert_array_equal(np.asarray(target), np.asarray(same_target))
    assert looked_up.counts.teacher_forwards == 0
    with pytest.raises(PalaverError, match="index"):
        next(iter(TeacherStack(batches(array), predicting(STUDENT, array), table)))


def test_random_numbers_are_seeded_and_continue_from_pass_to_pass(array):
    given = list(batches(array))

    def twice(seed):
        compressed = stack(array, given, size=5, select=selection.uniform(), seed=seed)
        return [rows_of(x) for _ in range(2) for x, _ in compressed]

    assert twice(0) == twice(0) != twice(1)
    assert twice(0)[:2] != twice(0)[2:]


def test_a_stack_that_shrinks(array):
    shrinking = stack(array, list(batches(array)) * 2, size=selection.stages({0: 5, 2: 2}))
    assert [len(rows_of(x)) for x, _ in shrinking] == [BATCH] * 7  # 5 + 5 + 2 · 5 minibatches
    assert shrinking.counts.student_forwards == 80


def test_inputs_may_be_trees(array):
    given = [({"pixels": x, "both": (x, x)}, y) for x, y in batches(array)]
    compressed = TeacherStack(
        given,
        lambda x: predicting(STUDENT, array)(x["pixels"]),
        lambda x: predicting(TEACHER, array)(x["both"][0]),
        size=5,
    )
    for x, _ in compressed:
        assert rows_of(x["pixels"]) == rows_of(x["both"][1])
        assert len(rows_of(x["pixels"])) == BATCH


def test_no_gradient_passes_through_predictions():
    leaf = torch.tensor(TEACHER[:4], requires_grad=True)
    stack_ = TeacherStack([X[:4]], lambda _: leaf * 1, lambda _: leaf * 1, size=1)
    ((_, target),) = stack_
    assert leaf.requires_grad and not target.requires_grad


def test_inputs_stay_where_they_are_and_targets_are_the_students(array):
    # A loader's PyTorch batches with NumPy labels, whatever the student is made of.
    given = [(torch.as_tensor(X[:4]), Y[:4]), (torch.as_tensor(X[4:8]), Y[4:8])]
    mixed = TeacherStack(given, predicting(STUDENT, array), predicting(TEACHER, torch.as_tensor), size=2)
    ((x, target),) = mixed
    assert isinstance(x, torch.Tensor) and type(target) is type(array(X))
    np.testing.assert_allclose(np.asarray(target), TEACHER[rows_of(x)], rtol=1e-6)


def test_a_pass_has_a_length():
    given = list(batches(np.asarray, examples=28))
    assert len(stack(np.asarray, given, size=5)) == len(list(stack(np.asarray, given, size=5))) == 2
    assert len(stack(np.asarray, given, size=5, drop_last=True)) == 1
    with pytest.raises(TypeError, match="no length"):
        len(stack(np.asarray, given, size=lambda _: 2))


@pytest.mark.parametrize("bad", [0, 2.5])
def test_a_schedule_that_makes_no_stack(bad):
    with pytest.raises(PalaverError, match=f"size at update 0 is {bad}: give .*at least 1 minibatch"):
        list(stack(np.asarray, batches(np.asarray), size=lambda _: bad))


def test_half_precision_is_scored_in_single_precision():
    half = stack(torch.as_tensor, batches(torch.as_tensor), size=5)
    half._student = lambda x: predicting(STUDENT, torch.as_tensor)(x).to(torch.bfloat16)
    for _, target in half:
        assert target.dtype == torch.float32
    half._student = lambda x: predicting(broken(STUDENT, 29, np.nan), torch.as_tensor)(x).to(torch.bfloat16)
    with pytest.raises(PalaverError, match="the student's predictions on batch 7: 1 of 4 rows"):
        list(TeacherStack(batches(torch.as_tensor), half._student, half._teacher, size=5))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y[:4] + 1.0, "labels of 4 examples are"),
        (np.eye(3, dtype=np.int64)[Y[:4]], r"\(4, 3\): give one class id each"),
        (np.array([1, 2, 3, 1]), "labels from 1 to 3 for 3 classes: give 0 to 2"),
        (np.array([1, 2, -1, -1]), "2 of the 4 examples chosen from batches 0 to 0 have no label"),
    ],
)
def test_bad_labels(array, labels, message):
    with pytest.raises(PalaverError, match=message):
        list(stack(array, [(array(X[:4]), array(labels))], size=1, target=targets.true()))


def test_predictions_must_be_floating(array):
    bad = TeacherStack(
        [array(X[:4])], lambda x: array(np.ones((4, 1), np.int64)), lambda x: array(np.ones((4, 1), np.float32))
    )
    with pytest.raises(PalaverError, match="give probabilities, floating-point numbers"):
        list(bad)


def test_a_collective_is_a_teacher_for_any_library(array):
    logits = RNG.normal(size=(5, EXAMPLES, CLASSES)).astype(np.float32)
    teacher = committee(lambda x: logits[:, np.asarray(x)[:, 0].astype(int)], decision.product)
    decided = np.asarray(decision.product(jnp.asarray(logits), jnp.ones((5, EXAMPLES), bool)))
    for x, target in TeacherStack(batches(array, labels=False), predicting(STUDENT, array), teacher, size=5):
        assert type(target) is type(array(X))
        np.testing.assert_allclose(np.asarray(target), decided[rows_of(x)], rtol=1e-6)


def broken(table, row, value):
    table = table.copy()
    table[row] = value
    return table


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "1 of 4 rows are no distribution .*NaN"), ([2.0, -0.5, -0.5], "from -0.5 to 2 that sum to 1")],
)
def test_bad_predictions_name_the_batch(array, who, value, message):
    models = {"student": predicting(STUDENT, array), "teacher": predicting(TEACHER, array)}
    models[who] = predicting(broken(STUDENT, 29, value), array)
    bad = TeacherStack(batches(array), models["student"], models["teacher"], size=5)
    with pytest.raises(PalaverError, match=f"the {who}'s predictions on batch 7: .*{message}"):
        list(bad)
    assert bad.counts.updates == 1  # the first stack, batches 0 to 4, was fine


def test_logits_are_refused(array):
    bad = TeacherStack(batches(array), lambda x: x[:, :2] / 7, predicting(TEACHER[:, :2] * 0 + 0.5, array))
    with pytest.raises(PalaverError, match="softmax of logits"):
        next(iter(bad))


def test_what_does_not_fit_is_refused(array):
    narrow = TeacherStack(batches(array), predicting(STUDENT, array), predicting(np.full((40, 2), 0.5), array))
    with pytest.raises(PalaverError, match=r"\(20, 2\), the student's \(20, 3\)"):
        next(iter(narrow))
    with pytest.raises(PalaverError, match="9 examples to choose from a stack of 8: give 1 to 8"):
        next(iter(stack(array, batches(array), size=2, count=9)))
    for size, count in ((0, None), (2, 0)):
        with pytest.raises(PalaverError, match="give at least 1"):
            stack(array, batches(array), size=size, count=count)
    with pytest.raises(PalaverError, match=r"teacher is an array \(40, 3\) of .*: give a function of inputs, or"):
        TeacherStack(batches(array), predicting(STUDENT, array), TEACHER)
    with pytest.raises(PalaverError, match="a batch of 4 parts"):
        next(iter(stack(array, [(1, 2, 3, 4)])))


def test_a_table_row_that_does_not_exist(array, tmp_path):
    table = precompute(predicting(TEACHER, array), array(X[:30]), tmp_path / "teacher.npy")
    assert isinstance(table, Table)
    with pytest.raises(PalaverError, match=r"row 31 .* 30 examples"):
        list(TeacherStack(batches(array, index=True), predicting(STUDENT, array), table, size=10))
    unlabelled = [(x, array(np.full(len(y), NO_LABEL)), i) for x, y, i in batches(array, index=True, examples=20)]
    assert len(list(TeacherStack(unlabelled, predicting(STUDENT, array), table, size=5))) == 1
