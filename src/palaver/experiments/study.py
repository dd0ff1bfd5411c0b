"""What the runner needs of a configuration, whatever is trained: a collective, or a student and its teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.types import PyTree


class Row(NamedTuple):
    """One configuration of an experiment."""

    configuration: str
    settings: Any
    """A frozen dataclass; its kind (``palaver.experiments.kinds``) knows what to do with it."""
    thesis: dict[str, float]
    """The thesis's numbers for it, by metric name; accuracies as fractions."""


class Seen(NamedTuple):
    """One evaluation, or several."""

    round: int
    """After which the last was taken; for students the number of updates."""
    frame: pl.DataFrame
    """Tidy rows of ``metrics.parquet``."""
    latest: dict[str, float]
    """The headline numbers, fractions by metric name, for the progress display."""
    finished: bool
    """Whether there is nothing left to train."""
    pictures: dict[str, np.ndarray] = {}  # noqa: RUF012
    """Arrays for ``pictures.npz``, by their kind."""


class Study(NamedTuple):
    """A configuration made ready to run. Its state is a tree of arrays: all that a checkpoint holds."""

    state: PyTree
    """Before the first round."""
    advance: Callable[[PyTree], tuple[PyTree, Seen]]
    """Trains to the next evaluation, or several, and evaluates; the state given is used up."""
    summarise: Callable[[PyTree, pl.DataFrame], dict[str, Any]]
    """``summarise(state, history)``: the configuration's entry in ``summary.json``."""


class Kind(NamedTuple):
    """What can be trained: how settings become a study."""

    settings: Callable[..., Any]
    """The settings' dataclass."""
    load: Callable[[Any, Callable[[str], Dataset]], Dataset]
    """``load(settings, by_name)``: the data set, cut to what the settings use."""
    check: Callable[[Any, Dataset, list[int], int | None], None]
    """``check(settings, data, seeds, devices)`` raises ``PalaverError`` for what cannot be run; it trains nothing."""
    prepare: Callable[[Row, Dataset, list[int], int], Study]
    """``prepare(row, data, seeds, devices)``."""
    plan: Callable[[list[Row]], dict[str, Any]]
    """What ``settings.json`` holds beside the rows."""
    head: Callable[[list[Row]], dict[str, Any]]
    """What ``summary.json`` holds beside the rows."""
