"""Who looks at a collective from outside, and how it comes to know what the sites have agreed on."""

import os
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import zenoh

from palaver.arguments import number
from palaver.peers.credentials import AUTHORITY, CERTIFICATE, load_certificate
from palaver.peers.names import check_name, is_operator
from palaver.peers.settings import SiteSettings, certified, read_site
from palaver.peers.wire import ROOM, Beacon, RefusedError, decode, digest_of
from palaver.peers.zenoh import Links, opened
from palaver.types import PalaverError

_HELLO = 5.0
"""Seconds to wait for a first site at least: links are tried again after up to four."""
_LINKS = 1.0
"""Seconds to wait for all sites once there is one; those that are up link in a few milliseconds."""
_PAUSE = 2.0
"""Seconds between questions who is there, at most."""
_LONGEST = 3600.0
"""Seconds to wait for anything, at most."""
ALL: dict[str, Any] = {
    "target": zenoh.QueryTarget.ALL,
    "consolidation": zenoh.ConsolidationMode.NONE,
    "priority": zenoh.Priority.INTERACTIVE_HIGH,
}
"""How all sites are asked at once."""


def waiting(timeout: float) -> float:
    """A time-out that can be waited for.

    Args:
        timeout: seconds.

    Returns:
        The same.

    Raises:
        PalaverError: it is not above 0, or more than an hour.

    """
    return number("timeout", timeout, f"(0, {_LONGEST:g}]")


@contextmanager
def looking(site: Path, operator: str, credentials: str | Path | None) -> Generator[tuple[zenoh.Session, SiteSettings]]:
    """A session of an operator, who takes part in nothing.

    Args:
        site: TOML file of any site.
        operator: its name.
        credentials: folder with its key and certificate.

    Yields:
        The session, and the settings of the file.

    Raises:
        PalaverError: the file or the certificate cannot be read, or the name is no operator's.

    """
    settings = read_site(site)
    if not is_operator(check_name(operator)):
        raise PalaverError(f"operator is {operator!r}: give a name that begins with operator.")
    if bool(settings.credentials) != bool(credentials):
        said = "have certificates: give an operator's" if settings.credentials else "have no certificates: leave out"
        raise PalaverError(f"the sites of {site} {said} credentials")
    folder = None if credentials is None else Path(credentials)
    if folder is not None:
        certified(folder, operator)
        theirs = Path(settings.credentials) / AUTHORITY
        if os.access(theirs, os.R_OK) and _key(theirs) != _key(folder / AUTHORITY):  # else a link would never come
            raise PalaverError(f"{folder / CERTIFICATE} is by another authority than {theirs}: ask that one for it")
    session = opened(Links(settings.agreed().name, operator, "", settings.peers, folder))
    try:
        yield session, settings
    finally:
        session.close()


def _key(certificate: Path) -> Any:
    return load_certificate(certificate).public_key()


class Introduction(NamedTuple):
    """What most sites of a collective say that they have agreed on."""

    digest: bytes
    classes: int
    beacons: Mapping[str, bytes]
    """Of all who were heard, by name."""


def introduced(session: zenoh.Session, settings: SiteSettings, timeout: float) -> Introduction:
    """Asks all sites what they have agreed on, until all have said it or a second has passed since one has.

    So that one site with other settings, or one that lies, misleads nobody; where as many say one thing as another, it
    is what the site says whose file it is.

    Args:
        session: of ``looking``.
        settings: of any site.
        timeout: seconds to wait for a first site at most, five at least.

    Returns:
        What most say.

    Raises:
        PalaverError: the time-out is out of range, or no site is heard in time.

    """
    seconds = max(waiting(timeout), _HELLO)
    until, pause = time.monotonic() + seconds, 0.1
    names, beacons, said = set(settings.peers), dict[str, bytes](), dict[str, tuple[bytes, int]]()
    complete = threading.Event()

    def hear(reply: zenoh.Reply) -> None:
        if reply.ok is None or (name := str(reply.ok.key_expr).rpartition("/")[2]) not in names:
            return
        data = bytes(reply.ok.payload)
        with suppress(RefusedError):
            digest = digest_of(data)
            beacon = decode(data, digest)
            classes = beacon.report.get("classes", 0) if isinstance(beacon, Beacon) else 0
            if 2 <= classes <= ROOM // 4:  # nor NaN
                beacons[name], said[name] = data, (digest, int(classes))
        if len(said) == len(names):
            complete.set()

    while not complete.is_set() and (left := until - time.monotonic()) > 0:
        session.get(f"palaver/{settings.agreed().name}/ask/*", hear, timeout=left, **ALL)
        complete.wait(min(pause, left))
        pause = min(2 * pause, _PAUSE)
        until = min(until, time.monotonic() + _LINKS) if said else until
    if not said:
        own = ", or credentials that the sites accept" if settings.credentials else ""
        raise PalaverError(f"no site is heard within {seconds:g} s: start one, or give another site{own} or time-out")
    own_first = [said[name] for name in dict.fromkeys((settings.name, *settings.peers)) if name in said]
    (digest, classes), _ = Counter(own_first).most_common(1)[0]  # of as many, the one that comes first
    return Introduction(digest, classes, dict(beacons))
