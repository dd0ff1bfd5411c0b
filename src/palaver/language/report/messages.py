"""Pictures of what agents see and send, from the arrays in ``pictures.npz``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from palaver.report.drawing import STYLE, raster, to_svg
from palaver.studies.results import PICTURES, Result, check_tiles, read_pictures
from palaver.types import PalaverError

_KEY = re.compile(r"(\d{1,9})/\d+/(views|messages|classes)", re.ASCII)


def read_messages(result: Result) -> dict[int, dict[str, np.ndarray]]:
    """The arrays of ``pictures.npz`` by row of the settings and kind; none where there is no file.

    Raises:
        PalaverError: the file cannot be read, or its arrays are not those of this run's configurations.

    """
    path, rows = result.folder / PICTURES, len(result.settings["rows"])
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, array in read_pictures(result).items():
        key = _KEY.fullmatch(name)
        if key is None or int(key[1]) >= rows:
            raise PalaverError(
                f"{path} holds {name!r}: its keys are 'row/step/kind', the row below {rows} (the configurations in "
                "settings.json), the kind views, messages or classes; run the experiment again"
            )
        found.setdefault(int(key[1]), {})[key[2]] = _checked(path, name, key[2], array)
    for row, kinds in found.items():
        if "classes" not in kinds:
            raise PalaverError(f"{path} has no classes of row {row}: run the experiment again")
    return found


def _checked(path: Path, name: str, kind: str, array: np.ndarray) -> np.ndarray:
    """Views are pictures, classes shares of symbols; messages are not drawn."""
    if kind == "views":
        return check_tiles(path, name, array)
    shares = array.ndim == 4 and array.size and array.dtype.kind == "f"
    if kind == "classes" and not shares:
        raise PalaverError(
            f"{path} holds {array.dtype} {list(array.shape)} under {name!r}: it must be float [agents, classes, "
            "positions, symbols]; run the experiment again"
        )
    return array


def drawing(kinds: Mapping[str, np.ndarray]) -> str:
    """One configuration: inputs, views and decoded messages (Figure 4.1), and the symbols sent about each class."""
    views, classes = kinds.get("views"), kinds["classes"]
    heights = [0.0 if views is None else 0.62 * len(views), 2.6 * -(-len(classes) // 2)]
    with matplotlib.style.context(["default", STYLE, {"font.size": 8.5, "axes.grid": False}]):
        figure = Figure(figsize=(7, sum(heights)), layout="constrained")
        if views is None:
            _usage(figure, classes)
        else:
            parts: Any = figure.subfigures(2, 1, height_ratios=heights)
            _tiles(parts[0], views)
            _usage(parts[1], classes)
        return to_svg(figure)


def _tiles(figure: Any, views: np.ndarray) -> None:
    """Inputs, what agents see of them, and what is decoded from a message."""
    axes = figure.add_subplot()
    axes.imshow(raster(views), interpolation="none", aspect="auto")
    high = views.shape[2] + 1
    names = ["input", *(f"agent {agent} sees" for agent in range(len(views) - 2)), "from the message"]
    axes.set_yticks([high * row + high / 2 for row in range(len(views))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _usage(figure: Any, classes: np.ndarray) -> None:
    """How often each symbol is sent about each class, ``[agents, C, L, V]``."""
    wide = classes.shape[2]
    for agent, own in enumerate(classes):
        axes = figure.add_subplot(-(-len(classes) // 2), min(2, len(classes)), agent + 1)
        # Of two symbols the share of the second is enough; of more, each position is V columns.
        shown = own[..., 1] if own.shape[-1] == 2 else own.reshape(len(own), -1)
        axes.imshow(shown, vmin=0, vmax=1, cmap="Blues", aspect="auto", interpolation="none")
        axes.set(title=f"agent {agent}", ylabel="class" if agent % 2 == 0 else None)
        axes.set_yticks(range(len(shown)))
        per = shown.shape[1] // wide
        axes.set_xlabel("position in the message" if per == 1 else f"position, {per} symbols each")
        ticks = range(0, wide, max(1, wide // 8))
        axes.set_xticks([per * place for place in ticks], list(ticks))
