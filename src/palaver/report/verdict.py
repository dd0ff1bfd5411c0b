"""What a run found, in a sentence; in one sentence a family where nodes learnt without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palaver.report.files import Result, nodes_of
from palaver.report.measure import is_probe
from palaver.report.tables import accuracy_cell, sent_bits

_FAMILIES = {"vae": "VAE", "bigan": "BiGAN", "labels": "Labels"}


def verdict(result: Result) -> str:
    """What the run found, in one sentence with its numbers.

    The best of the configurations that talk, by collective validation accuracy under the default rule, against the
    silent collective of as many nodes (the best silent one where there is none) under the same rule.

    Where the accuracies are those of a linear probe: one such sentence a family (the settings' ``objective``), each on
    a line of its own, with the test accuracies, the best chosen by its probes' validation accuracy, and never against a
    silent collective of another size.
    """
    if is_probe(result.summary):
        return "\n".join(_family(result, *family) for family in _families(result).items())
    nodes = nodes_of(result.settings)
    rows = [row for row in result.summary["rows"] if _collective(row).get("mean") is not None]
    if not rows:
        return "No configuration has a collective accuracy in every one of its seeds."
    best = max([row for row in rows if sent_bits(row)] or rows, key=_accuracy)
    name = best["configuration"]
    silent = [row for row in rows if not sent_bits(row) and nodes.get(row["configuration"], 2) > 1 and row is not best]
    silent = [row for row in silent if nodes.get(row["configuration"]) == nodes.get(name)] or silent
    told = f"“{name}” decides best: it is right on {_percent(best)} of the validation examples as a collective"
    if not sent_bits(best) or not silent:
        return f"{told}."
    return f"Of the configurations that talk, {told}, {_against(best, max(silent, key=_accuracy))}."


def _families(result: Result) -> dict[str, list[dict[str, Any]]]:
    """The summary's rows by the objective their settings name, in the order of the rows; none that was not trained."""
    settings = {row["configuration"]: row.get("settings") or {} for row in result.settings["rows"]}
    families: dict[str, list[dict[str, Any]]] = {}
    for row in result.summary["rows"]:
        own = settings.get(row["configuration"], {})
        if own.get("rounds") == 0:
            continue
        objective = own.get("objective") or "labels"
        families.setdefault(str(objective), []).append(row)
    return families


def _family(result: Result, objective: str, rows: Sequence[dict[str, Any]]) -> str:
    """The best that talks of one family against the silent one of as many nodes."""
    label = _FAMILIES.get(objective, objective)
    known = [row for row in rows if _collective(row).get("mean") is not None]
    if not known:
        return f"{label}: no configuration has a collective accuracy in every one of its seeds."
    talking = [row for row in rows if sent_bits(row)]
    heard = [row for row in known if sent_bits(row)]
    if talking and not heard:
        return f"{label}: no configuration that talks has a collective accuracy in every one of its seeds."
    best = max(heard or known, key=_validated)
    name = f"“{best['configuration']}”"
    right = f"is right on {_percent(best)} of the test examples as a collective"
    if not talking:
        return f"{label}: no configuration talks; {name} is best on validation: it {right}."
    one = len(heard) == 1
    told = (
        f"{label}: {name} {right}" if one else f"{label}: of those that talk, {name} is best on validation: it {right}"
    )
    nodes = nodes_of(result.settings)
    size = nodes.get(best["configuration"])
    silent = [row for row in rows if not sent_bits(row) and nodes.get(row["configuration"]) == size]
    if not silent:
        return f"{told}; there is no silent configuration of as many nodes to compare it with."
    if not (compared := [row for row in silent if row in known]):
        return f"{told}; “{silent[0]['configuration']}”, as many silent nodes, has no mean to compare it with."
    return f"{told}, {_against(best, max(compared, key=_accuracy))}."


def _against(best: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    points = 100 * (_accuracy(best) - _accuracy(other))
    way = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if abs(points) >= 0.05 else "level with"
    return f"{way} “{other['configuration']}” at {_percent(other)} under the same decision rule{_overlap(best, other)}"


def _collective(row: Mapping[str, Any]) -> dict[str, Any]:
    return (row.get("metrics") or {}).get("collective_accuracy") or {}


def _validated(row: Mapping[str, Any]) -> float:
    """What a family's best is chosen by: the probes' validation accuracy, where the file has it."""
    metric = (row.get("metrics") or {}).get("validation_average_accuracy") or {}
    return _accuracy(row) if metric.get("mean") is None else float(metric["mean"])


def _accuracy(row: Mapping[str, Any]) -> float:
    return float(_collective(row)["mean"])


def _percent(row: Mapping[str, Any]) -> str:
    middle, _, ends = accuracy_cell(_collective(row)).partition(" ")
    return f"{middle} % {ends}".strip()


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    first, second = _collective(one), _collective(other)
    if any(row.get(end) is None for row in (first, second) for end in ("low", "high")):
        return " (too few seeds for intervals)"
    apart = first["low"] > second["high"] or first["high"] < second["low"]
    return " (the 95 % intervals do not overlap)" if apart else " (the 95 % intervals overlap)"
