"""The report: one offline page that says what a run found, rebuilt from its result files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palaver.report import html, language, teaching
from palaver.report.figures import write_figures
from palaver.report.files import Result, data_of, last_rounds, read_result, reported_rounds, write_text
from palaver.report.learning import latent_grids, notes
from palaver.report.measure import accuracy_name, is_probe
from palaver.report.pictures import caption, read_pictures
from palaver.report.tables import (
    NOTHING,
    Grid,
    bits_grid,
    count,
    held_out_grid,
    percent,
    results_grid,
    rules_grid,
)
from palaver.report.teaching import is_teaching
from palaver.report.verdict import verdict

_FIGURES = {
    "accuracy_over_rounds": (
        "Accuracy over rounds",
        "One colour and marker a configuration: solid is the collective's decision under the default rule, dashed the "
        "average node. The band is the 95 % interval over seeds; where two bands overlap, do not trust the order. The "
        "gap between solid and dashed is what deciding together adds. A line that ends early lost a seed there.",
    ),
    "accuracy_over_bits": (
        "Accuracy over bits sent",
        "Further left is cheaper, higher is better; each step of the axis is ten times the bits. Configurations that "
        "send nothing are left out. The dotted upright line is what gradient exchange (a ring all-reduce in every "
        "round) would have sent by the last round: a place on the axis, not a measured accuracy.",
    ),
    "decision_rules": (
        "Decision rules",
        "The same nodes' answers, combined in five ways; a bar is the 95 % interval over seeds. Compare a talking "
        "configuration with the silent one under the same rule: a better rule is not a gain from talking.",
    ),
    "graph": (
        "Who speaks to whom",
        "Each dot is a node, each line a pair in which at least one speaks to the other.",
    ),
    "temperature": (
        "What the temperature does to logits",
        "The logits 1, 2, 4, 8 of four classes after softmax(logits / τ), as in Figure 2.1 of the thesis: a low "
        "temperature makes a hard label of them, a high one spreads them towards uniform. Computed, not measured in "
        "this run.",
    ),
    "learning": (
        "What the nodes learn",
        "One colour and marker a configuration, in the panels of those quantities it has: the mean over its nodes, "
        "collapsed ones too, then over seeds with the 95 % interval as band.",
    ),
}


def write_report(folder: str | Path) -> Path:
    """Rebuild ``figures/*.svg`` and ``report.html`` of a result folder from its result files.

    The same files give the same bytes. Each file is replaced whole.

    Returns:
        The page's path.

    Raises:
        PalaverError: as ``read_result``.

    """
    result = read_result(folder)
    page = result.folder / "report.html"
    write_text(page, _page(result, write_figures(result)))
    return page


def _page(result: Result, drawn: Mapping[str, str]) -> str:
    summary = result.summary
    experiment = str(summary.get("experiment", result.settings.get("experiment", "run")))
    body = [f"<h1>{html.escape(experiment)}</h1>", html.paragraph(_facts(result), "facts")]
    if is_teaching(summary):
        body += _teaching(result, drawn)
    elif language.is_language(summary):
        body += _language(result, drawn)
    else:
        body += _collectives(result, drawn)
    body += [html.heading("Settings"), *_settings(result.settings)]
    return html.document(experiment, body)


def _teaching(result: Result, drawn: Mapping[str, str]) -> list[str]:
    """The page of students and their teacher."""
    summary = result.summary
    body = [html.paragraph(line, "verdict") for line in teaching.verdict(result).splitlines()]
    for title, how, grid in (
        ("Results", teaching.HOW_TABLE, teaching.lessons_grid(summary)),
        ("Costs", teaching.HOW_COSTS, teaching.costs_grid(summary)),
        ("Teachers", teaching.HOW_TEACHERS, teaching.teachers_grid(summary)),
        ("Gains", teaching.HOW_GAINS, teaching.gains_grid(result)),
        ("Beyond n = 5", teaching.HOW_LARGER, teaching.larger_grid(result)),
    ):
        if grid.rows:
            body += [html.heading(title), html.paragraph(how, "how"), html.table(grid, stacked=True)]
    body.append(html.heading("Figures"))
    return body + [html.figure(svg, name, *teaching.WORDS[name]) for name, svg in drawn.items()]


def _language(result: Result, drawn: Mapping[str, str]) -> list[str]:
    """The page of agents that make up a language."""
    body = [html.paragraph(line, "verdict") for line in language.verdict(result).splitlines()]
    body += [html.paragraph(line, "notice") for line in _diverged(result.summary)]
    for title, how, grid in (
        ("Results", language.HOW_PROBES, language.probes_grid(result.summary)),
        ("Communication", language.HOW_GAINS, language.gains_grid(result)),
        ("Messages", language.HOW_MESSAGES, language.messages_grid(result.summary)),
    ):
        if grid.rows:
            body += [html.heading(title), html.paragraph(how, "how"), html.table(grid, stacked=True)]
    body.append(html.heading("Figures"))
    return body + [html.figure(svg, name, *language.words(result, name)) for name, svg in drawn.items()]


def _collectives(result: Result, drawn: Mapping[str, str]) -> list[str]:
    """The page of collectives."""
    summary = result.summary
    body = [html.paragraph(line, "verdict") for line in verdict(result).splitlines()]
    body += [html.paragraph(line, "notice") for line in _diverged(summary) + warning_lines(summary)]
    body += [html.heading("Results"), html.paragraph(_how_results(result), "how")]
    body.append(html.table(results_grid(summary, last_rounds(result), average=True)))
    held_out = held_out_grid(summary)
    if any(cell != NOTHING for row in held_out.rows for cell in row[1:]):
        body += [html.heading("On the test set"), html.paragraph(f"Taken {_when(result)}.", "how")]
        body.append(html.table(held_out))
    body += [
        html.heading("Decision rules"),
        html.paragraph(_how_rules(summary), "how"),
        html.table(rules_grid(summary)),
    ]
    body += [html.heading("Bits"), html.paragraph(_HOW_BITS, "how"), html.table(bits_grid(summary))]
    if latent := latent_grids(result):
        body += [html.heading("Latent statistics"), html.paragraph(_HOW_LATENT, "how")]
        body += [html.table(grid, stacked=True) for grid in latent]
    body.append(html.heading("Figures"))
    body += [html.figure(svg, name, *_words(result, name)) for name, svg in drawn.items() if name in _FIGURES]
    return body + _pictures(result, drawn)


_WARNINGS = {
    "collapsed": "collapsed: {nodes}. Their codes or samples hardly depend on the input any more.",
    "certain": "has discriminators that are right on more than 99 %: {nodes}. These leave generator and encoder little "
    "to learn from.",
}


def warning_lines(summary: Mapping[str, Any]) -> list[str]:
    """One line a configuration and warning: how many nodes of which seeds, and what that means.

    Args:
        summary: a result's ``summary.json``, whose rows may have ``collapsed`` and ``certain``, ids of nodes by seed.

    >>> warning_lines({"rows": [{"configuration": "x", "collapsed": {"1": [0, 4]}}]})[0][:32]
    '“x” collapsed: 2 nodes of seed 1'

    """
    lines: list[str] = []
    for row in summary["rows"]:
        for kind, words in _WARNINGS.items():
            nodes = {seed: len(ids) for seed, ids in (row.get(kind) or {}).items() if ids}
            told = [f"{count(lost)} node{'' if lost == 1 else 's'} of seed {seed}" for seed, lost in nodes.items()]
            if told:
                lines.append(f"“{row['configuration']}” {words.format(nodes=', '.join(told))}")
    return lines


def _words(result: Result, name: str) -> tuple[str, str]:
    """A figure's title and caption."""
    title, told = _FIGURES[name]
    if name == "accuracy_over_rounds" and is_probe(result.summary):
        told = f"{_PROBE[0].upper()}{_PROBE[1:]} so far. {told}"
    return title, f"{told} {notes(result)}" if name == "learning" else told


def _pictures(result: Result, drawn: Mapping[str, str]) -> list[str]:
    """The section of pictures, where there are any."""
    found = read_pictures(result)
    names = [str(row["configuration"]) for row in result.settings["rows"]]
    pieces = [html.heading("Pictures")] if found else []
    for row, stages in found.items():
        name = f"pictures_{row}"
        pieces.append(html.figure(drawn[name], name, names[row], caption(stages), own_size=True))
    return pieces


_PROBE = (
    "the test accuracy of a linear probe, a linear classifier fitted on the features of each node's encoder, taken "
    "for every node at its best validation stage after any burn-in"
)


def _how_rules(summary: Mapping[str, Any]) -> str:
    return (
        f"Collective {accuracy_name(summary)}, %, when the same answers are combined in different ways. The default is "
        "confidence: the certain weigh more. Entropy as printed is the thesis's Algorithm 3 to the letter, in which "
        "the less certain weigh more. Compare down a column: silent nodes profit from deciding together too."
    )


_HOW_LATENT = (
    "At each configuration's last evaluated round, not at the best stage of a node: the mean over its nodes, then over "
    "seeds with the 95 % interval (Student t) in brackets. Nats are an example's; how to read each number is said "
    "below the figure “What the nodes learn”."
)

_HOW_BITS = (
    "What one node sent in the whole run, split into the examples themselves and what was said about them, beside "
    "what exchanging gradients in the same rounds would have sent. Dropped: the share that met a full inbox."
)


def _when(result: Result) -> str:
    """The round of the summary's accuracies, in words."""
    rounds = set(reported_rounds(result).values())
    return f"at round {count(rounds.pop())}" if len(rounds) == 1 else "at each configuration's reported round"


def _how_results(result: Result) -> str:
    summary = result.summary
    told = "Mean over seeds with its 95 % interval (Student t) in brackets, "
    if is_probe(summary):
        told += f"{_when(result)}: {_PROBE} up to then. Collective is the decision under the default rule."
    else:
        told += f"on validation examples, {_when(result)}. Collective is the decision under the default rule. Rounds "
        told += "to target is the first evaluated round at which the collective reached the target; “> R” says that "
        told += "not every seed did within R rounds, and how many did."
    if any(row.get("thesis") for row in summary["rows"]):
        told += " The thesis's number stands beside ours; its data, model and number of rounds may differ."
    return told


def _facts(result: Result) -> str:
    summary = result.summary
    forms = {"scale": "scale {}", "seeds": "seeds: {}", "version": "version {}", "device": "{}"}
    forms["wall_seconds"] = "{:,.0f} s"
    facts = [f"data: {', '.join(data_of(result))}"] if data_of(result) else []
    facts += [form.format(summary[key]) for key, form in forms.items() if summary.get(key) is not None]
    if summary.get("target") is not None:
        facts.append(f"target {percent(summary['target'])} %")
    return " · ".join(facts)


def _diverged(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in summary["rows"]:
        seeds = [f"seed {seed} at round {count(number)}" for seed, number in (row.get("diverged") or {}).items()]
        if seeds:
            lines.append(
                f"“{row['configuration']}” diverged: {', '.join(seeds)}. It has no mean where a seed has no value, "
                "for a mean over the seeds that remain would flatter."
            )
    return lines


def _settings(settings: Mapping[str, Any]) -> list[str]:
    """What all configurations share in one fold, what tells them apart in another."""
    rows = {str(row["configuration"]): row.get("settings") or {} for row in settings["rows"]}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    shown = {name: [_shown(row[key]) if key in row else NOTHING for key in keys] for name, row in rows.items()}
    differ = [place for place in range(len(keys)) if len({cells[place] for cells in shown.values()}) > 1]
    common = [(key, _shown(value)) for key, value in settings.items() if key not in ("rows", "graph")]
    if rows:
        first = next(iter(shown.values()))
        common += [(key, first[place]) for place, key in enumerate(keys) if place not in differ]
    shared = Grid("settings in common", ("setting", "value"), common, labels=2)
    pieces = [html.folded("The same in every configuration", [html.table(shared)])]
    if differ:
        headers = ("configuration", *(keys[place] for place in differ))
        lines = [(name, *(cells[place] for place in differ)) for name, cells in shown.items()]
        grid = Grid("settings that differ", headers, lines, labels=len(headers))
        pieces.append(html.folded("What tells the configurations apart", [html.table(grid)]))
    return pieces


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
