"""Settings: frozen dataclasses that declare bounds and choices beside their fields.

Flags, TOML files, ``settings.json`` and Python all construct them through the same validation.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from palaver.data import Dataset, subset
from palaver.studies import fields
from palaver.studies.formats import human_bytes
from palaver.studies.memory import available
from palaver.topology import TOPOLOGIES, named
from palaver.types import PalaverError, Topology

_TABLES = 20
"""Bytes that an edge takes while a graph is made and checked: int32, in about five tables."""

T = TypeVar("T")

_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Makes a class of annotated fields a frozen, validated dataclass that raises ``PalaverError`` in one line.

    Lists are taken as tuples. Rules that need several fields belong in the class's ``__post_init__``.
    """
    made: Any = dataclass(cls, frozen=True, kw_only=True, config=_CONFIG)
    validated: Callable[..., None] = made.__init__

    @functools.wraps(validated)
    def init(self: Any, *args: Any, **given: Any) -> None:
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        try:
            validated(self, *args, **given)
        except ValidationError as error:
            raise PalaverError(_line(made, error)) from None

    made.__init__ = init
    return made


def _line(cls: Any, error: ValidationError) -> str:
    """The first of the errors in one line: what came, what is allowed."""
    first = error.errors()[0]
    reason = first.get("ctx", {}).get("error")
    if not first["loc"]:
        return str(reason or first["msg"])
    name = str(first["loc"][0])
    if name not in cls.__pydantic_fields__:
        return f"{name} is no setting: choose among {', '.join(cls.__pydantic_fields__)}"
    if reason is not None:
        return f"{name} is {first['input']!r}: {reason}"
    verb = "is" if len(first["loc"]) == 1 else "holds"
    too_large = first["type"].startswith("less_than")
    return f"{name} {verb} {first['input']!r}: give {_allowed(cls.__pydantic_fields__[name], too_large)}"


_KINDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "text"}


def _allowed(field: Any, too_large: bool) -> str:
    """The kind and the bounds of a field in words; that programs count with int32 is said to who gives too much."""
    metadata, kind = field.metadata, field.annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    choices = next((each.allowed() for each in metadata if isinstance(each, fields.OneOf)), choices)
    if choices:
        return f"one of {', '.join(choices)}"
    if kind not in _KINDS:  # a tuple of numbers
        inner = kind.__args__[0]
        kind, metadata = getattr(inner, "__origin__", inner), getattr(inner, "__metadata__", ())
        metadata = [bound for each in metadata for bound in getattr(each, "metadata", [each])]
        some = "a list, not empty," if any(isinstance(m, MinLen) for m in field.metadata) else "a list"
        return f"{some} of {_KINDS[kind].removeprefix('a ')}s{_bounds(metadata, too_large)}"
    return f"{_KINDS[kind]}{_bounds(metadata, too_large)}"


def _bounds(metadata: Any, too_large: bool) -> str:
    metadata = [bound for bound in metadata if too_large or bound != Le(fields.MOST)]
    low = next((f"[{m.ge}" if isinstance(m, Ge) else f"({m.gt}" for m in metadata if isinstance(m, Ge | Gt)), None)
    high = next((f"{m.le}]" if isinstance(m, Le) else f"{m.lt})" for m in metadata if isinstance(m, Le | Lt)), None)
    if low and high:
        return f" in {low}, {high}"
    if low:
        return f" {'of at least' if low[0] == '[' else 'above'} {low[1:]}"
    if high:
        return f" {'of at most' if high[-1] == ']' else 'below'} {high[:-1]}"
    return ""


def changed(base: T, changes: Mapping[str, Any], where: str) -> T:
    """Settings with some fields changed.

    Args:
        base: settings.
        changes: new values by field.
        where: put before an error's message, to say where the changes come from.

    Returns:
        New settings of the same class; ``base`` is not changed.

    Raises:
        PalaverError: an unknown field, or a value that the settings refuse.

    """
    known = {field.name for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise PalaverError(f"{where}{unknown[0]} is no setting: choose among {', '.join(sorted(known))}")
    try:
        return dataclasses.replace(base, **changes)  # type: ignore[type-var]
    except PalaverError as error:
        raise PalaverError(f"{where}{error}") from None


def following(base: T, overrides: Mapping[str, Any], *names: str) -> T:
    """``base`` with those of the overrides that are named: settings from which others follow.

    Raises:
        PalaverError: as ``changed``.

    """
    return changed(base, {name: overrides[name] for name in names if name in overrides}, "")


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the settings of a TOML file, whose keys are the flags' names, with ``-`` or ``_``.

    Args:
        path: of the file.

    Returns:
        Values by field; they are not checked here.

    Raises:
        PalaverError: the file cannot be read, or sets a setting twice.

    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PalaverError(f"settings file {path} cannot be read: {reason}") from None
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name in found:
            raise PalaverError(f"settings file {path} sets {name} twice, with - and with _: keep one of them")
        found[name] = value
    return found


@settings
class StudySettings:
    """What every chapter's settings have."""

    data: str = "digits"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    examples: fields.CountOrZero = 0
    """Training examples used; validation and test use a quarter as many each; 0: all."""
    batch_size: fields.Count = 32
    """Batch size B."""
    learning_rate: fields.Positive = 0.001
    """Learning rate of the optimiser, which is Adam unless another is chosen."""

    def load(self, by_name: Callable[[str], Dataset]) -> Dataset:
        """The data set, cut to the examples that are used.

        Args:
            by_name: loads a data set by its name, as ``palaver.data.load``.

        Returns:
            The data set.

        Raises:
            PalaverError: more examples than the data set has, or as ``palaver.data.load``.

        """
        data = by_name(self.data)
        if self.examples > len(data.y_train):
            raise PalaverError(
                f"examples is {self.examples} of the {len(data.y_train)} training examples of {data.name}: "
                f"give 1 to {len(data.y_train)}, or 0 for all"
            )
        if not self.examples:
            return data
        few = max(1, self.examples // 4)
        sizes = zip((self.examples, few, few), (data.y_train, data.y_validation, data.y_test), strict=True)
        return subset(data, *(min(size, len(labels)) for size, labels in sizes))


@settings
class GraphSettings:
    """The graph of a chapter whose learners send each other something."""

    topology: Annotated[str, fields.OneOf(TOPOLOGIES)] = "full"
    """Who sends to whom."""
    neighbours: fields.CountOrZero = 0
    """Neighbours P of each node; 0: all for full, 2 for ring, 4 (at most N - 1) for random."""
    graph_seed: fields.Seed = 0
    """Seed of random graphs; all seeds of a run share its graphs, so intervals leave graphs' variation out."""
    redraw_every: fields.Count = 100
    """Steps after which random-changing draws a new graph."""

    def check_graph(self, nodes: int) -> None:
        """Raises ``PalaverError`` for a number of neighbours that so many nodes cannot have; one node has no graph."""
        if nodes == 1:
            return
        if self.neighbours >= nodes:
            raise PalaverError(f"neighbours is {self.neighbours}: give 0 to {nodes - 1} for {nodes} nodes")
        if self.topology == "full" and self.neighbours not in (0, nodes - 1):
            raise PalaverError(
                f"neighbours is {self.neighbours} with topology full: leave it out, or choose ring or random"
            )

    def make_topology(self, nodes: int, steps: int) -> Topology:
        """The topology that the settings describe.

        Args:
            nodes: N.
            steps: of the run (a collective's rounds), which limit how often ``random-changing`` draws a graph.

        Returns:
            The topology.

        Raises:
            PalaverError: its table takes more memory than is free.

        """
        degree = self.neighbours or (nodes - 1 if self.topology == "full" else 4)
        size, free = _TABLES * nodes * degree, available()
        if size > free:
            raise PalaverError(
                f"topology {self.topology} of {nodes} nodes has {nodes * degree:,} edges, which takes about "
                f"{human_bytes(size)} of memory and {human_bytes(free)} are free: choose ring or random, or fewer nodes"
            )
        return named(
            self.topology, nodes, self.neighbours, seed=self.graph_seed, every=self.redraw_every, rounds=max(1, steps)
        )
