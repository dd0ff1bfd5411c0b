"""Sentences of the thesis, and what a run says about each: it holds, it does not, or the seeds do not decide it.

``claims.toml`` has them by experiment. A sentence is a set of comparisons by seed, each with its 95 % interval
(Student's t): it holds where all of them do, and does not where one shows the contrary.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from operator import sub, truediv
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from palaver.report.grids import measured_cell, titled
from palaver.studies.findings import Grid
from palaver.studies.formats import decimals, points
from palaver.studies.results import Result, last_rounds, metric_of
from palaver.studies.statistics import Interval, interval, paired

_ratio = decimals(2)

METRICS = {
    "together": ("test_collective_accuracy", "collective_accuracy"),
    "average": ("test_average_accuracy", "average_accuracy"),
    "rounds": ("rounds_to_target",),
    "local loss": ("local_loss",),
    "own share": ("own_share",),
}
"""What a comparison is of: the first of these metrics that both configurations have."""

_PAIRED = ("above", "level", "sooner")

OURS = "–"

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold", "undecided", "not run"


class Claim(BaseModel):
    """A sentence, and the comparisons that it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str
    """Section of the thesis; ``OURS`` where the sentence is not there: the one before it under other conditions, or a
    control."""
    says: str
    """The sentence, in our words."""
    kind: Literal["above", "level", "sooner", "gain", "slight", "is", "falls"]
    """``above``: of each pair the first is above the second by at least ``by``; ``level``: the two differ by at most
    ``by``; ``sooner``: the second takes at least ``by`` times as long; ``gain`` and ``slight``: together is above the
    average node by at least and by at most ``by``; ``is``: ``of`` is ``value``, give or take ``by``; ``falls``: ``of``
    is at most ``value``."""
    of: Literal["together", "average", "rounds", "local loss", "own share"] = "together"
    pairs: tuple[tuple[str, str], ...] = ()
    """Names of configurations; those that are compared with themselves or a number are in ``each``."""
    each: tuple[str, ...] = ()
    by: float = 0.0
    """Points of accuracy, or a factor."""
    value: float = 0.0

    @model_validator(mode="after")
    def _whole(self) -> "Claim":
        if bool(self.pairs) != (self.kind in _PAIRED) or bool(self.each) == bool(self.pairs):
            raise ValueError(f"{self.says}: {self.kind} takes {'pairs' if self.kind in _PAIRED else 'each'} alone")
        if (self.kind == "sooner") != (self.of == "rounds"):
            raise ValueError(f"{self.says}: sooner is of rounds, and nothing else is")
        return self


class Checked(NamedTuple):
    """A comparison, and what its interval says."""

    what: str
    found: Interval | None
    """The difference in points, the ratio, or the number itself; None: not run."""
    verdict: str


def claims(experiment: str) -> list[Claim]:
    """The sentences about an experiment.

    Args:
        experiment: its name.

    Returns:
        Those of ``claims.toml``; none about most experiments.

    """
    text = resources.files("palaver.exchange.report").joinpath("claims.toml").read_text(encoding="utf-8")
    return [Claim.model_validate(each) for each in tomllib.loads(text).get(experiment, [])]


def checked(
    claim: Claim, rows: Mapping[str, Mapping[str, Any]], last: Mapping[str, float] = MappingProxyType({})
) -> list[Checked]:
    """The comparisons of a sentence.

    Args:
        claim: the sentence.
        rows: a summary's rows by name.
        last: the last round of each configuration: a target that is not reached by then takes longer.

    Returns:
        One for each pair or configuration.

    """
    if claim.kind == "sooner":
        return [_sooner(claim, one, other, rows, last) for one, other in claim.pairs]
    if claim.kind in _PAIRED:
        return [_pair(claim, one, other, rows) for one, other in claim.pairs]
    return [_single(claim, name, rows) for name in claim.each]


def verdict(found: Sequence[Checked]) -> str:
    """What the comparisons of a sentence say together."""
    verdicts = {each.verdict for each in found}
    if FAILS in verdicts:
        return FAILS
    if ABSENT in verdicts:
        return ABSENT
    return HOLDS if verdicts == {HOLDS} else OPEN


def count_of_verdicts(result: Result) -> str:
    """How many of the sentences about a run's experiment hold, in a sentence; empty where there are none."""
    rows = {str(row["configuration"]): row for row in result.summary["rows"]}
    about = [claim for claim in claims(str(result.summary.get("experiment"))) if claim.where != OURS]
    found = Counter(verdict(checked(claim, rows, last_rounds(result))) for claim in about)
    tested = sum(found.values()) - found[ABSENT]
    if not tested:
        return ""
    return (
        f"Of {tested} sentences of the thesis that were tested, {found[HOLDS]} hold, {found[FAILS]} do not, and "
        f"{found[OPEN]} are not decided by these seeds."
    )


class Sentence(NamedTuple):
    """A sentence and what a run says about it."""

    claim: Claim
    verdict: str
    found: list[Checked]


def sentences(
    experiment: str, rows: Mapping[str, Mapping[str, Any]], last: Mapping[str, float] = MappingProxyType({})
) -> list[Sentence]:
    """The sentences about an experiment, with their verdicts.

    Args:
        experiment: its name.
        rows: as for ``checked``.
        last: as for ``checked``.

    """
    found = [(claim, checked(claim, rows, last)) for claim in claims(experiment)]
    return [Sentence(claim, verdict(compared), compared) for claim, compared in found]


def claim_grid(result: Result) -> Grid:
    """A table of the sentences about a run's experiment, with the verdict on each; without rows where there are none.

    Args:
        result: the run.

    """
    rows = {str(row["configuration"]): row for row in result.summary["rows"]}
    lines = [
        (claim.where, claim.says, verdict, "; ".join(shown(claim, each) for each in found if each.found is not None))
        for claim, verdict, found in sentences(str(result.summary.get("experiment")), rows, last_rounds(result))
        if any(each.verdict != ABSENT for each in found)
    ]
    headers = "§", "the thesis", "verdict", "measured"
    return Grid(titled(result.summary, "sentences of the thesis"), headers, lines, labels=len(headers))


def _pair(claim: Claim, one: str, other: str, rows: Mapping[str, Mapping[str, Any]]) -> Checked:
    name = next((n for n in METRICS[claim.of] if all(metric_of(rows.get(x) or {}, n) for x in (one, other))), None)
    if name is None:
        return Checked(_named(one, other, "−"), None, ABSENT)
    found = paired(metric_of(rows[one], name), metric_of(rows[other], name), sub)
    judge = _above if claim.kind == "above" else _within
    return Checked(_named(one, other, "−"), found, judge(found, claim.by / 100))


def _sooner(
    claim: Claim, one: str, other: str, rows: Mapping[str, Mapping[str, Any]], last: Mapping[str, float]
) -> Checked:
    """How many times as long the other takes; where a target is never reached, what the last round says of that."""
    name, what = METRICS[claim.of][0], _named(other, one, "/")
    first, second = (metric_of(rows.get(each) or {}, name) for each in (one, other))
    if first is None or second is None:
        return Checked(what, None, ABSENT)
    found = paired(second, first, truediv, "positive")
    reached, others = ([value for value in each["values"] if value is not None] for each in (first, second))
    verdict = _above(found, claim.by)
    if not others and len(reached) == len(first["values"]) and last.get(other, 0.0) / max(reached) > claim.by:
        verdict = HOLDS
    if not reached and one in last and len(others) == len(second["values"]) and max(others) / last[one] < claim.by:
        verdict = FAILS
    return Checked(what, found, verdict)


def _named(one: str, other: str, sign: str) -> str:
    """A comparison's name; what both names begin with, up to the first colon, is said once."""
    (family, _, first), (same, _, second) = one.partition(": "), other.partition(": ")
    return f"{family}: {first} {sign} {second}" if first and family == same else f"{one} {sign} {other}"


def _single(claim: Claim, name: str, rows: Mapping[str, Mapping[str, Any]]) -> Checked:
    row = rows.get(name) or {}
    metric = next((metric_of(row, each) for each in METRICS[claim.of] if metric_of(row, each)), None)
    if metric is None:
        return Checked(name, None, ABSENT)
    if claim.kind in ("gain", "slight"):
        average = next((metric_of(row, each) for each in METRICS["average"] if metric_of(row, each)), None)
        found = paired(metric, average, sub)
        return Checked(name, found, (_above if claim.kind == "gain" else _below)(found, claim.by / 100))
    found = interval(metric["values"])
    if claim.kind == "falls":
        return Checked(name, found, _below(found, claim.value))
    off = interval([None if value is None else value - claim.value for value in metric["values"]])
    return Checked(name, found, _within(off, claim.by / 100))


def _above(found: Interval | None, by: float) -> str:
    if found is None or found["low"] is None or found["high"] is None:
        return OPEN
    return HOLDS if found["low"] > by else FAILS if found["high"] < by else OPEN


def _below(found: Interval | None, by: float) -> str:
    return {HOLDS: FAILS, FAILS: HOLDS}.get(said := _above(found, by), said)


def _within(found: Interval | None, by: float) -> str:
    if found is None or found["low"] is None or found["high"] is None:
        return OPEN
    if -by <= found["low"] and found["high"] <= by:
        return HOLDS
    return FAILS if found["low"] > by or found["high"] < -by else OPEN


def shown(claim: Claim, found: Checked) -> str:
    """A comparison and what was measured, in points or as a factor.

    Args:
        claim: the sentence.
        found: its comparison.

    """
    if claim.kind in ("above", "level", "gain", "slight"):
        return f"{found.what} {measured_cell(found.found, points)}"
    if claim.kind == "sooner":
        return f"{found.what} × {measured_cell(found.found, _ratio)}"
    number = decimals(1, factor=100) if claim.of == "own share" else decimals(3)
    return f"{found.what} {measured_cell(found.found, number)}"
