"""Ctrl-C and SIGTERM while a run trains: the first only asks it to stop once its state is saved."""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def graceful() -> Generator[Callable[[], bool]]:
    """While open, the first Ctrl-C or SIGTERM only asks to stop; a second one raises ``KeyboardInterrupt``.

    Yields:
        ``asked()``: whether to stop.

    """
    asked = False

    def ask(number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("palaver: stopping after the next evaluation; once more to stop at once", file=sys.stderr)

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    old = {number: signal.signal(number, ask) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
