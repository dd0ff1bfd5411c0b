"""The shell command that runs a plan again."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def run_command(
    experiment: str,
    scale: str,
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    only: Sequence[str] = (),
    devices: int | None = None,
) -> str:
    """The shell command that runs these configurations again, with the default result folder and data folder.

    >>> run_command("table-2.1", "cpu", [0, 1], {"widths": [8, 16], "projection": False}, ["10 nodes, *"])
    "palaver run table-2.1 --scale cpu --seeds 2 --only '10 nodes, *' --widths 8 16 --no-projection"

    Args:
        experiment: or chapter.
        scale: of its settings.
        seeds: one after the other.
        overrides: settings given in place of the experiment's own, by name.
        only: patterns that chose the configurations.
        devices: over which nodes are distributed; None: the chapter uses one.

    Returns:
        The command in one line, quoted for a POSIX shell.

    """
    words = ["palaver", "run", experiment, "--scale", scale, "--seeds", str(len(seeds))]
    if seeds[0]:
        words += ["--first-seed", str(seeds[0])]
    for pattern in only:
        words += ["--only", pattern]
    if devices is not None:
        words += ["--devices", str(devices)]
    for name, value in overrides.items():
        words += _flag(name.replace("_", "-"), value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(str, values)]
