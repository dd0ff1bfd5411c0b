"""What has left a site, to whom and about what: the figures behind "bytes out" and the journal's entries."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "?"
"""The receiver of answers: whoever asks is not known by name."""


@dataclass
class _Left:
    """Of one kind to one receiver, since the latest entry."""

    number: int = 0
    bytes: int = 0
    rows: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Ledger:
    """Messages that have left, in bytes without what the network puts around them."""

    bytes: Counter[str] = field(default_factory=Counter)
    """Since the start, by kind: packets, beacons, answers."""
    _since: dict[tuple[str, str], _Left] = field(default_factory=dict)

    def add(self, kind: str, to: str, size: int, rows: int = 0, start: int | None = None) -> None:
        """Notes a message.

        Args:
            kind: ``packets``, ``beacons`` or ``answers``.
            to: name of the receiver, or ``UNKNOWN``.
            size: bytes.
            rows: that it is about.
            start: the first of them in the reference set; ``None``: they are of no reference set.

        """
        self.bytes[kind] += size
        left = self._since.setdefault((kind, to), _Left())
        left.number, left.bytes, left.rows = left.number + 1, left.bytes + size, left.rows + rows
        if start is not None:
            left.ranges.append((start, start + rows))

    def entry(self) -> dict[str, dict[str, Any]]:
        """What has left since the latest entry, for the journal; the sum of all entries' bytes is that of ``bytes``.

        Returns:
            By kind and receiver: ``number`` of messages, ``bytes``; ``rows`` that they are about, one that is in two
            messages twice; and ``reference``, the ranges ``[first, last + 1]`` that these rows are of.

        """
        found = dict[str, dict[str, Any]]()
        for (kind, to), left in self._since.items():
            about: dict[str, Any] = {"rows": left.rows} if left.rows else {}
            about |= {"reference": merged(left.ranges)} if left.ranges else {}
            found.setdefault(kind, {})[to] = {"number": left.number, "bytes": left.bytes} | about
        self._since.clear()
        return found


def merged(ranges: list[tuple[int, int]]) -> list[list[int]]:
    """Ranges as few others that hold the same.

    >>> merged([(64, 96), (0, 32), (32, 64), (128, 160), (0, 32)])
    [[0, 96], [128, 160]]

    Args:
        ranges: each from a first number up to, not including, a last one.

    Returns:
        The same numbers, in order, each once.

    """
    found = list[list[int]]()
    for first, last in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found
