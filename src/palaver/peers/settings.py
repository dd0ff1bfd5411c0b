"""A site's settings: a TOML file, validated like all settings."""

import dataclasses
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Le
from pydantic import Field

from palaver.arguments import shown
from palaver.exchange.settings import CollectiveSettings
from palaver.peers import pki
from palaver.peers.credentials import CERTIFICATE, certificate_of, load_certificate, refused
from palaver.peers.names import OPERATOR, check_name, is_operator
from palaver.peers.zenoh import Links
from palaver.studies import fields
from palaver.studies.settings import changed, read_toml, settings
from palaver.types import PalaverError

LEAN = CollectiveSettings(
    split="dirichlet",
    skew=0.1,
    reference=0.25,
    learning_rate=0.003,
    channel="logits",
    combine="mean",
    weighted=True,
    payload_bits=4,
    top=2,
    topology="random-changing",
    neighbours=3,
    redraw_every=10,
    p_broadcast=0.3,
    least_change=0.1,
    rounds=1000,
)
"""What a collective agrees on unless its sites say otherwise: the leanest outputs of ``palaver run versus``."""

_TRAINS = ("optimizer", "learning_rate", "adam_beta1", "momentum", "weight_decay", "l1")
OWN = ("model", "widths", "dropout", "norm", "precision", *_TRAINS)
"""Settings that each site chooses for its own model; all others are the same at every site."""

_SIMULATED = ("asleep", "slow", "vanish", "liars", "patience")
"""Settings of nodes that sites do not read."""

_ENDPOINT = re.compile(r"(tcp/|tls/)[^/\s]+:([0-9]{1,5})")

LEARNERS = ("flax", "torch", "sklearn")


@settings
class SiteSettings:
    """One site of a collective."""

    name: str
    """Of the site."""
    peers: Annotated[dict[str, str], Field(min_length=1)]
    """Endpoints of all sites by name, this one's as well, such as tls/site-a.example.org:7447."""
    collective: dict[str, Any] = Field(default_factory=dict)
    """What all sites agree on: name, seed, and settings of palaver run collective."""
    listen: str = ""
    """Endpoint to listen at, such as tls/0.0.0.0:7447; empty: the site's own of peers."""
    credentials: str = ""
    """Folder with the site's key and certificate; empty: none, which is for loopback only."""
    insecure: bool = False
    """Whether to do without certificates off loopback: anyone on the network can then read and write packets."""
    operators: tuple[str, ...] = ()
    """Names of operators who may ask and look, such as operator.anna."""
    refusals: str = ""
    """File with names that this site does not hear, one a line."""
    learner: str = "flax"
    """The framework of the site's model: flax, torch or sklearn."""
    make: str = ""
    """For torch and sklearn: FILE.py:FUNCTION that makes the model."""
    examples: str = ""
    """The site's own examples: an .npz file with arrays x and y; empty: its shard of the collective's data set."""
    reference: str = ""
    """The reference set: an .npy file of inputs; empty: the share of the data set that the collective agreed on."""
    folder: str = ""
    """Where checkpoints and the journal are kept; empty: nowhere."""
    checkpoint_seconds: fields.Positive = 30.0
    """Seconds between checkpoints."""
    rate: Annotated[float, Ge(0)] = 0.0
    """Bytes in a second that packets take at most, with what the network puts around them; beacons take a quarter more;
    0: no limit."""
    pace: Annotated[float, Ge(0)] = 0.0
    """Rounds in a second at most; 0: as fast as the machine does them."""
    lease: Annotated[float, Ge(0.5), Le(3600)] = 3.0
    """Seconds after which a silent link is taken for dead."""
    http: str = ""
    """HOST:PORT where questions, the page and metrics are served; empty: nowhere."""

    def __post_init__(self) -> None:
        """Checks what needs several fields."""
        for name in self.peers:
            check_name(name)
        if self.name not in self.peers:
            raise PalaverError(f"name is {self.name!r}: give one of peers, {', '.join(self.peers)}")
        if self.learner not in LEARNERS:
            raise PalaverError(f"learner is {self.learner!r}: give one of {', '.join(LEARNERS)}")
        if (self.learner == "flax") == bool(self.make):
            raise PalaverError(
                f"make is {self.make!r} for learner {self.learner}: give FILE.py:FUNCTION for torch and sklearn alone"
            )
        protocol = "tls/" if self.credentials else "tcp/"
        for name, end in {"listen": self.endpoint, **self.peers}.items():
            found = _ENDPOINT.fullmatch(end)
            if found is None or found[1] != protocol or not 1 <= int(found[2]) <= 65535:
                raise PalaverError(f"the endpoint of {name} is {end!r}: give {protocol}HOST:PORT")
            if not (self.credentials or self.insecure or loopback(end)):
                raise PalaverError(
                    f"the endpoint of {name} is {end!r}, not on loopback, and there are no credentials: give the "
                    "folder of palaver peers join as credentials, or insecure = true, with which anyone can read and "
                    "write packets"
                )
        twice = [name for name, end in self.peers.items() if list(self.peers.values()).count(end) > 1]
        if twice:
            raise PalaverError(f"{' and '.join(twice[:2])} have one endpoint: give each site its own")
        for name in self.operators:
            if not is_operator(check_name(name)):
                raise PalaverError(f"operators has {name!r}: give names that begin with {OPERATOR}")
        if self.http:
            host, port = address(self.http)
            if not (self.insecure or loopback(f"tcp/{self.http}")):
                raise PalaverError(
                    f"http is {self.http!r}, not on loopback, and HTTP has no certificates here: give "
                    f"127.0.0.1:{port}, or insecure = true, with which anyone who reaches {host} can ask and look"
                )
        self.agreed()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return self.listen or self.peers[self.name]

    def agreed(self) -> "Agreed":
        """What the collective agreed on, with this site's own model.

        Raises:
            PalaverError: a setting of it is out of range.

        """
        given = {key.replace("-", "_"): value for key, value in self.collective.items()}
        name, seed = given.pop("name", "palaver"), given.pop("seed", 0)
        check_name(name)
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise PalaverError(f"collective.seed is {seed!r}: give a whole number, 0 to {2**32 - 1}")
        taken = [key for key in ("nodes", "group", "method") if key in given]
        if taken:
            raise PalaverError(f"collective.{taken[0]} is set: leave it out, since peers says which sites there are")
        for key in _SIMULATED:
            if given.get(key):
                raise PalaverError(f"collective.{key} is set: leave it out, only simulated nodes read it")
        nodes = len(self.peers)
        few = {"neighbours": few_neighbours(nodes)} if "topology" not in given else {}
        return Agreed(name, seed, changed(LEAN, few | given | {"nodes": nodes}, "collective."))

    def certified(self) -> pki.Certified | None:
        """What the site's certificate says; ``None`` where it does without.

        Raises:
            PalaverError: the credentials cannot be read, are another's, or are not valid now.

        """
        return certified(Path(self.credentials), self.name) if self.credentials else None

    def links(self) -> Links:
        """Where it listens and whom it connects to.

        Raises:
            PalaverError: refusals cannot be read, or as ``certified``.

        """
        self.certified()
        return Links(
            self.agreed().name,
            self.name,
            self.endpoint,
            self.peers,
            Path(self.credentials) if self.credentials else None,
            self.lease,
            self.operators,
            refused(Path(self.refusals)) if self.refusals else frozenset(),
        )


def certified(folder: Path, name: str) -> pki.Certified:
    """What the certificate of a site or operator says.

    Args:
        folder: that it is in, with its key and its authority's certificate.
        name: of the site or operator.

    Returns:
        The facts.

    Raises:
        PalaverError: the files cannot be read, are another's or another authority's, or are not valid now.

    """
    path, now = folder / CERTIFICATE, pki.clock()
    found = certificate_of(path, now=now)
    if found.name != name:
        raise PalaverError(f"the certificate of {folder} is for {found.name}, not for {name}: give its own")
    pki.check_dates(load_certificate(path), now, found.name, "renew it (palaver peers)")
    return found


def few_neighbours(nodes: int) -> int:
    """Neighbours of each site unless its settings say otherwise: three where a regular graph has them, or fewer.

    >>> [few_neighbours(nodes) for nodes in (1, 2, 3, 4, 5, 6)]
    [0, 1, 2, 3, 2, 3]

    """
    most = min(LEAN.neighbours, nodes - 1)
    return most - nodes * most % 2


class Agreed(NamedTuple):
    """What all sites of a collective agree on."""

    name: str
    seed: int
    settings: CollectiveSettings

    def description(self, names: tuple[str, ...]) -> dict[str, Any]:
        """What must be the same at every site, as JSON has it."""
        same = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in OWN}
        return {"name": self.name, "seed": self.seed, "peers": list(names)} | same


def read_site(path: Path, changes: Mapping[str, Any] = {}) -> SiteSettings:
    """A site's settings from its file; paths in it are relative to the file's folder.

    Args:
        path: of the TOML file.
        changes: given in place of the file's.

    Returns:
        The settings.

    Raises:
        PalaverError: the file cannot be read, or a setting is wrong; the message names both.

    """
    found = read_toml(path) | dict(changes)
    for name in ("credentials", "refusals", "examples", "reference", "folder", "make"):
        if isinstance(found.get(name), str) and found[name]:
            found[name] = str(path.parent / found[name])
    missing = [name for name in ("name", "peers") if name not in found]
    if missing:
        raise PalaverError(f"{path} has no {missing[0]}: give it")
    try:
        return SiteSettings(**found)
    except PalaverError as error:
        raise PalaverError(f"{path}: {error}") from None


def loopback(endpoint: str) -> bool:
    """Whether an endpoint is on this machine alone.

    >>> loopback("tcp/127.0.0.1:7447"), loopback("tcp/0.0.0.0:7447"), loopback("tcp/127.example.org:7447")
    (True, False, False)

    """
    host = endpoint.partition("/")[2].rpartition(":")[0]
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name
        return False


def address(http: str) -> tuple[str, int]:
    """Host and port of the setting ``http``.

    >>> address("127.0.0.1:8000"), address("[::1]:8000")
    (('127.0.0.1', 8000), ('::1', 8000))

    Args:
        http: the setting.

    Returns:
        The host, an IPv6 address without brackets, and the port.

    Raises:
        PalaverError: it is no HOST:PORT.

    """
    found = re.fullmatch(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", http)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise PalaverError(f"http is {shown(http)}: give HOST:PORT, such as 127.0.0.1:8000")
    return found[1].strip("[]"), int(found[2])
