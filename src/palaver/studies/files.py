"""Files that are written whole or not at all, and known by their SHA-256 to be as they were written."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from palaver.errors import MachineError

DRAFT = ".draft"
"""How the name ends of a file that is being written; one that a killed process has left is worth nothing."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedError(Exception):
    """A file is missing, or is not as it was written; the message names it."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object], mode: int = 0o644) -> None:
    """Writes a file whole or not at all: under another name in the same folder, then renamed.

    Args:
        path: of the file; missing folders are made.
        write: writes the content to the open file. If it raises, ``path`` is as it was before.
        mode: the file's permissions; nobody but the user can open it before it has them.

    Raises:
        OSError: if the folder or the file cannot be written; otherwise what ``write`` raises.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=DRAFT)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # otherwise a machine that loses power may keep the name and lose the content
        os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Generator[None]:
    """While open, an ``OSError`` becomes a ``MachineError`` of one line.

    Args:
        path: what is being written, moved or removed.

    Raises:
        MachineError: names the path, what the system said, and for a full disk the disk and the room left on it.

    """
    try:
        yield
    except OSError as error:
        said = f"{path} cannot be written: {error.strerror or error}"
        if error.errno not in _FULL:
            raise MachineError(f"{said}: mend the disk or the permissions of {path.parent}") from None
        disk = next(place for place in (path, *path.parents) if os.path.ismount(place) or place == place.parent)
        left = f", which has {shutil.disk_usage(disk).free / 1e6:.1f} MB left" if error.errno == errno.ENOSPC else ""
        raise MachineError(f"{said}: make room on the disk at {disk}{left}") from None


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: of the file; missing folders are made.
        content: of the file.
        mode: its permissions, as for ``write_atomically``.

    Raises:
        MachineError: if it cannot be written; ``path`` is as it was before.

    """
    with writing(path):
        write_atomically(path, lambda file: file.write(content), mode)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8; otherwise as ``write_bytes``."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        path: of the file.
        content: what ``json.dumps`` takes.

    Raises:
        ValueError: if a number in it is not finite.
        MachineError: as ``write_bytes``.

    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a Parquet file; otherwise as ``write_bytes``."""
    buffer = BytesIO()  # not to the file itself: on a full disk polars raises errors of its own
    frame.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file of arrays by name; otherwise as ``write_bytes``."""
    with writing(path):
        write_atomically(path, partial(np.savez, allow_pickle=False, **arrays))


def read_arrays(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of these ``.npz`` files, by name; of two with the same name, the later file's."""
    found: dict[str, np.ndarray] = {}
    for path in paths:
        with np.load(path) as file:
            found |= file
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: if it cannot be read.

    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Checks that files are as they were written.

    Args:
        folder: that holds them.
        digests: by the file's name, as ``digest`` gives them.

    Raises:
        DamagedError: names the first file that is missing, cannot be read, or has another digest.

    """
    for name, expected in digests.items():
        try:
            whole = digest(folder / name) == expected
        except OSError:
            whole = False
        if not whole:
            raise DamagedError(f"{folder / name} is damaged or missing")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file with the SHA-256 of its content, for ``read_sealed``; otherwise as ``write_json``."""
    write_json(path, {"sha256": _seal(content), "content": content})


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a file by ``write_sealed``.

    Raises:
        DamagedError: the file is missing, or is not as it was written.

    """
    try:
        found = json.loads(path.read_bytes())
        if found["sha256"] == _seal(found["content"]):
            return found["content"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DamagedError(f"{path} is damaged or missing")


def _seal(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
