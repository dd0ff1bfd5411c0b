"""Keys and certificates of a collective: an authority of its own signs a certificate for every site and operator.

A site is known by the common name of its certificate, the only part of it that Zenoh shows to access control. Keys are
of curve P-256.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from palaver.arguments import count, shown
from palaver.errors import PalaverError
from palaver.peers.names import check_hosts, check_name, is_operator

EARLIER = timedelta(minutes=5)
"""How long before it is made a certificate is already valid: for the clocks of other sites, which may be late."""
MOST_DAYS = 397
"""Days that a certificate of a site or operator is valid at most; Zenoh reads no list of revoked certificates."""
Key: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey


class Request(NamedTuple):
    """What a signing request asks for, checked."""

    name: str
    hosts: tuple[str, ...]
    """DNS names and IP addresses under which others reach the site."""
    key: PublicKey


class Authority(NamedTuple):
    """What signs."""

    key: Key
    certificate: x509.Certificate


class Certified(NamedTuple):
    """What a certificate says, for people and for ``--check``."""

    name: str
    hosts: tuple[str, ...]
    begins: datetime
    """UTC, as ``ends``."""
    ends: datetime
    fingerprint: str
    """Of its key, so that it stays the same when the certificate is renewed."""
    authority: str
    """Fingerprint of the authority's key."""
    days_left: float
    """Days until it ends; negative: it has ended."""


def clock() -> datetime:
    """The time now, in whole seconds, as certificates hold it, UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def fingerprint(key: PublicKey) -> str:
    """The SHA-256 of a public key (its SubjectPublicKeyInfo, DER), as ``sha256:`` and 64 hexadecimal digits."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return f"sha256:{digest.finalize().hex()}"


def new_key() -> Key:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(*, now: datetime, days: int) -> Authority:
    """A new authority: a key, and a certificate signed by itself.

    Args:
        now: when it is made.
        days: how long it is valid.

    Returns:
        The authority, which may sign certificates of sites, but not of other authorities.

    """
    key = new_key()
    name = _named(f"palaver authority {fingerprint(key.public_key())[-8:]}")  # apart from others in what TLS logs
    builder = _builder(name, name, key.public_key(), key.public_key(), now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Authority(key, builder.add_extension(_usage(signs=True), critical=True).sign(key, hashes.SHA256()))


def make_request(key: Key, name: str, hosts: Iterable[str]) -> x509.CertificateSigningRequest:
    """A signing request.

    Args:
        key: of the site or operator.
        name: its name.
        hosts: as for ``check_hosts``; none for one that others never connect to.

    Returns:
        The request, signed with the key.

    Raises:
        PalaverError: the name or a host cannot be one.

    """
    builder = x509.CertificateSigningRequestBuilder(_named(check_name(name)))
    if checked := check_hosts(hosts):
        builder = builder.add_extension(_subjects(checked), critical=False)
    return builder.sign(key, hashes.SHA256())


def check_request(request: x509.CertificateSigningRequest) -> Request:
    """What a signing request from anyone asks for.

    Args:
        request: as read from its file.

    Returns:
        Name, hosts and key; what else it asks for is left out.

    Raises:
        PalaverError: its signature is not by its key, its key is not of P-256, or its name or a host cannot be one.
        ValueError: it is damaged in another way.

    """
    if not request.is_signature_valid:
        raise PalaverError("the signing request is not signed with its own key: ask the site to send it again")
    return Request(check_name(_name(request.subject)), _hosts(request.extensions), _p256(request.public_key()))


def issue(authority: Authority, request: Request, *, now: datetime, days: int) -> x509.Certificate:
    """The certificate of a site or operator.

    Args:
        authority: that signs.
        request: what was asked for, checked.
        now: when it is made.
        days: how long it is valid, at most; it never outlives its authority.

    Returns:
        The certificate. A site can be connected to and can connect, an operator can connect only.

    Raises:
        PalaverError: the authority is not valid now, or ``days`` is out of range.

    """
    days = count("days", days, most=MOST_DAYS)
    check_dates(authority.certificate, now, "the authority", "make a new authority, and let every site ask it")
    ends = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    issuer = authority.certificate.subject
    builder = _builder(_named(request.name), issuer, request.key, authority.key.public_key(), now, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if not is_operator(request.name):
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if request.hosts:
        builder = builder.add_extension(_subjects(request.hosts), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def check_issued(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Checks that an authority has signed a certificate.

    Raises:
        PalaverError: it has not, or it is no authority.

    """
    try:
        is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise PalaverError("the authority's certificate is none of an authority: ask the authority for the right file")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise PalaverError("the certificate is by another authority: ask the authority for both files") from None


def check_dates(certificate: x509.Certificate, now: datetime, whose: str, remedy: str) -> None:
    """Checks that a certificate is valid now.

    Args:
        certificate: to check.
        now: the time.
        whose: for the message.
        remedy: for the message, if it has ended.

    Raises:
        PalaverError: it is not valid yet, or no longer.

    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        said = f"is valid from {begins:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M} here"
        raise PalaverError(f"the certificate of {whose} {said}: set this machine's clock")
    if now > ends:
        raise PalaverError(f"the certificate of {whose} ended on {ends:%Y-%m-%d %H:%M} UTC: {remedy}")


def describe(certificate: x509.Certificate, authority: x509.Certificate, now: datetime) -> Certified:
    """What a certificate says.

    Args:
        certificate: of a site or operator.
        authority: the certificate of the authority that signed it.
        now: the time, for the days that are left.

    Returns:
        The facts; whether it is valid now is not checked.

    Raises:
        PalaverError: another authority signed it.
        ValueError: it is no certificate of a site or operator.

    """
    check_issued(certificate, authority)
    ends = certificate.not_valid_after_utc
    return Certified(
        name=check_name(_name(certificate.subject)),
        hosts=_hosts(certificate.extensions),
        begins=certificate.not_valid_before_utc,
        ends=ends,
        fingerprint=fingerprint(_p256(certificate.public_key())),
        authority=fingerprint(_p256(authority.public_key())),
        days_left=(ends - now) / timedelta(days=1),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, issuers_key: PublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    """What the certificates of authorities and of sites have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(subject: x509.Name) -> str:
    """The common name, where a subject is nothing else."""
    attributes = list(subject)
    if [attribute.oid for attribute in attributes] != [NameOID.COMMON_NAME]:
        raise PalaverError(f"the subject is {shown(subject.rfc4514_string())}: it must be one common name alone")
    return str(attributes[0].value)


def _subjects(hosts: tuple[str, ...]) -> x509.SubjectAlternativeName:
    def general(host: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ip_address(host))
        except ValueError:
            return x509.DNSName(host)

    return x509.SubjectAlternativeName([general(host) for host in hosts])


def _hosts(extensions: x509.Extensions) -> tuple[str, ...]:
    try:
        subjects = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return check_hosts(str(subject.value) for subject in subjects)


def _p256(key: object) -> PublicKey:
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PalaverError("the key is not of curve P-256: make it with palaver peers request")
    return key


def _usage(*, signs: bool) -> x509.KeyUsage:
    """What a key may do: sign certificates, or take part in TLS."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
