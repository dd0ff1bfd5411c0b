"""Arrays of an ``.npz`` file from anywhere: what it claims is checked before memory is taken for it."""

import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from palaver.host import free_memory

_NPY = ".npy"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""By the version of NumPy's format; version 3 is for types with named fields."""


def read_npz(
    path: Path, choose: Callable[[list[str]], Iterable[str]] = lambda names: names, *, most: int | None = None
) -> dict[str, np.ndarray]:
    """Reads arrays whose headers agree with the file, of types without Python objects.

    numpy alone allocates what a header says before it reads.

    Args:
        path: of the file.
        choose: which of the arrays to read, from the names of all.
        most: bytes of all of them together; by default only the memory that is free limits them.

    Returns:
        The arrays by name, as stored.

    Raises:
        ValueError: an array holds Python objects or is not as large as its header says, or together they are larger
            than ``most`` or the free memory; the message names the array.
        Exception: of several other types, where the file is missing, damaged or no ``.npz``.

    """
    with zipfile.ZipFile(path) as pack:  # numpy.load would read other kinds of file too
        members = [name for name in pack.namelist() if name.endswith(_NPY)]
        chosen = list(choose([name.removesuffix(_NPY) for name in members]))
        size = sum(_size(pack, name + _NPY) for name in chosen)
    free = free_memory()
    if most is not None and size > most:
        raise ValueError(f"its arrays take {size / 1e9:.3g} GB: at most {most / 1e9:.3g} GB are read")
    if size > free:
        raise ValueError(f"its arrays take {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB of memory are free")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name + _NPY] for name in chosen}


def _size(pack: zipfile.ZipFile, member: str) -> int:
    """Bytes of an array in the archive."""
    with pack.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member} is in version {version[0]} of NumPy's format: versions 1 and 2 are read")
        shape, _, dtype = _HEADERS[version](file)
        size, held = math.prod(shape) * dtype.itemsize, pack.getinfo(member).file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects")
    if size != held:
        raise ValueError(f"{member} holds {held} bytes, its header says {size} (shape {shape}, {dtype})")
    return held
