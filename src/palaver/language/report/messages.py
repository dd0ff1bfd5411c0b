"""Pictures of what agents see and send, from the arrays in ``pictures.npz``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from palaver.report.drawing import STYLE, WIDTH, panel, raster
from palaver.report.svg import to_svg
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


def drawings(kinds: Mapping[str, np.ndarray]) -> list[str]:
    """One configuration: inputs, views and decoded messages (Figure 4.1), and the symbols sent about each class.

    Args:
        kinds: its arrays, from ``read_messages``.

    Returns:
        The views where there are any, a heat map for each agent, and the heat maps' colour scale.

    """
    views, classes = kinds.get("views"), kinds["classes"]
    with matplotlib.style.context(["default", STYLE, {"axes.grid": False}]):
        above = [] if views is None else [_views(views)]
        symbol = "the second symbol" if classes.shape[-1] == 2 else "this symbol"
        maps = [_usage(f"agent {agent}", own) for agent, own in enumerate(classes)]
        return [*above, *maps, _scale(f"messages with {symbol} at this position, %")]


def _views(views: np.ndarray) -> str:
    """Inputs, what agents see of them, and what is decoded from a message, a row each."""
    names = ["input", *(f"agent {agent} sees" for agent in range(len(views) - 2)), "from the message"]
    figure = Figure(figsize=(WIDTH, 0.56 * len(views)), layout="constrained")
    for place, (name, row) in enumerate(zip(names, views, strict=True)):
        axes = figure.add_subplot(len(views), 1, place + 1)
        axes.imshow(raster(row[None]), interpolation="none")
        axes.set_title(name, fontsize="medium", pad=2)
        axes.set_axis_off()
    return to_svg(figure)


_MAP: dict[str, Any] = {"vmin": 0, "vmax": 100, "cmap": "viridis", "aspect": "auto", "interpolation": "none"}


def _usage(title: str, own: np.ndarray) -> str:
    """In how many of an agent's messages each symbol is sent about each class, ``[C, L, V]``."""
    figure, axes = panel(2.4)
    # Of two symbols the share of the second is enough; of more, each position is V columns.
    shown = own[..., 1] if own.shape[-1] == 2 else own.reshape(len(own), -1)
    axes.imshow(100 * shown, **_MAP)
    wide, per = own.shape[1], shown.shape[1] // own.shape[1]
    axes.set(title=title, ylabel="class")
    axes.set_yticks(range(len(shown)))
    axes.set_xlabel("position in the message" if per == 1 else f"position, {per} symbols each")
    ticks = range(0, wide, max(1, wide // 8))
    axes.set_xticks([per * place for place in ticks], list(map(str, ticks)))
    return to_svg(figure)


def _scale(label: str) -> str:
    """The colours of the heat maps, with numbers."""
    figure, axes = panel(0.7)
    axes.imshow(np.linspace(0, 100, 101)[None], extent=(0, 100, 0, 1), **_MAP)
    axes.set_yticks([])
    axes.set(xlabel=label, xticks=range(0, 101, 25))
    axes.set_gid("scale")
    return to_svg(figure)
