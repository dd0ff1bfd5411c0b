"""Prints tables of a kept result in Markdown: the thesis's sentences, families, decisions of some of the nodes.

``python results/tables.py NAME`` has the sentences about the experiment of ``results/NAME/summary.json`` with their
verdicts, ``--family FAMILY`` the configurations of a family, ``--answers FAMILY`` what a part of the nodes decides.
``python results/tables.py --renew PAGE [PAGE ...]`` prints anew, in Markdown pages, each table that stands after a
comment with such arguments, for example ``<!-- tables: sweeps --family Nodes -->``; ``tests/test_results.py`` checks
that nothing would change.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palaver.decision import RULES
from palaver.exchange.report.claims import ABSENT, FAILS, HOLDS, OPEN, Checked, Sentence, sentences, shown
from palaver.report.grids import measured_cell
from palaver.studies.formats import NOTHING, count, percent

TABLES = re.compile(r"(<!-- tables: ([a-z0-9-]+)(?: --(family|answers) (.*))? -->\n)((?:\|.*\n)*)")
"""A comment, the result's name, which table, of which family, and the table that stands there."""
_WORST_FIRST = FAILS, ABSENT, OPEN, HOLDS
_SHARES = 10, 25, 50
_SENT = "bits.examples", "bits.indices", "bits.payload"


def read(folder: Path) -> dict[str, Any]:
    """The summary of a folder under ``results``."""
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def verdicts(folder: Path) -> str:
    """The sentences about the result's experiment."""
    summary = read(folder)
    rows = {str(row["configuration"]): row for row in summary["rows"]}
    last = {name: row["last_round"] for name, row in rows.items()}
    lines = []
    for each in sentences(summary["experiment"], rows, last):
        others = len(each.found) - 1
        more = f", and {others} other{'s' if others > 1 else ''}" if others else ""
        measured = shown(each.claim, decisive(each)) + more if each.verdict != ABSENT else NOTHING
        lines.append((each.claim.where, each.claim.says, f"**{each.verdict}**", measured))
    return markdown(("§", "the thesis", "verdict", "measured"), lines)


def decisive(sentence: Sentence) -> Checked:
    """The comparison that stands worst for the sentence."""

    def standing(one: Checked) -> tuple[int, float]:
        mean = 0.0 if one.found is None or one.found["mean"] is None else one.found["mean"]
        if sentence.claim.kind in ("level", "is"):
            mean = -abs(mean - sentence.claim.value)
        return _WORST_FIRST.index(one.verdict), -mean if sentence.claim.kind in ("slight", "falls") else mean

    return min(sentence.found, key=standing)


def family(folder: Path, name: str) -> str:
    """The configurations of a family, or with ``all`` of all: accuracies, bits, and rounds to the target."""
    summary, name = read(folder), "" if name == "all" else name
    lines = []
    for row in _members(summary, name):
        metrics, cell = row["metrics"], partial(_cell, row["metrics"])
        sent = sum((metrics.get(each) or {}).get("mean") or 0.0 for each in _SENT)
        average, together = cell("average_accuracy"), cell("collective_accuracy")
        together = NOTHING if together == average else together  # of one node
        reached = measured_cell(metrics.get("rounds_to_target"), count, beyond=f"> {row['last_round']:,}")
        own = [measured_cell(metrics["own_share"], percent)] if "own_share" in metrics else []
        lines.append((_short(row, name), average, together, f"{sent / 1e6:.3g}", reached, *own))
    target = f"rounds to {100 * summary['target']:g} %" if "target" in summary else "rounds"
    headers = [name or "configuration", "average node %", "together %", "Mbit a node", target, "own examples %"]
    if max(map(len, lines)) < len(headers):
        headers = headers[:-1]
    if "target" not in summary:
        headers, lines = headers[:4], [line[:4] for line in lines]
    return markdown(headers, [(*line, *[NOTHING] * (len(headers) - len(line))) for line in lines])


def answers(folder: Path, name: str) -> str:
    """Accuracies of decisions by a share of the nodes, by rule; the second number is with calibrated temperatures."""
    lines = []
    for row in _members(read(folder), name):
        metrics = row["metrics"]
        for rule in RULES:
            cells = []
            for share in _SHARES:
                end = f".{rule}" if f"test_subset_accuracy.{share}.{rule}" in metrics else ""
                cells.append(f"subset_accuracy.{share}{end}")
            cells.append(f"collective_accuracy.{rule}")
            both = [
                " / ".join(percent((metrics.get(f"test_{how}{each}") or {}).get("mean")) for how in ("", "calibrated_"))
                for each in cells
            ]
            lines.append((_short(row, name), rule.replace("_", " "), *both))
    return markdown((name, "rule", *(f"{share} % answer" for share in (*_SHARES, 100))), lines)


def _members(summary: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [row for row in summary["rows"] if not name or row["configuration"].startswith(f"{name}: ")]


def _short(row: Mapping[str, Any], name: str) -> str:
    return row["configuration"].removeprefix(f"{name}: ")


def _cell(metrics: Mapping[str, Any], name: str) -> str:
    return measured_cell(metrics.get(f"test_{name}") or metrics.get(name), percent)


def markdown(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rule = f"|{'---|' * len(headers)}"
    head, *rest = (f"| {' | '.join(line)} |" for line in (headers, *lines))
    return "\n".join([head, rule, *rest])


def printed(folder: Path, of_family: str | None, of_answers: str | None) -> str:
    """What the command prints."""
    if of_family is not None:
        return family(folder, of_family)
    return verdicts(folder) if of_answers is None else answers(folder, of_answers)


def renewed(page: str) -> str:
    """A page's text with all its tables printed anew."""

    def one(found: re.Match[str]) -> str:
        comment, name, kind, of, _ = found.groups()
        asked = (of if kind == each else None for each in ("family", "answers"))
        return f"{comment}{printed(Path(__file__).parent / name, *asked)}\n"

    return TABLES.sub(one, page)


def main() -> None:
    """Prints the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="of the folder under results/")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--family", help="its configurations; all: those of all families")
    asked.add_argument("--answers", help="a family whose configurations have decisions of some of the nodes")
    asked.add_argument("--renew", type=Path, nargs="+", default=[], help="pages whose tables are printed anew")
    given = parser.parse_args()
    if (given.name is None) == (not given.renew):
        parser.error("give the name of a result, or pages to --renew")
    for page in given.renew:
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    if given.name is not None:
        print(printed(Path(__file__).parent / given.name, given.family, given.answers))


if __name__ == "__main__":
    main()
