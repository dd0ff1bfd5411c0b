"""The ``palaver`` command as a process: what Ctrl-C and SIGTERM do before, during and after its slow imports."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from palaver.studies.stopping import last_words

_PATIENCE = 2.0
"""Seconds that a second signal leaves the main thread to end by itself."""

_SHOW_CURSOR = b"\x1b[?25h"
"""For the terminal, whose cursor a progress display hides."""


def main() -> int:
    """Runs the command line so that a signal ends it in one line, at any time.

    While a run trains, the first signal only asks it to save its state (``palaver.studies.stopping``). A second one
    ends the process also where the main thread waits inside XLA, in which Python's own handlers are not called.

    Returns:
        The exit code.

    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of a background job of a shell script
            signal.signal(number, _stop)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_two, args=(read,), daemon=True).start()
    from palaver.cli import main as command_line  # only now: an interrupted import must not become a traceback

    code = command_line()
    if code:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # it is closed, or its disk is full
                stream.flush()
        _exit(code)
    return code


def _stop(*_: Any) -> None:
    """Ends the process; nothing is half-written, since every file gets its name when it is whole."""
    if sys.stdout and not sys.stdout.closed and sys.stdout.isatty():
        os.write(sys.stdout.fileno(), _SHOW_CURSOR)
    with suppress(AttributeError, OSError, ValueError):  # it is closed
        os.write(sys.stderr.fileno(), f"palaver: {last_words()}\n".encode())
    _exit(130)


def _exit(code: int) -> NoReturn:
    """Ends the process at once: what other threads still compile is not wanted any more."""
    if devices := sys.modules.get("palaver.devices"):
        devices.drop_torn()
    os._exit(code)


def _end_after_two(signals: int) -> None:
    """Ends the process after two signals, if the main thread has not done so; ``signals`` is the wake-up pipe."""
    stops = 0
    while stops < 2:
        stops += os.read(signals, 1)[0] in (signal.SIGINT, signal.SIGTERM)
    time.sleep(_PATIENCE)
    _stop()


if __name__ == "__main__":
    sys.exit(main())
