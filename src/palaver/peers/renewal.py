"""A running site takes up renewed certificates and a changed list of refusals, without a restart.

Zenoh reads both when a session is opened. So another session takes the place of the running one, with the same model,
inbox, epoch and sequence numbers; only what is on its way at that moment is lost. Files that are not as they must be
change nothing.
"""

import hashlib
import math
import sys
import time
from pathlib import Path

from palaver.errors import PalaverError
from palaver.peers.credentials import AUTHORITY, CERTIFICATE, KEY, LARGEST
from palaver.peers.settings import SiteSettings
from palaver.peers.site import Site
from palaver.peers.zenoh import ZenohTransport

EVERY = 2.0
"""Seconds between looks at the files; what is new must be the same twice, since it may still be written."""

_AGAIN = 60.0
"""Seconds after which files that cannot be used are tried again, since it may have been the machine's clock."""

_PATIENCE = 30.0
"""Seconds for questions over the running session to end: what ``POST /predict`` waits at most."""


def contents(settings: SiteSettings) -> str:
    """What the files of a site's credentials and refusals hold now.

    Args:
        settings: of the site.

    Returns:
        Their digest; a file that cannot be read counts as one that holds other things than any other.

    """
    found = hashlib.sha256()
    folder = Path(settings.credentials)
    paths = [folder / name for name in (KEY, CERTIFICATE, AUTHORITY)] if settings.credentials else []
    for path in paths + ([Path(settings.refusals)] if settings.refusals else []):
        try:
            with path.open("rb") as file:
                found.update(hashlib.sha256(file.read(LARGEST)).digest())
        except OSError as error:
            found.update(str(error).encode())
    return found.hexdigest()


class Renewal:
    """Looks at a site's files, seldom, and opens its session anew when they have changed.

    Args:
        settings: of the site.
        site: on a ``ZenohTransport``; its own thread makes this object and calls ``look``.
        used: ``contents`` before the site's session was opened.

    Raises:
        PalaverError: the credentials cannot be used.

    """

    def __init__(self, settings: SiteSettings, site: Site, used: str) -> None:
        self._settings, self._site = settings, site
        self._used = self._found = used
        self._failed, self._again, self._since = "", -math.inf, math.inf
        self._at = -math.inf
        certified = settings.certified()
        self._authority = certified and certified.authority
        self._ends = certified and certified.ends.timestamp()
        self._count_days()

    def look(self, now: float) -> None:
        """Takes up what has changed, where it is time to look.

        Args:
            now: as for ``Site.cycle``.

        """
        if now < self._at:
            return
        self._at = now + EVERY
        found = contents(self._settings)
        if found == self._used:
            self._failed = ""
            self._site.standing = self._site.standing._replace(trouble=None)
        elif found == self._found and (found != self._failed or now >= self._again):
            self._take_up(found, now)
        self._found = found
        self._count_days()

    def _take_up(self, found: str, now: float) -> None:
        site, transport = self._site, self._site.transport
        assert isinstance(transport, ZenohTransport)
        try:
            certified, links = self._settings.certified(), self._settings.links()
            if certified and certified.authority != self._authority:
                raise PalaverError(
                    f"the certificate of {certified.name} is by another authority than the one that it had: restore "
                    "the files, or start the site again to change its authority"
                )
            site.rest(0)  # answers the questions that have come
            self._since = min(self._since, now)
            if not transport.reopen(links, wait=now < self._since + _PATIENCE):
                return
        except PalaverError as error:
            if found != self._failed:
                print(f"palaver: new credentials or refusals are not used: {error}", file=sys.stderr, flush=True)
                site.journal({"event": "trouble", "what": str(error)})
            site.standing = site.standing._replace(trouble=str(error))
            self._failed, self._again = found, now + _AGAIN
            return
        self._used, self._failed, self._since = found, "", math.inf
        self._ends = certified and certified.ends.timestamp()
        site.standing = site.standing._replace(renewals=site.standing.renewals + 1, trouble=None)
        ends = certified and certified.ends.isoformat()
        site.journal({"event": "renewed", "certificate until": ends, "refuses": sorted(links.refused)})

    def _count_days(self) -> None:
        if self._ends is not None:
            self._site.standing = self._site.standing._replace(days_left=(self._ends - time.time()) / 86400)
