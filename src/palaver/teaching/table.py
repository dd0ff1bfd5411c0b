"""A frozen teacher's predictions for every example, computed once and looked up from then on.

A table is a NumPy file ``[examples, classes]`` of float32, memory-mapped, and beside it ``NAME.json`` with the SHA-256
of the table and of the inputs it was made for.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np

from palaver.arguments import count, function, instance
from palaver.studies.files import write_atomically, write_json
from palaver.teaching.arrays import Predict, check_predictions, to_numpy
from palaver.types import NO_LABEL, PalaverError


class Table(NamedTuple):
    """A teacher's predictions by example."""

    probabilities: np.ndarray
    """``[examples, classes]`` float32, memory-mapped: only the rows that are used are read from disk."""
    path: Path
    """Of the file."""

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The predictions ``[B, classes]`` for these examples.

        Args:
            index: ``[B]`` their rows.

        Raises:
            PalaverError: a row is not in the table.

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

    For a PyTorch ``DataLoader`` that feeds a ``TeacherStack`` with a table. A sample that is not a tuple has no label.
    In a PyTorch ``Subset`` (which ``random_split`` returns) the index is the row in the whole data set, for which the
    table is made. Give a ``DataLoader`` with workers ``multiprocessing_context="spawn"``: palaver loads JAX, which has
    threads, and a process forked from one with threads may hang.

    >>> Indexed([("first", 3), ("second", 5)])[1]
    ('second', 5, 1)
    """

    def __init__(self, dataset: Any):
        self._dataset = dataset
        self._rows = getattr(dataset, "indices", None) if hasattr(dataset, "dataset") else None

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._dataset)

    def __getitem__(self, i: int) -> tuple[Any, Any, int]:
        """``(x, label, i)``; the label is ``NO_LABEL`` where there is none."""
        sample = self._dataset[i]
        if isinstance(sample, tuple | list) and len(sample) != 2:
            raise PalaverError(f"a sample of {len(sample)} parts: give a data set of (x, label), or of x alone")
        x, label = sample if isinstance(sample, tuple | list) else (sample, NO_LABEL)
        return x, label, i if self._rows is None else int(self._rows[i])


class _Fingerprint:
    """SHA-256 of inputs, independent of how they are batched.

    Each leaf has a hash of its own, of its type, the shape of one example, and the bytes of all examples.
    """

    def __init__(self) -> None:
        self._leaves: list[Any] = []
        self.examples = 0

    def add(self, x: Any) -> int:
        """Adds a batch of inputs; returns how many examples it has."""
        leaves = [np.ascontiguousarray(to_numpy(leaf)) for leaf in jax.tree.leaves(x)]
        if not self._leaves:
            self._leaves = [hashlib.sha256(f"{leaf.dtype.str}{leaf.shape[1:]}".encode()) for leaf in leaves]
        for digest, leaf in zip(self._leaves, leaves, strict=True):
            digest.update(leaf.data)
        self.examples += len(leaves[0])
        return len(leaves[0])

    def hexdigest(self) -> str:
        return hashlib.sha256("".join(leaf.hexdigest() for leaf in self._leaves).encode()).hexdigest()


def _inputs(data: Any, batch_size: int) -> Iterator[Any]:
    """The inputs of an array ``[M, ...]`` in batches, or of batches as they come, whose rows must be in order."""
    if hasattr(data, "shape"):
        for start in range(0, data.shape[0], batch_size):
            yield data[start : start + batch_size]
        return
    seen = 0
    for number, batch in enumerate(data):
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        if len(parts) == 3:
            rows = to_numpy(parts[2])
            if not np.array_equal(rows, np.arange(seen, seen + len(rows))):
                raise PalaverError(f"batch {number} is not in the order of its rows: give a loader with shuffle=False")
            seen += len(rows)
        yield parts[0]


def precompute(
    teacher: Predict, data: Any, path: str | os.PathLike[str], *, version: str = "", batch_size: int = 1000
) -> Table:
    """Predicts every example once with the teacher; a table that ``path`` already holds for these data is read instead.

    Args:
        teacher: inputs of a batch to probabilities ``[B, C]``, in any library.
        data: inputs ``[M, ...]``, or an iterable of batches (inputs, or tuples that begin with them) that gives the
            examples in the order of their indices: a ``DataLoader`` with ``shuffle=False``.
        path: of the file to make.
        version: of the teacher. The file does not show whether the teacher was trained again since; with a different
            ``version`` for each teacher, a table of another teacher is refused.
        batch_size: examples predicted at once where ``data`` is one array.

    Returns:
        The predictions ``[M, C]`` with their file.

    Raises:
        PalaverError: as ``read_table``; an argument of another kind; there are no examples; or predictions are not
            distributions (the message names the batch).

    """
    function("teacher", teacher, "a function of inputs to probabilities [B, C]")
    path, batch_size = _arguments(data, path, version, batch_size)
    if path.exists():
        return read_table(path, data, version=version, batch_size=batch_size)

    def write(file: BinaryIO) -> None:
        checksums = _write_table(file, teacher, _inputs(data, batch_size))
        # Before the table gets its name, so that no table is without its checksums.
        write_json(_about(path), checksums | {"version": version})

    write_atomically(path, write)
    return Table(np.load(path, mmap_mode="r"), path)


def _write_table(file: BinaryIO, teacher: Predict, inputs: Iterable[Any]) -> dict[str, str]:
    """Writes the teacher's predictions as a NumPy file; returns the checksums of inputs and predictions."""
    fingerprint, checksum, classes = _Fingerprint(), hashlib.sha256(), 0
    for number, x in enumerate(inputs):
        predictions = teacher(x)
        check_predictions(predictions, "the teacher's", [fingerprint.add(x)], number)
        if not number:
            classes = int(predictions.shape[1])
            _write_header(file, 0, classes)
        elif predictions.shape[1] != classes:
            raise PalaverError(f"the teacher gives {predictions.shape[1]} classes on batch {number}, {classes} before")
        rows = np.ascontiguousarray(to_numpy(predictions), "<f4")
        checksum.update(rows.data)
        file.write(rows.data)
    if not fingerprint.examples:
        raise PalaverError("no examples for the teacher to predict: data is empty")
    file.seek(0)
    _write_header(file, fingerprint.examples, classes)  # of the same length: NumPy pads it for a larger first axis
    return {"data_sha256": fingerprint.hexdigest(), "table_sha256": checksum.hexdigest()}


def read_table(path: str | os.PathLike[str], data: Any, *, version: str = "", batch_size: int = 1000) -> Table:
    """A table made by ``precompute``, checked against the data it is used with.

    Args:
        path: of the table.
        data: as in ``precompute``.
        version: of the teacher, as in ``precompute``.
        batch_size: examples read at once where ``data`` is one array.

    Returns:
        The predictions ``[M, C]`` with their file.

    Raises:
        PalaverError: there is no such table, it is damaged, or it was made by another version of the teacher, for other
            inputs or for these in another order.

    """
    path, batch_size = _arguments(data, path, version, batch_size)
    try:
        about = json.loads(_about(path).read_text())
        probabilities = np.load(path, mmap_mode="r")
        table_hash, data_hash, made_by = about["table_sha256"], about["data_sha256"], about["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PalaverError(
            f"table {path} cannot be read ({type(error).__name__}): remove it and its .json, and precompute it again"
        ) from None
    if made_by != version:
        raise PalaverError(
            f"table {path} is of version {made_by!r} of the teacher, not {version!r}: remove it, or give another path"
        )
    if hashlib.sha256(np.ascontiguousarray(probabilities).data).hexdigest() != table_hash:
        raise PalaverError(f"table {path} is damaged (its checksum differs): remove it and precompute it again")
    fingerprint = _Fingerprint()
    for x in _inputs(data, batch_size):
        fingerprint.add(x)
    if fingerprint.examples != len(probabilities) or fingerprint.hexdigest() != data_hash:
        raise PalaverError(
            f"table {path} was made for {len(probabilities)} other inputs, or for these in another order, than the "
            f"{fingerprint.examples} given: precompute a table for them at another path"
        )
    return Table(probabilities, path)


def _arguments(data: Any, path: Any, version: Any, batch_size: Any) -> tuple[Path, int]:
    """The path and the batch size, once all are checked."""
    if not hasattr(data, "shape"):
        instance("data", data, Iterable, "an array of inputs [M, ...], or an iterable of batches")
    instance("path", path, str | os.PathLike, "the path of a file")
    instance("version", version, str, "text")
    return Path(path), count("batch_size", batch_size)


def _about(path: Path) -> Path:
    """The file with a table's checksums and its teacher's version."""
    return path.with_name(path.name + ".json")


def _write_header(file: BinaryIO, examples: int, classes: int) -> None:
    shape = (examples, classes)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
