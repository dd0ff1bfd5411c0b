"""What a chapter is to everything around it: settings that become studies, metrics, and a report. One value each."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.studies.findings import Findings, Metric
from palaver.studies.memory import Footprint
from palaver.studies.results import Result
from palaver.studies.schema import Schema
from palaver.studies.settings import changed
from palaver.types import PyTree

S = TypeVar("S")
"""The chapter's settings."""
D = TypeVar("D")
"""What its studies are made from: a data set, as a rule."""


class Configuration(NamedTuple):
    """One row of an experiment."""

    name: str
    settings: Any
    """Of the chapter's settings class."""
    thesis: dict[str, float] = {}  # noqa: RUF012
    """The thesis's numbers for it, by metric; accuracies as fractions."""
    family: str = ""
    """Heading of those that it belongs with in a long table; empty: it stands under none."""


class Row(NamedTuple):
    """A configuration of an experiment, before settings are given in place of the experiment's own."""

    name: str
    base: Any
    """The other settings, which may be given in place of these."""
    own: Mapping[str, Any]
    """What makes it this configuration and no other: settings by name, which stay as they are here."""
    thesis: dict[str, float] = {}  # noqa: RUF012
    """As in ``Configuration``."""
    family: str = ""
    """As in ``Configuration``."""

    def under(self, overrides: Mapping[str, Any] = MappingProxyType({}), where: str = "") -> Configuration:
        """The configuration with other settings than the base's.

        Args:
            overrides: settings by name.
            where: they come from, for the error message.

        Raises:
            PalaverError: an unknown setting, or values that the chapter's settings refuse.

        """
        settings = changed(self.base, {**overrides, **self.own}, f"{where}“{self.name}”: ")
        return Configuration(self.name, settings, self.thesis, self.family)


class Evaluation(NamedTuple):
    """One evaluation, or several."""

    step: int
    """After which the last was made, in the chapter's unit of progress."""
    frame: pl.DataFrame
    """Tidy rows of ``metrics.parquet``."""
    latest: dict[str, float]
    """The latest value by metric, mean over seeds, for the progress display."""
    finished: bool
    """Whether nothing is left to train."""
    pictures: dict[str, np.ndarray] = {}  # noqa: RUF012
    """Arrays for ``pictures.npz``, by kind."""


class Study(NamedTuple):
    """A configuration made ready to run. Its state is a tree of arrays: all that a checkpoint holds."""

    begin: Callable[[], PyTree]
    """The state before the first step."""
    advance: Callable[[PyTree], tuple[PyTree, Evaluation]]
    """Trains to the next evaluation, or several, and evaluates; the state given is used up."""
    summarise: Callable[[PyTree, pl.DataFrame], dict[str, Any]]
    """``summarise(state, history)``: the configuration's entry in ``summary.json``. Readings of the clock that are no
    metrics are its ``timings``, by name; they are stored apart from the entry, and read back into it.
    """
    compile: Callable[[], object] = lambda: None
    """Compiles what ``begin`` and ``advance`` run, so that they need not. It runs nothing on more than one device:
    another thread may call it while a configuration trains on the same ones.
    """


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


def _unknown(*_: Any) -> Footprint:
    return Footprint(0, None)


class Chapter(NamedTuple, Generic[S, D]):
    """Everything that the command line, the runner and the report ask of a chapter."""

    name: str
    """In ``settings.json`` and ``summary.json``, and of the command that runs one configuration of one's own."""
    unit: str
    """Of progress, in the plural: rounds, updates, steps."""
    settings: type[S]
    """A class made by ``palaver.studies.settings.settings``."""
    scales: Mapping[str, S]
    """Settings of a configuration of one's own at ``tiny``, ``cpu`` and ``thesis`` scale; flags change them."""
    name_of: Callable[[S], str]
    """``name_of(settings)``: what a configuration of one's own is called."""
    load: Callable[[S, Callable[[str], Dataset]], D]
    """``load(settings, by_name)``: the data set, cut to what the settings use."""
    prepare: Callable[[Configuration, D, Sequence[int], int], Study]
    """``prepare(configuration, data, seeds, devices)``; where ``ahead``, on another thread, like ``Study.compile``."""
    metrics: Sequence[Metric]
    """Every metric that is shown."""
    report: Callable[[Result], Findings]
    """What a result shows, from its files alone."""
    schema: Schema = Schema()
    """What its result files hold that its report reads, beside what every chapter's hold."""
    footprint: Callable[[S, D, int, int], Footprint] = _unknown
    """``footprint(settings, data, seeds, devices)``: what so many seeds are about to take, from shapes alone.

    By default no memory, so that nothing is refused.
    """
    check: Callable[[S, D, Sequence[int], int | None], None] = lambda *_: None
    """``check(settings, data, seeds, devices)`` raises ``PalaverError`` for what cannot be run; it trains nothing.

    The footprint is made first, and what it raises need not be found again.
    """
    unread: Callable[[S, str], str] = lambda _settings, _name: ""
    """``unread(settings, name)``: what reads that setting, in words, where with these settings nothing does; empty: it
    is read.
    """
    ahead: bool = False
    """Whether the next configurations may be prepared and compiled on other threads while one trains: not where its
    results hold readings of the clock.
    """
    sharded: bool = False
    """Whether ``prepare`` distributes over the devices that it is given; otherwise it uses one."""
    length: Callable[[S], int | None] = lambda settings: None
    """``length(settings)``: how long it trains at most, in the unit of progress; None: not known beforehand."""
    plan: Callable[[Sequence[Configuration]], dict[str, Any]] = _nothing
    """What ``settings.json`` holds beside the configurations."""
    conclude: Callable[[Sequence[Configuration], list[dict[str, Any]], pl.DataFrame], dict[str, Any]] = _nothing
    """``conclude(configurations, rows, history)``: what ``summary.json`` holds beside its rows. It may add to the rows
    what needs more than one configuration to be known.
    """


AnyChapter: TypeAlias = Chapter[Any, Any]
"""Whatever its settings and data are."""
