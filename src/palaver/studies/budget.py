"""What a plan takes, shown before it runs, and refused where the machine does not have it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from palaver.data import Dataset
from palaver.devices import cores
from palaver.host import free_memory
from palaver.studies.chapter import AnyChapter, Configuration
from palaver.studies.findings import Grid
from palaver.studies.formats import count, human_bits, human_bytes, plain
from palaver.studies.memory import Footprint, available
from palaver.studies.settings import changed
from palaver.types import PalaverError

_MOST_AHEAD = 4
"""Configurations that are made ready at once: Python's part of it is done one after the other."""

_COMPILING = 10**9
"""Bytes that XLA may take while it compiles a program (measured: up to 0.7 GB, for convolutional networks)."""


def footprints(
    chapter: AnyChapter,
    rows: Sequence[Configuration],
    load: Callable[[str], Dataset],
    seeds: int,
    devices: int,
) -> list[Footprint]:
    """What each configuration takes.

    Args:
        chapter: of the configurations.
        rows: the configurations.
        load: gives a data set by its name.
        seeds: S, trained together.
        devices: over which nodes are distributed.

    Returns:
        A footprint for each configuration.

    Raises:
        PalaverError: settings that the data does not allow.

    """
    return [chapter.footprint(row.settings, chapter.load(row.settings, load), seeds, devices) for row in rows]


def budget_grid(rows: Sequence[Configuration], found: Sequence[Footprint], devices: int) -> Grid:
    """The plan as a table: configurations with their parameters, bits and memory.

    Args:
        rows: the configurations.
        found: their footprints.
        devices: over which nodes are distributed.

    Returns:
        The table. Parameters and bits are of one seed, memory is of all seeds together.

    """
    parts = list(dict.fromkeys(part for each in found for part in each.memory))
    headers = ("configuration", "parameters", "bits sent, expected", *parts, "memory")
    lines = [
        (
            row.name,
            count(each.parameters),
            human_bits(each.bits),
            *(human_bytes(each.memory.get(part)) for part in parts),
            human_bytes(each.bytes),
        )
        for row, each in zip(rows, found, strict=True)
    ]
    title = "to be run: parameters and bits of one seed, all learners together; memory of all seeds"
    return Grid(f"{title}; {human_bytes(available(devices))} are free", headers, lines)


def room_ahead(found: Sequence[Footprint], devices: int) -> int:
    """How many of the next configurations may be made ready while one trains: one a core, if their data fit.

    Args:
        found: the footprints of all configurations.
        devices: over which nodes are distributed.

    """
    left = min(available(devices) - max(each.bytes for each in found), free_memory())
    data = max(each.memory.get("data", 0) for each in found)
    return max(0, min(cores(), _MOST_AHEAD, left // (data + _COMPILING)))


def check_budget(
    chapter: AnyChapter,
    rows: Sequence[Configuration],
    found: Sequence[Footprint],
    load: Callable[[str], Dataset],
    seeds: int,
    devices: int,
) -> None:
    """Refuses a plan that needs more memory than there is; configurations run one after the other.

    Args:
        chapter: of the configurations.
        rows: the configurations.
        found: their footprints.
        load: as for ``footprints``.
        seeds: S.
        devices: over which nodes are distributed.

    Raises:
        PalaverError: the largest configuration needs more than is free. The message says how much, and which setting
            takes most of it: the one that would leave least if it had its default.

    """
    row, most = max(zip(rows, found, strict=True), key=lambda each: each[1].bytes)
    free = available(devices)
    if most.bytes <= free:
        return
    data = chapter.load(row.settings, load)
    instead: dict[str, tuple[Any, int]] = {}
    if seeds > 1:
        instead["seeds"] = 1, chapter.footprint(row.settings, data, 1, devices).bytes
    for field in dataclasses.fields(chapter.settings):
        default = getattr(chapter.settings(), field.name)
        if not isinstance(default, str | bool) and getattr(row.settings, field.name) != default:
            try:
                other = changed(row.settings, {field.name: default}, "")
                instead[field.name] = default, chapter.footprint(other, data, seeds, devices).bytes
            except PalaverError:  # without this setting the others do not go together
                continue
    part = max(most.memory, key=lambda name: most.memory[name])
    advice = "give smaller settings, or a data set with fewer classes or examples"
    name, (value, left) = min(instead.items(), key=lambda each: each[1][1], default=("", (None, most.bytes)))
    if left < 0.9 * most.bytes:
        given = seeds if name == "seeds" else getattr(row.settings, name)
        advice = (
            f"{name} {plain(given)} takes most of it ({plain(value) or 'its default'} would need {human_bytes(left)})"
        )
    raise PalaverError(
        f"“{row.name}” needs about {human_bytes(most.bytes)} of memory ({part} {human_bytes(most.memory[part])}) and "
        f"{human_bytes(free)} are free: {advice}"
    )
