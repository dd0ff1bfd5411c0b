"""What a site needs to go on after its process has ended: written whole, kept twice, never pickled."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palaver.npz import read_npz
from palaver.studies.files import (
    DRAFT,
    DamagedError,
    check_digests,
    digest,
    read_sealed,
    write_arrays,
    write_sealed,
    write_text,
    writing,
)
from palaver.types import PalaverError

_KEPT = 2
_EPOCH = "epoch.json"
_YEAR = 365 * 86400
_SUFFIXES = (".json", ".npz")
"""Of a checkpoint's files; N.json goes first, without which there is no checkpoint."""


class Saved(NamedTuple):
    """A state that was saved."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    """What JSON has."""


def save(folder: Path, step: int, saved: Saved) -> None:
    """Saves a state; of the older ones the latest is kept.

    Args:
        folder: of the site's checkpoints.
        step: after which round.
        saved: the state.

    Raises:
        MachineError: a file cannot be written, for example on a full disk; the older ones are still there.

    """
    _sweep(folder)
    path = folder / f"{step}.npz"
    write_arrays(path, saved.arrays)
    write_sealed(path.with_suffix(".json"), {"sha256": digest(path), "about": saved.about})
    for old in [each for each in _steps(folder) if each != step][_KEPT - 1 :]:
        for suffix in _SUFFIXES:
            (folder / f"{old}{suffix}").unlink(missing_ok=True)


def restore(folder: Path) -> Saved | None:
    """The latest state that is whole; a line on stderr names what is damaged.

    What is damaged is set aside as ``N.npz.damaged``, so that it does not count as one of those that are kept.

    Args:
        folder: of the site's checkpoints.

    Returns:
        The state; ``None`` where none was saved.

    Raises:
        PalaverError: none of those that were saved is whole.
        MachineError: what is damaged cannot be set aside.

    """
    _sweep(folder)
    damage, damaged = None, list[int]()
    for step in _steps(folder):
        try:
            found = read_sealed(folder / f"{step}.json")
            check_digests(folder, {f"{step}.npz": found["sha256"]})
        except DamagedError as error:
            damage = damage or error
            damaged.append(step)
            continue
        if damage is not None:
            print(f"palaver: {damage}: going on from the checkpoint before it, step {step}", file=sys.stderr)
            _set_aside(folder, damaged)
        return Saved(read_npz(folder / f"{step}.npz"), found["about"])
    if damage is not None:
        files = ", ".join(f"{step}{suffix}" for step in damaged for suffix in _SUFFIXES)
        raise PalaverError(
            f"{damage}, and {folder} holds no other whole checkpoint: delete {files} there and nothing else, and the "
            "site learns anew"
        )
    return None


def next_epoch(folder: Path, clock: float) -> int:
    """The epoch of a site's new life, larger than all before it; on the disk before this returns.

    Args:
        folder: of the site's checkpoints.
        clock: Unix time, which may be wrong.

    Returns:
        ``max(stored + 1, clock)``.

    Raises:
        MachineError: it cannot be written.

    """
    path = folder / _EPOCH
    try:
        before = int(json.loads(path.read_bytes())["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        before = -1  # also where the file is damaged: the clock then has to do
    epoch = max(before + 1, int(clock))
    write_text(path, json.dumps({"epoch": epoch}) + "\n")
    return epoch


def later_epoch(folder: Path | None, heard: int, clock: float) -> int | None:
    """The epoch of a site whose packets others refuse, since they know of a later one: its clock was wrong once.

    Args:
        folder: of the site's checkpoints; ``None``: it keeps none.
        heard: the epoch that others know of, by what they say.
        clock: Unix time, which may be wrong.

    Returns:
        ``heard + 1``, on the disk; ``None`` where that is more than a year ahead of the clock.

    Raises:
        MachineError: it cannot be written.

    """
    if heard >= clock + _YEAR:
        return None
    if folder is not None:
        write_text(folder / _EPOCH, json.dumps({"epoch": heard + 1}) + "\n")
    return heard + 1


def _set_aside(folder: Path, steps: list[int]) -> None:
    with writing(folder):
        for path in (folder / f"{step}{suffix}" for step in steps for suffix in _SUFFIXES):
            if path.exists():
                path.replace(path.with_name(f"{path.name}.damaged"))


def _sweep(folder: Path) -> None:
    """Removes what a process has left that was killed while it wrote a checkpoint."""
    kept = set(_steps(folder))
    halves = [path for path in folder.glob("*.npz") if path.stem.isdecimal() and int(path.stem) not in kept]
    with writing(folder):
        for path in (*halves, *folder.glob(f".*{DRAFT}")):
            path.unlink(missing_ok=True)


def _steps(folder: Path) -> list[int]:
    """The latest first."""
    return sorted((int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()), reverse=True)
