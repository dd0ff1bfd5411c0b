"""What agents that make up a language say: tables, figures and words, from a run's result files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from palaver.report.drawing import STYLE, canvas, curve_of, handle_of, look_of, plain, to_svg
from palaver.report.files import Result
from palaver.report.interval import Interval, interval
from palaver.report.pictures import NAME, raster
from palaver.report.tables import NOTHING, Grid, count, measured_cell, percent
from palaver.types import PalaverError


def is_language(summary: Mapping[str, Any]) -> bool:
    """Whether a run was one of agents that make up a language."""
    return summary.get("kind") == "language"


def _metric(row: Mapping[str, Any], name: str) -> Interval | None:
    return (row.get("metrics") or {}).get(name)


def _digits(places: int, sign: str = "") -> Any:
    return lambda value: NOTHING if value is None else f"{value:{sign}.{places}f}"


def probes_grid(summary: Mapping[str, Any]) -> Grid:
    """Table 4.1: what linear readers make of features and of hard messages, and how far they fall by the end."""
    rows = []
    for row in summary["rows"]:
        best, end = (_metric(row, f"validation_probe_accuracy{when}") for when in ("", ".end"))
        rows.append(
            (
                str(row["configuration"]),
                measured_cell(_metric(row, "probe_accuracy"), percent),
                percent((row.get("thesis") or {}).get("probe_accuracy")),
                measured_cell(_metric(row, "best_step"), count),
                measured_cell(_apart(end, best), lambda value: NOTHING if value is None else f"{100 * value:+.1f}"),
                measured_cell(_metric(row, "message_probe_accuracy"), percent),
                measured_cell(_metric(row, "message_probe_accuracy.end"), percent),
            )
        )
    headers = ("configuration", "features %", "thesis", "best step", "points by the end", "messages %", "at the end")
    return Grid(f"{summary.get('experiment', 'run')}: what a linear reader makes of it", headers, rows)


def _apart(a: Interval | None, b: Interval | None) -> Interval | None:
    """The difference by seed, with its interval."""
    if a is None or b is None:
        return None
    pairs = zip(a["values"], b["values"], strict=True)
    return interval([None if x is None or y is None else x - y for x, y in pairs])


_SAID = {
    "message_entropy.end": ("entropy, bits", _digits(1)),
    "symbol_entropy.end": ("summed over positions", _digits(1)),
    "mutual_information.end": ("I(X; S) ≥, nats", _digits(2)),
    "agreement.end": ("agreement %", percent),
    "topographic_similarity.end": ("topographic similarity", _digits(2)),
    "reconstruction_error.end": ("reconstruction error", _digits(4)),
    "length.end": ("length", _digits(1)),
}


def messages_grid(summary: Mapping[str, Any]) -> Grid:
    """What the hard messages at the end are like."""
    told = {name: how for name, how in _SAID.items() if any(_metric(row, name) for row in summary["rows"])}
    rows = [
        (
            str(row["configuration"]),
            _digits(0)(row.get("bits_available")),
            *(measured_cell(_metric(row, name), form) for name, (_, form) in told.items()),
            "yes" if row.get("crosses_wire") else "no",
        )
        for row in summary["rows"]
    ]
    headers = ("configuration", "bits there", *(header for header, _ in told.values()), "learns over a wire")
    return Grid("hard messages at the end", headers, rows)


_READERS = {"probe_accuracy": "features", "message_probe_accuracy.end": "hard messages"}


def _compared(result: Result) -> dict[str, str]:
    """Who communicates, and who does not and differs in nothing else."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    found = {
        name: next((o for o, its in settings.items() if _silent_twin(own, its)), None) for name, own in settings.items()
    }
    return {name: other for name, other in found.items() if other is not None}


def _gain(result: Result, name: str, other: str, metric: str) -> Interval | None:
    rows = {row["configuration"]: row for row in result.summary["rows"]}
    return _apart(_metric(rows[name], metric), _metric(rows[other], metric))


def gains_grid(result: Result) -> Grid:
    """What communication adds in points, by seed, to who is else the same and hears nobody."""

    def points(value: float | None) -> str:
        return NOTHING if value is None else f"{100 * value:+.1f}"

    rows = [
        (name, other, *(measured_cell(_gain(result, name, other, metric), points) for metric in _READERS))
        for name, other in _compared(result).items()
    ]
    return Grid("what communication adds", ("configuration", "against", *_READERS.values()), rows, labels=2)


def verdict(result: Result) -> str:
    """Where communication helps, where it harms, and where the seeds do not tell: a line for each reader."""
    compared = _compared(result)
    if not compared:
        return "No two configurations differ in communication alone."
    lines = []
    for metric, what in _READERS.items():
        adds, takes, untold = [], [], 0
        for name, other in compared.items():
            gain = _gain(result, name, other, metric)
            low, high = (gain["low"], gain["high"]) if gain else (None, None)
            if low is None or high is None:
                untold += 1
                continue
            adds += [f"“{name}”"] if low > 0 else []
            takes += [f"“{name}”"] if high < 0 else []
        helps, harms = (f"{len(of)}" + (f" ({', '.join(of)})" if of else "") for of in (adds, takes))
        total = "1 comparison" if len(compared) == 1 else f"{len(compared)} comparisons"
        left = len(compared) - len(adds) - len(takes) - untold
        without = f"; without an interval, for too few seeds: {untold}" if untold else ""
        lines.append(
            f"Of {total} by a reader of {what}, communication helps in {helps} and harms in {harms}; "
            f"undecided: {left}{without}."
        )
    return "\n".join(lines)


_OF_COMMUNICATION = {"level", "weight", "foresee", "topology", "neighbours", "graph_seed"}


def _otherwise(settings: Mapping[str, Any]) -> str:
    """All but how there is communication."""
    return repr(sorted((key, value) for key, value in settings.items() if key not in _OF_COMMUNICATION))


def _silent_twin(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the other is without communication and otherwise the same."""
    return _otherwise(own) == _otherwise(other) and own.get("level") != "none" and other.get("level") == "none"


def _families(result: Result) -> list[list[str]]:
    """Configurations to be drawn together: those that differ in communication alone, and then all that have no such."""
    found: dict[str, list[str]] = {}
    for row in result.settings["rows"]:
        found.setdefault(_otherwise(row.get("settings") or {}), []).append(row["configuration"])
    alone = [name for names in found.values() if len(names) == 1 for name in names]
    families = [names for names in found.values() if len(names) > 1]
    return families + ([alone] if alone else [])


def curves(result: Result, names: list[str]) -> str | None:
    """Validation accuracy of both readers of these configurations over steps (Figure 4.3 is the first panel)."""
    panels = {
        "validation_probe_accuracy": ("read from features, validation %", 100.0),
        "validation_message_probe_accuracy": ("read from messages, validation %", 100.0),
        "message_entropy": ("entropy of hard messages, bits", 1.0),
        "agreement": ("agreement between agents, %", 100.0),
    }
    found = {
        name: {metric: curve for metric in panels if (curve := curve_of(result, name, metric)) is not None}
        for name in names
    }
    found = {name: own for name, own in found.items() if own}
    if not found:
        return None
    with matplotlib.style.context(["default", STYLE, {"font.size": 8.5}]):
        figure = canvas(5.4, [handle_of(result, name, names) for name in found])
        for place, (metric, (label, factor)) in enumerate(panels.items()):
            axes = figure.add_subplot(2, 2, place + 1)
            for name, own in found.items():
                if metric not in own:
                    continue
                steps, middle, low, high = own[metric]
                colour, marker = look_of(result, name, names)
                every = max(1, len(steps) // 6)
                axes.plot(steps, factor * middle, color=colour, lw=1.3, marker=marker, markersize=3, markevery=every)
                axes.fill_between(steps, factor * low, factor * high, color=colour, alpha=0.1, linewidth=0)
            axes.set(xlabel="steps" if place > 1 else None, ylabel=label)
            axes.set_xlim(left=0)
        return to_svg(figure)


def _read(result: Result) -> dict[int, dict[str, np.ndarray]]:
    """The arrays of ``pictures.npz`` by row of the settings and kind; none where there is no file."""
    path = result.folder / NAME
    if not path.is_file():
        return {}
    found: dict[int, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as pack:
            for key in pack.files:
                row, _, kind = key.split("/")
                found.setdefault(int(row), {})[kind] = pack[key]
        for row, kinds in found.items():
            if not 0 <= row < len(result.settings["rows"]) or {*kinds, "views"} != {"views", "messages", "classes"}:
                raise ValueError(f"row {row} has {', '.join(sorted(kinds))}")
    except Exception as error:  # NumPy's reader fails in many ways
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise PalaverError(f"cannot read {path} ({said}): run the experiment again") from error
    return found


def said(kinds: Mapping[str, np.ndarray]) -> str:
    """One configuration: what is seen, said and understood (Figure 4.1), and what is said of each class."""
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
    """Inputs, what agents see of them, and what comes back from a message."""
    axes = figure.add_subplot()
    axes.imshow(raster(views), interpolation="none", aspect="auto")
    high = views.shape[2] + 1
    names = ["input", *(f"agent {agent} sees" for agent in range(len(views) - 2)), "from the message"]
    axes.set_yticks([high * row + high / 2 for row in range(len(views))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _usage(figure: Any, classes: np.ndarray) -> None:
    """How often each symbol is said of each class, ``[agents, C, L, V]``."""
    wide = classes.shape[2]
    for agent, own in enumerate(classes):
        axes = figure.add_subplot(-(-len(classes) // 2), min(2, len(classes)), agent + 1)
        # Of two symbols the share of the second says all; of more, each position is V columns.
        shown = own[..., 1] if own.shape[-1] == 2 else own.reshape(len(own), -1)
        axes.imshow(shown, vmin=0, vmax=1, cmap="Blues", aspect="auto", interpolation="none")
        axes.set(title=f"agent {agent}", ylabel="class" if agent % 2 == 0 else None)
        axes.set_yticks(range(len(shown)))
        per = shown.shape[1] // wide
        axes.set_xlabel("position in the message" if per == 1 else f"position, {per} symbols each")
        ticks = range(0, wide, max(1, wide // 8))
        axes.set_xticks([per * place for place in ticks], list(ticks))


def figures(result: Result) -> dict[str, str | None]:
    """Every figure of such a run."""
    drawn = {f"curves_{place}": curves(result, names) for place, names in enumerate(_families(result))}
    return drawn | {f"said_{row}": said(kinds) for row, kinds in _read(result).items()}


def words(result: Result, name: str) -> tuple[str, str]:
    """A figure's title and caption."""
    if name.startswith("curves_"):
        names = _families(result)[int(name.removeprefix("curves_"))]
        return (
            "What readers make of features and messages: " + plain("; ".join(names)),
            "Mean over seeds with the 95 % interval as band; of table-4.1 the first panel is the thesis's Figure 4.3. "
            "The readers are linear classifiers trained beside the agents, whom they do not touch. Messages are hard: "
            "at each position the likeliest symbol.",
        )
    row = result.settings["rows"][int(name.removeprefix("said_"))]
    two = (row.get("settings") or {}).get("vocabulary") == 2
    how = "how often the second symbol is said" if two else "how often each symbol is said"
    return (
        plain(str(row["configuration"])),
        "Above: inputs, as the first agents see them, and what a decoder makes of the last agent's hard messages. "
        f"Below: {how} at each position about the test examples of each class; the first seed.",
    )


HOW_PROBES = (
    "Test accuracy of a linear reader of the students' features, at the step of the best validation accuracy, "
    "mean over seeds with its 95 % interval (Student t) in brackets; the thesis's number beside ours. “Points by "
    "the end”: how much lower validation accuracy is at the last step than at the best of all evaluations, which "
    "chance alone makes a little. “Messages”: the same of a linear reader of hard messages, at that step and at "
    "the end."
)
HOW_GAINS = (
    "Test accuracy less that of the configuration that hears nobody and is otherwise the same, in points: the mean of "
    "the differences by seed with its 95 % interval (Student t). The reader of features at the best step, that of "
    "hard messages at the end. Where nothing differs, one comparison in twenty still looks as if it did."
)
HOW_MESSAGES = (
    "Of hard messages about the test examples. Entropy: of whole messages, at most the bits there and the "
    "logarithm of the number of test examples; beside it the sum of the entropies of the positions, where a bit "
    "said twice counts twice. I(X; S): a lower bound, by a critic trained afterwards on hard messages about the "
    "training set and judged on the test set by InfoNCE in batches of at most 512, so at most 6.2 nats. "
    "Agreement: positions at which two agents say the same; a language of one word agrees fully. Topographic "
    "similarity: rank correlation of inputs' with messages' distances. Reconstruction error: mean square of a "
    "decoder trained afterwards on messages alone. Learns over a wire: whether feedback needs numbers only, not "
    "the listener's gradients."
)
