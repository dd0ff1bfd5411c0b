"""What a run found, in a sentence; in one sentence for each objective where nodes learnt without labels."""

from collections.abc import Mapping, Sequence
from operator import sub
from typing import Any

from palaver.exchange.report.metrics import is_probe, sent_bits
from palaver.report.grids import measured_cell, percent_cell
from palaver.studies.formats import points
from palaver.studies.results import Result, metric_of, settings_of
from palaver.studies.statistics import paired

_OBJECTIVES = {"vae": "VAE: ", "bigan": "BiGAN: "}


def verdict(result: Result) -> str:
    """What the run found, with its numbers.

    The best on validation of the configurations that communicate, under the default rule, against the silent collective
    of as many nodes under the same rule. Where the accuracies are those of a linear probe: one such sentence for each
    objective, on a line of its own, with the test accuracies. Of a single configuration: what combining its nodes'
    predictions gains.
    """
    settings, rows = settings_of(result), result.summary["rows"]
    if not is_probe(result.summary):
        line = _sentence(rows, settings, "validation")
        return line[0].upper() + line[1:]
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        own = settings.get(row["configuration"], {})
        if own.get("rounds") != 0:
            families.setdefault(str(own.get("objective")), []).append(row)
    return "\n".join(_OBJECTIVES.get(name, "") + _sentence(own, settings, "test") for name, own in families.items())


def _sentence(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]], examples: str) -> str:
    known = [row for row in rows if _accuracy(row)["mean"] is not None]
    sending = [row for row in known if sent_bits(row)]
    if not known or (not sending and any(map(sent_bits, rows))):
        which = " that communicates" if known else ""
        return f"no configuration{which} has a collective accuracy in every one of its seeds."
    best = max(sending or known, key=_validated)

    def nodes(row: Mapping[str, Any]) -> Any:
        return settings.get(row["configuration"], {}).get("nodes")

    if len(rows) == 1:
        return _alone(best, examples, nodes(best))
    right = f"right on {percent_cell(_accuracy(best))} of the {examples} examples as a collective"
    name = f"“{best['configuration']}”"
    if not sending:
        return f"no configuration communicates; {name} is best on validation: it is {right}."
    lead = f"of those that communicate, {name} is best on validation: it is" if len(sending) > 1 else f"{name} is"
    silent = [row for row in rows if not sent_bits(row) and nodes(row) == nodes(best)]
    if not silent:
        return f"{lead} {right}; there is no silent configuration of as many nodes to compare it with."
    compared = [row for row in silent if row in known]
    if not compared:
        other = f"“{silent[0]['configuration']}”, as many silent nodes, has no mean to compare it with"
        return f"{lead} {right}; {other}."
    return f"{lead} {right}, {_against(best, max(compared, key=lambda row: _accuracy(row)['mean']))}."


def _alone(row: Mapping[str, Any], examples: str, nodes: Any) -> str:
    """A single configuration: its collective, its average node, and the difference by seed."""
    right = f"“{row['configuration']}” is right on {percent_cell(_accuracy(row))} of the {examples} examples"
    average = metric_of(row, "average_accuracy")
    gain = paired(_accuracy(row), average, sub)
    if nodes == 1 or average is None or gain is None or gain["mean"] is None:
        return f"{right}."
    mean, gained = percent_cell(average), measured_cell(gain, points)
    return (
        f"{right} as a collective, its average node on {mean}; combining predictions changes that by {gained} points."
    )


def _against(best: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    one, two = _accuracy(best), _accuracy(other)
    distance = 100 * (one["mean"] - two["mean"])
    way = (
        f"{abs(distance):.1f} points {'above' if distance > 0 else 'below'}" if abs(distance) >= 0.05 else "level with"
    )
    if None in (one["low"], two["low"]):
        overlap = "too few seeds for intervals"
    else:
        apart = one["low"] > two["high"] or one["high"] < two["low"]
        overlap = f"the 95 % intervals {'do not overlap' if apart else 'overlap'}"
    return f"{way} “{other['configuration']}” at {percent_cell(two)} under the same decision rule ({overlap})"


def _accuracy(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return metric_of(row, "collective_accuracy") or {"mean": None}


def _validated(row: Mapping[str, Any]) -> float:
    """What the best is chosen by: the probes' validation accuracy, where the file has it."""
    return (metric_of(row, "validation_average_accuracy") or _accuracy(row))["mean"] or 0.0
