"""Prints, in Markdown, the thesis's sentences about an experiment and the verdict of a result that is kept.

``python results/verdicts.py NAME`` reads ``results/NAME/summary.json``; docs/collective.md has what it prints, and
``tests/test_results.py`` holds the two to each other.
"""

import argparse
import json
from pathlib import Path

from palaver.exchange.report.claims import ABSENT, FAILS, HOLDS, OPEN, Checked, Sentence, sentences, shown

_WORST_FIRST = FAILS, ABSENT, OPEN, HOLDS


def table(folder: Path) -> str:
    """The table of a folder under ``results``."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = {str(row["configuration"]): row for row in summary["rows"]}
    last = {name: row["last_round"] for name, row in rows.items()}
    lines = ["| § | the thesis | verdict | measured |", "|---|---|---|---|"]
    for each in sentences(summary["experiment"], rows, last):
        others = len(each.found) - 1
        more = f", and {others} other{'s' if others > 1 else ''}" if others else ""
        measured = shown(each.claim, decisive(each)) + more
        lines.append(f"| {each.claim.where} | {each.claim.says} | **{each.verdict}** | {measured} |")
    return "\n".join(lines)


def decisive(sentence: Sentence) -> Checked:
    """The comparison that stands worst for the sentence."""

    def standing(one: Checked) -> tuple[int, float]:
        mean = 0.0 if one.found is None or one.found["mean"] is None else one.found["mean"]
        if sentence.claim.kind in ("level", "is"):
            mean = -abs(mean - sentence.claim.value)
        return _WORST_FIRST.index(one.verdict), -mean if sentence.claim.kind in ("slight", "falls") else mean

    return min(sentence.found, key=standing)


def main() -> None:
    """Prints the table of the folder that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the folder under results/")
    print(table(Path(__file__).parent / parser.parse_args().name))


if __name__ == "__main__":
    main()
