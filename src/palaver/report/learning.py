"""How nodes that learn without labels get on: one panel a quantity, and its number at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from palaver.report.drawing import STYLE, canvas, configurations, handle_of, look_of, of_seeds, seeds_of, to_svg
from palaver.report.files import Result
from palaver.report.interval import interval
from palaver.report.tables import NOTHING, Grid, measured_cell, percent, three_digits


class Quantity(NamedTuple):
    """A metric of nodes that learn without labels."""

    name: str
    """Above its panel."""
    unit: str
    """Beside its axis."""
    header: str
    """Above its column."""
    note: str
    """How to read it."""
    factor: float = 1.0
    """From the file's number to the axis."""
    form: Callable[[float | None], str] = three_digits
    """The file's number as a cell's text."""


def _tenths(value: float | None) -> str:
    return NOTHING if value is None or not np.isfinite(value) else f"{value:,.1f}"


QUANTITIES = {
    "probe_accuracy": Quantity(
        *("linear probe", "validation accuracy, %", "linear probe, validation %"),
        "The linear probe is fitted at every stage anew; this is its validation accuracy at that stage.",
        *(100, percent),
    ),
    "elbo": Quantity(
        *("ELBO", "nats an example", "ELBO, nats"),
        "The ELBO (evidence lower bound) is what a VAE maximises: higher is better.",
        form=_tenths,
    ),
    "reconstruction": Quantity(
        *("reconstruction", "nats an example", "reconstruction, nats"),
        "Reconstruction is the negative log likelihood of an example given its code: lower is better.",
        form=_tenths,
    ),
    "kl": Quantity(
        *("KL divergence", "nats an example", "KL, nats"),
        "The KL divergence is what a code says beyond the prior: at 0 it says nothing.",
        form=_tenths,
    ),
    "active_units": Quantity(
        *("active latent units", "units", "active units"), "Active units are the latent units in use.", form=_tenths
    ),
    "feature_variance": Quantity(
        *("feature variance", "squared feature units", "feature variance"),
        "Features without variance are the same for every example and of no use.",
    ),
    "discriminator_accuracy": Quantity(
        *("discriminator", "accuracy, %", "discriminator %"),
        "A discriminator at 50 % cannot tell the data from what is made; at 100 % it is certain, and teaches nothing.",
        *(100, percent),
    ),
    "reconstruction_error": Quantity(
        *("reconstruction error", "squared error a pixel", "squared error a pixel"),
        "The reconstruction error is the mean squared error a pixel: lower is better.",
    ),
    "sample_variance": Quantity(
        *("variance of samples", "times the data's", "samples' variance, × data's"),
        "The variance of samples is told in multiples of the data's: 1 is as varied as the data, 0 all alike.",
    ),
}
"""What is shown, by metric, in the order of panels and columns."""


def learning(result: Result) -> str | None:
    """What nodes learn over rounds, one panel a quantity: mean over nodes, then mean and 95 % band over seeds."""
    curves = {
        metric: {
            name: of_seeds(frame, seeds_of(result, name))
            for name in configurations(result)
            if not (frame := over_nodes(result, name, metric)).is_empty()
        }
        for metric in QUANTITIES
    }
    curves = {metric: found for metric, found in curves.items() if found}
    if not curves:
        return None
    with matplotlib.style.context(["default", STYLE, {"font.size": 8.5, "axes.titlesize": 9.5}]):
        names = [name for name in configurations(result) if any(name in found for found in curves.values())]
        columns = 1 if len(curves) == 1 else 2 if len(curves) <= 4 else 3
        rows = -(-len(curves) // columns)
        figure = canvas(0.3 + 1.75 * rows, [handle_of(result, name) for name in names])
        alpha = 0.16 if len(names) <= 6 else 0.08
        for place, (metric, found) in enumerate(curves.items()):
            quantity = QUANTITIES[metric]
            axes = figure.add_subplot(rows, columns, place + 1)
            for name, (rounds, *lines) in found.items():
                middle, low, high = (quantity.factor * line for line in lines)
                colour, marker = look_of(result, name)
                every = max(1, len(rounds) // 5)
                axes.plot(rounds, middle, color=colour, lw=1.5, marker=marker, markersize=3, markevery=every)
                axes.fill_between(rounds, low, high, color=colour, alpha=alpha, linewidth=0)
            axes.set(title=quantity.name, ylabel=quantity.unit)
            axes.set_gid(f"panel-{metric}")
            if place + columns >= len(curves):
                axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        return to_svg(figure)


def notes(result: Result) -> str:
    """How to read the quantities that the result has."""
    present = set(_whole(result)["metric"].unique())
    return " ".join(quantity.note for metric, quantity in QUANTITIES.items() if metric in present)


def latent_grids(result: Result) -> list[Grid]:
    """A table for the configurations that have the same quantities: each one's value at the last evaluated round.

    Mean over nodes, then over seeds with its interval. A seed that diverged has no value, so its configuration has no
    mean; a configuration without any quantity is in no table.
    """
    rows: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in result.summary["rows"]:
        name, diverged = row["configuration"], {int(seed) for seed in row.get("diverged") or {}}
        cells = {}
        for metric, quantity in QUANTITIES.items():
            last = over_nodes(result, name, metric).filter(pl.col("round") == pl.col("round").max())
            if last.is_empty():
                continue
            values = [None if seed in diverged else value for seed, value in last.select("seed", "value").iter_rows()]
            missing = seeds_of(result, name) - len(values)
            cells[metric] = measured_cell(interval(values + [None] * missing), quantity.form)
        if cells:
            rows.setdefault(tuple(cells), []).append((str(name), *cells.values()))
    return [
        Grid("latent statistics", ("configuration", *(QUANTITIES[metric].header for metric in metrics)), lines)
        for metrics, lines in rows.items()
    ]


def over_nodes(result: Result, configuration: str, metric: str) -> pl.DataFrame:
    """``seed``, ``round`` and ``value``: the mean over nodes, NaN where a node has no value."""
    of_it = _whole(result).filter((pl.col("configuration") == configuration) & (pl.col("metric") == metric))
    means = of_it.group_by("seed", "round").agg(pl.col("value").fill_null(float("nan")).sort_by("node").mean())
    return means.sort("round", "seed")


def _whole(result: Result) -> pl.DataFrame:
    """The rows that belong to a node."""
    return result.metrics.filter(pl.col("node").is_not_null())
