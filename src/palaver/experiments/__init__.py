"""The one registry of chapters and experiments. It imports a chapter only when that chapter is asked for."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from palaver.errors import PalaverError

if TYPE_CHECKING:
    from palaver.studies.chapter import AnyChapter, Row

Rows: TypeAlias = "Callable[[str, Mapping[str, Any]], Sequence[Row]]"
"""``rows(scale, overrides)``: the configurations at a scale. What is given in place of the experiment's own settings is
applied to them afterwards; ``overrides`` is for settings that follow from others.
"""


class ChapterEntry(NamedTuple):
    """A chapter in the registry."""

    about: str
    """What one configuration of one's own is, for ``palaver list``."""
    chapter: str | AnyChapter
    """The chapter, or where it is defined, ``module:NAME``."""
    seeds: int = 5
    """How many seeds when none are asked for."""


class Experiment(NamedTuple):
    """What ``palaver list`` shows and ``palaver run`` runs."""

    about: str
    chapter: str
    """Name of its chapter."""
    seeds: int
    """How many seeds when none are asked for."""
    rows: Rows | None = None
    """Its configurations; None: ``rows`` in the module of ``palaver.experiments`` that has the experiment's name."""


CHAPTERS: dict[str, ChapterEntry] = {
    "collective": ChapterEntry(
        "one collective with your own settings (every setting is a flag)", "palaver.exchange.chapter:CHAPTER"
    ),
    "teaching": ChapterEntry("one student and its teacher with your own settings", "palaver.teaching.chapter:CHAPTER"),
    "language": ChapterEntry("one language with your own settings", "palaver.language.chapter:CHAPTER"),
}
"""Every chapter by its name. A chapter of one's own is one more entry."""

EXPERIMENTS: dict[str, Experiment] = {
    "quickstart": Experiment(
        "ten sites with skewed digits: silent, averaging weights, or talking (half a minute on two cores)",
        "collective",
        5,
    ),
    "versus": Experiment(
        "talking against every rival on one axis of bits, on more and more skewed shards", "collective", 5
    ),
    "sweeps": Experiment(
        "every sentence of the thesis on how nodes talk (§2.3.1 to §2.4): how many, to whom, how often, what",
        "collective",
        5,
    ),
    "table-2.1": Experiment(
        "thesis Tables 2.1 and 2.2: what ten nodes should send each other, on CIFAR-10", "collective", 3
    ),
    "table-2.3": Experiment(
        "thesis Table 2.3: VAE and BiGAN nodes that learn without labels, on CIFAR-10", "collective", 3
    ),
    "table-3.1": Experiment(
        "thesis Table 3.1 and Figure 3.1: a teacher that selects the examples, on MNIST", "teaching", 5
    ),
    "table-4.1": Experiment(
        "thesis Table 4.1 and Figures 4.1 to 4.3: agents that develop a discrete language, on MNIST", "language", 5
    ),
}
"""Every experiment by its name: configurations of one chapter, at three scales."""


def chapter(name: str) -> AnyChapter:
    """A chapter by its name.

    Raises:
        PalaverError: there is none of that name.

    """
    if name not in CHAPTERS:
        raise PalaverError(f"{name!r} is no chapter: choose one of {', '.join(CHAPTERS)}")
    found = CHAPTERS[name].chapter
    return pkgutil.resolve_name(found) if isinstance(found, str) else found


def rows(name: str, scale: str, overrides: Mapping[str, Any]) -> Sequence[Row]:
    """The configurations of an experiment at a scale; see ``Rows``."""
    module = name.replace("-", "_").replace(".", "_")
    found = EXPERIMENTS[name].rows or pkgutil.resolve_name(f"palaver.experiments.{module}:rows")
    return found(scale, overrides)
