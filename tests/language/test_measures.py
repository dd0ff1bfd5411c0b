"""Measures of messages, by hand."""

import numpy as np
import pytest
from scipy.stats import rankdata

from palaver.language import measures
from palaver.types import PalaverError


def test_entropies_by_hand():
    same = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
    assert measures.message_entropy(same) == 0 and measures.symbol_entropy(same, 2) == 0
    three = np.array([[0, 0], [0, 0], [0, 1], [1, 1]])
    np.testing.assert_allclose(measures.message_entropy(three), 1.5)
    quarter = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    np.testing.assert_allclose(measures.symbol_entropy(three, 2), quarter + 1)
    np.testing.assert_allclose(measures.usage(three, 3), [[0.75, 0.25, 0], [0.5, 0.5, 0]])


def test_agreement_is_the_share_of_pairs():
    symbols = np.array([[[0, 1, 2]], [[0, 2, 2]], [[0, 1, 1]]])  # pairs that agree: 3, 1, 1 of 3 each
    np.testing.assert_allclose(measures.agreement(symbols), 5 / 9)
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, (5, 40, 6))
    pairs = [(group[i] == group[j]).mean() for i in range(5) for j in range(i)]
    np.testing.assert_allclose(measures.agreement(group), np.mean(pairs))


def test_agreement_of_messages_that_end():
    # Two agents, four positions: a sends 1 END, b sends 2 END; the two positions after both ends do not count.
    symbols = np.array([[[1, 0, 0, 0]], [[2, 0, 0, 0]]])
    assert measures.agreement(symbols) == 0.75 and measures.agreement(symbols, variable=True) == 0.5
    longer = np.array([[[1, 0, 0, 0]], [[1, 2, 0, 0]]])  # three positions count: 1 = 1, END against 2, END = END
    np.testing.assert_allclose(measures.agreement(longer, variable=True), 2 / 3)
    with pytest.raises(PalaverError, match="agreement of 1 agent"):
        measures.agreement(symbols[:1])


def test_topographic_similarity():
    rng = np.random.default_rng(1)
    # Thermometer codes: Hamming distance is the distance of the numbers.
    numbers = rng.integers(0, 9, 60)
    code = (np.arange(8)[None] < numbers[:, None]).astype(int)
    np.testing.assert_allclose(measures.topographic_similarity(numbers[:, None].astype(float), code), 1)
    x, symbols = rng.random((50, 4, 4)), rng.integers(0, 2, (50, 10))
    pairs = np.triu_indices(50, 1)
    apart = np.linalg.norm((x[:, None] - x[None]).reshape(50, 50, -1), axis=-1)[pairs]
    differ = (symbols[:, None] != symbols[None]).mean(-1)[pairs]
    expected = np.corrcoef(rankdata(apart), rankdata(differ))[0, 1]
    np.testing.assert_allclose(measures.topographic_similarity(x, symbols), expected, atol=1e-6)
    assert measures.topographic_similarity(x, np.zeros((50, 3), int)) == 0
    with pytest.raises(PalaverError, match="of 2 examples"):
        measures.topographic_similarity(x[:2], symbols[:2])


def test_by_class():
    symbols, labels = np.array([[0, 1], [0, 0], [1, 1]]), np.array([0, 0, 2])
    found = measures.by_class(symbols, labels, 3, 2)
    np.testing.assert_allclose(found[0], [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(found[2], [[0, 1], [0, 1]])
    assert np.isnan(found[1]).all()
