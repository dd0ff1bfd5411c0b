"""Tables of a teacher's outputs: made once, looked up, refused where they do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from palaver.teaching import Indexed, precompute, read_table
from palaver.types import NO_LABEL, PalaverError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)


def teacher(x):
    exp = np.exp(np.asarray(x) @ WEIGHT)
    return exp / exp.sum(-1, keepdims=True)


def test_made_once_and_mapped(array, tmp_path):
    calls = []

    def counted(x):
        calls.append(len(x))
        return array(teacher(x))

    path = tmp_path / "deep" / "table.npy"
    made = precompute(counted, array(X), path, batch_size=20)
    assert calls == [20, 20, 10]
    np.testing.assert_array_equal(made.probabilities, teacher(X))
    assert isinstance(made.probabilities, np.memmap) and made.probabilities.dtype == np.float32
    again = precompute(counted, array(X), path, batch_size=7)  # batches are no part of the data
    assert calls == [20, 20, 10]
    np.testing.assert_array_equal(again.probabilities, made.probabilities)
    np.testing.assert_array_equal(np.load(path), teacher(X))  # a NumPy file like any other
    assert sorted(found.name for found in path.parent.iterdir()) == ["table.npy", "table.npy.json"]


def test_batches_give_the_same_table_as_an_array(array, tmp_path):
    whole = precompute(lambda x: array(teacher(x)), array(X), tmp_path / "a.npy")
    given = [(array(X[start : start + 8]), None) for start in range(0, 50, 8)]
    in_batches = precompute(lambda x: array(teacher(x)), given, tmp_path / "b.npy")
    np.testing.assert_allclose(whole.probabilities, in_batches.probabilities, rtol=1e-6)
    read_table(whole.path, given)


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "table.npy"
    precompute(teacher, X, path)
    changed = X.copy()
    changed[49, 3] = np.nextafter(changed[49, 3], 1)
    for other in (X[::-1].copy(), X[:49], changed, X.astype(np.float64), X.reshape(50, 2, 2)):
        with pytest.raises(PalaverError, match=r"made for 50 other inputs.* another path"):
            precompute(teacher, other, path)
    np.testing.assert_array_equal(read_table(path, X).probabilities, teacher(X))


def test_a_damaged_table_is_refused(tmp_path):
    path = tmp_path / "table.npy"
    precompute(teacher, X, path)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(PalaverError, match="checksum differs"):
        read_table(path, X)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(PalaverError, match="cannot be read"):
        read_table(path, X)
    path.write_bytes(good)
    about = tmp_path / "table.npy.json"
    for broken in ("{", json.dumps({"data_sha256": "x"}), "[]"):
        about.write_text(broken)
        with pytest.raises(PalaverError, match="cannot be read"):
            read_table(path, X)
    about.unlink()
    with pytest.raises(PalaverError, match="cannot be read"):
        precompute(teacher, X, path)


def test_a_teacher_that_fails_leaves_nothing(tmp_path):
    def failing(x):
        predictions = teacher(x)
        if x[0, 0] == X[20, 0]:
            predictions[3] = np.nan
        return predictions

    path = tmp_path / "table.npy"
    with pytest.raises(PalaverError, match="the teacher's predictions on batch 2: 1 of 10 rows"):
        precompute(failing, X, path, batch_size=10)
    with pytest.raises(PalaverError, match="no examples"):
        precompute(teacher, [], path)
    with pytest.raises(PalaverError, match="2 classes on batch 1, 3 before"):
        precompute(lambda x: teacher(x) if x[0, 0] == X[0, 0] else np.full((10, 2), 0.5), X, path, batch_size=10)
    assert list(tmp_path.iterdir()) == []


def test_another_teachers_table_is_refused(tmp_path):
    path = tmp_path / "table.npy"
    precompute(teacher, X, path, version="first")
    precompute(teacher, X, path, version="first")
    with pytest.raises(PalaverError, match="of version 'first' of the teacher, not 'second'"):
        precompute(teacher, X, path, version="second")


def test_a_shuffled_loader_is_refused(tmp_path):
    order = RNG.permutation(50)
    shuffled = [(X[rows], None, rows) for rows in order.reshape(5, 10)]
    with pytest.raises(PalaverError, match="batch 0 is not in the order of its rows: give a loader with shuffle=False"):
        precompute(teacher, shuffled, tmp_path / "table.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_subset_keeps_the_rows_of_the_whole():
    data = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.arange(50))
    some = Indexed(torch.utils.data.Subset(data, [7, 3, 9]))
    assert [some[i][2] for i in range(3)] == [7, 3, 9] and int(some[1][1]) == 3
    with pytest.raises(PalaverError, match="a sample of 3 parts"):
        Indexed([(1, 2, 3)])[0]


def test_indexed_samples():
    labelled = Indexed([("a", 3), ("b", 5)])
    assert len(labelled) == 2 and labelled[1] == ("b", 5, 1)
    assert Indexed(["a", "b"])[1] == ("b", NO_LABEL, 1)
    assert Indexed([["a", 3]])[0] == ("a", 3, 0)
