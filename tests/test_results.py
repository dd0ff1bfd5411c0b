"""What README and docs quote with an interval is in the results that are kept.

A comment ``<!-- results: NAME, NAME -->`` in a page begins a part whose numbers are those of ``results/NAME``, and
``<!-- results: none -->`` ends it. Every ``mean [low, high]`` in such a part must be a metric of one of its
configurations, or a difference by seed of two of the same family. A result with hundreds of configurations has so many
differences that one in ten wrong quotes may pass; those with few let hardly any pass. Tables after a
comment ``<!-- tables: ... -->`` are those that ``results/tables.py`` prints.
"""

import json
import re
import runpy
from functools import cache
from itertools import combinations
from operator import sub
from pathlib import Path

import numpy as np
import pytest

from palaver.studies.statistics import paired

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"<!-- results: ([a-z0-9-]+(?:, [a-z0-9-]+)*) -->")
QUOTED = re.compile(r"([-+−]?\d+(?:\.\d+)?)\s*(?:%\s+)?\[([-+−]?\d+(?:\.\d+)?),\s+([-+−]?\d+(?:\.\d+)?)\]")
PRINTED = runpy.run_path(str(ROOT / "results" / "tables.py"))
MEASURES = ("average_accuracy", "collective_accuracy")
QUOTABLE = (*MEASURES, "own_accuracy", "worst_accuracy")
"""Of the test set where a result has it."""


def parts(page: Path) -> list[tuple[tuple[str, ...], str]]:
    """Names of results and the text that quotes them."""
    text = PRINTED["TABLES"].sub("", page.read_text(encoding="utf-8"))  # they are checked as a whole
    _, *pieces = MARK.split(text)
    found = [(tuple(names.split(", ")), part) for names, part in zip(pieces[::2], pieces[1::2], strict=True)]
    return [(names, part) for names, part in found if names != ("none",)]


@cache
def intervals(name: str) -> np.ndarray:
    """``[n, 3]``: mean, low and high of all that may be quoted of a result, in the units of the file and in percent."""
    rows = json.loads((ROOT / "results" / name / "summary.json").read_text(encoding="utf-8"))["rows"]
    prefix = "test_" if any(f"test_{MEASURES[0]}" in row["metrics"] for row in rows) else ""
    found = [row["metrics"].get(prefix + name) for row in rows for name in QUOTABLE]
    families: dict[str, list] = {}
    for row in rows:
        families.setdefault(row["configuration"].partition(": ")[0] if len(rows) > 20 else "", []).append(
            row["metrics"]
        )
    for measure in MEASURES:
        for family in families.values():
            known = [metrics[prefix + measure] for metrics in family if prefix + measure in metrics]
            found += [paired(one, other, sub) for one, other in combinations(known, 2)]
    ends = [(each["mean"], each["low"], each["high"]) for each in found if each and each["low"] is not None]
    return np.array(ends, float)


def quoted(text: str) -> list[tuple[str, ...]]:
    return [tuple(number.replace("−", "-") for number in found.groups()) for found in QUOTED.finditer(text)]


def is_known(numbers: tuple[str, ...], known: np.ndarray) -> bool:
    """Whether an interval rounds to these numbers; a loss may be told without its sign, its ends turned."""
    places = max(len(number.partition(".")[2]) for number in numbers)
    middle, low, high = map(float, numbers)
    half = 0.5 * 10.0**-places + 1e-3 * 10.0**-places  # numbers are kept in six digits
    for factor in (100.0, 1.0):
        for sought in ((middle, low, high), (-middle, -high, -low)):
            if (np.abs(factor * known - np.array(sought)) <= half).all(1).any():
                return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_is_in_the_results(page):
    for names, text in parts(page):
        known = np.concatenate([intervals(name) for name in names])
        strange = [numbers for numbers in quoted(text) if not is_known(numbers, known)]
        assert not strange, f"{page.name}, results of {', '.join(names)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_on_a_page_are_printed_from_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert PRINTED["renewed"](text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_comment_about_results_is_understood(page):
    text = page.read_text(encoding="utf-8")
    understood = len(MARK.findall(text)) + len(PRINTED["TABLES"].findall(text))
    assert len(re.findall("<!-- *(?:results|tables)", text)) == understood


def test_every_result_is_quoted():
    named = {name for page in PAGES for names, _ in parts(page) for name in names}
    named |= {name for page in PAGES for _, name, *_ in PRINTED["TABLES"].findall(page.read_text(encoding="utf-8"))}
    assert named == {path.name for path in (ROOT / "results").iterdir() if path.is_dir()}


def test_a_wrong_number_is_found():
    known = np.array([[0.9512, 0.9405, 0.9604], [-0.021, -0.03, -0.01]])
    assert is_known(("95.1", "94.1", "96.0"), known) or is_known(("95.1", "94.0", "96.0"), known)
    assert is_known(("2.1", "1.0", "3.0"), known) and is_known(("-2.1", "-3.0", "-1.0"), known)
    assert not is_known(("95.2", "94.0", "96.0"), known)
    assert quoted("| 90.9 [90.1, 91.7] | by 4.3\n[1.0, 7.6] points, −0.6 [−0.7, -0.4], 95.8 [94.4,\n  96.8] %") == [
        ("90.9", "90.1", "91.7"),
        ("4.3", "1.0", "7.6"),
        ("-0.6", "-0.7", "-0.4"),
        ("95.8", "94.4", "96.8"),
    ]
