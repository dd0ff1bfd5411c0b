"""What nodes that learn without labels make of pictures, as the grids of tiles in ``pictures.npz`` show it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from palaver.report.drawing import STYLE, raster
from palaver.report.svg import to_svg
from palaver.studies import results
from palaver.studies.formats import count
from palaver.studies.results import PICTURES, Result, check_tiles
from palaver.types import PalaverError

KINDS = {
    "reconstructions": "Reconstructions: originals, and below each what comes back from its code.",
    "samples": "Samples: pictures made from codes drawn at random.",
    "interpolations": "Interpolations: each row walks from one picture's code to another's.",
}
"""The kinds of grids, in the order they are shown, and what is seen in each."""

Stages = dict[int, dict[str, np.ndarray]]
"""Round to kind to grid of tiles."""

_ROUNDS = 4
_WIDTH, _HEADING = 308, 20  # of a drawing, in pixels of the page, of which three have room beside each other
_LABEL = 190  # a title's room, in pixels of the page
_LARGEST, _SMALLEST = 56, 30  # of a tile's longer side, in pixels of the page


def read_pictures(result: Result) -> dict[int, Stages]:
    """The grids of tiles to show, by the row of the configuration in the settings; none where there is no file.

    Of each configuration up to four rounds: the first, the last and evenly between.

    Raises:
        PalaverError: if ``pictures.npz`` cannot be read or does not hold what its keys say.

    """
    path, rows = result.folder / PICTURES, len(result.settings["rows"])

    def shown(names: list[str]) -> list[str]:
        """Of each configuration the names of its first, its last and some rounds between."""
        parsed = {name: _parsed(path, name, rows) for name in names}
        rounds: dict[int, set[int]] = {}
        for row, number, _ in parsed.values():
            rounds.setdefault(row, set()).add(number)
        kept = {row: evenly(sorted(numbers)) for row, numbers in rounds.items()}
        return [name for name, (row, number, _) in parsed.items() if number in kept[row]]

    found: dict[int, Stages] = {}
    for name, grid in results.read_pictures(result, shown).items():
        row, number, kind = _parsed(path, name, rows)
        found.setdefault(row, {}).setdefault(number, {})[kind] = check_tiles(path, name, grid)
    return dict(sorted(found.items()))


def evenly(rounds: Sequence[int], most: int = _ROUNDS) -> list[int]:
    """At most so many of the rounds: the first, the last and evenly between.

    >>> evenly(range(0, 1001, 100))
    [0, 300, 700, 1000]
    """
    places = np.linspace(0, len(rounds) - 1, min(most, len(rounds)))
    return [rounds[int(place)] for place in np.floor(places + 0.5)]


def pictures(stages: Stages) -> list[str]:
    """One configuration's pictures: a drawing for each training round and kind.

    All are scaled alike and without smoothing, to tiles that a reader can make out, even where a drawing becomes wider
    than a narrow window.
    """
    grids = [
        (number, kind, stages[number][kind]) for number in sorted(stages) for kind in KINDS if kind in stages[number]
    ]
    side = max(max(grid.shape[2:4]) for _, _, grid in grids)
    widest = max(raster(grid).shape[1] for _, _, grid in grids)
    scale = min(max(_WIDTH / widest, _SMALLEST / side), _LARGEST / side)
    scale = float(int(scale)) if scale >= 2 else scale
    return [_drawn(f"round {count(number)}: {kind}", raster(grid), scale) for number, kind, grid in grids]


def caption(stages: Stages) -> str:
    """What is seen in a configuration's figure."""
    numbers = [count(number) for number in sorted(stages)]
    listed = f"rounds {', '.join(numbers[:-1])} and {numbers[-1]}" if len(numbers) > 1 else f"round {numbers[0]}"
    after = "from top to bottom " if len(numbers) > 1 else ""
    seen = [words for kind, words in KINDS.items() if any(kind in grids for grids in stages.values())]
    return f"Taken {after}after {listed} of training. {' '.join(seen)}"


def _parsed(path: Path, key: str, configurations: int) -> tuple[int, int, str]:
    row, _, rest = key.partition("/")
    number, _, kind = rest.partition("/")
    if not (row.isdecimal() and number.isdecimal() and kind in KINDS and int(row) < configurations):
        raise PalaverError(
            f"{path} holds {key!r}: its keys are 'row/round/kind', the row below {configurations} (the configurations "
            f"in settings.json), the kind {', '.join(KINDS)}; run the experiment again"
        )
    return int(row), int(number), kind


def _drawn(title: str, block: np.ndarray, scale: float) -> str:
    """A grid of tiles below its title, so many pixels of the page for each of its own."""
    tall, wide = scale * block.shape[0], scale * block.shape[1]
    width, height = max(wide, _LABEL), tall + _HEADING
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width / 96, height / 96))  # 96 pixels of a page are an inch
        axes = figure.add_axes((0, 0, wide / width, tall / height))
        axes.imshow(block, interpolation="none", aspect="auto")
        axes.set_axis_off()
        figure.text(0, 1 - 14 / height, title, fontsize=9.5, va="baseline")
        return to_svg(figure)
