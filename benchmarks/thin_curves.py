"""What the logs of ``benchmarks.thin_links`` say: accuracy over time and bytes, as a table and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.lines import Line2D
from rich.table import Table

from benchmarks.thin_site import SITES, record
from palaver.decision import DEFAULT_RULE, RULES
from palaver.report.colours import SHADES
from palaver.report.drawing import MARKERS, STYLE, legend, panel
from palaver.report.svg import sheet, to_svg

PEERS = ("reference", "own")
"""Methods whose sites keep models of their own; of the others one model is looked at, right after an average."""

_CLASSES = 10


class Curve(NamedTuple):
    """How good a run's sites are over time."""

    seconds: np.ndarray
    """``[T]`` since the start."""
    rounds: np.ndarray
    """``[T]``, mean over the sites."""
    sent: np.ndarray
    """``[T]`` bytes that a site sent, with all headers; mean over the sites."""
    alone: np.ndarray
    """``[T]`` test accuracy in [0, 1], mean over the sites."""
    together: np.ndarray
    """``[T]`` of what they decide together; of one shared model the same as alone."""

    def reaches(self, accuracy: float) -> int | None:
        """The first point that has this accuracy together."""
        found = np.flatnonzero(self.together >= accuracy)
        return int(found[0]) if len(found) else None


def curve(folder: Path, method: str, *, latest: bool = False) -> Curve | None:
    """A run's curve.

    Args:
        folder: of the run.
        method: of the run.
        latest: whether only its last point is wanted.

    Returns:
        The curve; ``None``: a site has written nothing yet.

    """
    logs = [np.fromfile(folder / f"{rank}.log", record(_CLASSES)) for rank in range(SITES)]
    if not all(len(log) for log in logs):
        return None
    labels = np.load(folder / "0.labels.npy")
    seconds = logs[0]["seconds"][-1:] if latest else logs[0]["seconds"]
    points = [
        np.array([log[max(0, int(np.searchsorted(log["seconds"], now, "right")) - 1)] for log in logs])
        for now in seconds
    ]
    accuracies = [_accuracies(point["logits"], labels, shared=method not in PEERS) for point in points]
    return Curve(
        np.array(seconds),
        np.array([point["round"].mean() for point in points]),
        np.array([point["sent"].mean() for point in points]),
        *np.array(accuracies).T,
    )


def _accuracies(logits: np.ndarray, labels: np.ndarray, *, shared: bool) -> tuple[float, float]:
    """Alone and together, of ``[N, B, C]``."""
    logits = logits[: 1 if shared else None].astype(np.float32)
    together = np.asarray(RULES[DEFAULT_RULE](logits, np.ones(logits.shape[:2], bool)))
    return float((logits.argmax(-1) == labels).mean()), float((together.argmax(-1) == labels).mean())


def table(curves: Mapping[str, Curve | None], targets: Mapping[str, float | None]) -> Table:
    """A row for each run.

    Args:
        curves: by the run's name.
        targets: test accuracy that its row tells the time of.

    Returns:
        The table.

    """
    found = Table("run", "target %", *(f"{what} to target" for what in ("s", "rounds", "kB")))
    for heading in ("s run", "rounds run", "kB sent", "best together %", "best alone %"):
        found.add_column(heading)
    for name, of in curves.items():
        target = targets[name]
        if of is None or target is None:
            continue
        at = of.reaches(target)
        reached = ["no"] * 3 if at is None else [f"{of.seconds[at]:.0f}", f"{of.rounds[at]:.0f}", _kilo(of.sent[at])]
        ran = [f"{of.seconds[-1]:.0f}", f"{of.rounds[-1]:.0f}", _kilo(of.sent[-1])]
        best = [f"{100 * accuracy.max():.1f}" for accuracy in (of.together, of.alone)]
        found.add_row(name, f"{100 * target:.1f}", *reached, *ran, *best)
    for column in found.columns[1:]:
        column.justify = "right"
    return found


def _kilo(of: float) -> str:
    return f"{of / 1000:,.0f}"


_COLOURS = ("blue", "green", "black", "orange", "pink", "gold", "sky", "soft")


def draw(curves: Mapping[str, Curve | None], targets: Mapping[str, float | None], folder: Path) -> list[Path]:
    """A figure for each data set: accuracy over seconds, and over bytes, on each cable.

    Args:
        curves: by the run's name, ``DATA SET: CABLE: METHOD``.
        targets: as for ``table``; a dotted line.
        folder: for the figures.

    Returns:
        What was written.

    """
    parts = [(*name.split(": "), of, targets[name]) for name, of in curves.items() if of is not None]
    written = []
    for task in dict.fromkeys(part[0] for part in parts):
        methods = list(dict.fromkeys(part[2] for part in parts if part[0] == task))
        looks = dict(zip(methods, zip(_COLOURS, f"{MARKERS}*", strict=False), strict=False))
        with matplotlib.style.context(["default", STYLE]):
            drawings = [
                _drawn([part for part in parts if part[:2] == (task, cable)], cable, looks, over)
                for cable in dict.fromkeys(part[1] for part in parts if part[0] == task)
                for over in ("seconds", "kB that a site sent")
            ]
            handles = [
                Line2D([], [], color=SHADES[colour].light, marker=marker, ms=4, lw=1.4, label=_said(method))
                for method, (colour, marker) in looks.items()
            ]
            drawings.append(legend(handles))
        path = folder / f"thin-links-{task.lower().replace(', ', '-').replace(' ', '-')}.svg"
        path.write_text(sheet(drawings) + "\n")
        written.append(path)
    return written


def _said(method: str) -> str:
    """A method's name for those who read the figure."""
    named = {"reference": "outputs on a reference set", "own": "own examples", "all-reduce": "all-reduce every round"}
    return named.get(method, method.replace("fedavg", "FedAvg").replace("diloco", "DiLoCo"))


_FIRST = {"seconds": 1.0, "kB that a site sent": 5.0}
"""Where the axes begin, which are logarithmic."""


def _drawn(parts: list[tuple], cable: str, looks: Mapping[str, tuple[str, str]], over: str) -> str:
    figure, axes = panel(2.6)
    for _, _, method, of, target in parts:
        colour, marker = looks[method]
        x = of.seconds if over == "seconds" else of.sent / 1000
        line: dict[str, Any] = {"drawstyle": "default" if method in PEERS else "steps-post", "markevery": 0.12}
        x = np.maximum(x, _FIRST[over])
        axes.plot(x, 100 * of.together, color=SHADES[colour].light, marker=marker, ms=3, lw=1.3, **line)
        if target is not None:
            axes.axhline(100 * target, color="black", lw=0.7, ls=(0, (1, 3)))
    axes.set_xscale("log")
    axes.set_xlim(left=_FIRST[over])
    axes.set_xlabel(over)
    axes.set_ylabel("test accuracy, %")
    axes.set_title(cable, fontsize=9)
    return to_svg(figure)
