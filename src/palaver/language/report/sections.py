"""The report of a language: verdict, tables and figures with the words that explain them."""

from collections.abc import Mapping
from functools import partial
from operator import sub
from typing import Any

from palaver.language.report.messages import drawings, read_messages
from palaver.language.report.metrics import CURVES, MESSAGES, PROBES
from palaver.report.drawing import panels
from palaver.report.grids import diverged_lines, measured_cell, metric_grid, percent_cell
from palaver.report.words import words
from palaver.studies.findings import Figure, Findings, Grid, Section
from palaver.studies.formats import count, points
from palaver.studies.results import Result, metric_of, metrics_of, settings_of
from palaver.studies.statistics import FEWEST, Interval, paired

WORDS = words("palaver.language.report")

_PROBED = {"probe_accuracy": "features", "message_probe_accuracy.end": "hard messages"}
"""What the probes are of, by the metric that is compared."""

_OF_COMMUNICATION = {"level", "weight", "predict", "topology", "neighbours", "graph_seed", "redraw_every"}
"""Settings of communication; configurations that differ in nothing else are compared."""


def report(result: Result) -> Findings:
    """What a run of languages found: verdict, tables and figures.

    Args:
        result: the run's files.

    Raises:
        PalaverError: the pictures cannot be read.

    """
    sections = (
        Section("Results", WORDS["results"], [metric_grid(result, "accuracy of linear probes", PROBES)]),
        Section("Communication", WORDS["gains"], [_gains_grid(result)]),
        Section("Messages", WORDS["messages"], [_messages_grid(result)]),
    )
    return Findings(
        verdict=_verdict(result),
        notices=diverged_lines(result.summary, "step"),
        sections=[section for section in sections if section.grids[0].rows],
        figures=_figures(result),
    )


def _messages_grid(result: Result) -> Grid:
    """What the hard messages at the end are like."""
    grid = metric_grid(result, "hard messages at the end", MESSAGES)
    own = {row["configuration"]: row for row in result.summary["rows"]}
    rows = [
        (name, count(own[name]["bits_available"]), *cells, "yes" if own[name]["crosses_wire"] else "no")
        for name, *cells in grid.rows
    ]
    headers = (grid.headers[0], "bits available", *grid.headers[1:], "learns over a network")
    return grid._replace(headers=headers, rows=rows)


def _families(result: Result) -> list[list[str]]:
    """Names of configurations that differ in communication alone, together; those without such another one by one."""
    found: dict[str, list[str]] = {}
    for name, own in settings_of(result).items():
        others = repr(sorted((key, value) for key, value in own.items() if key not in _OF_COMMUNICATION))
        found.setdefault(others, []).append(name)
    return list(found.values())


def _compared(result: Result) -> dict[str, str]:
    """For each configuration with communication the one without that differs in nothing else, where there is one."""
    levels = {name: own.get("level") for name, own in settings_of(result).items()}
    found: dict[str, str] = {}
    for names in _families(result):
        without = [name for name in names if levels[name] == "none"]
        found |= {name: without[0] for name in names if without and levels[name] != "none"}
    return {name: found[name] for name in levels if name in found}


def _gain(result: Result, name: str, other: str, metric: str) -> Interval | None:
    found = metrics_of(result, metric)
    return paired(found[name], found[other], sub)


def _gains_grid(result: Result) -> Grid:
    """What communication adds in points, by seed, to the same configuration without it."""
    rows = [
        (name, other, *(measured_cell(_gain(result, name, other, metric), points) for metric in _PROBED))
        for name, other in _compared(result).items()
    ]
    return Grid("what communication adds", ("configuration", "against", *_PROBED.values()), rows, labels=2)


def _alone(row: Mapping[str, Any]) -> str:
    """A single configuration: what the probes of its features and of its messages are right on."""
    features, messages = (percent_cell(metric_of(row, metric)) for metric in _PROBED)
    right = (
        f"a linear probe of features is right on {features} of the test examples, one of hard messages on {messages}"
    )
    return f"“{row['configuration']}”: {right}."


def _verdict(result: Result) -> list[str]:
    """Where communication helps, where it harms, and where the seeds leave it undecided: a line for each probe."""
    compared = _compared(result)
    if len(result.summary["rows"]) == 1:
        return [_alone(result.summary["rows"][0])]
    if not compared:
        return ["No two configurations differ in communication alone."]
    lines = []
    for metric, what in _PROBED.items():
        gains = {f"“{name}”": _gain(result, name, other, metric) for name, other in compared.items()}
        helps = [name for name, gain in gains.items() if gain and (gain["low"] or 0) > 0]
        harms = [name for name, gain in gains.items() if gain and (gain["high"] or 0) < 0]
        unknown = sum(not gain or gain["low"] is None for gain in gains.values())
        good, bad = (f"{len(of)}" + (f" ({', '.join(of)})" if of else "") for of in (helps, harms))
        total = "1 comparison" if len(compared) == 1 else f"{len(compared)} comparisons"
        undecided = len(compared) - len(helps) - len(harms) - unknown
        without = f"; without an interval, for fewer than {FEWEST} seeds with values: {unknown}" if unknown else ""
        lines.append(
            f"Of {total} by a probe of {what}, communication helps in {good} and harms in {bad}; "
            f"undecided: {undecided}{without}."
        )
    return lines


def _figures(result: Result) -> list[Figure]:
    figures: list[Figure] = []
    families = _families(result)
    alone = [names[0] for names in families if len(names) == 1]
    together = [names for names in families if len(names) > 1] + ([alone] if alone else [])
    for place, names in enumerate(together):
        title = "Probes of features and messages: " + "; ".join(names)
        draw = partial(panels, result, names, CURVES, "steps")
        figures.append(Figure(f"curves_{place}", title, WORDS["curves"], draw))
    rows = list(settings_of(result).items())
    for row, kinds in read_messages(result).items():
        name, own = rows[row]
        which = "the second symbol" if own.get("vocabulary") == 2 else "each symbol"
        caption = WORDS["drawing"].format(which=which)
        figures.append(Figure(f"messages_{row}", name, caption, partial(drawings, kinds)))
    return figures
