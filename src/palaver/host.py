"""The machine's memory, as far as this process may have it."""

from collections.abc import Iterator
from pathlib import Path

import psutil

_CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux tells a container's limits (control groups, version 2)."""


def free_memory() -> int:
    """Bytes that are free: the machine's, or its container's where these are fewer."""
    return min([psutil.virtual_memory().available, *_of_container()])


def _of_container() -> Iterator[int]:
    try:
        limit, used = (int((_CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
        told = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        files = int(told.get("inactive_file", 0)) + int(told.get("active_file", 0))  # the kernel gives these up
        yield limit - used + files
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return
