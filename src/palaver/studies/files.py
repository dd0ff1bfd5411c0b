"""Files that are written whole or not at all: whoever reads sees the old file or the new one."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets ``write`` fill a file beside ``path``, then renames it to ``path``; folders are made.

    If ``write`` raises, ``path`` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON; numbers that are not finite are refused (``ValueError``)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
