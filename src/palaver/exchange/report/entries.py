"""Which configurations of a run stand against each other: families, kinds of methods, and the best learning rates."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from palaver.exchange.report.metrics import sent_bits
from palaver.studies.results import Result, metric_of, settings_of
from palaver.studies.statistics import Interval

KINDS = {
    "outputs": "outputs on a reference set",
    "examples": "own examples",
    "silent": "silent",
    "averaging": "averages weights",
    "gradients": "averages gradients in every round",
    "predictions": "other exchange of predictions",
    "data": "shares data",
    "other": "another method",
}
"""What nodes give each other, in words."""

_METHODS = {
    "averaging": ("fedavg", "diloco", "gossip"),
    "gradients": ("sync-sgd", "async-sgd"),
    "predictions": ("codistillation", "codistillation-stale", "fedmd", "fd", "ds-fl", "scarlet"),
    "data": ("bagging", "ensemble", "ship"),
}
_KIND_OF = {method: kind for kind, methods in _METHODS.items() for method in methods}

MEASURES = {"collective_accuracy": "as a collective", "average_accuracy": "as an average node"}
"""What configurations are compared by, and in words."""


class Entry(NamedTuple):
    """A configuration of several nodes at its best learning rate."""

    name: str
    label: str
    """The name without what it shares with all of its family and without the learning rate."""
    family: str
    kind: str
    """Of ``KINDS``."""
    rate: float | None
    tried: int
    """How many learning rates it was chosen from."""
    end: str
    """``smallest`` or ``largest`` where that is the chosen rate of several: another might be better."""
    bits: float
    """Sent per node by the reported round, mean over seeds."""
    validated: float
    """Validation accuracy, mean over seeds: what the best is chosen by."""
    accuracy: Interval
    """On the test set where the run has it, otherwise on validation examples."""


def kind_of(own: Mapping[str, Any]) -> str | None:
    """The kind of a configuration with these settings; None for one node alone."""
    method = own.get("method") or "exchange"
    if own.get("nodes") == 1:
        return None
    if method != "exchange":
        return _KIND_OF.get(method, "other")
    if own.get("channel") in (None, "none"):
        return "silent"
    return "outputs" if own.get("reference") or own.get("reference_data") else "examples"


def families_of(result: Result) -> dict[str, str]:
    """The family of each configuration by its name; empty where it has none."""
    return {str(row["configuration"]): str(row.get("family") or "") for row in result.settings["rows"]}


def is_tested(result: Result) -> bool:
    """Whether the run has accuracies on the test set."""
    return any(metric_of(row, "test_collective_accuracy") for row in result.summary["rows"])


def variants(result: Result) -> list[list[str]]:
    """Names of configurations that are one at several learning rates: of one family, all other settings the same."""
    families, groups = families_of(result), dict[str, list[str]]()
    for name, own in settings_of(result).items():
        others = {key: value for key, value in own.items() if key != "learning_rate"}
        groups.setdefault(json.dumps([families[name], others], sort_keys=True), []).append(name)
    return list(groups.values())


def best_rates(result: Result, measure: str) -> list[Entry]:
    """Every configuration at the learning rate with the best validation accuracy at the reported round.

    A rate at which a seed diverged has no mean, and is not chosen.

    Args:
        result: the run.
        measure: of ``MEASURES``.

    Returns:
        The entries, in the order of the run; none for a single node, or where no rate has a mean.

    """
    settings, families = settings_of(result), families_of(result)
    rows = {row["configuration"]: row for row in result.summary["rows"]}
    groups = [alike for alike in variants(result) if kind_of(settings[alike[0]]) is not None]
    labels = _labels([(families[alike[0]], _shared(alike)) for alike in groups])
    shown, found = f"test_{measure}" if is_tested(result) else measure, list[Entry]()
    for alike, label in zip(groups, labels, strict=True):
        validated = {name: mean for name in alike if (mean := mean_of(rows[name], measure)) is not None}
        best = max(validated, key=lambda name: validated[name], default=None)
        accuracy = None if best is None else metric_of(rows[best], shown)
        if best is not None and accuracy is not None and accuracy["mean"] is not None:
            own, bits = settings[best], sent_bits(rows[best]) or 0.0
            rate, rates = own.get("learning_rate"), sorted(settings[name].get("learning_rate") or 0.0 for name in alike)
            place = families[best], kind_of(own) or "", rate, len(rates), _end(rate, rates)
            found.append(Entry(best, label, *place, bits, validated[best], accuracy))
    return found


def _end(rate: float | None, rates: Sequence[float]) -> str:
    """See ``Entry.end``."""
    if len(rates) == 1 or rate not in (rates[0], rates[-1]):
        return ""
    return "smallest" if rate == rates[0] else "largest"


def with_best_rates(result: Result) -> Result:
    """The result with every configuration at its best rates alone: for each of ``MEASURES``, often the same.

    Args:
        result: the run.

    Returns:
        The same files with fewer configurations in settings and summary. One that has no best rate keeps all.

    """
    best = {entry.name for measure in MEASURES for entry in best_rates(result, measure)}
    kept = [name for alike in variants(result) for name in (best.intersection(alike) or alike)]
    return only(result, kept)


def only(result: Result, names: Collection[str]) -> Result:
    """The result as if it had these configurations alone."""
    rows = [row for row in result.summary["rows"] if row["configuration"] in names]
    planned = [row for row in result.settings["rows"] if row["configuration"] in names]
    return result._replace(summary=result.summary | {"rows": rows}, settings=result.settings | {"rows": planned})


def mean_of(row: Mapping[str, Any], metric: str) -> float | None:
    """The mean of a metric over seeds; None where the row has none."""
    found = metric_of(row, metric)
    return None if found is None else found["mean"]


def _shared(names: Sequence[str]) -> str:
    """What the names of variants begin with: of several, without the rate."""
    pieces = list(map(_pieces, names))
    return "".join(pieces[0][: _common(pieces)]).rstrip(" ,:") or names[0]


def _labels(named: Sequence[tuple[str, str]]) -> list[str]:
    """Names without the words at the beginning that all of a family share."""
    of_family: dict[str, list[list[str]]] = {}
    for family, name in named:
        of_family.setdefault(family, []).append(_pieces(name))
    shared = {family: _common(names) if len(names) > 1 else 0 for family, names in of_family.items()}
    return ["".join(_pieces(name)[shared[family] :]) or name for family, name in named]


def _common(names: Sequence[Sequence[str]]) -> int:
    """How many pieces all names begin with."""
    return sum(1 for _ in takewhile(lambda pieces: len(set(pieces)) == 1, zip(*names, strict=False)))


def _pieces(name: str) -> list[str]:
    """A name cut behind every comma and colon.

    >>> _pieces("by class: outputs, lean")
    ['by class: ', 'outputs, ', 'lean']
    """
    return re.findall(r".+?(?:[:,] |$)", name)
