"""Measures of hard messages (NumPy): entropy, agreement, topographic similarity, usage."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import entropy, spearmanr

from palaver.language.generators import END
from palaver.types import PalaverError


def message_entropy(symbols: np.ndarray) -> float:
    """Plug-in entropy in bits of whole messages, as often as they occur among these examples: at most ``log2 B``.

    A hard message is a function of the agent's view, so this is also the messages' mutual information with the views.

    >>> message_entropy(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    2.0

    Args:
        symbols: ``[B, L]`` ids.

    Returns:
        Bits, 0 or more.

    """
    # As rows of bytes: `np.unique(axis=0)` takes several times as long.
    return float(entropy(list(Counter(map(bytes, symbols)).values()), base=2)) + 0.0


def symbol_entropy(symbols: np.ndarray, vocabulary: int) -> float:
    """Sum over positions of the plug-in entropy of their symbol, in bits.

    It is more than the message's entropy where positions depend on each other: one bit sent twice counts twice.

    >>> symbol_entropy(np.array([[0, 0], [1, 1]]), 2)
    2.0

    Args:
        symbols: ``[B, L]`` ids.
        vocabulary: V.

    Returns:
        Bits, 0 to ``L log2 V``.

    """
    return float(entropy(usage(symbols, vocabulary), base=2, axis=1).sum()) + 0.0


def lengths(symbols: np.ndarray) -> np.ndarray:
    """The number of symbols until ``END``, itself included.

    >>> lengths(np.array([[1, 0, 0], [1, 1, 1]])).tolist()
    [2, 3]

    Args:
        symbols: ``[B, L]`` ids of messages of variable length.

    Returns:
        ``[B]``: 1 to L; L where there is no ``END``.

    """
    ended = symbols == END
    return np.where(ended.any(1), ended.argmax(1) + 1, symbols.shape[1])


def agreement(symbols: np.ndarray, *, variable: bool = False) -> float:
    """Share of positions at which two agents send the same symbol about the same example, mean over all pairs.

    Agents that always send the same message agree fully: look at the entropy beside it.

    >>> agreement(np.array([[[0, 1]], [[0, 0]]]))
    0.5

    Args:
        symbols: ``[N, B, L]`` ids.
        variable: whether ``END`` ends a message; positions after the end of both do not count.

    Returns:
        A share, 0 to 1.

    Raises:
        PalaverError: a single agent.

    """
    agents, _, length = symbols.shape
    if agents < 2:
        raise PalaverError(f"agreement of {agents} agent: give at least 2")

    def pairs(counts: np.ndarray) -> int:
        """How many pairs there are among so many agents, summed."""
        return int((counts.astype(np.int64) * (counts - 1) // 2).sum())

    # Of k agents that send the same symbol at a position, k (k − 1)/2 pairs agree.
    same = sum(pairs((symbols == v).sum(0)) for v in np.unique(symbols))
    positions = agents * (agents - 1) // 2 * symbols[0].size
    if variable:
        ended = np.arange(length) >= lengths(symbols.reshape(-1, length)).reshape(agents, -1, 1)
        both_ended = pairs(ended.sum(0))
        same, positions = same - both_ended, positions - both_ended
    return same / positions


def topographic_similarity(x: np.ndarray, symbols: np.ndarray) -> float:
    """Spearman's correlation, over all pairs, of inputs' distances with messages' (Brighton & Kirby 2006).

    Distances are Euclidean between inputs and Hamming between messages.

    >>> topographic_similarity(np.array([[0.0], [1.0], [3.0]]), np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]]))
    1.0

    Args:
        x: ``[B, ...]`` inputs, a few hundred: there are ``B (B − 1) / 2`` pairs.
        symbols: ``[B, L]`` ids of their messages.

    Returns:
        A correlation, −1 to 1; 0 where all inputs or all messages are equally far from each other.

    Raises:
        PalaverError: fewer than 3 examples.

    """
    if len(x) < 3:
        raise PalaverError(f"topographic similarity of {len(x)} examples: give at least 3")
    distances = pdist(np.asarray(x, np.float32).reshape(len(x), -1)), pdist(symbols, "hamming")
    if not all(np.ptp(own) for own in distances):
        return 0.0
    found: Any = spearmanr(*distances)
    return float(found.statistic)


def usage(symbols: np.ndarray, vocabulary: int) -> np.ndarray:
    """The share of messages that have each symbol at each position.

    >>> usage(np.array([[0, 1], [1, 1]]), 2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]

    Args:
        symbols: ``[B, L]`` ids, at least one message.
        vocabulary: V.

    Returns:
        ``[L, V]``: shares, which sum to 1 at each position.

    """
    return np.stack([np.bincount(position, minlength=vocabulary) for position in symbols.T]) / len(symbols)


def by_class(symbols: np.ndarray, labels: np.ndarray, classes: int, vocabulary: int) -> np.ndarray:
    """``usage`` in messages about the examples of each class.

    >>> by_class(np.array([[0], [1], [1]]), np.array([0, 0, 1]), 2, 2).tolist()
    [[[0.5, 0.5]], [[0.0, 1.0]]]

    Args:
        symbols: ``[B, L]`` ids.
        labels: ``[B]`` class ids of the examples.
        classes: C.
        vocabulary: V.

    Returns:
        ``[C, L, V]``: shares; NaN for a class without examples.

    """
    groups = [symbols[labels == c] for c in range(classes)]
    nothing = np.full((symbols.shape[1], vocabulary), np.nan)
    return np.stack([usage(own, vocabulary) if len(own) else nothing for own in groups])
