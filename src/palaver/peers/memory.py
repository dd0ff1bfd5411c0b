"""What a peer has heard about each row of the reference set: ``palaver.exchange.reference`` for one node."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from palaver.types import NO_PEER


class Arrival(NamedTuple):
    """What somebody said about B rows."""

    start: int
    """The first of them."""
    value: np.ndarray
    """``[B, ...]``, decoded."""
    weight: np.ndarray
    """``[B]``: how much it counts."""
    sender: int = NO_PEER
    """Id of who said so."""


class Memory:
    """Running sums of what was heard about R rows, older parts discounted.

    Args:
        rows: R.
        shape: of what is said about one row, decoded.

    """

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self.total = np.zeros((rows, *shape), np.float32)
        self.weight = np.zeros(rows, np.float32)

    def add(self, arrivals: Sequence[Arrival], decay: float) -> None:
        """Adds what arrived in a round.

        Args:
            arrivals: what arrived.
            decay: factor of what was heard before about a row, once a round in which something arrived about it.

        """
        for start in dict.fromkeys(arrival.start for arrival in arrivals):
            about = [arrival for arrival in arrivals if arrival.start == start]
            weight = sum((each.weight for each in about), np.float32(0))
            total = sum((_times(each.value, each.weight) for each in about), np.float32(0))
            kept = np.where(weight > 0, np.float32(decay), np.float32(1))
            rows = slice(start, start + len(kept))
            self.total[rows] = _times(self.total[rows], kept) + total
            self.weight[rows] = self.weight[rows] * kept + weight

    def recall(self, start: int, rows: int) -> tuple[np.ndarray, int]:
        """The mean of what was heard about rows.

        Args:
            start: the first of them.
            rows: how many.

        Returns:
            ``[rows, ...]``, 0 about rows of which nothing was heard; and of how many rows something was.

        """
        total, weight = self.total[start : start + rows], self.weight[start : start + rows]
        known = weight > 0
        return _times(total, 1 / np.where(known, weight, np.float32(1))), int(known.sum())


def _times(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return value * weight.reshape(-1, *(1,) * (value.ndim - 1))
