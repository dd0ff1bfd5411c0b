"""Ctrl-C and SIGTERM: while a run trains the first only asks it to stop once its state is saved; the last words."""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_RESUMABLE: list[tuple[Path, str]] = []
"""Of the run that is open: its settings file, and the command that goes on with it."""


@contextmanager
def resumable(settings: Path, command: str) -> Generator[None]:
    """While open, a process that a signal ends says how to go on, if there is something to go on with.

    Args:
        settings: the first file of the run, there until the run is complete.
        command: that resumes it.

    Raises:
        KeyboardInterrupt: where one is raised inside; its message are the ``last_words``.

    """
    _RESUMABLE.append((settings, command))
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(last_words()) from None
    finally:
        _RESUMABLE.pop()


def last_words() -> str:
    """What to say when a signal ends this process."""
    return "stopped" + goes_on()


def goes_on() -> str:
    """Which command goes on with the run that is open; empty where there is nothing to go on with."""
    return "".join(f"; {command} goes on from here" for settings, command in _RESUMABLE if settings.exists())


@contextmanager
def graceful(when: str = "after the next evaluation") -> Generator[Callable[[], bool]]:
    """While open, the first Ctrl-C or SIGTERM only asks to stop; a second one raises ``KeyboardInterrupt``.

    Args:
        when: it will stop, for the message.

    Yields:
        ``asked()``: whether to stop.

    """
    asked = False

    def ask(number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print(f"palaver: stopping {when}; once more to stop at once", file=sys.stderr)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    old = {number: signal.signal(number, ask) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
