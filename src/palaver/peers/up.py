"""A local collective of real processes over loopback, with a live table: one command to see what peers do."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.live import Live

from palaver.arguments import count
from palaver.peers.build import make_material
from palaver.peers.settings import LEAN, SiteSettings, few_neighbours
from palaver.peers.watch import Watched, Watcher, table
from palaver.peers.zenoh import Links, opened
from palaver.studies.formats import NOTHING, percent
from palaver.studies.settings import changed
from palaver.studies.stopping import graceful

_EVERY = 2.0
"""Seconds between questions to the collective while it trains."""
_ASKED = 200
"""Validation examples of such a question."""
_REFRESH = 0.25
"""Seconds between looks at the peers."""
_COUNTED = ("bytes in", "bytes out", "packet bytes", "refused")
_PATIENCE = 30.0
"""Seconds for the last answers to come, and for processes to end in order."""


class Plan(NamedTuple):
    """What ``up`` does."""

    peers: int
    pace: float
    """Rounds a second of each peer."""
    kill: int
    """How many peers are killed when half of the rounds are done."""
    overrides: Mapping[str, Any]
    """Settings of the collective."""
    seed: int = 0
    data_root: Path | None = None
    json: bool = False


class Site(NamedTuple):
    """One of the processes."""

    settings: SiteSettings
    process: subprocess.Popen[bytes]
    log: Path


def up(plan: Plan, console: Console) -> int:
    """Starts peers, shows what they do until they have done their rounds, and ends them in order.

    Args:
        plan: what is to be done.
        console: for the table; with ``plan.json`` only the final figures are printed, as one object on stdout.

    Returns:
        The exit code: 0, or 1 where a peer that was not killed has ended by itself.

    Raises:
        PalaverError: settings that do not fit.
        MachineError: a peer cannot be started.

    """
    count("peers", plan.peers, least=2, most=100)
    count("kill-some", plan.kill, least=0, most=plan.peers - 1, unit="peers, so that one is left")
    with tempfile.TemporaryDirectory(prefix="palaver-") as folder:
        settings = site_settings(plan, Path(folder))
        material = make_material(settings[0], plan.data_root)  # bad settings are told once, before anything runs
        name, ends = settings[0].agreed().name, settings[0].peers
        session = opened(Links(name, "operator.up", "", ends))
        watcher = Watcher(session, f"palaver/{name}", tuple(ends), material.digest, material.peer.agreement.classes)
        sites = list[Site]()
        try:
            with _ended(sites):
                for each in settings:
                    sites.append(_start(each, Path(folder), plan))
                final = _watch(plan, sites, watcher, material.validation, console)
                final |= _figures(sites, watcher, material.test)
        finally:
            session.close()
    if plan.json:
        print(json.dumps(final, indent=2))
    else:
        _say(final, console)
    return 1 if final["failed"] else 0


def site_settings(plan: Plan, folder: Path) -> list[SiteSettings]:
    """The settings of every peer, on free ports of this machine.

    Args:
        plan: of the collective.
        folder: for the peers' files.

    Returns:
        One for each peer.

    """
    names = [f"site-{place}" for place in range(plan.peers)]
    ends = dict(zip(names, (f"tcp/127.0.0.1:{port}" for port in _free_ports(plan.peers)), strict=True))
    agreed = {"name": "up", "seed": plan.seed} | dict(plan.overrides)
    changed(LEAN, {"neighbours": few_neighbours(plan.peers)} | dict(plan.overrides) | {"nodes": plan.peers}, "")
    return [
        SiteSettings(name=name, peers=ends, collective=agreed, folder=str(folder / name), pace=plan.pace)
        for name in names
    ]


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(settings: SiteSettings, folder: Path, plan: Plan) -> Site:
    """A process that runs ``palaver peer`` with these settings."""
    path, log = folder / f"{settings.name}.toml", folder / f"{settings.name}.log"
    path.write_text(to_toml(settings))
    root = [] if plan.data_root is None else ["--data-root", str(plan.data_root)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XLA_FLAGS": _one_thread()}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "palaver", "peer", str(path), *root],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to this process alone, which then ends the others in order
        )
    return Site(settings, process, log)


def to_toml(settings: SiteSettings) -> str:
    """A site's file with the settings that are not their defaults.

    Args:
        settings: of the site.

    Returns:
        TOML that ``read_site`` reads.

    """
    usual = {f.name: f.default for f in dataclasses.fields(settings)}
    given = {name: value for name, value in vars(settings).items() if name in usual and value != usual[name]}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if not isinstance(value, dict)]
    for name, part in given.items():
        if isinstance(part, dict) and part:
            lines += ["", f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in part.items())]
    return "\n".join(lines) + "\n"


def _one_thread() -> str:
    """Many small processes share the cores: each computes in one thread."""
    return (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    )


@contextlib.contextmanager
def _ended(sites: Sequence[Site]) -> Generator[None]:
    """Ends every process when it is left: in order first, and what does not end by force."""
    try:
        yield
    finally:
        for site in sites:
            if site.process.poll() is None:
                site.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _PATIENCE
        for site in sites:
            with contextlib.suppress(subprocess.TimeoutExpired):
                site.process.wait(max(0.1, until - time.monotonic()))
            if site.process.poll() is None:
                site.process.kill()
                site.process.wait()


def _watch(
    plan: Plan, sites: Sequence[Site], watcher: Watcher, validation: tuple[np.ndarray, np.ndarray], console: Console
) -> dict[str, Any]:
    """Shows the peers until they have done their rounds; Ctrl-C ends that earlier."""
    began = asked_at = time.monotonic()
    rounds = sites[0].settings.agreed().settings.rounds
    x, y = (part[:_ASKED] for part in validation)
    killed, together, first = list[str](), None, None
    shown = contextlib.nullcontext() if plan.json else Live(console=console, auto_refresh=False)
    with shown as live, graceful("all peers in order") as stopped:
        while not stopped():
            time.sleep(_REFRESH)
            alive = [site for site in sites if site.process.poll() is None]
            if len(alive) + len(killed) < len(sites):
                break
            steps = [watcher.seen.get(site.settings.name, Watched()).step for site in alive]
            if plan.kill and not killed and min(steps) >= rounds // 2:
                for site in alive[-plan.kill :]:
                    site.process.kill()
                    killed.append(site.settings.name)
            if time.monotonic() - asked_at >= _EVERY and len(watcher.seen) == len(sites):
                asked, asked_at = watcher.asked(x, y), time.monotonic()
                together = asked.together
                first = first or (asked_at - began if asked.alone else None)
            if live is not None:
                live.update(table(watcher, killed, together), refresh=True)
            if min(steps) >= rounds:
                break
        interrupted = stopped()
    return {
        "rounds": rounds,
        "killed": killed,
        "seconds_to_first_decision": first,
        "interrupted": interrupted,
        "failed": {
            site.settings.name: _last_line(site.log)
            for site in sites
            if site.process.poll() is not None and site.settings.name not in killed
        },
    }


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _figures(sites: Sequence[Site], watcher: Watcher, test: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """The final accuracies on test examples, in [0, 1], and the bytes."""
    talking, silent = (watcher.asked(*test, silent=silent, timeout=_PATIENCE) for silent in (False, True))
    peers = {}
    for site in sites:
        name = site.settings.name
        seen = watcher.seen.get(name, Watched())
        of = {key.replace(" ", "_"): int(seen.report.get(key, 0)) for key in _COUNTED}
        peers[name] = {"alone": talking.alone.get(name), "silent": silent.alone.get(name), "round": seen.step} | of
    return {
        "together": talking.together,
        "silent_together": silent.together,
        "alone": _mean(talking.alone.values()),
        "silent_alone": _mean(silent.alone.values()),
        "peers": peers,
    }


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _say(final: Mapping[str, Any], console: Console) -> None:
    for name, line in final["failed"].items():
        console.print(f"{name} ended by itself: {line}", soft_wrap=True, markup=False)
    if final["alone"] is None:
        console.print("no peer answered")
        return
    sent = [each["packet_bytes"] for each in final["peers"].values()]
    keys = ("alone", "together", "silent_alone", "silent_together")
    share = {key: NOTHING if final[key] is None else f"{percent(final[key])} %" for key in keys}
    console.print(
        f"test examples: a site alone {share['alone']}, together {share['together']}; had they been silent "
        f"{share['silent_alone']} and {share['silent_together']}. "
        f"Sent by a site: {sum(sent) / len(sent) / 1000:.1f} kB of packets.",
        soft_wrap=True,
        highlight=False,
    )
