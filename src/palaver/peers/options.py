"""The flags of the commands of peers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg, subcommand

_Root = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: $PALAVER_DATA, or a cache)")]


@dataclass(frozen=True)
class UpOptions:
    """What palaver up takes beside the settings of the collective."""

    peers: int = 5
    """How many peers, each a process of its own."""
    pace: float = 50.0
    """Rounds in a second of each peer at most; 0: as fast as the machine does them."""
    kill_some: int = 0
    """How many peers are killed when half of the rounds are done."""
    seed: int = 0
    """Of shards, reference set, random draws and first parameters."""
    data_root: _Root = None
    """Where data sets lie or are downloaded to."""
    json: bool = False
    """Print only the final figures, as one JSON object."""


@dataclass(frozen=True)
class Peer:
    """Run one site of a collective of real peers, or check its settings."""

    site: Positional[Path]
    """The site's TOML file."""
    check: bool = False
    """Only check settings, credentials, data and model, and print what the site would be."""
    data_root: _Root = None
    """Where data sets lie or are downloaded to."""


@dataclass(frozen=True)
class Asking:
    """What ask and status take."""

    site: Path = Path("site.toml")
    """TOML file of a site, which says where all sites are."""
    operator: str = "operator.demo"
    """Name in the operator's certificate, where sites have certificates."""
    credentials: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder with the operator's key and certificate, where sites have certificates."""
    timeout: float = 2.0
    """Seconds to wait for answers at most."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class AskFlags(Asking):
    """Ask a collective: the decision of whoever answers in time."""

    x: Positional[Path]
    """An .npy file of inputs, such as the collective agreed on."""
    rule: str = "confidence"
    """Decision rule: confidence, mean, majority, product or entropy_as_printed."""
    calibrated: bool = False
    """Whether each peer's outputs are calibrated by a temperature that it fits on validation examples."""


@dataclass(frozen=True)
class StatusFlags(Asking):
    """The state of a collective's sites, as their beacons tell it; a live table on a terminal."""


@dataclass(frozen=True)
class Init:
    """For trying out: an authority and the keys of all sites in one place."""

    folder: Positional[Path]
    """A new or empty folder."""
    sites: str = "a,b,c"
    """Names of the sites, with commas between them."""
    days: int = 30
    """How long certificates are valid."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Authority:
    """Make the key and certificate of an authority, which approves sites."""

    folder: Positional[Path]
    """A new or empty folder, at the authority alone."""
    days: int = 3650
    """How long the authority is valid."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Request:
    """At a site: make a key, which never leaves it, and a request for a certificate."""

    folder: Positional[Path]
    """The site's folder; its key is used if there is one, which renews a certificate."""
    name: str = ""
    """Of the site, or operator.NAME."""
    host: UseAppendAction[tuple[str, ...]] = ()
    """Name or address under which others reach the site; may be given several times."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Approve:
    """At the authority: make the certificate that a site requests."""

    authority: Positional[Path]
    """The authority's folder."""
    request: Positional[Path]
    """The site's request."""
    days: int = 30
    """How long the certificate is valid, at most 397."""
    replace: bool = False
    """The name has a certificate of another key, which this one takes the place of."""
    operator: bool = False
    """The request is an operator's, who may ask and look, and take no other part."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Join:
    """At a site: put the certificate and the authority's in place, once they are checked."""

    folder: Positional[Path]
    """The site's folder."""
    certificate: Positional[Path]
    """What the authority made for this site."""
    authority: Positional[Path]
    """The authority's own certificate."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Peers:
    """Keys and certificates of a collective."""

    action: (
        Annotated[Init, subcommand("init")]
        | Annotated[Authority, subcommand("authority")]
        | Annotated[Request, subcommand("request")]
        | Annotated[Approve, subcommand("approve")]
        | Annotated[Join, subcommand("join")]
    )
