"""A site as a process: its settings, its network, and a loop that ends in order."""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from palaver.decision import fit_temperature
from palaver.peers import checkpoint
from palaver.peers.build import Material, make_material
from palaver.peers.core import Peer
from palaver.peers.links import Outbox
from palaver.peers.renewal import Renewal, contents
from palaver.peers.saving import restore
from palaver.peers.settings import SiteSettings
from palaver.peers.site import Conduct, Site
from palaver.peers.zenoh import ZenohTransport
from palaver.studies.files import writing
from palaver.studies.stopping import graceful

_fit_temperature = jax.jit(fit_temperature)

_EVALUATED = 500
"""Validation examples of which beacons tell the accuracy, and that calibrate answers, at most."""

_SHARE = 0.05
"""Of the time, what evaluations take at most."""

_IDLE = 0.02
"""Seconds to wait at most for what comes in."""


def serve(
    settings: SiteSettings,
    data_root: Path | None = None,
    ready: Callable[[Site], None] = lambda _: None,
    links: Callable[[], list[str]] = list,
) -> None:
    """Runs a site until it gets SIGINT or SIGTERM; then it leaves in order, with a checkpoint.

    Args:
        settings: of the site.
        data_root: where data sets lie.
        ready: called once the site is on the network.
        links: of ``palaver.peers.linklog.refused_links``: why links were refused since it was called last.

    Raises:
        PalaverError: settings, data or a checkpoint that do not fit.
        MachineError: it cannot listen or write.

    """
    with graceful("in order") as stopped:
        material, files = make_material(settings, data_root), contents(settings)
        site = make_site(settings, material)
        try:
            renewal, warn, count = Renewal(settings, site, files), warning(site), counting(site, links)
            with _shown(settings, site) as show:
                ready(site)

                def look(now: float) -> None:
                    warn()
                    count(now)
                    renewal.look(now)
                    show(now)

                run(site, stopped, look)
            site.leave()
        finally:
            site.transport.close()


def make_site(settings: SiteSettings, material: Material) -> Site:
    """A site on its network, gone on from its checkpoint where there is one.

    Args:
        settings: of the site.
        material: of ``make_material``.

    Returns:
        The site.

    Raises:
        PalaverError: a checkpoint of another description, data set or model.
        MachineError: it cannot listen or write.

    """
    folder = Path(settings.folder) if settings.folder else None
    saved = None if folder is None else checkpoint.restore(folder)
    epoch = int(time.time()) if folder is None else checkpoint.next_epoch(folder, time.time())
    agreed = settings.agreed()
    reporter = Reporter(material)
    for peer in (material.peer, material.twin):  # a site that compiles is slow to answer, so it does so before it joins
        rehearse(peer)
    reporter.rehearse(material.peer)
    conduct = Conduct(
        agreed.settings.rounds, pace=settings.pace, checkpoint_every=settings.checkpoint_seconds, folder=folder
    )
    site = Site(
        material.digest,
        material.peer,
        Outbox(material.digest, epoch, rate=settings.rate or float("inf")),
        ZenohTransport(settings.links()),
        conduct,
        twin=material.twin,
        journal=journal(None if folder is None else folder / "journal.jsonl"),
        report=reporter,
        temperature=reporter.temperature,
        later=lambda heard: checkpoint.later_epoch(folder, heard, time.time()),
    )
    try:
        if saved is not None:
            restore(site, saved)
    except BaseException:
        site.transport.close()
        raise
    return site


def rehearse(peer: Peer) -> None:
    """Plays a round and forgets it, so that the peer's programs are compiled.

    Args:
        peer: which has begun nothing.

    """
    before = {name: array.copy() for name, array in peer.arrays().items()}, peer.about()
    if peer.agreement.reference is not None:
        peer.learner.encode(peer.agreement.reference[: peer.agreement.protocol.batch_size])
    peer.turn()
    peer.restore(*before)


def _shown(settings: SiteSettings, site: Site) -> AbstractContextManager[Callable[[float], None]]:
    """Serves the site over HTTP while open, where that is set; gives what its loop calls."""
    if not settings.http:
        return nullcontext(lambda now: None)
    from palaver.peers.service import served  # FastAPI is loaded only where it is needed

    return served(site, settings.http)


def warning(site: Site) -> Callable[[], None]:
    """Tells on stderr and in the journal when a site comes to be refused by all that it reaches.

    Args:
        site: to look at.

    Returns:
        The function that looks at it.

    """
    before = None

    def look() -> None:
        nonlocal before
        notice, last = site.notice, before
        before = notice
        if notice and not last:
            print(f"palaver: {notice}", file=sys.stderr, flush=True)
            site.journal({"event": "trouble", "what": notice})

    return look


def counting(site: Site, links: Callable[[], list[str]]) -> Callable[[float], None]:
    """Counts links that were refused, and tells the journal why, at most once a second.

    Args:
        site: whose links they are.
        links: as for ``serve``.

    Returns:
        The function that looks at them, called with the time.

    """
    due = -math.inf

    def look(now: float) -> None:
        nonlocal due
        if now < due:
            return
        due = now + 1
        why = links()
        if why:
            site.refused["?", "link"] += len(why)
            site.journal({"event": "links refused", "why": sorted(set(why)), "links": len(why)})

    return look


def run(site: Site, stopped: Callable[[], bool], look: Callable[[float], None] = lambda now: None) -> None:
    """Does what is due until it is stopped.

    Args:
        site: on its network.
        stopped: asked after everything that is due was done.
        look: called with the time after everything that is due was done.

    """
    while not stopped():
        now = time.monotonic()
        site.cycle(now)
        look(now)
        left = min(_IDLE, site.due(now) - time.monotonic())
        if left > 0:
            site.rest(left)


class Reporter:
    """What a site's beacons tell about it; accuracies are computed anew when it has learnt more and time allows.

    Args:
        material: of the site.

    """

    def __init__(self, material: Material) -> None:
        x, y = material.validation
        self._x, self._y = x[:_EVALUATED], y[:_EVALUATED]
        self._twin, self._found, self._step, self._at = material.twin, dict[str, float](), -1, -math.inf
        self._temperatures = dict[bool, float]()

    def rehearse(self, peer: Peer) -> None:
        """Evaluates a peer and forgets it, so that no compilation counts as the time that an evaluation takes."""
        self._of(peer)
        self._temperatures.clear()
        if peer.agreement.reference is not None:
            peer.learner.predict(peer.agreement.reference[:_EVALUATED])

    def __call__(self, site: Site) -> dict[str, float]:
        """Accuracies of the site's model and of its silent twin in [0, 1], agreement, packets and bytes."""
        began = time.monotonic()
        if site.peer.step != self._step and began >= self._at:
            self._step = site.peer.step
            self._found = {"accuracy": self._of(site.peer), "silent": self._of(self._twin), "agrees": agrees(site.peer)}
            ended = time.monotonic()
            self._at = ended + (ended - began) / _SHARE
        missing = [seen.missing for seen in site.seen.values()]
        return (
            self._found
            | {
                "inbox": float(len(site.peer.inbox) + len(site.peer.arrived)),
                "bytes in": float(site.bytes_in),
                "bytes out": float(site.ledger.bytes.total()),
                "packet bytes": float(site.ledger.bytes["packets"]),
                "lost": float(np.mean(missing)) if missing else 0.0,
                "refused": float(site.refused.total()),
                "present": float(len(site.present)),
            }
            | ({} if site.standing.days_left is None else {"days left": site.standing.days_left})
        )

    def _of(self, peer: Peer) -> float:
        logits = peer.learner.predict(self._x).logits
        self._temperatures[peer is self._twin] = float(_fit_temperature(logits, self._y))
        return float((logits.argmax(-1) == self._y).mean())

    def temperature(self, peer: Peer) -> float:
        """The temperature of the site's model or of its silent twin, when it was last evaluated; 1 before that."""
        return self._temperatures.get(peer is self._twin, 1.0)


def agrees(peer: Peer) -> float:
    """How far a peer agrees with what it remembers of the others.

    Args:
        peer: that talks about a reference set.

    Returns:
        Of the first rows of the reference set, those it has heard about: the share whose likeliest class is the same
        for it and for the others; NaN where it remembers nothing.

    """
    memory, reference = peer.memory, peer.agreement.reference
    if memory is None or reference is None or memory.total.ndim != 2:
        return math.nan
    known = memory.weight[:_EVALUATED] > 0
    if not known.any():
        return math.nan
    own = peer.learner.predict(reference[:_EVALUATED]).logits.argmax(-1)
    return float((own == memory.total[:_EVALUATED].argmax(-1))[known].mean())


def journal(path: Path | None) -> Callable[[dict[str, Any]], None]:
    """Notes entries in a file, one JSON object a line, each with the Unix time.

    What trouble there is with checkpoints is said on stderr as well, since the file may be on the same disk; that the
    file itself cannot be written is said there once.

    Args:
        path: of the file, which is only ever added to; ``None``: nothing is noted.

    Returns:
        The function that notes an entry.

    """
    if path is None:
        return lambda entry: None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", buffering=1)
    failed = False

    def note(entry: dict[str, Any]) -> None:
        nonlocal failed
        if entry["event"] == "trouble":
            print(f"palaver: {entry['what']}; the site goes on", file=sys.stderr)
        try:
            file.write(json.dumps({"time": round(time.time(), 3)} | entry) + "\n")
            failed = False
        except OSError as error:
            if not failed:
                print(f"palaver: {path} cannot be written: {error.strerror}; the site goes on", file=sys.stderr)
            failed = True

    return note
