"""What the JSON files of a result must hold. A chapter adds what its own report reads; anything more is let through."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from palaver.types import PalaverError

LARGEST = 1e100
"""No number of a result is further from 0; more than float32 holds, and far enough from float64's end to scale it."""

FOREIGN = "it is not a result file of this version; run the experiment again"
"""The end of the line on a file that does not hold what it must."""

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
"""A finite number."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A whole number, exact as a float too."""


class Checked(BaseModel, strict=True, extra="allow"):
    """A JSON object with at least these fields, of exactly these types."""


class Measured(Checked):
    """A metric of one configuration: ``statistics.Interval``."""

    mean: Number | None
    low: Number | None
    high: Number | None
    values: Sequence[Number | None]

    @model_validator(mode="after")
    def _ordered(self) -> "Measured":
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high should both be numbers, or both null")
        if self.low is None or self.high is None:
            return self
        if self.mean is None or not self.low <= self.mean <= self.high:
            raise ValueError("the mean should be a number between low and high")
        return self


class SummaryRow(Checked):
    """A configuration in ``summary.json``."""

    configuration: str
    metrics: Mapping[str, Measured]
    thesis: Mapping[str, Number] | None = None
    diverged: Mapping[str, Count] | None = None


R = TypeVar("R", bound=SummaryRow)
"""A chapter's configuration in ``summary.json``."""
S = TypeVar("S", bound=Mapping[str, Any] | Checked)
"""The settings of a chapter's configuration in ``settings.json``."""


class Timings(Checked):
    """Readings of the clock in ``summary.json``."""

    wall_seconds: Number | None = None
    metrics: Mapping[str, Mapping[str, Measured]] = {}
    """By configuration and name."""
    rows: Mapping[str, Mapping[str, Number]] = {}
    """Those that are no metrics, by configuration and name."""
    checksums: Mapping[str, str] = {}
    """As those of the results."""


class Summary(Checked, Generic[R]):
    """``summary.json``."""

    chapter: str
    rows: Annotated[Sequence[R], Field(min_length=1)]
    experiment: str = "run"
    scale: str | None = None
    version: str | None = None
    device: str | None = None
    seeds: Count | None = None
    timings: Timings = Timings()
    overrides: Mapping[str, Any] | None = None
    only: Sequence[str] | None = None
    checksums: Mapping[str, str] | None = None
    """SHA-256 of the files beside it, as the run has written them."""


class SettingsRow(Checked, Generic[S]):
    """A configuration in ``settings.json``."""

    configuration: str
    settings: S


class Settings(Checked, Generic[S]):
    """``settings.json``."""

    rows: Annotated[Sequence[SettingsRow[S]], Field(min_length=1)]


class Schema(NamedTuple):
    """The two JSON files of a chapter's results."""

    summary: type[Summary[Any]] = Summary[SummaryRow]
    settings: type[Settings[Any]] = Settings[Mapping[str, Any]]


T = TypeVar("T", bound=Summary[Any])


def one_value_per_seed(summary: T) -> T:
    """The summary as it is: a rule for chapters whose report compares seed by seed.

    Raises:
        ValueError: a metric has more or fewer values than there are seeds.

    """
    for row in summary.rows:
        for name, metric in row.metrics.items():
            if len(metric.values) != summary.seeds:
                raise ValueError(
                    f"{name} of “{row.configuration}” has {len(metric.values)} values for {summary.seeds} seeds"
                )
    return summary


def check(path: Path, content: Any, model: type[Checked]) -> None:
    """Checks what was read from a file.

    Args:
        path: of the file, for the error's message.
        content: of the file, as from ``json.loads``.
        model: what it must hold.

    Raises:
        PalaverError: the first thing that is not as it should be, in one line.

    """
    try:
        model.model_validate(content)
    except ValidationError as error:
        raise PalaverError(f"{path}: {_line(error)}; {FOREIGN}") from None


def _line(error: ValidationError) -> str:
    """The first of the errors: where, what was found, what should be there."""
    first = error.errors(include_url=False)[0]
    *parents, last = first["loc"] or ("",)
    reason = first.get("ctx", {}).get("error") or first["msg"]
    if first["type"] == "missing":
        return f"{_place(parents)} has no {last}"
    found = textwrap.shorten(repr(first["input"]), 60, placeholder=" …")
    if first["type"] == "value_error":
        return f"{_place(first['loc'])}: {_squeezed(str(reason))}"
    _, should, what = str(reason).partition("should")
    return f"{_place(first['loc'])} is {found}: it {should}{what}" if should else f"{_place(first['loc'])}: {reason}"


def _place(location: Sequence[int | str]) -> str:
    """Such as ``rows[2].metrics.loss``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return _squeezed("".join(parts).removeprefix(".")) or "the file"


def _squeezed(text: str) -> str:
    """At most 200 characters in one line."""
    return textwrap.shorten(text, 200, placeholder=" …")
