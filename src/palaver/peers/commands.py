"""What the commands of peers do."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from palaver.options import UpOptions
from palaver.peers.build import make_material
from palaver.peers.serve import serve
from palaver.peers.settings import LEAN, read_site
from palaver.peers.site import Site
from palaver.peers.up import Plan, up


def flags() -> Any:
    """Every setting of a collective, as a dataclass that checks nothing yet, with the defaults of peers."""

    def unchecked(self: Any, **given: Any) -> None:
        self.__dict__.update(given)

    return type("Flags", (type(LEAN),), {"__init__": unchecked})(**vars(LEAN))


def peer(path: Path, *, check: bool, data_root: Path | None) -> int:
    """Runs a site, or only checks its settings, credentials, data and model.

    Args:
        path: of the site's TOML file.
        check: whether only to check.
        data_root: where data sets lie.

    Returns:
        The exit code.

    Raises:
        PalaverError: bad settings, credentials, data or checkpoints.
        MachineError: the site cannot listen or write.

    """
    settings = read_site(path)
    if check:
        settings.links()
        material = make_material(settings, data_root)
        own = {"name": settings.name, "listens": settings.endpoint, "digest": material.digest.hex()}
        reference = material.peer.agreement.reference
        sizes = {"examples": len(material.peer.y), "reference": 0 if reference is None else len(reference)}
        print(json.dumps(own | sizes | {"peers": list(settings.peers)}))
        return 0
    serve(settings, data_root, _ready)
    return 0


def _ready(site: Site) -> None:
    print(f"{site.name}: {len(site.peer.y)} examples, from round {site.peer.step}", flush=True)


def run_up(options: UpOptions, overrides: Mapping[str, Any]) -> int:
    """Runs a local collective.

    Args:
        options: of the command.
        overrides: settings of the collective that were given.

    Returns:
        The exit code.

    Raises:
        PalaverError: settings that do not fit.
        MachineError: a peer cannot be started.

    """
    plan = Plan(
        options.peers,
        options.pace,
        options.kill_some,
        overrides,
        options.seed,
        options.data_root,
        options.json,
    )
    return up(plan, Console(width=None if sys.stdout.isatty() else 120))
