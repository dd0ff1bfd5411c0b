"""The latest states of one configuration of an interrupted run, each with its checksum."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from palaver.errors import PalaverError
from palaver.studies import hosts
from palaver.studies.files import (
    DamagedError,
    check_digests,
    digest,
    read_arrays,
    read_sealed,
    write_arrays,
    write_sealed,
    writing,
)
from palaver.types import PyTree

_KEPT = 2
"""States that are kept: the one before is there should the latest be damaged."""


class Checkpoint(NamedTuple):
    """A state that was saved."""

    step: int
    """After which it was saved, in the chapter's unit of progress."""
    state: PyTree
    """Tree of arrays and random keys."""
    about: dict[str, Any]
    """What was saved with it."""


class Checkpoints(NamedTuple):
    """The saved states of one configuration, a pair of files each.

    ``N.npz`` holds the arrays of the state after step N in the order of its tree, ``N.json`` its SHA-256 and what else
    was saved with it. ``N.json`` is written last: without it there is no checkpoint. Host 0 alone writes and reads
    them; all hosts must save and restore together.
    """

    folder: Path
    """Theirs alone."""

    def save(self, step: int, state: PyTree, about: Mapping[str, Any]) -> None:
        """Saves a state; of the older ones the latest is kept.

        Args:
            step: after which it is saved, in the chapter's unit of progress.
            state: tree of arrays and random keys, on any devices, also divided among hosts.
            about: what ``json.dumps`` takes, to be saved with it.

        Raises:
            MachineError: a file cannot be written; the older ones are still there.

        """
        arrays = {str(place): hosts.whole(_storable(leaf)) for place, leaf in enumerate(jax.tree.leaves(state))}
        if not hosts.first():
            return
        path = self.folder / f"{step}.npz"
        write_arrays(path, arrays)
        write_sealed(path.with_suffix(".json"), {"sha256": digest(path), "about": about})
        self._keep([each for each in self._steps() if each <= step][:_KEPT])

    def restore(
        self, like: PyTree, check: Callable[[Mapping[str, Any]], None] = lambda about: None
    ) -> Checkpoint | None:
        """Reads the latest saved state that is whole; a line on stderr names what is damaged.

        Args:
            like: a state with the same tree, shapes, types and devices, such as the one before training.
            check: raises ``DamagedError`` where what a state needs beside it is not whole; gets its ``about``.

        Returns:
            The saved state, on the devices of ``like``; None where none was saved.

        Raises:
            PalaverError: none of those that were saved is whole.

        """
        found = self._read(like, check) if hosts.first() else None
        step, about = json.loads(hosts.share(json.dumps([found and found.step, found and found.about]).encode()))
        if step is None:
            return None
        leaves, tree = jax.tree.flatten(like)
        arrays = [_blank(leaf) for leaf in leaves] if found is None else found.state
        state = [_as(hosts.share_array(array), leaf) for array, leaf in zip(arrays, leaves, strict=True)]
        return Checkpoint(step, jax.tree.unflatten(tree, state), about)

    def _read(self, like: PyTree, check: Callable[[Mapping[str, Any]], None]) -> Checkpoint | None:
        """As ``restore``, with the state's arrays in the order of its tree."""
        damage: DamagedError | None = None
        for step in self._steps():
            try:
                found = read_sealed(self.folder / f"{step}.json")
                check_digests(self.folder, {f"{step}.npz": found["sha256"]})
                check(found["about"])
                restored = Checkpoint(step, _restored(self.folder / f"{step}.npz", like), found["about"])
            except DamagedError as error:
                damage = damage or error
                continue
            if damage is not None:
                print(f"palaver: {damage}: going on from the checkpoint before it, step {step}", file=sys.stderr)
                self._keep([step])
            return restored
        if damage is not None:
            raise PalaverError(
                f"{damage}, and {self.folder} holds no other whole checkpoint: delete that folder and resume once "
                "more, which trains this configuration anew and keeps the others, or start anew with --overwrite"
            )
        return None

    def discard(self) -> None:
        """Deletes what was saved, once the configuration is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        """The latest first."""
        return sorted((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()), reverse=True)

    def _keep(self, steps: list[int]) -> None:
        """Deletes all others."""
        for path in sorted(self.folder.glob("*.*")):  # N.json before N.npz: without it there is no checkpoint
            if path.stem not in map(str, steps):
                with writing(path):
                    path.unlink(missing_ok=True)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(leaf: Any) -> Any:
    """A random key as its words."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _restored(path: Path, like: PyTree) -> list[np.ndarray]:
    """The arrays of the state in a file, which must be those of ``like`` in number, shape and type."""
    arrays, leaves = read_arrays([path]), jax.tree.leaves(like)
    if len(arrays) != len(leaves) or not all(_fits(arrays.get(str(n)), leaf) for n, leaf in enumerate(leaves)):
        raise DamagedError(f"{path} holds the arrays of another state")
    return [arrays[str(n)].view(_storable(leaf).dtype) for n, leaf in enumerate(leaves)]


def _blank(leaf: Any) -> np.ndarray:
    bare = _storable(leaf)
    return np.zeros(bare.shape, bare.dtype)


def _fits(stored: np.ndarray | None, like: Any) -> bool:
    like = _storable(like)
    # NumPy stores a type that it does not know, such as bfloat16, as raw bytes of the same size.
    expected = np.dtype(f"V{like.dtype.itemsize}") if like.dtype.kind == "V" else like.dtype
    return stored is not None and stored.shape == like.shape and stored.dtype == expected


def _as(stored: np.ndarray, like: Any) -> Any:
    """A stored array as the leaf that it was, on its devices."""
    bare = _storable(like)
    if not isinstance(bare, jax.Array):
        return stored
    found = hosts.put_like(stored, bare)
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like)) if _is_key(like) else found
