"""What a chapter's report is made of: metrics, tables as text, sections, figures. Data only; ``report`` shows it."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from palaver.studies.formats import Format, three_digits
from palaver.studies.statistics import Support


class Metric(NamedTuple):
    """One number that a chapter measures, and how it is shown everywhere."""

    name: str
    """In ``metrics.parquet`` and ``summary.json``. One that ends in ``.*`` stands for every metric that begins so."""
    label: str
    """Above its column, with the unit; ``{}`` in it stands for the rest of a name that ends in ``.*``."""
    unit: str = ""
    """Beside its axis."""
    better: Literal["higher", "lower", ""] = ""
    """Which direction is better, if one is."""
    form: Format = three_digits
    """The file's number as a cell's text."""
    note: str = ""
    """How to read it, in one sentence."""
    panel: str = ""
    """Title of its panel in a figure of curves; empty: it has none."""
    factor: float = 1.0
    """From the file's number to the axis."""
    headline: str = ""
    """How the progress display shows it, ``{}`` for the number; empty: it does not show it."""
    reached: bool = False
    """Whether it is the step at which something was first reached: a seed may never get there."""
    spent: Sequence[str] = ()
    """Where it is what was spent until then, and not the step: the metrics whose sum that is."""
    compare: bool = False
    """Whether ``palaver compare`` shows it."""
    support: Support = "real"
    """Which values it can have, which its interval does not leave."""


def support_of(metrics: Sequence[Metric], name: str) -> Support:
    """Which values a metric can have, as a chapter's table declares it.

    >>> support_of([Metric("accuracy.*", "by {}", support="fraction")], "accuracy.majority")
    'fraction'

    Args:
        metrics: the table.
        name: of the metric. One that the table does not have is like those of the same name up to the first dot, such
            as the same metric at the end of training.

    Returns:
        The support; "real" of a metric that is like none in the table.

    """
    stem = name.partition(".")[0]
    alike = [metric for metric in metrics if metric.name.partition(".")[0] == stem]
    alike.sort(key=lambda metric: metric.name != name)
    return alike[0].support if alike else "real"


class Grid(NamedTuple):
    """A table as text."""

    title: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    """One tuple per row, as long as ``headers``."""
    labels: int = 1
    """How many leading columns hold words, aligned left; the others hold numbers, aligned right."""


class Section(NamedTuple):
    """A part of the report: words, then tables."""

    title: str
    note: str
    """How to read the tables."""
    grids: Sequence[Grid]
    terminal: bool = True
    """Whether the terminal shows it too at the end of a run."""


class Figure(NamedTuple):
    """A figure of the report, drawn when it is asked for."""

    name: str
    """Of its file, without ending."""
    title: str
    caption: str
    draw: Callable[[], Sequence[str]]
    """Gives drawings as SVG, which a page sets beside or below each other; none where the result has nothing for it."""
    section: str = "Figures"
    """The heading that it is shown under."""
    own_size: bool = False
    """Whether its drawings are shown as large as they were drawn, where the window has room."""


class Findings(NamedTuple):
    """Everything a chapter finds in a result."""

    verdict: Sequence[str]
    """What the run found, one or two sentences per line."""
    notices: Sequence[str]
    """What a reader must know before trusting the verdict: diverged seeds, collapsed nodes."""
    sections: Sequence[Section]
    figures: Sequence[Figure]
