"""Files of keys and certificates: read whole and checked, or refused in one line; never overwritten without a word.

| in a site's folder | |
|---|---|
| ``site.key`` | the private key, which never leaves; only the user can read it |
| ``site.pem`` | its certificate |
| ``authority.pem`` | the certificate of the authority that its collective trusts |
| ``request.pem`` | what it has asked the authority to sign, until it joins |

An authority's folder has ``authority.key``, ``authority.pem``, and ``issued/NAME.pem``, the newest certificate of NAME.
"""

import os
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning

from palaver.arguments import shown
from palaver.errors import PalaverError
from palaver.peers import names, pki
from palaver.studies.files import write_bytes

KEY, CERTIFICATE, REQUEST = "site.key", "site.pem", "request.pem"
AUTHORITY_KEY, AUTHORITY = "authority.key", "authority.pem"
ISSUED = "issued"
"""The folder of an authority that holds what it has signed: whose names are taken."""
LARGEST = 65536
"""Bytes of a file that are read at most."""

T = TypeVar("T")

_FOREIGN = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    CryptographyDeprecationWarning,  # such as a serial number below 0
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the cryptography library raises for bytes that are not what they should be."""


def load_key(path: Path) -> pki.Key:
    """The private key of a file.

    Args:
        path: of a PEM file by ``save_key``.

    Returns:
        The key.

    Raises:
        PalaverError: it cannot be read, is none of P-256, has a password, or everyone on this machine can read it.

    """

    def parse(data: bytes) -> pki.Key:
        key = load_pem_private_key(data, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("another kind of key")
        return key

    key = _load(path, "a private key of curve P-256 without a password", "restore it, or request with a new key", parse)
    if path.stat().st_mode & 0o007:
        raise PalaverError(f"{path} is a private key that every user of this machine can read: chmod 600 {path}")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate of a file.

    Args:
        path: of a PEM file.

    Returns:
        The certificate.

    Raises:
        PalaverError: it cannot be read, or does not hold one certificate.

    """

    def parse(data: bytes) -> x509.Certificate:
        found = x509.load_pem_x509_certificates(data)
        if len(found) != 1:  # Zenoh would trust every one of them
            raise PalaverError(f"it holds {len(found)} certificates: give a file with one")
        list(found[0].extensions)
        return found[0]

    return _load(path, "a certificate", "ask the authority to send it again", parse)


def load_request(path: Path) -> pki.Request:
    """What the signing request of a file asks for.

    Args:
        path: of a PEM file, from anyone.

    Returns:
        The request, checked.

    Raises:
        PalaverError: it cannot be read, or asks for something that no site can have.

    """

    def parse(data: bytes) -> pki.Request:
        return pki.check_request(x509.load_pem_x509_csr(data))

    return _load(path, "a signing request", "ask the site to send it again", parse)


def _load(path: Path, kind: str, remedy: str, parse: Callable[[bytes], T]) -> T:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST)
    except OSError as error:
        raise PalaverError(f"{path} cannot be read ({error.strerror}): give the file of {kind}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            return parse(data)
    except PalaverError as error:
        raise PalaverError(f"{path}: {error}") from None
    except _FOREIGN:
        raise PalaverError(f"{path} is not {kind}, or is damaged: {remedy}") from None


def save_key(path: Path, key: pki.Key) -> None:
    """Writes a private key to a new file that only the user can read, at no moment anyone else.

    Raises:
        PalaverError: the file is there.
        MachineError: it cannot be written.

    """
    keep(path)
    write_bytes(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def save(path: Path, content: x509.Certificate | x509.CertificateSigningRequest) -> None:
    """Writes a certificate or a signing request; what is there is overwritten.

    Raises:
        MachineError: it cannot be written.

    """
    write_bytes(path, content.public_bytes(Encoding.PEM))


def keep(path: Path) -> None:
    """Checks that there is no such file yet.

    Raises:
        PalaverError: there is.

    """
    if os.path.lexists(path):
        raise PalaverError(f"{path} is there already and is not overwritten: give another folder, or move it away")


def load_authority(folder: Path) -> pki.Authority:
    """The authority of a folder.

    Raises:
        PalaverError: its key or certificate cannot be read, or they do not belong together.

    """
    found = pki.Authority(load_key(folder / AUTHORITY_KEY), load_certificate(folder / AUTHORITY))
    if found.key.public_key() != found.certificate.public_key():
        raise PalaverError(f"{folder / AUTHORITY} is not of the key {AUTHORITY_KEY} beside it: restore both files")
    return found


def certificate_of(
    path: Path, authority: Path | None = None, key: Path | None = None, *, now: datetime | None = None
) -> pki.Certified:
    """What a site's certificate says, checked against its key and its authority.

    Args:
        path: of the certificate.
        authority: of the authority's certificate; None: ``authority.pem`` beside it.
        key: of the private key; None: ``site.key`` beside it.
        now: the time; None: this machine's.

    Returns:
        The facts. A certificate that has ended is described too; its ``days_left`` are negative.

    Raises:
        PalaverError: a file cannot be read or is damaged, the certificate is by another authority or for another key.

    """
    certificate = load_certificate(path)
    issuer = load_certificate(authority or path.with_name(AUTHORITY))
    private = load_key(key or path.with_name(KEY))
    try:
        found = pki.describe(certificate, issuer, now or pki.clock())
    except PalaverError as error:
        raise PalaverError(f"{path}: {error}") from None
    except _FOREIGN:
        raise PalaverError(f"{path} is not a site's certificate: ask the authority to send it again") from None
    if certificate.public_key() != private.public_key():
        raise PalaverError(f"{path} is for another key than this folder's: join with the certificate for its request")
    return found


def refused(path: Path) -> frozenset[str]:
    """A site's own list of names with whom it does not talk, as it is now.

    Zenoh shows the name of a certificate alone, so fingerprints cannot be refused: refuse the name of a stolen key, and
    give its owner a new name.

    Args:
        path: of a text file: a name a line; from ``#`` on a line is a comment.

    Returns:
        The names.

    Raises:
        PalaverError: it cannot be read, or a line is no name.

    """
    return _load(path, "a list of names, one a line", "write it again", parse_refused)


def parse_refused(data: bytes) -> frozenset[str]:
    r"""The names in a refusal list.

    >>> sorted(parse_refused(b"clinic-3  # key stolen\n\noperator.anna\n"))
    ['clinic-3', 'operator.anna']

    Args:
        data: what the file holds.

    Returns:
        The names.

    Raises:
        PalaverError: a line is no name, or the list is too long to have been read whole.

    """
    if len(data) >= LARGEST:
        raise PalaverError(f"the list has {LARGEST} bytes or more: give fewer names, or make a new authority")
    found: set[str] = set()
    for number, line in enumerate(data.decode().splitlines(), 1):
        if name := line.partition("#")[0].strip():
            if ":" in name:
                raise PalaverError(f"line {number} is {shown(name)}: give the name, since Zenoh shows no fingerprints")
            try:
                found.add(names.check_name(name))
            except PalaverError as error:
                raise PalaverError(f"line {number}: {error}") from None
    return frozenset(found)
