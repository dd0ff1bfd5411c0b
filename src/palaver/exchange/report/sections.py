"""The report of collectives: verdict, notices, tables and figures with the words that explain them."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from palaver.exchange.report import figures, metrics, pareto
from palaver.exchange.report.claims import claim_grid, count_of_verdicts
from palaver.exchange.report.comparison import (
    against,
    against_grid,
    compared,
    ends,
    front,
    front_grid,
    sentences,
    shown_accuracy,
)
from palaver.exchange.report.entries import MEASURES, Entry, families_of, is_tested, only, with_best_rates
from palaver.exchange.report.metrics import accuracy_name, is_probe
from palaver.exchange.report.pictures import caption, pictures, read_pictures
from palaver.exchange.report.sweeps import drawn, sweeps
from palaver.exchange.report.verdict import verdict
from palaver.report.drawing import configurations, panels
from palaver.report.grids import diverged_lines, metric_grid
from palaver.report.words import words
from palaver.studies.findings import Figure, Findings, Metric, Section
from palaver.studies.formats import count, percent
from palaver.studies.results import Result, last_rounds, settings_of

WORDS = words("palaver.exchange.report")


_Families: TypeAlias = Mapping[str, Mapping[str, Sequence[Entry]]]
"""Entries by family and measure, where outputs on a reference set stand against methods that average."""

_FEW = 12
"""So many configurations have all their tables on the terminal, beside what compares them."""


def report(result: Result) -> Findings:
    """Everything that a run of collectives found; of configurations at several learning rates the best ones."""
    families = compared(result)
    shown = with_best_rates(result) if families else result
    said = sentences(against(families), "test" if is_tested(result) else "validation")
    counted, apart = count_of_verdicts(result), any(families_of(result).values())
    return Findings(
        verdict=said or [*([] if counted and apart else verdict(result).splitlines()), *([counted] if counted else [])],
        notices=[*diverged_lines(shown.summary, "round"), *warning_lines(shown.summary)],
        sections=_sections(shown, families),
        figures=[*_figures(shown, families), *_pictures(result)],
    )


def _sections(result: Result, families: _Families) -> list[Section]:
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
    local = metric_grid(result, "what nodes train on", metrics.LOCAL)
    answers = metric_grid(result, "collective accuracy where not all nodes answer", metrics.ANSWERS)
    asked = metric_grid(result, "test accuracy where so many percent of the nodes answer, by rule", metrics.ASKED)
    sections = [
        Section("Results", _how_results(result), results),
        Section("On the test set", f"Taken {_when(result)}.", [test]),
        Section("Decision rules", WORDS["rules"].format(accuracy=accuracy), [rules]),
        Section("Nodes", _notes(WORDS["nodes"], [*metrics.NODES, *metrics.LOCAL]), [nodes, local], terminal=False),
        Section(
            "Who answers",
            _notes(WORDS["answers"], [*metrics.ANSWERS, *metrics.ASKED]),
            [answers, asked],
            terminal=False,
        ),
        Section("Bits", WORDS["bits"], [metric_grid(result, "bits sent per node", metrics.BITS)]),
        Section("Latent statistics", WORDS["latent"], latent, terminal=False),
    ]
    said = Section("What the thesis says", WORDS["claims"], [claim_grid(result)])
    if len(result.summary["rows"]) > _FEW and (families or said.grids[0].rows):
        sections = [section._replace(terminal=False) for section in sections]
    sections = [*([said] if said.grids[0].rows else []), *_comparisons(result, families), *sections]
    return [section._replace(grids=[grid for grid in section.grids if grid.rows]) for section in sections]


def _comparisons(result: Result, families: _Families) -> list[Section]:
    """Outputs on a reference set against everything else, where a run has both."""
    if not families:
        return []
    fronts = [front_grid(result, families, measure) for measure in MEASURES]
    how = f"{WORDS['front']} {_rates(families)} {ends(families)}"
    return [
        Section(
            "Outputs on a reference set against the others",
            WORDS["against"].format(accuracy=shown_accuracy(result)),
            [against_grid(result, against(families))],
        ),
        Section("The Pareto front", " ".join(how.split()), fronts),
    ]


def _rates(families: _Families) -> str:
    """How learning rates were chosen, where there were several to choose from."""
    tried = (entry.tried for measures in families.values() for entries in measures.values() for entry in entries)
    return WORDS["rates"] if max(tried, default=1) > 1 else ""


def _notes(words: str, shown: Sequence[Metric]) -> str:
    return " ".join([words, *(metric.note for metric in shown)])


def _by_objective(result: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, own in settings_of(result).items():
        found.setdefault(str(own.get("objective")), []).append(name)
    return found


def _file(family: str) -> str:
    """The name of the file of a family's figure, in letters and digits that any system takes."""
    return "_".join(["sweep", *re.findall("[a-z0-9]+", family.lower())])


def _figures(result: Result, families: _Families) -> list[Figure]:
    notes = " ".join(metric.note for metric in metrics.LATENT)
    draw_latent = partial(panels, result, configurations(result), metrics.LATENT, "round")
    swept = [
        Figure(_file(sweep.family), sweep.family, WORDS["sweep"], partial(drawn, result, sweep), "Sweeps")
        for sweep in sweeps(result)
    ]
    found = [
        *swept,
        *(_of_families(result, families) if families else [] if swept else _of_all(result)),
        Figure("learning", "What the nodes learn", f"{WORDS['learning']} {notes}", draw_latent),
        Figure("graph", "Who sends to whom", WORDS["graph"], partial(figures.graph, result)),
    ]
    if not is_probe(result.summary):
        found.append(
            Figure("temperature", "What the temperature does to logits", WORDS["temperature"], figures.temperature)
        )
    return found


def _of_all(result: Result, end: str = "", title: str = "", more: str = "") -> list[Figure]:
    """Figures of all configurations of a result, with what is added to their names, titles and captions."""
    first = f"{WORDS['probe'][0].upper()}{WORDS['probe'][1:]} so far. " if is_probe(result.summary) else ""
    named = [
        ("accuracy_over_rounds", "Accuracy over rounds", first + WORDS["over_rounds"], figures.over_rounds),
        ("accuracy_over_bits", "Accuracy over bits sent", WORDS["over_bits"], figures.over_bits),
        ("decision_rules", "Decision rules", WORDS["rules_figure"], figures.decision_rules),
    ]
    return [Figure(name + end, what + title, words + more, partial(draw, result)) for name, what, words, draw in named]


def _of_families(result: Result, families: _Families) -> list[Figure]:
    """The same of each family, with the Pareto front; of long ones the others have only what is on it."""
    found: list[Figure] = []
    for place, (family, measures) in enumerate(families.items()):
        end, title = (f"_{place}", f" ({family})") if family else ("", "")
        entries = measures["collective_accuracy"]
        long = len(entries) > _MOST_CURVES
        chosen = [entry for entry in entries if not long or entry.kind == "silent" or entry in front(entries)]
        part = only(result, [entry.name for entry in chosen])
        rounds, _, rules = _of_all(part, end, title, f" {WORDS['chosen']}" if long else "")
        words = WORDS["pareto"].format(accuracy=shown_accuracy(result))
        bits = Figure(
            f"accuracy_over_bits{end}",
            f"Accuracy over bits sent{title}",
            f"{words} {_rates(families)}".rstrip(),
            partial(pareto.over_bits, measures, shown_accuracy(result)),
        )
        found += [bits, rounds, rules]
    return found


_MOST_CURVES = 7
"""Configurations that a figure of curves tells apart."""


def _pictures(result: Result) -> list[Figure]:
    names = [str(row["configuration"]) for row in result.settings["rows"]]
    return [
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
