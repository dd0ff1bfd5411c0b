"""A run's figures as SVG, drawn from its result files: the same files give the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib.style
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from palaver.report import language, teaching
from palaver.report.drawing import (
    COLOURS,
    GREY,
    MARKERS,
    STYLE,
    configurations,
    curve_of,
    framed,
    handle_of,
    look_of,
    plain,
    to_svg,
)
from palaver.report.files import Result, write_text
from palaver.report.learning import learning
from palaver.report.measure import accuracy_name, is_probe
from palaver.report.pictures import pictures, read_pictures
from palaver.report.tables import RULES, human_bits, sent_bits

_MOST_NODES, _MOST_EDGES = 200, 5000


def write_figures(result: Result) -> dict[str, str]:
    """Draw every figure the result has something for into ``figures/``; older drawings of the others are removed.

    Returns:
        The SVG of each figure drawn, by the name of its file without ending, in the order of a reader's questions.

    """
    if teaching.is_teaching(result.summary):
        drawn = teaching.figures(result)
    elif language.is_language(result.summary):
        drawn = language.figures(result)
    else:
        drawn = _collectives(result)
    for kind in ("pictures", "said"):
        for path in (result.folder / "figures").glob(f"{kind}_*.svg"):
            drawn.setdefault(path.stem, None)
    for name, svg in drawn.items():
        path = result.folder / "figures" / f"{name}.svg"
        if svg is None:
            path.unlink(missing_ok=True)
        else:
            write_text(path, svg)
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _collectives(result: Result) -> dict[str, str | None]:
    drawn = {
        "accuracy_over_rounds": accuracy_over_rounds(result),
        "accuracy_over_bits": accuracy_over_bits(result),
        "decision_rules": decision_rules(result),
        "learning": learning(result),
        "graph": graph(result),
        "temperature": None if is_probe(result.summary) else temperature(),
    }
    return drawn | {f"pictures_{row}": pictures(stages) for row, stages in read_pictures(result).items()}


def accuracy_over_rounds(result: Result) -> str | None:
    """Collective (solid) and average (dashed) accuracy in percent over rounds, with the seeds' band."""
    curves = [
        (name, kind, curve)
        for name in configurations(result)
        for kind in ("collective_accuracy", "average_accuracy")
        if (curve := curve_of(result, name, kind)) is not None
    ]
    if not curves:
        return None
    with matplotlib.style.context(["default", STYLE]):
        names = list(dict.fromkeys(name for name, _, _ in curves))
        kinds = [Line2D([], [], color=GREY, lw=1.9, label="the collective")]
        kinds += [Line2D([], [], color=GREY, lw=1.3, ls=(0, (4, 2)), label="the average node")]
        figure, axes = framed(3.7, kinds + [handle_of(result, name) for name in names])
        alpha = 0.16 if len(names) <= 6 else 0.08
        for name, kind, (rounds, middle, low, high) in curves:
            solid = kind == "collective_accuracy"
            colour, marker = look_of(result, name)
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
        axes.set(xlabel="round", ylabel=f"{accuracy_name(result.summary)}, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return to_svg(figure)


def accuracy_over_bits(result: Result) -> str | None:
    """Collective accuracy in percent over the bits a node sent; upright lines where gradient exchange would stand.

    Configurations that send nothing have no place on a logarithmic axis and are left out.
    """
    curves = []
    for name in configurations(result):
        curve = curve_of(result, name, "collective_accuracy")
        parts = [curve_of(result, name, f"bits.{part}") for part in ("examples", "payload")]
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
    with matplotlib.style.context(["default", STYLE]):
        handles = [handle_of(result, name) for name, _, _ in curves]
        gradients = _gradient_bits(result, [name for name, _, _ in curves])
        if gradients:
            label = "gradient exchange by the last round"
            handles.append(Line2D([], [], color=GREY, ls=(0, (1, 1.5)), lw=1.6, label=label))
        figure, axes = framed(3.7, handles)
        for name, bits, (_, middle, low, high) in curves:
            shown = bits > 0
            colour, marker = look_of(result, name)
            x, every = bits[shown], max(1, len(bits) // 8)
            axes.plot(x, 100 * middle[shown], color=colour, marker=marker, markersize=4.5, markevery=every, lw=1.9)
            axes.fill_between(x, 100 * low[shown], 100 * high[shown], color=colour, alpha=0.16, linewidth=0)
        _target(result, axes)
        for bits in gradients:
            axes.axvline(bits, color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.6)
        axes.set(xscale="log", xlabel="sent per node (examples and payload)", ylabel="collective accuracy, %")
        axes.xaxis.set_major_formatter(lambda bits, _: human_bits(bits))
        return to_svg(figure)


def decision_rules(result: Result) -> str | None:
    """Collective accuracy in percent under each decision rule, with the interval over seeds, by configuration."""
    rows = result.summary["rows"]
    found = [[(row.get("metrics") or {}).get(f"collective_accuracy.{rule}") for rule in RULES] for row in rows]
    means = [[_mean(metric) for metric in metrics] for metrics in found]
    kept = [pair for pair, mean in zip(zip(rows, found, strict=True), means, strict=True) if set(mean) != {None}]
    if not kept:
        return None
    with matplotlib.style.context(["default", STYLE]):
        looks = zip(RULES, COLOURS, MARKERS, strict=False)
        handles = [
            Line2D([], [], color=colour, marker=marker, ls="", ms=5.5, label=rule.replace("_", " "))
            for rule, colour, marker in looks
        ]
        figure, axes = framed(0.9 + 0.72 * len(kept), handles)
        for place, (_, metrics) in enumerate(kept):
            axes.axhspan(place - 0.46, place + 0.46, color="#f3f3f3" if place % 2 == 0 else "white", zorder=0, lw=0)
            for rule, metric in enumerate(metrics):
                middle = _mean(metric)
                if middle is None or metric is None:
                    continue
                low, high = metric.get("low"), metric.get("high")
                ends = None if low is None or high is None else [[100 * (middle - low)], [100 * (high - middle)]]
                y = place + (rule - (len(RULES) - 1) / 2) * 0.17
                axes.errorbar(100 * middle, y, xerr=ends, fmt=MARKERS[rule], color=COLOURS[rule], ms=5.5, capsize=2.5)
        axes.set_yticks(range(len(kept)), [_wrapped(row["configuration"]) for row, _ in kept])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="collective accuracy, %", ylim=(len(kept) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        return to_svg(figure)


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
    with matplotlib.style.context(["default", STYLE]):
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
        return to_svg(figure)


def temperature(
    logits: Iterable[float] = (1.0, 2.0, 4.0, 8.0), temperatures: Iterable[float] = (0.5, 1.0, 2.0, 4.0, 8.0)
) -> str:
    """Class probabilities ``softmax(logits / τ)`` at several temperatures: Figure 2.1 of the thesis."""
    logits, temperatures = np.array(list(logits)), list(temperatures)
    with matplotlib.style.context(["default", STYLE]):
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(temperatures)))
        handles = [Patch(color=c, label=f"τ = {tau:g}") for c, tau in zip(colours, temperatures, strict=True)]
        figure, axes = framed(3.2, handles)
        width = 0.82 / len(temperatures)
        for place, tau in enumerate(temperatures):
            x = np.arange(len(logits)) + (place - (len(temperatures) - 1) / 2) * width
            bars = axes.bar(x, _softmax(logits / tau), width * 0.92, color=colours[place])
            for number, bar in enumerate(bars):
                bar.set_gid(f"probability-{number}-at-{tau:g}")
        axes.set_xticks(range(len(logits)), [f"class {i}\nlogit {logit:g}" for i, logit in enumerate(logits)])
        axes.set(ylabel="probability", ylim=(0, 1.02))
        axes.grid(visible=False, axis="x")
        return to_svg(figure)


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


def _gradient_bits(result: Result, configurations: list[str]) -> list[float]:
    """Where gradient exchange would have ended: one number for configurations that agree to three digits."""
    rows = [row for row in result.summary["rows"] if row["configuration"] in configurations and sent_bits(row)]
    bits = [(row.get("bits_per_node") or {}).get("gradient_exchange") for row in rows]
    return sorted({float(f"{each:.3g}") for each in bits if each})


def _mean(metric: dict[str, Any] | None) -> float | None:
    return None if metric is None else metric.get("mean")


def _wrapped(name: str) -> str:
    return plain("\n".join(textwrap.wrap(name, 30, max_lines=3, placeholder=" …")))


def _target(result: Result, axes: Axes) -> None:
    target = result.summary.get("target")
    if target is not None:
        axes.axhline(100 * target, color=GREY, linewidth=0.9, zorder=1)
        edge = axes.get_yaxis_transform()
        said = f"target {100 * target:g} %"
        axes.text(0.005, 100 * target, said, color=GREY, transform=edge, va="bottom", fontsize=9)
