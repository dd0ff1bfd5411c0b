"""What a run is to do, as ``settings.json`` holds it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from palaver.data import Dataset
from palaver.errors import PalaverError
from palaver.studies.chapter import AnyChapter, Configuration
from palaver.studies.command import run_command
from palaver.studies.fields import Count, Seed
from palaver.studies.files import DamagedError, check_digests, digest, write_json, write_text
from palaver.studies.folder import Folder
from palaver.studies.settings import changed
from palaver.version import __version__


class Plan(NamedTuple):
    """All that a run needs; ``settings.json`` holds it."""

    experiment: str
    scale: str
    chapter: AnyChapter
    configurations: Sequence[Configuration]
    seeds: Sequence[int]
    devices: int
    overrides: Mapping[str, Any] = {}
    """Settings that were given in place of the experiment's own; a configuration keeps what makes it."""
    only: Sequence[str] = ()
    """Patterns that chose the configurations; none: all."""
    date: str = ""
    """When the run began, UTC, as ISO 8601 has it; empty until it begins."""

    def to_json(self) -> dict[str, Any]:
        """The contents of ``settings.json``."""
        return {
            "version": __version__,
            "date": self.date,
            "command": self.command(),
            "experiment": self.experiment,
            "chapter": self.chapter.name,
            "scale": self.scale,
            "seeds": list(self.seeds),
            "devices": self.devices,
            "overrides": dict(self.overrides),
            "only": list(self.only),
            "rows": [
                {
                    "configuration": row.name,
                    "family": row.family,
                    "settings": asdict(row.settings),
                    "thesis": row.thesis,
                }
                for row in self.configurations
            ],
        } | self.chapter.plan(self.configurations)

    def command(self) -> str:
        """The shell command that runs the plan again."""
        overrides = self.overrides
        if self.experiment == self.chapter.name:  # a configuration of one's own, made from the scale's by its settings
            settings, scale = (
                asdict(own) for own in (self.configurations[0].settings, self.chapter.scales[self.scale])
            )
            overrides = {name: value for name, value in settings.items() if value != scale[name]}
        devices = self.devices if self.chapter.sharded else None
        return run_command(self.experiment, self.scale, self.seeds, overrides, self.only, devices)


class _StoredRow(BaseModel):
    """A configuration in ``settings.json``."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    configuration: str
    family: str
    settings: dict[str, Any]
    thesis: dict[str, int | float]


class _Stored(BaseModel):
    """``settings.json``, but for what the chapter adds."""

    model_config = ConfigDict(strict=True)
    version: str
    date: str
    experiment: str
    chapter: str
    scale: str
    seeds: Annotated[list[Seed], MinLen(1)]
    devices: Count
    overrides: dict[str, Any]
    only: list[str]
    rows: Annotated[list[_StoredRow], MinLen(1)]


def store_plan(plan: Plan, folder: Folder) -> None:
    """Writes ``settings.json``, and its SHA-256 beside the history.

    Raises:
        MachineError: a file cannot be written.

    """
    write_json(folder.settings, plan.to_json())
    write_text(_seal(folder), digest(folder.settings))


def stored_plan(folder: Folder, chapters: Callable[[str], AnyChapter]) -> Plan:
    """The plan of an interrupted run, from its ``settings.json``.

    Args:
        folder: of the run.
        chapters: a chapter by its name.

    Raises:
        PalaverError: it cannot be read, another version of palaver wrote it, it holds something that is not allowed,
            or it is not as the run wrote it.

    """
    try:
        content = folder.settings.read_bytes()
        plan = _plan_of(content, chapters)
        if _seal(folder).exists():
            check_digests(folder.partial, {folder.settings.name: _seal(folder).read_text()})
        return plan
    except DamagedError:
        reason = "it is not as the run wrote it"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise PalaverError(f"{folder.settings} cannot be resumed from ({reason}): start anew with --overwrite")


def shared_plan(content: bytes, chapters: Callable[[str], AnyChapter]) -> Plan:
    """The plan of host 0, from the JSON of its ``to_json``.

    Args:
        content: the JSON.
        chapters: a chapter by its name.

    Raises:
        PalaverError: this host has another version of palaver, or lacks what the plan is made of.

    """
    try:
        return _plan_of(content, chapters)
    except ValueError as error:
        raise PalaverError(f"host 0's plan is not understood ({error}): install the same on every host") from None


def _plan_of(content: bytes, chapters: Callable[[str], AnyChapter]) -> Plan:
    """The plan in ``settings.json``; raises ``ValueError`` with a reason of one line for what is not allowed in it."""
    try:
        found = _Stored.model_validate(json.loads(content))
        if found.version != __version__:
            raise ValueError(f"palaver {found.version} wrote it, this is {__version__}")
        chapter = chapters(found.chapter)
        rows = [_configuration(chapter, row) for row in found.rows]
        own = (found.seeds, found.devices, found.overrides, found.only, found.date)
        return Plan(found.experiment, found.scale, chapter, rows, *own)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    raise ValueError(" ".join(reason.split())[:1000])


def _configuration(chapter: AnyChapter, row: _StoredRow) -> Configuration:
    missing = [field.name for field in fields(chapter.settings) if field.name not in row.settings]
    if missing:
        raise ValueError(f"“{row.configuration}” has no {missing[0]}")
    settings = changed(chapter.scales["cpu"], row.settings, f"“{row.configuration}”: ")
    return Configuration(row.configuration, settings, dict(row.thesis), row.family)


def check_plan(plan: Plan, load: Callable[[str], Dataset]) -> None:
    """Raises ``PalaverError`` for what cannot be run with these data; trains nothing.

    Args:
        plan: to check.
        load: gives a data set by its name.

    """
    for row in plan.configurations:
        plan.chapter.check(row.settings, plan.chapter.load(row.settings, load), plan.seeds, plan.devices)


def _seal(folder: Folder) -> Path:
    return folder.history / "settings.sha256"
