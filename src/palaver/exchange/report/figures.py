"""A run's figures, drawn from its result files: the same files give the same bytes. Each is one or more drawings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import islice
from typing import Any

import matplotlib.style
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from scipy.special import softmax

from palaver.exchange.report.metrics import RULES, SENT, accuracy_name, sent_bits
from palaver.report.colours import SHADES
from palaver.report.drawing import (
    COLOURS,
    GREY,
    GRID,
    MARKERS,
    STYLE,
    configurations,
    curve_of,
    draw_curve,
    handle_of,
    legend,
    look_of,
    panel,
    plain,
)
from palaver.report.grids import expand
from palaver.report.svg import to_svg
from palaver.studies.formats import human_bits
from palaver.studies.results import Result, metric_of

_MOST_NODES, _MOST_EDGES = 200, 5000


def over_rounds(result: Result) -> list[str]:
    """Collective (solid) and average (dashed) accuracy in percent over rounds, with the seeds' band."""
    curves = [
        (name, metric, curve)
        for name in configurations(result)
        for metric in ("collective_accuracy", "average_accuracy")
        if (curve := curve_of(result, name, metric, "fraction")) is not None
    ]
    if not curves:
        return []
    with matplotlib.style.context(["default", STYLE]):
        names = list(dict.fromkeys(name for name, _, _ in curves))
        kinds = [Line2D([], [], color=GREY, lw=1.9, label="the collective")]
        kinds += [Line2D([], [], color=GREY, lw=1.3, ls=(0, (4, 2)), label="the average node")]
        figure, axes = panel(2.8)
        alpha = 0.16 if len(names) <= 6 else 0.08
        for name, metric, curve in curves:
            solid = metric == "collective_accuracy"
            draw_curve(
                *(axes, curve, look_of(result, name)),
                factor=100,
                alpha=alpha,
                linestyle="-" if solid else (0, (4, 2)),
                lw=1.9 if solid else 1.3,
                markersize=4.5 if solid else 3,
                markevery=max(1, len(curve[0]) // 8),
            )
        _target(result, axes)
        axes.set(xlabel="round", ylabel=f"{accuracy_name(result.summary)}, %")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        return [to_svg(figure), legend(kinds + [handle_of(result, name) for name in names])]


def over_bits(result: Result) -> list[str]:
    """Collective accuracy in percent over the bits a node sent; upright lines where gradient exchange would stand.

    Configurations that send nothing have no place on a logarithmic axis and are left out.
    """
    curves = []
    for name in configurations(result):
        curve = curve_of(result, name, "collective_accuracy", "fraction")
        parts = [curve_of(result, name, part, "positive") for part in SENT]
        sent = dict.fromkeys([] if curve is None else curve[0], 0.0)
        for part in parts:
            for number, bits in zip(*part[:2], strict=True) if part else ():
                if number in sent:
                    sent[number] += bits
        bits = np.array(list(sent.values()))
        if curve is not None and (bits > 0).any():
            curves.append((name, bits, curve))
    if not curves:
        return []
    with matplotlib.style.context(["default", STYLE]):
        handles = [handle_of(result, name) for name, _, _ in curves]
        gradients = _gradient_bits(result, [name for name, _, _ in curves])
        if gradients:
            label = "gradient exchange by the last round"
            handles.append(Line2D([], [], color=GREY, ls=(0, (1, 1.5)), lw=1.6, label=label))
        figure, axes = panel(2.8)
        for name, bits, (_, *lines) in curves:
            shown = (bits[bits > 0], *(line[bits > 0] for line in lines))
            every = max(1, len(bits) // 8)
            draw_curve(
                axes, shown, look_of(result, name), factor=100, alpha=0.16, markersize=4.5, markevery=every, lw=1.9
            )
        _target(result, axes)
        for bits in gradients:
            axes.axvline(bits, color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.6)
        axes.set(xscale="log", xlabel="sent per node", ylabel="collective accuracy, %")
        axes.xaxis.set_major_formatter(lambda bits, _: human_bits(bits))
        return [to_svg(figure), legend(handles)]


def decision_rules(result: Result) -> list[str]:
    """Collective accuracy in percent under each decision rule, with the interval over seeds, by configuration."""
    rules = expand([RULES], result.summary)
    rows = [row for row in result.summary["rows"] if any(_mean(row, rule.name) is not None for rule in rules)]
    if not rows:
        return []
    with matplotlib.style.context(["default", STYLE]):
        looks = [(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for place in range(len(rules))]
        handles = [
            Line2D([], [], color=colour, marker=marker, ls="", ms=4.5, label=rule.label.removesuffix(" %"))
            for rule, (colour, marker) in zip(rules, looks, strict=True)
        ]
        figure, axes = panel(0.5 + 0.8 * len(rows))
        inside = axes.get_yaxis_transform()
        for place, row in enumerate(rows):
            axes.axhline(place - 0.5, color=GRID, lw=0.8)
            axes.text(0.01, place - 0.44, _shortened(row["configuration"]), transform=inside, va="top")
            for number, rule in enumerate(rules):
                metric, middle = metric_of(row, rule.name), _mean(row, rule.name)
                if middle is None or metric is None:
                    continue
                low, high = metric["low"], metric["high"]
                ends = None if low is None or high is None else [[100 * (middle - low)], [100 * (high - middle)]]
                y = place + 0.14 + (number - (len(rules) - 1) / 2) * 0.6 / len(rules)
                colour, marker = looks[number]
                axes.errorbar(100 * middle, y, xerr=ends, fmt=marker, color=colour, ms=4.5, capsize=2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set(xlabel="collective accuracy, %", ylim=(len(rows) - 0.5, -0.5))
        return [to_svg(figure), legend(handles)]


def graph(result: Result) -> list[str]:
    """The collective's graph in a circle; of a large one a connected sample, as its title says."""
    found = result.settings.get("graph") or {}
    nodes = int(found.get("nodes") or 0)
    if nodes < 2:
        return []
    whole = nx.Graph()
    whole.add_nodes_from(range(nodes))
    whole.add_edges_from((int(i), int(j)) for i, j in found.get("edges") or [] if i != j)
    shown, edges = _sample(whole)
    title = f"{nodes:,} nodes, {whole.number_of_edges():,} links"
    if len(shown) < nodes or len(edges) < whole.number_of_edges():
        title = f"a sample of {len(shown):,} nodes and {len(edges):,} links, out of {title}"
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = panel(3.7)
        places = nx.circular_layout(whole.subgraph(shown))
        if edges:
            ends = np.array([[places[i], places[j]] for i, j in edges]).reshape(-1, 2)
            width = float(np.clip(10 / np.sqrt(len(edges)), 0.15, 1.2))
            lines = Outline(ends, [Outline.MOVETO, Outline.LINETO] * len(edges))
            axes.add_patch(PathPatch(lines, facecolor="none", edgecolor=SHADES["link"].light, lw=width))
        size = float(np.clip(4500 / len(shown), 6, 300))
        axes.scatter(*np.array(list(places.values())).T, s=size, color=COLOURS[0], zorder=3)
        for node, (x, y) in places.items() if len(shown) <= 30 else ():
            axes.text(x, y, str(node), color="white", ha="center", va="center_baseline", zorder=4)
        axes.set(title=textwrap.fill(title, 44), xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
        axes.set_axis_off()
        return [to_svg(figure)]


def temperature(
    logits: Iterable[float] = (1.0, 2.0, 4.0, 8.0), temperatures: Iterable[float] = (0.5, 1.0, 2.0, 4.0, 8.0)
) -> list[str]:
    """Class probabilities ``softmax(logits / τ)`` at several temperatures: Figure 2.1 of the thesis."""
    logits, temperatures = np.array(list(logits)), list(temperatures)
    with matplotlib.style.context(["default", STYLE]):
        colours = [COLOURS[place % len(COLOURS)] for place in range(len(temperatures))]
        handles = [Patch(color=c, label=f"τ = {tau:g}") for c, tau in zip(colours, temperatures, strict=True)]
        figure, axes = panel(2.6)
        width = 0.82 / len(temperatures)
        for place, tau in enumerate(temperatures):
            x = np.arange(len(logits)) + (place - (len(temperatures) - 1) / 2) * width
            bars = axes.bar(x, softmax(logits / tau), width * 0.92, color=colours[place])
            for number, bar in enumerate(bars):
                bar.set_gid(f"probability-{number}-at-{tau:g}")
        axes.set_xticks(range(len(logits)), [f"class {i}\nlogit {logit:g}" for i, logit in enumerate(logits)])
        axes.set(ylabel="probability", ylim=(0, 1.02))
        axes.grid(visible=False, axis="x")
        return [to_svg(figure), legend(handles)]


def _sample(whole: nx.Graph[Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """Nodes and links of the graph; of a large one as many as a reader can see, the nodes connected if possible."""
    nodes = sorted(islice(nx.dfs_preorder_nodes(whole), _MOST_NODES))
    edges = sorted((min(edge), max(edge)) for edge in whole.subgraph(nodes).edges)
    places = np.linspace(0, len(edges) - 1, min(len(edges), _MOST_EDGES)).astype(int)
    return nodes, [edges[place] for place in places]


def _gradient_bits(result: Result, configurations: list[str]) -> list[float]:
    """Where gradient exchange would have ended: one number for configurations that agree to three digits."""
    rows = [row for row in result.summary["rows"] if row["configuration"] in configurations and sent_bits(row)]
    bits = [_mean(row, "bits.gradient_exchange") for row in rows]
    return sorted({float(f"{each:.3g}") for each in bits if each})


def _mean(row: dict[str, Any], name: str) -> float | None:
    metric = metric_of(row, name)
    return None if metric is None else metric["mean"]


def _shortened(name: str) -> str:
    return plain(textwrap.shorten(name, 44, placeholder=" …"))


def _target(result: Result, axes: Axes) -> None:
    target = result.summary.get("target")
    if target is not None:
        axes.axhline(100 * target, color=GREY, linewidth=0.9, zorder=1)
        edge = axes.get_yaxis_transform()
        words = f"target {100 * target:g} %"
        axes.text(0.005, 100 * target, words, color=GREY, transform=edge, va="bottom")
