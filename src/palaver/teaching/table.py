"""What a frozen teacher says about every example, computed once and looked up from then on.

A table is a NumPy file ``[examples, classes]`` of float32, memory-mapped, and beside it ``NAME.json`` with the SHA-256
of the table and of the inputs it was made for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from palaver.teaching.arrays import check_predictions, to_numpy
from palaver.types import NO_LABEL, PalaverError

Array = Any
_CHUNK = 1 << 24


class Table(NamedTuple):
    """A teacher's outputs by example."""

    probabilities: np.ndarray
    """``[examples, classes]`` float32, read from disk where it is looked at."""
    path: Path
    """Where it lies."""

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The outputs for these examples.

        Raises:
            PalaverError: one is not in the table.

        """
        lowest, highest = (int(index.min()), int(index.max())) if len(index) else (0, 0)
        if lowest < 0 or highest >= len(self.probabilities):
            raise PalaverError(
                f"row {lowest if lowest < 0 else highest} of table {self.path} of {len(self.probabilities)} examples: "
                "precompute the table over all data that the batches come from"
            )
        return np.asarray(self.probabilities[index])


class Indexed:
    """A map-style data set (``len``, ``[i]``) whose samples end with their own index: ``(x, label, i)``.

    For a PyTorch ``DataLoader`` that feeds a ``TeacherStack`` with a table. A sample that is no tuple has no label. Of
    a PyTorch ``Subset`` (what ``random_split`` gives) the index is the row in the whole data set, as the table has it.
    Give a ``DataLoader`` with workers ``multiprocessing_context="spawn"``: JAX, which palaver has loaded, is threaded,
    and a forked process may hang.
    """

    def __init__(self, dataset: Any):
        self._dataset = dataset
        self._rows = getattr(dataset, "indices", None) if hasattr(dataset, "dataset") else None

    def __len__(self) -> int:
        """As many as it wraps."""
        return len(self._dataset)

    def __getitem__(self, i: int) -> tuple[Any, Any, int]:
        """``(x, label, i)``; the label is ``NO_LABEL`` where there is none."""
        sample = self._dataset[i]
        if isinstance(sample, tuple | list) and len(sample) != 2:
            raise PalaverError(f"a sample of {len(sample)} parts: give a data set of (x, label), or of x alone")
        x, label = sample if isinstance(sample, tuple | list) else (sample, NO_LABEL)
        return x, label, i if self._rows is None else int(self._rows[i])


class _Fingerprint:
    """SHA-256 of inputs, whatever their batches: one hash a leaf, over dtype, shape of an example, and bytes."""

    def __init__(self) -> None:
        self._leaves: list[Any] = []
        self.examples = 0

    def add(self, x: Any) -> None:
        leaves = [np.ascontiguousarray(to_numpy(leaf)) for leaf in jax.tree.leaves(x)]
        if not self._leaves:
            self._leaves = [hashlib.sha256(f"{leaf.dtype.str}{leaf.shape[1:]}".encode()) for leaf in leaves]
        for digest, leaf in zip(self._leaves, leaves, strict=True):
            digest.update(leaf.data)
        self.examples += len(leaves[0])

    def __str__(self) -> str:
        whole = "".join(leaf.hexdigest() for leaf in self._leaves)
        return hashlib.sha256(whole.encode()).hexdigest()


def _inputs(data: Any, batch_size: int) -> Iterator[Any]:
    """The inputs of an array ``[M, ...]`` in batches, or of batches as they come, whose rows must be in order."""
    if hasattr(data, "shape"):
        for start in range(0, data.shape[0], batch_size):
            yield data[start : start + batch_size]
        return
    seen = 0
    for number, batch in enumerate(data):
        if not isinstance(batch, tuple | list):
            yield batch
            continue
        if len(batch) == 3:
            rows = to_numpy(batch[2])
            if not np.array_equal(rows, np.arange(seen, seen + len(rows))):
                raise PalaverError(f"batch {number} is not in the order of its rows: give a loader with shuffle=False")
            seen += len(rows)
        yield batch[0]


def precompute(
    teacher: Callable[[Any], Array],
    data: Any,
    path: str | os.PathLike[str],
    *,
    version: str = "",
    batch_size: int = 1000,
) -> Table:
    """Asks the teacher about every example once; where ``path`` holds a table for these data already, reads that.

    Args:
        teacher: inputs of a batch to probabilities ``[B, C]``, in any library.
        data: inputs ``[M, ...]``, or an iterable of batches (inputs, or tuples that begin with them) that gives the
            examples in the order of their indices: a ``DataLoader`` with ``shuffle=False``.
        path: of the file to make.
        version: of the teacher. A table cannot see that its teacher was trained again; give each teacher a name of its
            own here, and a table of another one is refused.
        batch_size: examples asked about at once where ``data`` is one array.

    Raises:
        PalaverError: as ``read_table``; no examples; or predictions that are no distributions (the message names the
            batch).

    """
    path = Path(path)
    if path.exists():
        return read_table(path, data, version=version, batch_size=batch_size)
    seen, table, classes = _Fingerprint(), hashlib.sha256(), 0
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            for number, x in enumerate(_inputs(data, batch_size)):
                said = teacher(x)
                before = seen.examples
                seen.add(x)
                check_predictions(said, "the teacher's", [seen.examples - before], number)
                if not number:
                    classes = int(said.shape[1])
                    _header(file, 0, classes)
                elif said.shape[1] != classes:
                    raise PalaverError(f"the teacher gives {said.shape[1]} classes on batch {number}, {classes} before")
                rows = np.ascontiguousarray(to_numpy(said), "<f4")
                table.update(rows.data)
                file.write(rows.data)
            if not seen.examples:
                raise PalaverError("no examples to ask the teacher about: data is empty")
            file.seek(0)
            _header(file, seen.examples, classes)  # numpy leaves room for the first axis to grow
        about = {"data_sha256": str(seen), "table_sha256": table.hexdigest(), "version": version}
        _about(path).write_text(json.dumps(about, indent=2) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Table(np.load(path, mmap_mode="r"), path)


def read_table(path: str | os.PathLike[str], data: Any, *, version: str = "", batch_size: int = 1000) -> Table:
    """A table made by ``precompute``, checked against the data it is used with.

    Raises:
        PalaverError: there is no such table, it is damaged, or it was made by another version of the teacher, for other
            inputs or another order of them.

    """
    path = Path(path)
    try:
        about = json.loads(_about(path).read_text())
        probabilities = np.load(path, mmap_mode="r")
        told, made_for, made_by = about["table_sha256"], about["data_sha256"], about["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PalaverError(
            f"table {path} cannot be read ({type(error).__name__}): remove it and its .json, and precompute it again"
        ) from None
    if made_by != version:
        raise PalaverError(
            f"table {path} is of version {made_by!r} of the teacher, not {version!r}: remove it, or give another path"
        )
    digest = hashlib.sha256()
    step = max(1, _CHUNK // max(1, probabilities[:1].nbytes))
    for start in range(0, len(probabilities), step):
        digest.update(np.ascontiguousarray(probabilities[start : start + step]).data)
    if digest.hexdigest() != told:
        raise PalaverError(f"table {path} is damaged (its checksum differs): remove it and precompute it again")
    seen = _Fingerprint()
    for x in _inputs(data, batch_size):
        seen.add(x)
    if seen.examples != len(probabilities) or str(seen) != made_for:
        raise PalaverError(
            f"table {path} was made for {len(probabilities)} other inputs, or for these in another order, than the "
            f"{seen.examples} given: precompute a table for them at another path"
        )
    return Table(probabilities, path)


def _about(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _header(file: Any, examples: int, classes: int) -> None:
    described = {"descr": "<f4", "fortran_order": False, "shape": (examples, classes)}
    np.lib.format.write_array_header_1_0(file, described)
