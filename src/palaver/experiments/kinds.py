"""What can be trained, by the name that ``settings.json`` has for it."""

from __future__ import annotations

from typing import Any

from palaver.experiments import collectives, languages, students
from palaver.experiments.study import Kind, Row

KINDS = {"collective": collectives.KIND, "teaching": students.KIND, "language": languages.KIND}


def kind_of(rows: list[Row]) -> str:
    """The name of the kind that these configurations' settings are of."""
    return next(name for name, kind in KINDS.items() if type(rows[0].settings) is kind.settings)


def rows_of(stored: dict[str, Any]) -> list[Row]:
    """The configurations in a ``settings.json``; lists were tuples."""
    kind: Kind = KINDS[stored["kind"]]
    rows: list[Row] = []
    for entry in stored["rows"]:
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in entry["settings"].items()}
        rows.append(Row(entry["configuration"], kind.settings(**given), entry["thesis"]))
    return rows
