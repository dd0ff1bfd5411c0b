"""Messages between sites over Zenoh: explicit endpoints, no discovery, certificates and access control off loopback.

Key expressions, with C the collective's name:

| key | what |
|---|---|
| ``palaver/C/p/FROM/TO`` | a packet |
| ``palaver/C/ack/FROM/TO`` | an acknowledgement |
| ``palaver/C/state/FROM`` | a beacon |
| ``palaver/C/alive/NAME`` | that a site is there |
| ``palaver/C/ask/NAME`` | questions to a site |

With certificates a name in a key is the common name of the certificate: whoever writes under another's is not heard.
"""

import base64
import json
import os
import threading
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import zenoh

from palaver.errors import MachineError, PalaverError
from palaver.peers.credentials import AUTHORITY, CERTIFICATE, KEY
from palaver.peers.names import OPERATOR
from palaver.peers.transport import Arrived
from palaver.peers.wire import LARGEST

_WAITING = 16
"""Packets or beacons of one sender that wait at most; the oldest are dropped."""

_ASKED = 256
"""Questions that wait at most, 16 MiB of them; the oldest are dropped."""

_AT_ONCE = 16
"""Questions that are taken at once, so that a round is done between so many."""


class Links(NamedTuple):
    """Where a site listens and whom it connects to."""

    collective: str
    """Its name, a chunk of key expressions."""
    name: str
    """Of the site, or of an operator."""
    listen: str
    """Endpoint, such as ``tcp/127.0.0.1:7447``; empty: it only connects."""
    peers: Mapping[str, str]
    """Endpoints of all sites by name, this one's as well."""
    credentials: Path | None = None
    """Folder with its key and certificate; ``None``: without any, on loopback."""
    lease: float = 3.0
    """Seconds after which a silent link is taken for dead."""
    operators: tuple[str, ...] = ()
    """Names of those who may ask and read beacons."""
    refused: frozenset[str] = frozenset()
    """Names that this site does not hear."""


def config(links: Links) -> dict[str, Any]:
    """Zenoh's configuration.

    Args:
        links: of the site.

    Returns:
        What ``zenoh.Config.from_json5`` takes, as a dictionary; it holds the private key.

    Raises:
        PalaverError: the credentials cannot be read.

    """
    others = [end for name, end in links.peers.items() if name != links.name and name not in links.refused]
    found: dict[str, Any] = {
        "mode": "peer",
        "listen": {"endpoints": [links.listen] if links.listen else [], "exit_on_failure": True},
        "connect": {
            "endpoints": others,
            "exit_on_failure": False,
            "retry": {"period_init_ms": 500, "period_max_ms": 4000, "period_increase_factor": 2},
        },
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},  # with it uninvited peers link
        "transport": {
            "shared_memory": {"enabled": False},
            "link": {
                "protocols": ["tcp" if links.credentials is None else "tls"],
                "tx": {"lease": round(links.lease * 1000)},
                "rx": {"max_message_size": 2 * LARGEST},
            },
        },
    }
    if links.credentials is not None:
        found["transport"]["link"]["tls"] = _tls(links.credentials)
        found["access_control"] = _access(links)
    return found


def _tls(folder: Path) -> dict[str, Any]:
    """The files' contents: their paths would be read again at every new link, whatever the files then hold."""
    files = {
        f"{side}_{what}": name
        for side in ("listen", "connect")
        for what, name in (("private_key", KEY), ("certificate", CERTIFICATE))
    }
    contents = {
        f"{what}_base64": base64.b64encode(_read(folder / name)).decode()
        for what, name in {"root_ca_certificate": AUTHORITY, **files}.items()
    }
    return {"enable_mtls": True, "verify_name_on_connect": True, "close_link_on_expiration": True} | contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PalaverError(
            f"{path} cannot be read ({error.strerror}): give the folder of palaver peers join as credentials"
        ) from None


_SAYS = ("put", "delete", "declare_subscriber", "query", "reply", "declare_queryable")
_IS_THERE = ("liveliness_token", "liveliness_query", "declare_liveliness_subscriber")


def _access(links: Links) -> dict[str, Any]:
    """Who may do what: a site writes under its own name, reads what is for it, and nothing else is let in."""
    at = f"palaver/{links.collective}"
    everything = {
        "id": "out",
        "permission": "allow",
        "flows": ["egress"],
        "messages": [*_SAYS, *_IS_THERE],
        "key_exprs": [f"{at}/**"],
    }
    rules, subjects = [everything], list[dict[str, Any]]([{"id": "anybody"}])
    policies = [{"rules": ["out"], "subjects": ["anybody"]}]

    def let(name: str, messages: tuple[str, ...], keys: list[str], what: str) -> None:
        rule = f"{name} {what}"
        rules.append(
            {"id": rule, "permission": "allow", "flows": ["ingress"], "messages": [*messages], "key_exprs": keys}
        )
        policies.append({"rules": [rule], "subjects": [name]})

    asked = [f"{at}/ask/{links.name}", f"{at}/ask/*"]  # whoever asks all at once writes the latter
    for name in links.peers:
        if name == links.name or name in links.refused:
            continue
        subjects.append({"id": name, "cert_common_names": [name]})
        let(
            name,
            ("put", "delete"),
            [f"{at}/{each}" for each in (f"p/{name}/{links.name}", f"ack/{name}/{links.name}", f"state/{name}")],
            "writes",
        )
        reads = [f"{at}/p/{links.name}/{name}", f"{at}/state/{links.name}", f"{at}/p/*/{name}", f"{at}/state/*"]
        reads += [f"{at}/ack/{links.name}/{name}", f"{at}/ack/*/{name}"]
        let(name, ("declare_subscriber",), reads, "reads")
        let(name, ("query",), asked, "asks")
        let(name, ("reply", "declare_queryable"), [f"{at}/ask/{name}"], "answers")
        let(name, _IS_THERE[:1], [f"{at}/alive/{name}"], "is there")
        let(name, _IS_THERE[1:], [f"{at}/alive/*"], "looks")
    for name in links.operators:
        if name in links.refused:
            continue
        subjects.append({"id": name, "cert_common_names": [name]})
        let(name, ("declare_subscriber",), [f"{at}/state/{links.name}", f"{at}/state/*"], "reads")
        let(name, ("query",), asked, "asks")
        let(name, _IS_THERE[1:], [f"{at}/alive/*"], "looks")
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": subjects,
        "policies": policies,
    }


def opened(links: Links) -> zenoh.Session:
    """A session.

    Args:
        links: of the site.

    Returns:
        The session; links to others come and go in the background.

    Raises:
        PalaverError: the credentials cannot be read.
        MachineError: the endpoint cannot be listened on.

    """
    return _opened(links, config(links))


def _opened(links: Links, how: dict[str, Any]) -> zenoh.Session:
    # Zenoh closes a link whose cable is cut with SO_LINGER, which holds a receiving thread up for 10 s; it has two for
    # all links, and then hears nobody. This is read at the first session of a process.
    os.environ.setdefault("ZENOH_RUNTIME", f"(rx: (worker_threads: {len(links.peers) + 2}))")
    try:
        return zenoh.open(zenoh.Config.from_json5(json.dumps(how)))
    except zenoh.ZError as error:
        reason = str(error).split(" at /")[0].splitlines()[0]
        if not links.listen:
            raise MachineError(f"{links.name} cannot connect: {reason}: give other credentials or endpoints") from None
        raise MachineError(
            f"{links.name} cannot listen at {links.listen}: {reason}: give another endpoint, or end what listens there"
        ) from None


class ZenohTransport:
    """A ``palaver.peers.transport.Transport`` over Zenoh.

    Args:
        links: of the site.

    Raises:
        PalaverError, MachineError: as ``opened``.

    """

    def __init__(self, links: Links) -> None:
        self._at = f"palaver/{links.collective}"
        self._came = threading.Event()
        self._presence, self._there = dict[str, Arrived](), set[str]()
        self._asked = deque[Arrived](maxlen=_ASKED)
        others = [name for name in links.peers if name != links.name]
        self._packets = {name: deque[Arrived](maxlen=_WAITING) for name in others}
        self._beacons = {name: deque[Arrived](maxlen=_WAITING) for name in others}
        self._asking, self._lock = 0, threading.Lock()
        self._open(links, config(links))

    def _open(self, links: Links, how: dict[str, Any]) -> None:
        self._session = _opened(links, how)
        self._links, self._how = links, how
        # What is declared is dropped with its last reference, so that all of it is kept.
        self._declared: list[Any] = []
        for name in links.peers:
            if name != links.name and name not in links.refused:
                self._hear(f"p/{name}/{links.name}", "packet", name, self._packets[name])
                self._hear(f"ack/{name}/{links.name}", "ack", name, self._beacons[name])
                self._hear(f"state/{name}", "beacon", name, self._beacons[name])
        self._declared.append(self._session.declare_queryable(f"{self._at}/ask/{links.name}", self._question))
        alive = self._session.liveliness()
        self._declared.append(alive.declare_token(f"{self._at}/alive/{links.name}"))
        self._declared.append(alive.declare_subscriber(f"{self._at}/alive/*", self._here, history=True))
        self._beacon = self._session.declare_publisher(
            f"{self._at}/state/{links.name}",
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.INTERACTIVE_HIGH,
            express=True,
        )

    def reopen(self, links: Links, *, wait: bool = True) -> bool:
        """Puts another session in the place of this one, with other credentials or refusals; the site's own thread may.

        What is on its way meanwhile is lost, and whoever was there is gone until it is seen again.

        Args:
            links: of the same site, at the same endpoints.
            wait: whether to do nothing while ``asking`` is open.

        Returns:
            Whether it was done.

        Raises:
            PalaverError: the credentials cannot be read or used; the site goes on with those that it had.
            MachineError: those that it had cannot be used again either: the session is closed.

        """
        how, before = config(links), (self._links, self._how)
        with self._lock:
            if wait and self._asking:
                return False
            self._session.close()
            self._presence |= {name: Arrived("gone", name) for name in sorted(self._there)}
            self._there.clear()
            try:
                self._open(links, how)
            except MachineError as error:
                self._open(*before)
                raise PalaverError(f"{error}; the site goes on with what it had") from None
        return True

    @contextmanager
    def asking(self) -> Generator[zenoh.Session]:
        """The session, to put a question to all sites, this one as well; any thread may."""
        with self._lock:
            session = self._session
            self._asking += 1
        try:
            yield session
        finally:
            with self._lock:
                self._asking -= 1

    @property
    def at(self) -> str:
        """Beginning of the collective's keys, ``palaver/NAME``."""
        return self._at

    def _hear(self, key: str, kind: str, sender: str, queue: deque[Arrived]) -> None:
        def take(sample: zenoh.Sample) -> None:
            queue.append(Arrived(kind, sender, bytes(sample.payload)))
            self._came.set()

        self._declared.append(self._session.declare_subscriber(f"{self._at}/{key}", take))

    def _question(self, query: zenoh.Query) -> None:
        def reply(answer: bytes) -> None:
            with suppress(zenoh.ZError), query:  # whoever asked may be gone, or the session another one
                query.reply(f"{self._at}/ask/{self._links.name}", answer)

        def refuse(reason: str) -> None:
            with query:
                query.reply_err(reason, encoding=zenoh.Encoding.TEXT_PLAIN)

        data = b"" if query.payload is None else bytes(query.payload)
        self._asked.append(Arrived("ask", "", data, reply, refuse))
        self._came.set()

    def _here(self, sample: zenoh.Sample) -> None:
        kind = "here" if sample.kind == zenoh.SampleKind.PUT else "gone"
        name = str(sample.key_expr).rpartition("/")[2]
        if name == self._links.name or name in self._links.refused or name.startswith(OPERATOR):
            return
        (self._there.add if kind == "here" else self._there.discard)(name)
        self._presence[name] = Arrived(kind, name)  # the latest alone, however often it comes and goes
        self._came.set()

    def send(self, to: str, data: bytes) -> None:
        """See ``Transport.send``."""
        self._put(f"p/{self._links.name}/{to}", data, zenoh.Priority.DATA_LOW)

    def acknowledge(self, to: str, data: bytes) -> None:
        """See ``Transport.acknowledge``."""
        self._put(f"ack/{self._links.name}/{to}", data, zenoh.Priority.INTERACTIVE_HIGH, express=True)

    def _put(self, key: str, data: bytes, priority: zenoh.Priority, *, express: bool = False) -> None:
        drop = zenoh.CongestionControl.DROP
        self._session.put(f"{self._at}/{key}", data, congestion_control=drop, priority=priority, express=express)

    def beacon(self, data: bytes) -> None:
        """See ``Transport.beacon``."""
        self._beacon.put(data)

    def poll(self, wait: float = 0.0) -> list[Arrived]:
        """See ``Transport.poll``."""
        if wait:
            self._came.wait(wait)
        self._came.clear()
        found = [self._presence.pop(name) for name in list(self._presence)]
        for queue in (*self._beacons.values(), *self._packets.values()):
            for _ in range(len(queue)):
                found.append(queue.popleft())
        asked = [self._asked.popleft() for _ in range(min(len(self._asked), _AT_ONCE))]
        if self._asked:
            self._came.set()
        return asked + found

    def close(self) -> None:
        """See ``Transport.close``."""
        self._session.close()
