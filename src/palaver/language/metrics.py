"""What a language is like, from hard messages (NumPy): entropy, agreement, topography, usage."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from palaver.language.generators import END
from palaver.types import PalaverError


def _entropy(counts: np.ndarray) -> float:
    """Plug-in entropy in bits."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def message_entropy(symbols: np.ndarray) -> float:
    """Entropy in bits of whole messages, as often as they occur among these examples: at most ``log2 B``.

    A hard message is a function of what was seen, so this is also what it tells about which of these views that was.

    >>> message_entropy(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    2.0

    Args:
        symbols: ``[B, L]`` ids.

    """
    # As rows of bytes: `np.unique(axis=0)` takes several times as long.
    return _entropy(np.array(list(Counter(map(bytes, symbols)).values())))


def symbol_entropy(symbols: np.ndarray, vocabulary: int) -> float:
    """Sum over positions of the entropy of their symbol, in bits.

    More than the message's entropy where positions tell the same: one bit said twice counts twice.

    >>> symbol_entropy(np.array([[0, 0], [1, 1]]), 2)
    2.0
    """
    return sum(_entropy(np.bincount(position, minlength=vocabulary)) for position in symbols.T)


def lengths(symbols: np.ndarray) -> np.ndarray:
    """``[B]``: symbols until ``END``, itself included; L where there is none.

    >>> lengths(np.array([[1, 0, 0], [1, 1, 1]])).tolist()
    [2, 3]
    """
    ended = symbols == END
    return np.where(ended.any(1), ended.argmax(1) + 1, symbols.shape[1])


def agreement(symbols: np.ndarray, *, variable: bool = False) -> float:
    """Share of positions at which two agents say the same symbol about the same example, mean over all pairs.

    Agents that always say the same one word agree fully: look at the entropy beside it.

    >>> agreement(np.array([[[0, 1]], [[0, 0]]]))
    0.5

    Args:
        symbols: ``[N, B, L]`` ids.
        variable: whether ``END`` ends a message; positions after the end of both do not count.

    Raises:
        PalaverError: a single agent.

    """
    if len(symbols) < 2:
        raise PalaverError(f"agreement of {len(symbols)} agent: give at least 2")

    def pairs(of: np.ndarray) -> int:
        """How many pairs there are among so many agents, summed."""
        return int((of.astype(np.int64) * (of - 1) // 2).sum())

    # Of k agents that say a symbol at a place, k (k − 1)/2 pairs agree.
    same = sum(pairs((symbols == v).sum(0)) for v in np.unique(symbols))
    places = len(symbols) * (len(symbols) - 1) // 2 * symbols[0].size
    if variable:
        ended = np.arange(symbols.shape[2]) >= lengths(symbols.reshape(-1, symbols.shape[2])).reshape(
            *symbols.shape[:2], 1
        )
        silent = pairs(ended.sum(0))
        same, places = same - silent, places - silent
    return same / places


def topographic_similarity(x: np.ndarray, symbols: np.ndarray) -> float:
    """Spearman's correlation, over all pairs, of inputs' distances with messages' (Brighton & Kirby 2006).

    Distances are Euclidean between inputs and Hamming between messages; 0 where all messages are the same.

    Args:
        x: ``[B, ...]``, a few hundred.
        symbols: ``[B, L]`` ids.

    Raises:
        PalaverError: fewer than 3 examples.

    """
    if len(x) < 3:
        raise PalaverError(f"topographic similarity of {len(x)} examples: give at least 3")
    apart = pdist(np.asarray(x, np.float32).reshape(len(x), -1)), pdist(symbols, "hamming")
    if not all(distances.any() for distances in apart):
        return 0.0
    ranks = [rankdata(distances) for distances in apart]
    correlation = np.corrcoef(*ranks)[0, 1] if all(np.ptp(rank) for rank in ranks) else 0.0
    return float(correlation)


def usage(symbols: np.ndarray, vocabulary: int) -> np.ndarray:
    """``[L, V]``: how often each symbol stands at each position, a share."""
    return np.stack([np.bincount(position, minlength=vocabulary) for position in symbols.T]) / len(symbols)


def by_class(symbols: np.ndarray, labels: np.ndarray, classes: int, vocabulary: int) -> np.ndarray:
    """``[C, L, V]``: usage about the examples of each class; NaN for a class without any."""
    groups = [symbols[labels == c] for c in range(classes)]
    nothing = np.full((symbols.shape[1], vocabulary), np.nan)
    return np.stack([usage(own, vocabulary) if len(own) else nothing for own in groups])
