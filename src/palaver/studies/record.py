"""What is measured at an evaluation, as tidy rows."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import polars as pl

SCHEMA: dict[str, Any] = {
    "configuration": pl.String,
    "seed": pl.Int64,
    "round": pl.Int64,
    "node": pl.Int64,
    "metric": pl.String,
    "value": pl.Float64,
}
"""Columns of ``metrics.parquet``. ``round`` counts the chapter's unit of progress; ``node`` is null for a number of
the whole collective.
"""

TIMINGS = "timings.parquet"
"""Tidy rows like those of ``metrics.parquet``: readings of the clock, which no two runs share."""
_CLOCK = "seconds"
"""Metrics whose names begin so are readings of the clock."""


def apart(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Results, and readings of the clock.

    Args:
        rows: tidy, of any metrics.

    Returns:
        Rows for ``metrics.parquet``, the same in every run of the same settings, and rows for ``TIMINGS``.

    """
    clock = pl.col("metric").str.starts_with(_CLOCK)
    return rows.filter(~clock), rows.filter(clock)


def take_timings(metrics: MutableMapping[str, Any]) -> dict[str, Any]:
    """Takes the readings of the clock out of metrics by name, and returns them."""
    return {name: metrics.pop(name) for name in list(metrics) if name.startswith(_CLOCK)}


def tidy(
    configuration: str,
    seeds: Sequence[int],
    step: int,
    *,
    keep: np.ndarray,
    node: dict[str, np.ndarray],
    collective: dict[str, np.ndarray],
) -> pl.DataFrame:
    """Tidy rows of one evaluation.

    Args:
        configuration: its name.
        seeds: in the order of the arrays' first axis.
        step: the round evaluated.
        keep: ``[S]`` bool: a seed without it (its loss is no longer finite, or it has stopped) adds no rows.
        node: ``[S, N]`` values by metric.
        collective: ``[S]`` values by metric.

    Returns:
        A frame with the columns of ``SCHEMA``.

    """
    frames = [pl.DataFrame(schema=SCHEMA)]
    for place, seed in enumerate(seeds):
        if keep[place]:
            parts = [
                {"node": range(len(found[place])), "metric": metric, "value": found[place]}
                for metric, found in node.items()
            ]
            group = [float(found[place]) for found in collective.values()]
            parts.append({"node": [None] * len(group), "metric": list(collective), "value": group})
            shared = {"configuration": configuration, "seed": seed, "round": step}
            frames += [pl.DataFrame(shared | part, schema=SCHEMA) for part in parts]
    return pl.concat(frames)


def latest(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Means over seeds of metrics of the whole collective, for the progress display.

    Args:
        frame: tidy rows of one evaluation.
        names: of the metrics.

    Returns:
        The mean by metric; a metric without rows is left out.

    """
    shared = frame.filter(pl.col("node").is_null() & pl.col("metric").is_in(names))
    return dict(shared.group_by("metric", maintain_order=True).agg(pl.col("value").mean()).iter_rows())
