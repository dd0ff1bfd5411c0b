"""Files that are written whole or not at all: whoever reads sees the old file or the new one."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all: under another name in the same folder, then renamed.

    Args:
        path: of the file; missing folders are made.
        write: writes the content to the open file. If it raises, ``path`` is as it was before.

    Raises:
        OSError: if the folder or the file cannot be written; otherwise what ``write`` raises.

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
    """Writes a text file, in UTF-8, whole or not at all.

    Args:
        path: of the file.
        text: its content.

    """
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        path: of the file.
        content: what ``json.dumps`` takes.

    Raises:
        ValueError: if a number in it is not finite.

    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
