"""The operator of ``benchmarks.soak``: asks all sites every ten seconds, and notes what it hears, a JSON line each."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from palaver.peers.introduction import introduced, looking
from palaver.peers.provision import DEMO_OPERATOR
from palaver.peers.questions import put

_EVERY, _TIMEOUT, _START = 10.0, 5.0, 300.0
"""Seconds between questions, for answers to come, and until a first site is heard at most."""


def main(folder: Path, seconds: float) -> None:
    """Looks at the collective for so long after all its sites have answered once."""
    with (folder / "operator.jsonl").open("w", buffering=1) as file:

        def note(event: str, **what: Any) -> None:
            file.write(json.dumps({"time": time.time(), "event": event} | what) + "\n")

        site, latest = folder / "site-0.toml", dict[str, float]()
        with looking(site, DEMO_OPERATOR, folder / "keys" / DEMO_OPERATOR) as (session, settings):
            at = f"palaver/{settings.agreed().name}"
            agreed = introduced(session, settings, _START)
            x = np.zeros((1, 8, 8), np.uint8)
            names = tuple(settings.peers)

            def asked() -> dict[str, float | None]:
                found = put(session, at, agreed.digest, x, names, classes=agreed.classes, timeout=_TIMEOUT)
                return {name: voice.milliseconds for name, voice in found.voices.items()}

            until = time.monotonic() + _START
            while None in asked().values():
                if time.monotonic() > until:
                    raise TimeoutError(f"not all sites answer after {_START:.0f} s")

            def beacon(sample: Any) -> None:
                name, now = str(sample.key_expr).rpartition("/")[2], time.monotonic()
                if name in latest:
                    note("beacon", site=name, seconds=now - latest[name])
                latest[name] = now

            with session.declare_subscriber(f"{at}/state/*", beacon):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    began = time.monotonic()
                    note("asked", milliseconds=asked())
                    time.sleep(max(0.0, began + _EVERY - time.monotonic()))
            note("end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
