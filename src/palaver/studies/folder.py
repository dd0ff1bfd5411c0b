"""The result folder while it is being made: everything in ``<name>.partial``, renamed to ``<name>`` when complete."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from palaver.types import PalaverError, PyTree


class Folder(NamedTuple):
    """Where a run's results go."""

    final: Path
    """The name given; exists only when the run is complete."""
    partial: Path
    """Where the run works until then."""


def open_folder(out: Path, *, resume: bool, overwrite: bool) -> Folder:
    """Opens a result folder, new or interrupted.

    Args:
        out: the folder to make, or the final name of the one to resume.
        resume: whether to go on with an interrupted run.
        overwrite: whether results that are already there may be replaced: unfinished ones at once, finished ones by
            ``publish``.

    Returns:
        The folder's two paths; without ``resume`` the partial one is new and empty.

    Raises:
        PalaverError: the folder exists and neither ``--resume`` nor ``--overwrite`` was given, ``--overwrite`` would
            replace something that palaver did not make, there is nothing to resume, or the place cannot be written.

    """
    out = Path(os.path.abspath(out))
    folder = Folder(out, out.with_name(out.name + ".partial") if out.name else out)
    if resume:
        if not (folder.partial / "settings.json").exists():
            state = "is complete" if (out / "summary.json").exists() else "holds no interrupted run"
            raise PalaverError(f"nothing to resume: {out} {state}")
        return folder
    for path in (folder.final, folder.partial):
        if not path.exists():
            continue
        if not overwrite:
            raise PalaverError(f"{path} exists: --resume {out} goes on, --overwrite replaces it, or give another --out")
        if not (path / "settings.json").exists() and (path.is_file() or any(path.iterdir())):
            raise PalaverError(f"{path} is not a result folder: --overwrite replaces only those; give another --out")
    try:
        if folder.partial.exists():
            shutil.rmtree(folder.partial)
        folder.partial.mkdir(parents=True)
    except OSError as error:
        raise PalaverError(f"result folder {out} cannot be made: {error.strerror}; give another --out") from None
    return folder


def read_arrays(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of these ``.npz`` files, by name; of two with the same name, the later file's."""
    found: dict[str, np.ndarray] = {}
    for path in paths:
        with np.load(path) as file:
            found |= file
    return found


def publish(folder: Folder) -> None:
    """Gives the finished folder its final name, without checkpoints and history; it is never there in part."""
    old = folder.final.with_name(folder.final.name + ".old")
    if folder.final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder.final, old)
    for scratch in ("checkpoints", "history"):
        if (folder.partial / scratch).exists():
            shutil.rmtree(folder.partial / scratch)
    os.replace(folder.partial, folder.final)
    shutil.rmtree(old, ignore_errors=True)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: PyTree) -> PyTree:
    """Random keys as their words, which orbax stores."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _restored(stored: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, was: jax.random.wrap_key_data(leaf) if _is_key(was) else leaf, stored, like)


class Checkpoints:
    """The latest state of one configuration of an interrupted run, kept by orbax."""

    def __init__(self, folder: Folder, row: int):
        self._manager = ocp.CheckpointManager(
            (folder.partial / "checkpoints" / str(row)).absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        )

    def latest(self) -> int | None:
        """The round (in the chapter's unit of progress) of the latest whole checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree) -> None:
        """Saves a state; an older one is deleted once this one is whole.

        Args:
            step: the round (in the chapter's unit of progress) of the state.
            state: tree of arrays and random keys.

        """
        self._manager.save(step, args=ocp.args.StandardSave(_storable(state)))

    def restore(self, step: int, like: PyTree) -> PyTree:
        """Reads a saved state.

        Args:
            step: at which it was saved, from ``latest``.
            like: a state with the same tree, shapes and devices, such as the one before training.

        Returns:
            The saved state.

        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _storable(like))
        return _restored(self._manager.restore(step, args=ocp.args.StandardRestore(abstract)), like)

    def close(self) -> None:
        """Ends orbax's own threads."""
        self._manager.close()

    def discard(self) -> None:
        """Deletes what was saved, once the configuration is finished."""
        self.close()
        shutil.rmtree(self._manager.directory, ignore_errors=True)
