"""What nodes that learn without labels make of pictures, as the grids of tiles in ``pictures.npz`` show it."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from palaver.report.drawing import STYLE, raster, to_svg
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
_WIDTH, _MARGIN, _BETWEEN, _HEADING = 980, 6, 26, 20  # pixels of the page
_LABEL = 170  # a title's room, in pixels of the page
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


def pictures(stages: Stages) -> str:
    """One configuration's pictures: training rounds downwards, kinds across.

    Where a line would have no room for tiles a reader can make out, every kind takes a line of its own. Tiles are
    scaled without smoothing.
    """
    kinds = [kind for kind in KINDS if any(kind in grids for grids in stages.values())]
    wide = {kind: max(raster(grids[kind]).shape[1] for grids in stages.values() if kind in grids) for kind in kinds}
    side = max(max(grid.shape[2:4]) for grids in stages.values() for grid in grids.values())
    room = _WIDTH - 2 * _MARGIN
    scale, lines = (room - _BETWEEN * (len(kinds) - 1)) / sum(wide.values()), [kinds]
    if scale * side < _SMALLEST:
        scale, lines = room / max(wide.values()), [[kind] for kind in kinds]
    scale = min(scale, _LARGEST / side)
    scale = float(int(scale)) if scale >= 2 else scale
    blocks: list[tuple[str, float, float, np.ndarray]] = []
    top = right = float(_MARGIN)
    for number, line in itertools.product(sorted(stages), lines):
        left, tall = float(_MARGIN), 0.0
        for kind in line:
            width = max(scale * wide[kind], _LABEL)
            if kind in stages[number]:
                block = raster(stages[number][kind])
                blocks.append((f"round {count(number)}: {kind}", left, top + _HEADING, block))
                tall, right = max(tall, _HEADING + scale * block.shape[0]), max(right, left + width)
            left += width + _BETWEEN
        top += tall + (_BETWEEN / 2 if tall else 0)
    return _drawn(blocks, scale, right + _MARGIN, top - _BETWEEN / 2 + _MARGIN)


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


def _drawn(blocks: Sequence[tuple[str, float, float, np.ndarray]], scale: float, width: float, height: float) -> str:
    """Every grid with its title, at its place in pixels from the top left corner."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width / 96, height / 96))  # 96 pixels of a page are an inch
        for title, left, top, block in blocks:
            tall, wide = scale * block.shape[0], scale * block.shape[1]
            axes = figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))
            axes.imshow(block, interpolation="none", aspect="auto")
            axes.set_axis_off()
            figure.text(left / width, 1 - (top - 5) / height, title, fontsize=9.5, color="#1b1f24", va="baseline")
        return to_svg(figure)
