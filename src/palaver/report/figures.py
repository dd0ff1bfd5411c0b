"""A run's figures as SVG, drawn from its result files: the same files give the same bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib.style
import networkx as nx
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from palaver.report.files import Result, write_text
from palaver.report.interval import interval
from palaver.report.tables import RULES, human_bits, sent_bits

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe & Ito's palette without its yellow, which is too pale for a line on white."""

_MARKERS = "osD^vPX"
_GREY = "#595959"
_MOST_NODES, _MOST_EDGES = 200, 5000
_STYLE = {
    "svg.hashsalt": "palaver",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
}


def write_figures(result: Result) -> dict[str, str]:
    """Draw every figure the result has something for into ``figures/``; older drawings of the others are removed.

    Returns:
        The SVG of each figure drawn, by the name of its file without ending, in the order of a reader's questions.

    """
    drawn = {
        "accuracy_over_rounds": accuracy_over_rounds(result),
        "accuracy_over_bits": accuracy_over_bits(result),
        "decision_rules": decision_rules(result),
        "graph": graph(result),
        "temperature": temperature(),
    }
    for name, svg in drawn.items():
        path = result.folder / "figures" / f"{name}.svg"
        if svg is None:
            path.unlink(missing_ok=True)
        else:
            write_text(path, svg)
    return {name: svg for name, svg in drawn.items() if svg is not None}


def accuracy_over_rounds(result: Result) -> str | None:
    """Collective (solid) and average (dashed) validation accuracy in percent over rounds, with the seeds' band."""
    curves = [
        (name, kind, curve)
        for name in _configurations(result)
        for kind in ("collective_accuracy", "average_accuracy")
        if (curve := _curve(result, name, kind)) is not None
    ]
    if not curves:
        return None
    with matplotlib.style.context(["default", _STYLE]):
        names = list(dict.fromkeys(name for name, _, _ in curves))
        kinds = [Line2D([], [], color=_GREY, lw=1.9, label="the collective")]
        kinds += [Line2D([], [], color=_GREY, lw=1.3, ls=(0, (4, 2)), label="the average node")]
        figure, axes = _axes(3.7, kinds + [_handle(result, name) for name in names])
        alpha = 0.16 if len(names) <= 6 else 0.08
        for name, kind, (rounds, middle, low, high) in curves:
            solid = kind == "collective_accuracy"
            colour, marker = _look(result, name)
            axes.plot(
                *(rounds, 100 * middle),
                color=colour,
                linestyle="-" if solid else (0, (4, 2)),
                linewidth=1.9 if solid else 1.3,
                marker=marker,
                markersize=4.5 if solid else 3,
                markevery=max(1, len(rounds) // 8),
            )
            axes.fill_between(rounds, 100 * low, 100 * high, color=colour, alpha=alpha, linewidth=0)
        _target(result, axes)
        axes.set(xlabel="round", ylabel="validation accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return _svg(figure)


def accuracy_over_bits(result: Result) -> str | None:
    """Collective accuracy in percent over the bits a node sent; upright lines where gradient exchange would stand.

    Configurations that send nothing have no place on a logarithmic axis and are left out.
    """
    curves = []
    for name in _configurations(result):
        curve = _curve(result, name, "collective_accuracy")
        parts = [_curve(result, name, f"bits.{part}") for part in ("examples", "payload")]
        sent = dict.fromkeys([] if curve is None else curve[0], 0.0)
        for part in parts:
            for number, bits in zip(*part[:2], strict=True) if part else ():
                if number in sent:
                    sent[number] += bits
        bits = np.array(list(sent.values()))
        if curve is not None and (bits > 0).any():
            curves.append((name, bits, curve))
    if not curves:
        return None
    with matplotlib.style.context(["default", _STYLE]):
        handles = [_handle(result, name) for name, _, _ in curves]
        gradients = _gradient_bits(result, [name for name, _, _ in curves])
        if gradients:
            label = "gradient exchange by the last round"
            handles.append(Line2D([], [], color=_GREY, ls=(0, (1, 1.5)), lw=1.6, label=label))
        figure, axes = _axes(3.7, handles)
        for name, bits, (_, middle, low, high) in curves:
            shown = bits > 0
            colour, marker = _look(result, name)
            x, every = bits[shown], max(1, len(bits) // 8)
            axes.plot(x, 100 * middle[shown], color=colour, marker=marker, markersize=4.5, markevery=every, lw=1.9)
            axes.fill_between(x, 100 * low[shown], 100 * high[shown], color=colour, alpha=0.16, linewidth=0)
        _target(result, axes)
        for bits in gradients:
            axes.axvline(bits, color=_GREY, linestyle=(0, (1, 1.5)), linewidth=1.6)
        axes.set(xscale="log", xlabel="sent per node (examples and payload)", ylabel="collective accuracy, %")
        axes.xaxis.set_major_formatter(lambda bits, _: human_bits(bits))
        return _svg(figure)


def decision_rules(result: Result) -> str | None:
    """Collective accuracy in percent under each decision rule, with the interval over seeds, by configuration."""
    rows = result.summary["rows"]
    found = [[(row.get("metrics") or {}).get(f"collective_accuracy.{rule}") for rule in RULES] for row in rows]
    means = [[_mean(metric) for metric in metrics] for metrics in found]
    kept = [pair for pair, mean in zip(zip(rows, found, strict=True), means, strict=True) if set(mean) != {None}]
    if not kept:
        return None
    with matplotlib.style.context(["default", _STYLE]):
        looks = zip(RULES, COLOURS, _MARKERS, strict=False)
        handles = [
            Line2D([], [], color=colour, marker=marker, ls="", ms=5.5, label=rule.replace("_", " "))
            for rule, colour, marker in looks
        ]
        figure, axes = _axes(0.9 + 0.72 * len(kept), handles)
        for place, (_, metrics) in enumerate(kept):
            axes.axhspan(place - 0.46, place + 0.46, color="#f3f3f3" if place % 2 == 0 else "white", zorder=0, lw=0)
            for rule, metric in enumerate(metrics):
                middle = _mean(metric)
                if middle is None or metric is None:
                    continue
                low, high = metric.get("low"), metric.get("high")
                ends = None if low is None or high is None else [[100 * (middle - low)], [100 * (high - middle)]]
                y = place + (rule - (len(RULES) - 1) / 2) * 0.17
                axes.errorbar(100 * middle, y, xerr=ends, fmt=_MARKERS[rule], color=COLOURS[rule], ms=5.5, capsize=2.5)
        axes.set_yticks(range(len(kept)), [_wrapped(row["configuration"]) for row, _ in kept])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="collective accuracy, %", ylim=(len(kept) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        return _svg(figure)


def graph(result: Result) -> str | None:
    """The collective's graph in a circle; of a large one a connected sample, as its title says."""
    found = result.settings.get("graph") or {}
    nodes = int(found.get("nodes") or 0)
    if nodes < 2:
        return None
    whole = nx.Graph()
    whole.add_nodes_from(range(nodes))
    whole.add_edges_from((int(i), int(j)) for i, j in found.get("edges") or [] if i != j)
    drawn, edges = _sample(whole)
    title = f"{nodes:,} nodes, {whole.number_of_edges():,} links"
    if drawn.number_of_nodes() < nodes or len(edges) < whole.number_of_edges():
        title = f"a sample of {drawn.number_of_nodes():,} nodes and {len(edges):,} links, out of {title}"
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        places = nx.circular_layout(drawn)
        if edges:
            ends = np.array([[places[i], places[j]] for i, j in edges]).reshape(-1, 2)
            codes = [Outline.MOVETO, Outline.LINETO] * len(edges)
            width = float(np.clip(40 / np.sqrt(len(edges)) / 4, 0.15, 1.2))
            axes.add_patch(PathPatch(Outline(ends, codes), facecolor="none", edgecolor="#8a8a8a", lw=width))
        dots = np.array([places[node] for node in drawn])
        size = float(np.clip(9000 / len(dots), 12, 420))
        axes.scatter(dots[:, 0], dots[:, 1], s=size, color=COLOURS[0], zorder=3)
        if len(dots) <= 50:
            for node, (x, y) in places.items():
                small = 9 if len(dots) <= 24 else 7
                axes.text(x, y, str(node), color="white", ha="center", va="center_baseline", fontsize=small, zorder=4)
        axes.set(title=title, xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
        axes.set_axis_off()
        return _svg(figure)


def temperature(
    logits: Iterable[float] = (1.0, 2.0, 4.0, 8.0), temperatures: Iterable[float] = (0.5, 1.0, 2.0, 4.0, 8.0)
) -> str:
    """Class probabilities ``softmax(logits / τ)`` at several temperatures: Figure 2.1 of the thesis."""
    logits, temperatures = np.array(list(logits)), list(temperatures)
    with matplotlib.style.context(["default", _STYLE]):
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(temperatures)))
        handles = [Patch(color=c, label=f"τ = {tau:g}") for c, tau in zip(colours, temperatures, strict=True)]
        figure, axes = _axes(3.2, handles)
        width = 0.82 / len(temperatures)
        for place, tau in enumerate(temperatures):
            x = np.arange(len(logits)) + (place - (len(temperatures) - 1) / 2) * width
            bars = axes.bar(x, _softmax(logits / tau), width * 0.92, color=colours[place])
            for number, bar in enumerate(bars):
                bar.set_gid(f"probability-{number}-at-{tau:g}")
        axes.set_xticks(range(len(logits)), [f"class {i}\nlogit {logit:g}" for i, logit in enumerate(logits)])
        axes.set(ylabel="probability", ylim=(0, 1.02))
        axes.grid(visible=False, axis="x")
        return _svg(figure)


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _sample(whole: nx.Graph[Any]) -> tuple[nx.Graph[Any], list[tuple[int, int]]]:
    """The graph itself, or as many nodes around node 0, breadth first, and as many links as a reader can see."""
    drawn = whole
    if whole.number_of_nodes() > _MOST_NODES:
        near: dict[int, None] = {}
        for start in whole:
            if len(near) >= _MOST_NODES:
                break
            if start not in near:
                near.update(dict.fromkeys([start, *(node for _, node in nx.bfs_edges(whole, start))]))
        drawn: nx.Graph[Any] = nx.Graph()
        drawn.add_nodes_from(sorted(list(near)[:_MOST_NODES]))
        drawn.add_edges_from(whole.subgraph(drawn.nodes).edges)
    edges = sorted((min(edge), max(edge)) for edge in drawn.edges)
    if len(edges) > _MOST_EDGES:
        picked = np.random.default_rng(0).choice(len(edges), _MOST_EDGES, replace=False)
        edges = [edges[place] for place in np.sort(picked)]
    return drawn, edges


def _configurations(result: Result) -> list[str]:
    return [row["configuration"] for row in result.summary["rows"]]


def _curve(result: Result, configuration: str, metric: str) -> tuple[np.ndarray, ...] | None:
    """Rounds, mean, low and high over seeds ``[R]``; NaN where a seed has no value, as in ``interval``."""
    of_it = result.metrics.filter((pl.col("configuration") == configuration) & pl.col("node").is_null())
    seeds = of_it["seed"].n_unique()
    if isinstance(result.summary.get("seeds"), int):  # a seed that diverged at once left no row at all
        seeds = max(seeds, result.summary["seeds"])
    of_it = of_it.filter(pl.col("metric") == metric)
    found = of_it.group_by("round").agg(pl.col("value").sort_by("seed")).sort("round")
    if found.is_empty():
        return None
    points = [interval(values + [None] * (seeds - len(values))) for values in found["value"].to_list()]
    lines = (np.array([point[end] for point in points], float) for end in ("mean", "low", "high"))
    return found["round"].to_numpy(), *lines


def _gradient_bits(result: Result, configurations: list[str]) -> list[float]:
    """Where gradient exchange would have ended: one number for configurations that agree to three digits."""
    rows = [row for row in result.summary["rows"] if row["configuration"] in configurations and sent_bits(row)]
    bits = [(row.get("bits_per_node") or {}).get("gradient_exchange") for row in rows]
    return sorted({float(f"{each:.3g}") for each in bits if each})


def _mean(metric: dict[str, Any] | None) -> float | None:
    return None if metric is None else metric.get("mean")


def _look(result: Result, configuration: str) -> tuple[str, str]:
    """Colour and marker: the same for a configuration in every figure; the pair repeats only after 49."""
    place = _configurations(result).index(configuration)
    return COLOURS[place % len(COLOURS)], _MARKERS[(place + place // len(COLOURS)) % len(_MARKERS)]


def _wrapped(name: str) -> str:
    return _plain("\n".join(textwrap.wrap(name, 30, max_lines=3, placeholder=" …")))


def _plain(text: str) -> str:
    """Dollar signs would start a formula."""
    return text.replace("$", r"\$")


def _handle(result: Result, configuration: str) -> Line2D:
    colour, marker = _look(result, configuration)
    label = _plain(textwrap.shorten(configuration, 84, placeholder=" …"))
    return Line2D([], [], color=colour, marker=marker, markersize=5, lw=1.9, label=label)


def _axes(height: float, handles: list[Any]) -> tuple[Figure, Axes]:
    """A figure 7 inches wide whose axes and legend below do not take room from each other."""
    lines = -(-len(handles) // _columns(handles))
    figure = Figure(figsize=(7, height + 0.19 * lines), layout="constrained")
    figure.legend(handles=handles, loc="outside lower left", ncols=_columns(handles), fontsize=9.5, handlelength=2.4)
    return figure, figure.add_subplot()


def _columns(handles: list[Any]) -> int:
    """As many columns as the longest label leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return 1 if longest > 38 else 2 if longest > 20 else 3 if longest > 8 else 5


def _target(result: Result, axes: Axes) -> None:
    target = result.summary.get("target")
    if target is not None:
        axes.axhline(100 * target, color=_GREY, linewidth=0.9, zorder=1)
        edge = axes.get_yaxis_transform()
        said = f"target {100 * target:g} %"
        axes.text(0.005, 100 * target, said, color=_GREY, transform=edge, va="bottom", fontsize=9)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
