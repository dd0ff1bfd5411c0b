"""Table 3.1 and Figure 3.1 of the thesis: a teacher that selects the examples, and rivals; with wrong labels too."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palaver.studies.chapter import Row
from palaver.studies.settings import following
from palaver.teaching.chapter import CHAPTER

_GOALS = (0.95, 0.96, 0.97)
"""Validation accuracies on MNIST whose costs are reported; on other data, shares of the best without a teacher."""

_NUMBERS = {
    "no teacher": (0.964, 39_000),
    "n=2 cross-entropy soft": (0.969, 25_000),
    "n=2 cross-entropy true": (0.965, 18_700),
    "n=2 euclidean soft": (0.968, 18_700),
    "n=2 random soft": (0.967, 32_800),
    "n=5 cross-entropy soft": (0.968, 13_700),
    "n=5 cross-entropy true": (0.968, 9_100),
}
"""Test accuracy and backward passes to it, in the thesis."""

_FACTORS = {"n=2 random": 1.0, "n=2": 2.0, "n=5": 4.0}
"""How many times fewer updates the same accuracy takes, as the thesis claims of rows whose names begin so (§3.3.1)."""

LARGER = (10, 20, 50, 100)
"""Stacks beyond the table, for the figure of scaling."""


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """The table's rows, larger stacks, rivals from the literature, rules beyond the thesis; some with wrong labels.

    On other data the thesis's numbers do not apply.
    """
    base = following(CHAPTER.scales[scale], overrides, "data")
    applies, small = base.data == "mnist", base.data == "digits"
    # The settings of scale tiny are those that fit digits.
    base = replace(CHAPTER.scales["tiny"] if small else base, goals=_GOALS if applies else ())
    plain = {"stack": (1,), "stack_from": (0,), "difficulty": "cross-entropy", "select": "top", "target": "true"}
    table: dict[str, dict[str, Any]] = {
        "no teacher": {},
        "n=2 cross-entropy soft": {"stack": (2,), "target": "soft"},
        "n=2 cross-entropy true": {"stack": (2,)},
        "n=2 euclidean soft": {"stack": (2,), "difficulty": "euclidean", "target": "soft"},
        "n=2 random soft": {"stack": (2,), "select": "uniform", "target": "soft"},
        "n=5 cross-entropy soft": {"stack": (5,), "target": "soft"},
        "n=5 cross-entropy true": {"stack": (5,)},
    }
    rivals: dict[str, dict[str, Any]] = {
        "n=5 student loss true": {"stack": (5,), "difficulty": "student-loss"},
        "n=5 reducible loss true": {"stack": (5,), "difficulty": "reducible-loss"},
    }
    hardest = {"difficulty": "euclidean", "target": "soft", "select": "hardest", "share": 0.1}
    kl = {"difficulty": "kl", "target": "soft"}
    beyond: dict[str, dict[str, Any]] = {
        f"n={n} cross-entropy soft": {"stack": (n,), "target": "soft"} for n in LARGER
    } | {
        "n=10 kl soft": kl | {"stack": (10,)},
        "n=20 hardest tenth euclidean soft": hardest | {"stack": (20,)},
        "n=20 hardest 15 % euclidean soft at 3": hardest | {"stack": (20,), "share": 0.15, "target_temperature": 3.0},
        "n=50 hardest 15 % euclidean soft at 3": hardest | {"stack": (50,), "share": 0.15, "target_temperature": 3.0},
        "n=5 growing to 20, hardest tenth euclidean soft": hardest | {"stack": (5, 20), "stack_from": (0, 400)},
        "n=20 proportional kl soft": kl | {"stack": (20,), "select": "proportional"},
        "n=20 kl soft, a quarter random": kl | {"stack": (20,), "select": "top-and-random", "share": 0.25},
    }
    families: list[tuple[str, str, dict[str, Any], dict[str, dict[str, Any]]]] = [
        ("Table 3.1", "", {}, table),
        ("Rivals from the literature", "", {}, rivals),
        ("Beyond the thesis", "", {}, beyond),
        ("20 % of the labels flipped", "20 % flipped: ", {"flipped": 0.2}, table | rivals),
        ("10 % of the labels known", "10 % known: ", {"known": 0.1}, table | rivals),
    ]
    found = []
    for family, where, how, chosen in families:
        for name, own in chosen.items():
            numbers = _NUMBERS.get(name) if applies and not where else None
            thesis = {} if numbers is None else {"test_accuracy": numbers[0], "updates_to_best": float(numbers[1])}
            claimed = [times for start, times in _FACTORS.items() if numbers is not None and name.startswith(start)]
            thesis |= {"times_fewer_updates": claimed[0]} if claimed else {}
            found.append(Row(where + name, base, plain | own | how, thesis, family))
    largest = 20 if small else max(LARGER)  # that the examples can fill
    return [row for row in found if max(row.own["stack"]) <= largest]
