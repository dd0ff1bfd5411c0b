"""Every split is exclusive and exhaustive, leaves no node empty, and gives the same shards for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaver.data import SPLITS, pad, split
from palaver.data.splits import by_class, dirichlet, iid, one_large
from palaver.types import PalaverError


@st.composite
def _cases(draw):
    labels = draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    return np.array(labels), draw(st.integers(1, len(labels))), draw(st.integers(0, 2**32)), draw(st.floats(1e-3, 1e3))


@pytest.mark.parametrize("name", SPLITS)
@settings(max_examples=60, deadline=None)
@given(case=_cases())
def test_exclusive_exhaustive_non_empty_and_repeatable(name, case):
    labels, nodes, seed, alpha = case
    shards = split(name, labels, nodes, seed, alpha=alpha)
    assert len(shards) == nodes
    assert all(len(shard) >= 1 and shard.dtype == np.int32 for shard in shards)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(len(labels)))
    again = split(name, labels, nodes, seed, alpha=alpha)
    assert all(np.array_equal(one, other) for one, other in zip(shards, again, strict=True))


@settings(max_examples=60, deadline=None)
@given(case=_cases())
def test_padding_is_last_and_zero(case):
    shards = split("dirichlet", *case)
    index, size = pad(shards)
    assert index.dtype == size.dtype == np.int32
    assert index.shape == (len(shards), max(map(len, shards)))
    for row, count, shard in zip(index, size, shards, strict=True):
        assert np.array_equal(row[:count], shard)
        assert not row[count:].any()


LABELS = np.repeat(np.arange(10), 100)


def _rows(shards):
    """Examples of each class at each node, ``[N, C]``."""
    return np.array([np.bincount(LABELS[shard], minlength=10) for shard in shards])


def test_iid_shares_differ_by_one_at_most():
    assert sorted({len(shard) for shard in iid(LABELS, 7, 0)}) == [142, 143]
    counts = _rows(iid(LABELS, 10, 0))
    assert counts.sum(1).tolist() == [100] * 10
    expected = 10.0
    # Hypergeometric: variance 10 * 0.9 * (900 / 999) = 8.1, so the mean squared deviation is near it.
    assert ((counts - expected) ** 2).mean() == pytest.approx(8.1, abs=2.5)
    assert not np.array_equal(iid(LABELS, 7, 0)[0], iid(LABELS, 7, 1)[0])


def test_one_large_gives_half_to_the_first_node_and_shares_the_rest():
    assert [len(shard) for shard in one_large(LABELS, 10, 3)] == [500, *[56] * 5, *[55] * 4]
    assert [len(shard) for shard in one_large(np.zeros(5), 4, 0)] == [2, 1, 1, 1]
    assert [len(shard) for shard in one_large(np.zeros(5), 1, 0)] == [5]


def test_by_class_gives_few_classes_a_node():
    assert np.array_equal(_rows(by_class(LABELS, 10, 3)), 100 * np.eye(10, dtype=int))
    counts = _rows(by_class(LABELS, 4, 3))
    assert counts.sum(1).tolist() == [250] * 4
    assert (counts > 0).sum(1).tolist() == [3, 3, 3, 3]
    first, other = by_class(LABELS, 10, 3)[0], by_class(LABELS, 10, 4)[0]
    assert set(first) == set(other) == set(range(100))
    assert not np.array_equal(first, other)


def test_dirichlet_concentration():
    def dominance(alpha):
        """The mean share of a class at the node that has most of it."""
        return np.mean([_rows(dirichlet(LABELS, 5, seed, alpha)).max(0).mean() / 100 for seed in range(20)])

    assert dominance(1e-3) > 0.98
    # The largest of five parts of a stick broken uniformly (alpha 1) is (1 + 1/2 + ... + 1/5) / 5 = 0.457 on average.
    assert dominance(1.0) == pytest.approx(0.457, abs=0.03)
    assert dominance(1e6) == pytest.approx(0.2, abs=0.002)


def test_dirichlet_extremes_still_leave_no_node_empty():
    for alpha in (1e-300, 1e-6, 1e6, 1e300):
        shards = dirichlet(LABELS, 50, 0, alpha)
        assert min(map(len, shards)) >= 1
        assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(1000))


def test_empty_nodes_get_examples_of_the_largest():
    assert [len(shard) for shard in dirichlet(np.zeros(8, int), 8, 0, 1e-6)] == [1] * 8
    sizes = sorted(len(shard) for shard in dirichlet(np.zeros(100, int), 4, 0, 1e-6))
    assert sizes == [1, 1, 1, 97]


@pytest.mark.parametrize("name", SPLITS)
def test_wrong_arguments_are_named(name):
    with pytest.raises(PalaverError, match="nodes is 5 for 4 examples: give 1 to 4"):
        split(name, [0, 1, 0, 1], 5, 0)
    with pytest.raises(PalaverError, match="nodes is 0 for 4 examples"):
        split(name, [0, 1, 0, 1], 0, 0)
    with pytest.raises(PalaverError, match="seed is -1"):
        split(name, [0, 1, 0, 1], 2, -1)
    with pytest.raises(PalaverError, match=r"labels has shape \(2, 2\)"):
        split(name, [[0, 1], [0, 1]], 2, 0)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_must_be_positive_and_finite(alpha):
    with pytest.raises(PalaverError, match=f"alpha is {alpha}: give a finite number above 0"):
        split("dirichlet", [0, 1], 2, 0, alpha=alpha)


def test_unknown_split_and_nothing_to_pad():
    with pytest.raises(PalaverError, match="split is 'even': choose one of iid, dirichlet, class"):
        split("even", [0, 1], 2, 0)
    with pytest.raises(PalaverError, match="shards is empty"):
        pad([])
    with pytest.raises(PalaverError, match="the shard of node 1 is empty"):
        pad([np.array([1]), np.array([], int)])


def test_a_split_of_ones_own_by_name(monkeypatch):
    in_turn = lambda labels, nodes, _seed, _alpha: np.array_split(range(len(labels)), nodes)  # noqa: E731
    monkeypatch.setitem(SPLITS, "in turn", in_turn)
    assert [shard.tolist() for shard in split("in turn", [0, 1, 0], 2, 0)] == [[0, 1], [2]]
