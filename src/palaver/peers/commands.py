"""What the commands of peers do."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from palaver.peers import options, provision
from palaver.peers.build import make_material
from palaver.peers.introduction import introduced, looking, waiting
from palaver.peers.linklog import refused_links
from palaver.peers.options import AskFlags, StatusFlags, UpOptions
from palaver.peers.questions import Decided, ask
from palaver.peers.serve import serve
from palaver.peers.settings import LEAN, read_site
from palaver.peers.site import Site
from palaver.peers.up import Plan, up
from palaver.peers.watch import Watcher, table
from palaver.studies.stopping import graceful
from palaver.types import PalaverError


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
    if settings.credentials:
        with refused_links() as links:
            serve(settings, data_root, _ready, links)
    else:
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
    return up(plan, _console())


def run_ask(flags: AskFlags) -> int:
    """Asks a collective, and prints its decision.

    Args:
        flags: of the command.

    Returns:
        The exit code: 0, or 1 where no peer answered in time.

    Raises:
        PalaverError: inputs, settings or credentials that cannot be read, or no site is reached.

    """
    try:
        x = np.load(flags.x, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PalaverError(f"{flags.x} cannot be read: {error}: give an .npy file of inputs") from None
    if not isinstance(x, np.ndarray) or x.ndim < 1 or x.dtype.kind not in "uif":
        raise PalaverError(f"{flags.x} holds no array of numbers: give an .npy file of inputs [rows, ...]")
    found = ask(
        x,
        flags.site,
        timeout=flags.timeout,
        rule=flags.rule,
        calibrated=flags.calibrated,
        operator=flags.operator,
        credentials=flags.credentials,
    )
    if flags.json:
        print(json.dumps(found.to_json()))
    elif found.nobody:
        print("palaver: no peer answered in time: ask again, or give a longer --timeout", file=sys.stderr)
    else:
        _say(found, _console())
    return int(found.nobody)


_SHOWN = 20
"""Rows of a decision that the terminal shows."""


def _say(found: Decided, console: Console) -> None:
    decisions, voices = Table(), Table()
    for heading in ("input", "class", "probability", "entropy, nats"):
        decisions.add_column(heading, justify="right")
    for row, (p, entropy) in enumerate(zip(found.distribution[:_SHOWN], found.entropy, strict=False)):
        decisions.add_row(str(row), str(p.argmax()), f"{p.max():.3f}", f"{entropy:.3f}")
    for heading in ("peer", "answer", "ms", "weight"):
        voices.add_column(heading, justify="left" if heading in ("peer", "answer") else "right")
    for name, voice in found.voices.items():
        ms = "–" if voice.milliseconds is None else f"{voice.milliseconds:.0f}"
        voices.add_row(name, voice.status, ms, f"{voice.weight:.3f}")
    console.print(decisions)
    if len(found.distribution) > _SHOWN:
        console.print(f"and {len(found.distribution) - _SHOWN} more inputs: --json prints all")
    console.print(voices)


def status(flags: StatusFlags) -> int:
    """Shows what the sites of a collective tell of themselves; on a terminal until Ctrl-C.

    Args:
        flags: of the command.

    Returns:
        The exit code.

    Raises:
        PalaverError: settings or credentials that cannot be read, or no site is reached.

    """
    console = _console()
    waiting(flags.timeout)
    with looking(flags.site, flags.operator, flags.credentials) as (session, settings):
        at, said = f"palaver/{settings.agreed().name}", introduced(session, settings, flags.timeout)
        watcher = Watcher(session, at, tuple(settings.peers), said.digest, said.classes, said.beacons)
        time.sleep(flags.timeout)
        if flags.json:
            print(json.dumps(watcher.to_json()))
        elif console.is_terminal:
            with Live(console=console, auto_refresh=False) as live, graceful("now") as stopped:
                while not stopped():
                    live.update(table(watcher), refresh=True)
                    time.sleep(0.5)
        else:
            console.print(table(watcher))
    return 0


def provide(action: Any) -> int:
    """Makes keys, requests and certificates.

    Args:
        action: flags of one of the commands of ``palaver peers``.

    Returns:
        The exit code.

    Raises:
        PalaverError: names, files or certificates that do not fit.
        MachineError: a file cannot be written.

    """
    match action:
        case options.Init():
            done = provision.init(action.folder, action.sites.split(","), days=action.days)
        case options.Authority():
            done = provision.authority(action.folder, days=action.days)
        case options.Request():
            done = provision.request(action.folder, action.name, action.host)
        case options.Approve():
            replace, operator = action.replace, action.operator
            done = provision.approve(
                action.authority, action.request, days=action.days, replace=replace, operator=operator
            )
        case _:
            done = provision.join(action.folder, action.certificate, action.authority)
    print(json.dumps(done.facts) if action.json else done.text)
    return 0


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)
