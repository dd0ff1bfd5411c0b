"""Links that Zenoh refuses: no certificate, another authority's, one that has ended, plain TCP.

Zenoh tells of them in its log alone, which it writes to the standard output of the process.
"""

import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

import zenoh

_LOG = "zenoh_link_tls=warn"
"""What is logged unless RUST_LOG says else."""

_LINE = re.compile(r"WARN.*zenoh_link_tls\S*: *(?P<why>.*?)\.?( Hint: .*)?$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_KEPT = 1000
"""Refusals that wait to be taken at most."""


@contextmanager
def refused_links() -> Generator[Callable[[], list[str]]]:
    """While open, notes why links are refused; all else that is written to standard output goes where it went.

    Zenoh's log can be begun once a process, so this is for a process that runs one site.

    Yields:
        A function that gives the reasons since it was called last, in Zenoh's words.

    """
    found = deque[str](maxlen=_KEPT)
    sys.stdout.flush()
    kept, (reads, writes) = os.dup(1), os.pipe()
    os.dup2(writes, 1)
    os.close(writes)
    before, sys.stdout = sys.stdout, os.fdopen(kept, "w", buffering=1, closefd=False)

    def read() -> None:
        with os.fdopen(reads, errors="replace") as lines:
            for line in lines:
                match = _LINE.search(_COLOUR.sub("", line.rstrip()))
                if match is None:
                    os.write(kept, line.encode())
                else:
                    found.append(match["why"])

    thread = threading.Thread(target=read, name="links", daemon=True)
    thread.start()
    zenoh.init_log_from_env_or(_LOG)

    def take() -> list[str]:
        return [found.popleft() for _ in range(len(found))]

    try:
        yield take
    finally:
        sys.stdout.flush()
        sys.stdout = before
        os.dup2(kept, 1)  # the pipe's last end is closed, so that the thread ends
        thread.join(1)
        os.close(kept)
