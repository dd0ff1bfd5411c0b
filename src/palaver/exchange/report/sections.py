"""The report of collectives: verdict, notices, tables and figures with the words that explain them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from palaver.exchange.report import figures, metrics
from palaver.exchange.report.metrics import accuracy_name, is_probe
from palaver.exchange.report.pictures import caption, pictures, read_pictures
from palaver.exchange.report.verdict import verdict
from palaver.report.drawing import configurations, panels
from palaver.report.grids import diverged_lines, metric_grid
from palaver.report.words import words
from palaver.studies.findings import Figure, Findings, Metric, Section
from palaver.studies.formats import count, percent
from palaver.studies.results import Result, last_rounds, settings_of

WORDS = words("palaver.exchange.report")


def report(result: Result) -> Findings:
    """Everything that a run of collectives found."""
    return Findings(
        verdict=verdict(result).splitlines(),
        notices=[*diverged_lines(result.summary, "round"), *warning_lines(result.summary)],
        sections=_sections(result),
        figures=_figures(result),
    )


def _sections(result: Result) -> list[Section]:
    accuracy, target = accuracy_name(result.summary), percent(result.summary.get("target"))
    results = [
        metric_grid(result, accuracy, metrics.ACCURACY),
        metric_grid(result, f"rounds to {target} %", metrics.REACHED),
        metric_grid(result, f"bits sent per node until {target} %", metrics.SPENT),
    ]
    rules = metric_grid(result, "collective accuracy by decision rule", [metrics.RULES])
    test = metric_grid(result, "test accuracy", metrics.TEST)
    latent = [
        metric_grid(result, f"latent statistics of {objective}", metrics.LATENT, only=names)
        for objective, names in _by_objective(result).items()
    ]
    nodes = metric_grid(result, f"{accuracy} of the nodes alone", metrics.NODES)
    answers = metric_grid(result, "collective accuracy where not all nodes answer", metrics.ANSWERS)
    sections = [
        Section("Results", _how_results(result), results),
        Section("On the test set", f"Taken {_when(result)}.", [test]),
        Section("Decision rules", WORDS["rules"].format(accuracy=accuracy), [rules]),
        Section("Nodes", _notes(WORDS["nodes"], metrics.NODES), [nodes], terminal=False),
        Section("Who answers", _notes(WORDS["answers"], metrics.ANSWERS), [answers], terminal=False),
        Section("Bits", WORDS["bits"], [metric_grid(result, "bits sent per node", metrics.BITS)]),
        Section("Latent statistics", WORDS["latent"], latent, terminal=False),
    ]
    return [section._replace(grids=[grid for grid in section.grids if grid.rows]) for section in sections]


def _notes(words: str, shown: Sequence[Metric]) -> str:
    return " ".join([words, *(metric.note for metric in shown)])


def _by_objective(result: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, own in settings_of(result).items():
        found.setdefault(str(own.get("objective")), []).append(name)
    return found


def _figures(result: Result) -> list[Figure]:
    probe = is_probe(result.summary)
    first = f"{WORDS['probe'][0].upper()}{WORDS['probe'][1:]} so far. " if probe else ""
    over_rounds = first + WORDS["over_rounds"]
    notes = " ".join(metric.note for metric in metrics.LATENT)
    draw_latent = partial(panels, result, configurations(result), metrics.LATENT, "round")
    found = [
        Figure("accuracy_over_rounds", "Accuracy over rounds", over_rounds, partial(figures.over_rounds, result)),
        Figure("accuracy_over_bits", "Accuracy over bits sent", WORDS["over_bits"], partial(figures.over_bits, result)),
        Figure("decision_rules", "Decision rules", WORDS["rules_figure"], partial(figures.decision_rules, result)),
        Figure("learning", "What the nodes learn", f"{WORDS['learning']} {notes}", draw_latent),
        Figure("graph", "Who sends to whom", WORDS["graph"], partial(figures.graph, result)),
    ]
    if not probe:
        found.append(
            Figure("temperature", "What the temperature does to logits", WORDS["temperature"], figures.temperature)
        )
    names = [str(row["configuration"]) for row in result.settings["rows"]]
    return found + [
        Figure(f"pictures_{row}", names[row], caption(stages), partial(pictures, stages), "Pictures", own_size=True)
        for row, stages in read_pictures(result).items()
    ]


_WARNINGS = ("collapsed", "certain")


def warning_lines(summary: Mapping[str, Any]) -> list[str]:
    """One line a configuration and warning: how many nodes of which seeds, and what that means.

    Args:
        summary: a result's ``summary.json``, whose rows may have ``collapsed`` and ``certain``, ids of nodes by seed.

    >>> warning_lines({"rows": [{"configuration": "x", "collapsed": {"1": [0, 4]}}]})[0][:32]
    '“x” collapsed: 2 nodes of seed 1'

    """
    lines: list[str] = []
    for row in summary["rows"]:
        for kind in _WARNINGS:
            nodes = {seed: len(ids) for seed, ids in (row.get(kind) or {}).items() if ids}
            listed = [f"{count(lost)} node{'' if lost == 1 else 's'} of seed {seed}" for seed, lost in nodes.items()]
            if listed:
                lines.append(f"“{row['configuration']}” {WORDS[kind].format(nodes=', '.join(listed))}")
    return lines


def _when(result: Result) -> str:
    """The round of the summary's accuracies, in words."""
    own = settings_of(result)
    rounds = {own.get(name, {}).get("report_round") or number for name, number in last_rounds(result).items()}
    return f"at round {count(rounds.pop())}" if len(rounds) == 1 else "at each configuration's reported round"


def _how_results(result: Result) -> str:
    kind = "results_of_probes" if is_probe(result.summary) else "results"
    how = WORDS[kind].format(when=_when(result), probe=WORDS["probe"])
    thesis = any(row.get("thesis") for row in result.summary["rows"])
    return f"{how} {WORDS['thesis']}" if thesis else how
