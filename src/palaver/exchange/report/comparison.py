"""Outputs on a reference set against everything else: who wins by how much, and the Pareto front over bits."""

from collections.abc import Callable, Mapping, Sequence
from operator import sub
from typing import NamedTuple

from palaver.exchange.report.entries import KINDS, MEASURES, Entry, best_rates, is_tested
from palaver.report.grids import measured_cell, percent_cell, titled
from palaver.studies.findings import Grid
from palaver.studies.formats import decimals, human_bits, percent, points, three_digits
from palaver.studies.results import Result
from palaver.studies.statistics import Interval, paired

_distance = decimals(1, factor=100)

RIVALS: dict[str, tuple[str, Callable[[Entry, Entry], bool]]] = {
    "averaging": ("the best that averages weights", lambda ours, other: other.kind == "averaging"),
    "cheap averaging": (
        "the best that averages weights and sends no more",
        lambda ours, other: other.kind == "averaging" and other.bits <= ours.bits,
    ),
    "gradients": ("the best that averages gradients", lambda ours, other: other.kind == "gradients"),
    "cheap": ("the best other that sends no more", lambda ours, other: other.bits <= ours.bits),
    "silent": ("silent", lambda ours, other: other.kind == "silent"),
}
"""What outputs on a reference set are compared with, in words, and which configurations those are."""

_IN_WORDS = "averaging", "cheap", "gradients"
"""Of these, those that the verdict names."""


class Against(NamedTuple):
    """The best configuration that sends outputs on a reference set, and a rival."""

    family: str
    measure: str
    """Of ``MEASURES``."""
    rival: str
    """Of ``RIVALS``."""
    ours: Entry
    other: Entry | None
    """None: there is no such configuration."""
    several: bool
    """Whether there are others of these."""
    difference: Interval | None
    """Ours minus theirs by seed, as a fraction."""


def front(entries: Sequence[Entry]) -> list[Entry]:
    """The Pareto front: entries such that no other is at least as accurate for at most as many bits, and better in one.

    Args:
        entries: of one family and measure.

    Returns:
        Those on the front, by bits.

    """

    def beats(one: Entry, other: Entry) -> bool:
        no_worse = one.bits <= other.bits and _accuracy(one) >= _accuracy(other)
        return no_worse and (one.bits < other.bits or _accuracy(one) > _accuracy(other))

    found = [entry for entry in entries if not any(beats(other, entry) for other in entries)]
    return sorted(found, key=lambda entry: entry.bits)


def compared(result: Result) -> dict[str, dict[str, list[Entry]]]:
    """The entries by family and measure, of all families if one has both outputs on a reference set and averaging.

    Args:
        result: the run.

    Returns:
        Empty for a run without such a family.

    """
    found: dict[str, dict[str, list[Entry]]] = {}
    for measure in MEASURES:
        for entry in best_rates(result, measure):
            found.setdefault(entry.family, {name: [] for name in MEASURES})[measure].append(entry)
    return found if any(_stands(entries["collective_accuracy"]) for entries in found.values()) else {}


def against(families: Mapping[str, Mapping[str, Sequence[Entry]]]) -> list[Against]:
    """The best on validation of the outputs on a reference set, against the best on validation of each of ``RIVALS``.

    Args:
        families: from ``compared``.

    Returns:
        Of every family that has both, for each measure one comparison with each rival.

    """
    return [
        _against(family, measure, rival, entries)
        for family, of_measures in families.items()
        for measure, entries in of_measures.items()
        if _stands(entries)
        for rival in RIVALS
    ]


def _stands(entries: Sequence[Entry]) -> bool:
    return {"outputs", "averaging"} <= {entry.kind for entry in entries}


def _against(family: str, measure: str, rival: str, entries: Sequence[Entry]) -> Against:
    ours = max((entry for entry in entries if entry.kind == "outputs"), key=lambda entry: entry.validated)
    fits = RIVALS[rival][1]
    others = [entry for entry in entries if entry.kind != "outputs" and fits(ours, entry)]
    other = max(others, key=lambda entry: entry.validated, default=None)
    difference = None if other is None else paired(ours.accuracy, other.accuracy, sub)
    return Against(family, measure, rival, ours, other, len(others) > 1, difference)


def sentences(found: Sequence[Against], examples: str) -> list[str]:
    """A sentence for each family: what outputs on a reference set win or lose, and what they cost.

    Args:
        found: from ``against``.
        examples: what the accuracies are taken on, such as test.

    """
    lines: list[str] = []
    for family in dict.fromkeys(each.family for each in found):
        parts, before = list[str](), ""
        for measure in MEASURES:
            own = [each for each in found if (each.family, each.measure) == (family, measure)]
            if own:
                part = _part(own, before)
                parts.append(part[0].upper() + part[1:] if parts else part)
                before = own[0].ours.name
        where = f"{family}, " if family else ""
        lines.append(f"{where}{examples} accuracy of outputs on a reference set: {'. '.join(parts)}.")
    return [line[0].upper() + line[1:] for line in lines]


def _part(found: Sequence[Against], before: str) -> str:
    """One measure of a family; ``before`` is the configuration that was named last."""
    ours = found[0].ours
    named = "" if ours.name == before else f" (“{ours.label}”, {human_bits(ours.bits)} a node)"
    told = {each.rival: each for each in found if each.rival in _IN_WORDS and (each.other or each.rival == "cheap")}
    cheap, averaging = (told[rival].other for rival in ("cheap", "averaging"))
    same = cheap is not None and averaging is not None and cheap.name == averaging.name
    if same:
        del told["cheap"]
    also = f" and {RIVALS['cheap'][0]}"
    phrases = [_phrase(each, also if same and name == "averaging" else "") for name, each in told.items()]
    what = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)
    return f"{MEASURES[found[0].measure]} {percent_cell(ours.accuracy)}{named}, which {what}"


def _phrase(one: Against, more: str) -> str:
    """How outputs stand against one rival."""
    if one.other is None or one.difference is None:
        return "has no rival that sends as little"
    role = RIVALS[one.rival][0]
    if not one.several:
        role = role.replace("the best other", "the only other").replace("the best that", "the only one that")
    whom = f"“{one.other.label}” ({human_bits(one.other.bits)}), {role}{more}"
    middle, low, high = (one.difference[end] for end in ("mean", "low", "high"))
    if middle is None:
        return f"cannot be compared with {whom}"
    size = f"{_distance(abs(middle))} points"
    if low is None or high is None:
        return f"is {size} {'above' if middle >= 0 else 'below'} {whom} (too few seeds for an interval)"
    if low > 0:
        return f"beats {whom}, by {size} [{_distance(low)}, {_distance(high)}]"
    if high < 0:
        return f"loses to {whom}, by {size} [{_distance(-high)}, {_distance(-low)}]"
    return f"is not told apart from {whom}: {points(middle)} points [{points(low)}, {points(high)}]"


def against_grid(result: Result, found: Sequence[Against]) -> Grid:
    """A table of all comparisons."""
    rows = [
        (
            each.ours.name,
            MEASURES[each.measure],
            RIVALS[each.rival][0],
            each.other.name,
            human_bits(each.ours.bits),
            human_bits(each.other.bits),
            measured_cell(each.difference, points),
        )
        for each in found
        if each.other is not None
    ]
    headers = ("outputs", "measure", "against", "which is", "bits of outputs", "its bits", "difference, points")
    return Grid(titled(result.summary, f"difference in {shown_accuracy(result)}"), headers, rows, labels=4)


def front_grid(result: Result, families: Mapping[str, Mapping[str, Sequence[Entry]]], measure: str) -> Grid:
    """The Pareto front of every family, as a table."""
    rows = [
        (
            entry.name,
            KINDS[entry.kind],
            f"{three_digits(entry.rate)}{f' ({entry.end})' if entry.end else ''}",
            human_bits(entry.bits),
            measured_cell(entry.accuracy, percent),
        )
        for entries in families.values()
        for entry in front(entries[measure])
    ]
    headers = ("configuration", "what is sent", "learning rate", "sent per node", f"{shown_accuracy(result)}, %")
    what = f"the Pareto front {MEASURES[measure]}"
    return Grid(titled(result.summary, what), headers, rows, labels=2)


def ends(families: Mapping[str, Mapping[str, Sequence[Entry]]]) -> str:
    """A sentence on how many configurations are best at the smallest or the largest learning rate; empty for none."""
    entries = {entry.name: entry for measures in families.values() for of in measures.values() for entry in of}
    counts = {end: sum(entry.end == end for entry in entries.values()) for end in ("smallest", "largest")}
    parts = [f"{number} at the {end}" for end, number in counts.items() if number]
    if not parts:
        return ""
    return f"Of {len(entries)} best configurations {' and '.join(parts)} of the rates tried; another might suit them."


def shown_accuracy(result: Result) -> str:
    """The name of the accuracy that is compared."""
    return f"{'test' if is_tested(result) else 'validation'} accuracy"


def _accuracy(entry: Entry) -> float:
    return entry.accuracy["mean"] or 0.0
