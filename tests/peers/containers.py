"""The services of the example's compose file, and its systemd unit, as commands in network namespaces.

Docker and systemd are not needed: a namespace has the container's mounts, its names of hosts and its environment, and
nothing else can be written to there. Whoever runs there has no capabilities, as in a container.
"""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "peers"
COMPOSE = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
DOCKERFILE = (EXAMPLE / "Dockerfile").read_text()
UNIT = EXAMPLE / "palaver-peer@.service"


class Mount(NamedTuple):
    """What of this machine is where in a container."""

    source: Path
    target: str
    read_only: bool = False


class Image(NamedTuple):
    """What the Dockerfile says of each container."""

    entrypoint: list[str]
    folder: str
    environment: dict[str, str]


def image() -> Image:
    """Of the example."""
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    folders = re.findall(r"^WORKDIR (.+)$", DOCKERFILE, re.MULTILINE)
    environment = re.findall(r"^ENV (\w+)=(.+)$", DOCKERFILE, re.MULTILINE)
    return Image(json.loads(entrypoint), folders[-1], dict(environment))


def mounts(service: str, volumes: Path) -> list[Mount]:
    """The mounts of a service, with a folder of ``volumes`` for each named volume."""
    found = []
    for volume in COMPOSE["services"][service]["volumes"]:
        if isinstance(volume, str):
            source, target, *mode = volume.split(":")
            of, read_only = "", mode == ["ro"]
        else:
            assert volume["type"] == "volume"
            source, target, of, read_only = (volume["source"], volume["target"], volume["volume"]["subpath"], True)
            assert volume["read_only"]
        if source.startswith("./"):
            found.append(Mount(EXAMPLE / source, target, read_only))
        else:
            assert source in COMPOSE["volumes"]
            assert len(source) > 1, "Docker takes one letter for the drive of a Windows path"
            found.append(Mount(volumes / source / of, target, read_only))
    return found


def unit() -> dict[str, list[str]]:
    """Settings of the unit by name, in their order."""
    found = dict[str, list[str]]()
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def started(command: Sequence[str]) -> list[str]:
    """A command of the examples, by this interpreter and this checkout."""
    program, *rest = command
    name = Path(program).name
    return [sys.executable, *(["-m", "palaver"] if name == "palaver" else []), *rest]


def contained(command: Sequence[str], etc: Path, mounted: Sequence[Mount], folder: str = "/") -> list[str]:
    """A shell's command that runs another one as in a container; for a mount namespace of its own.

    Args:
        command: to run.
        etc: a folder that is ``/etc`` there, with ``hosts``.
        mounted: what is where; beside file systems that this machine has mounted, only those can be written to.
        folder: where the command runs.

    Returns:
        The command.

    """
    at = shlex.quote(folder)
    lines = [f"mount --bind {shlex.quote(str(etc))} /etc"]
    lines += [f"mount -t tmpfs none {path}" for path in ("/var/lib", "/var/cache")]
    lines += [f"mkdir -p {at}"]
    for mount in mounted:
        lines += _mounting(mount)
    lines += [f"mount -o remount,bind,ro {path}" for path in ("/etc", "/var/lib", "/var/cache", "/")]
    lines += [f"cd {at}", 'exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"']
    return ["sh", "-ec", "\n".join(lines), "sh", *command]


def _mounting(mount: Mount) -> list[str]:
    at, folder = shlex.quote(mount.target), mount.source.is_dir()
    made = f"mkdir -p {at}" if folder else f"mkdir -p {shlex.quote(str(Path(mount.target).parent))} && touch {at}"
    protected = [f"mount -o remount,bind,ro {at}"] if mount.read_only else []
    return [made, f"mount --bind {shlex.quote(str(mount.source))} {at}", *protected]
