"""How a site gets its certificate: it requests, the authority approves, the site joins; and a demo that does it all.

A private key is made where it is used and stays there. What travels is a signing request one way, and the certificate
with the authority's the other way; neither is secret. To renew a certificate, a site requests again in the same folder,
with the same key; for a new key it requests in a new folder, and the authority approves with ``replace``.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from palaver.arguments import count
from palaver.errors import PalaverError
from palaver.peers import credentials, names, pki
from palaver.studies.files import DRAFT, writing

DAYS = 30
"""Days that a site's certificate is valid, unless said otherwise."""
AUTHORITY_DAYS = 3650
"""Days that an authority is valid, unless said otherwise."""
DEMO_HOSTS = ("localhost", "127.0.0.1")
DEMO_OPERATOR = f"{names.OPERATOR}demo"


class Done(NamedTuple):
    """What a command has done."""

    text: str
    """For people: what there is now, and what to do next."""
    facts: dict[str, Any]
    """The same for ``--json``."""


def init(folder: Path, sites: Sequence[str], *, hosts: Sequence[str] = DEMO_HOSTS, days: int = DAYS) -> Done:
    """For trying out: an authority, its sites and an operator, with all keys in one place.

    Args:
        folder: a new or empty folder; gets a folder for ``authority``, for every site and for the operator.
        sites: their names.
        hosts: under which every site is reached, beside its own name where that can be a host's.
        days: how long certificates are valid.

    Returns:
        What was made.

    Raises:
        PalaverError: a name or host cannot be one, a name comes twice, or the folder holds something.
        MachineError: the folder cannot be written; nothing is left in it.

    """
    for name in sites:
        if names.is_operator(names.check_name(name)):
            raise PalaverError(
                f"the site {name!r} has an operator's name: give one that does not begin {names.OPERATOR}"
            )
    if not sites or len({name.lower() for name in sites}) < len(sites):
        raise PalaverError(f"sites is {','.join(sites)!r}: give one name or more, each once")
    names.check_hosts(hosts)
    _check_days(days)
    with writing(folder):
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
            raise PalaverError(f"{folder} is there already: give a new or empty folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:100]}.", suffix=DRAFT))
    try:
        signs = authority(draft / "authority")
        for name in (*sites, DEMO_OPERATOR):
            operator = names.is_operator(name)
            request(draft / name, name, () if operator else (*hosts, *_as_host(name)))
            asked = draft / name / credentials.REQUEST
            approve(draft / "authority", asked, days=days, operator=operator)
            issued = draft / "authority" / credentials.ISSUED / f"{name}.pem"
            join(draft / name, issued, draft / "authority" / credentials.AUTHORITY)
        with writing(folder):
            os.replace(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    text = (
        f"{folder} has a key and certificate for {', '.join(sites)} and {DEMO_OPERATOR}, valid for {days} days.\n"
        "For trying out only: whoever reads this folder has the keys of all sites and of the authority. On separate\n"
        "machines use palaver peers request, approve and join: a key then never leaves its site."
    )
    facts = {"folder": str(folder), "sites": list(sites), "operator": DEMO_OPERATOR, "demo": True}
    return Done(text, facts | {"authority": signs.facts["authority"]})


def _as_host(name: str) -> tuple[str, ...]:
    """A site's name as its host, as a service of Docker Compose has it; none where it cannot be a host's."""
    try:
        return names.check_hosts([name])
    except PalaverError:
        return ()


def authority(folder: Path, *, days: int = AUTHORITY_DAYS) -> Done:
    """Makes an authority, which signs the certificates of one collective.

    Args:
        folder: gets its key and certificate.
        days: how long it is valid; afterwards every site must join a new one.

    Returns:
        What was made, with the authority's fingerprint.

    Raises:
        PalaverError: there is one already; nothing is overwritten.
        MachineError: the folder cannot be written.

    """
    key, certificate = folder / credentials.AUTHORITY_KEY, folder / credentials.AUTHORITY
    credentials.keep(key)
    credentials.keep(certificate)
    made = pki.make_authority(now=pki.clock(), days=count("days", days, most=AUTHORITY_DAYS))
    credentials.save_key(key, made.key)
    try:
        credentials.save(certificate, made.certificate)
    except BaseException:
        key.unlink()  # it has signed nothing, and alone it would be in the way
        raise
    fingerprint = pki.fingerprint(made.key.public_key())
    ends = made.certificate.not_valid_after_utc
    text = (
        f"{key} signs for the collective: it stays here; keep a copy where nobody else can read it.\n"
        f"Its fingerprint is {fingerprint}, its certificate {certificate}, valid until {ends:%Y-%m-%d}.\n"
        "Tell the sites the fingerprint by another way than you send them certificates."
    )
    return Done(text, {"certificate": str(certificate), "authority": fingerprint, "ends": ends.isoformat()})


def request(folder: Path, name: str, hosts: Sequence[str]) -> Done:
    """At a site: makes a key, unless the folder has one, and a request to have its certificate signed.

    Args:
        folder: of the site.
        name: of the site; an operator's begins with ``operator.``.
        hosts: DNS names and IP addresses under which others reach it; none if it only connects to others.

    Returns:
        What was made, with the fingerprint of the key.

    Raises:
        PalaverError: a name or host cannot be one, or the folder is of another name or has another request.
        MachineError: the folder cannot be written.

    """
    path, asked = folder / credentials.REQUEST, names.check_hosts(hosts)
    own = _own_name(folder)
    if own not in (None, names.check_name(name)):
        raise PalaverError(f"{folder} is of {own}: request for {name} in another folder")
    key = _own_key(folder)
    if os.path.exists(path):
        if credentials.load_request(path) != pki.Request(name, asked, key.public_key()):
            raise PalaverError(f"{path} asks for something else: send that to the authority, or remove it first")
    else:
        credentials.save(path, pki.make_request(key, name, asked))
    fingerprint = pki.fingerprint(key.public_key())
    text = (
        f"Send {path} to the authority; the key {folder / credentials.KEY} stays here.\n"
        f"Tell the authority the key's fingerprint by another way: {fingerprint}."
    )
    return Done(text, {"request": str(path), "name": name, "hosts": list(asked), "fingerprint": fingerprint})


def approve(
    authority_folder: Path, request_file: Path, *, days: int = DAYS, replace: bool = False, operator: bool = False
) -> Done:
    """At the authority: signs what a site asks for.

    Args:
        authority_folder: with the authority's key.
        request_file: from the site.
        days: how long the certificate is valid, at most 397.
        replace: whether a name may pass to another key.
        operator: whether an operator is approved, who reads the state of every site.

    Returns:
        What was made, with the fingerprint to compare before the certificate is sent.

    Raises:
        PalaverError: the request is damaged or not signed by its own key, the name is of another key or of another
            role, or the authority has ended; nothing is written.
        MachineError: the folder cannot be written.

    """
    asked = credentials.load_request(request_file)
    if names.is_operator(asked.name) != operator:
        remedy = "leave out --operator" if operator else "add --operator if it may read the state of every site"
        raise PalaverError(f"{request_file} is of {asked.name}, {'a site' if operator else 'an operator'}: {remedy}")
    signs, now = credentials.load_authority(authority_folder), pki.clock()
    path = authority_folder / credentials.ISSUED / f"{asked.name}.pem"
    before = credentials.load_certificate(path) if os.path.exists(path) else None
    passes = before is not None and before.public_key() != asked.key
    if passes and not replace:
        raise PalaverError(
            f"{request_file} is of {asked.name}, a name that another key has: if its owner has a new key, add --replace"
        )
    made = pki.issue(signs, asked, now=now, days=days)
    found = pki.describe(made, signs.certificate, now)
    credentials.save(path, made)
    lines = [
        f"{path} is signed: {found.name} at {', '.join(found.hosts) or 'no host'}, until {_minute(found.ends)}.",
        f"Before you send it, compare the fingerprint with what {found.name} told you: {found.fingerprint}.",
        f"Send it with {authority_folder / credentials.AUTHORITY}.",
    ]
    if passes and before is not None and before.not_valid_after_utc > now:
        ends = _minute(before.not_valid_after_utc)
        lines.append(
            f"The key that had this name can use it until {ends}: if it was stolen, give its owner a new name."
        )
    return Done("\n".join(lines), {"certificate": str(path), **_facts(found)})


def join(folder: Path, certificate: Path, authority: Path) -> Done:
    """At a site: puts its certificate in place, for the first time or to renew it.

    Args:
        folder: of the site, with its key.
        certificate: from the authority.
        authority: the authority's certificate.

    Returns:
        What is in place, with the authority's fingerprint to compare.

    Raises:
        PalaverError: the certificate is for another key or name, by another authority, not valid now, or ends before
            the one in place; nothing is written.
        MachineError: the folder cannot be written.

    """
    own, now = _own_name(folder), pki.clock()
    if own is None:
        raise PalaverError(f"{folder} has no request: run palaver peers request first")
    found = credentials.certificate_of(certificate, authority, folder / credentials.KEY, now=now)
    if found.name != own:
        raise PalaverError(
            f"{certificate} is for {found.name}, and {folder} is of {own}: ask the authority for {own}'s"
        )
    made, signs = credentials.load_certificate(certificate), credentials.load_certificate(authority)
    pki.check_dates(made, now, found.name, "ask the authority for a new one with palaver peers request")
    pki.check_dates(signs, now, "the authority", "ask the authority for its new certificate")
    place, trusted = folder / credentials.CERTIFICATE, folder / credentials.AUTHORITY
    if os.path.exists(trusted) and credentials.load_certificate(trusted).public_key() != signs.public_key():
        raise PalaverError(f"{folder} trusts another authority than {authority}: request in a new folder to change it")
    if os.path.exists(place) and credentials.load_certificate(place).not_valid_after_utc > made.not_valid_after_utc:
        raise PalaverError(f"{certificate} ends before {place}, which is in place: ask the authority for a new one")
    credentials.save(trusted, signs)
    credentials.save(place, made)
    with writing(folder):
        (folder / credentials.REQUEST).unlink(missing_ok=True)
    text = (
        f"{place} is in place: {found.name}, until {_minute(found.ends)}.\n"
        "A running peer uses it within seconds.\n"
        f"Compare the authority's fingerprint with what it told you: {found.authority}."
    )
    return Done(text, {"folder": str(folder), **_facts(found)})


def _own_name(folder: Path) -> str | None:
    """Whose folder it is: what it has asked for, else what it has got."""
    asked, place = folder / credentials.REQUEST, folder / credentials.CERTIFICATE
    if os.path.exists(asked):
        return credentials.load_request(asked).name
    return credentials.certificate_of(place).name if os.path.exists(place) else None


def _own_key(folder: Path) -> pki.Key:
    """The key of a folder, made if there is none."""
    path = folder / credentials.KEY
    if not os.path.exists(path):
        credentials.save_key(path, pki.new_key())
    return credentials.load_key(path)


def _check_days(days: int) -> None:
    count("days", days, most=pki.MOST_DAYS)


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _facts(found: pki.Certified) -> dict[str, Any]:
    times = {"begins": found.begins.isoformat(), "ends": found.ends.isoformat()}
    return found._asdict() | times | {"hosts": list(found.hosts)}
