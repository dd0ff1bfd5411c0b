"""Certificates say what they should and no more; what comes from outside is refused in one line."""

import base64
import random
import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from palaver.errors import PalaverError
from palaver.peers import credentials, names, pki

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def asked(name="clinic-3", hosts=("a.example.org", "10.0.0.3"), key=None):
    return pki.check_request(pki.make_request(key or pki.new_key(), name, hosts))


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def make(folder, authority, name, days=1):
    """A site's folder."""
    key = pki.new_key()
    credentials.save_key(folder / credentials.KEY, key)
    made = pki.issue(authority, asked(name, ("127.0.0.1", "localhost"), key), now=NOW, days=days)
    credentials.save(folder / credentials.CERTIFICATE, made)
    credentials.save(folder / credentials.AUTHORITY, authority.certificate)
    return folder


@pytest.mark.parametrize("name", ["a", "clinic-3", "A.b_c", "operator.anna", "operators", "x" * 64, "0"])
def test_names(name):
    assert names.check_name(name) == name
    assert names.is_operator(name) == (name == "operator.anna")


FOREIGN = [
    "",
    "x" * 65,
    "a/b",
    "a*",
    "$x",
    "#",
    "?",
    "a b",
    "ä",
    "a\n",
    ".",
    "..",
    ".a",
    "-a",
    "operator.",
    "operator..a",
]


@pytest.mark.parametrize("name", [*FOREIGN, "Operator.a", "operator.operator.a", "operator." + "x" * 56, "Authority"])
def test_names_that_cannot_be_one(name):
    with pytest.raises(PalaverError, match="^the name .*: give [^\n]*$"):
        names.check_name(name)


@pytest.mark.parametrize(
    "host", ["", "*.org", "a:7447", "10.0.0.300", "0.0.0.0", "::", "224.0.0.1", "fe80::1%x", "-a", "ä"]
)
def test_hosts_that_cannot_be_one(host):
    with pytest.raises(PalaverError, match="^the host .*: give a DNS name or IP address [^\n]*$"):
        names.check_hosts([host])


def test_hosts():
    assert names.check_hosts(["Db.example.org", "db.example.org", "0:0::1", "10.0.0.3"]) == (
        "db.example.org",
        "::1",
        "10.0.0.3",
    )
    with pytest.raises(PalaverError, match="33 hosts: give at most 32"):
        names.check_hosts([f"h{number}" for number in range(33)])


def test_an_authority_signs_sites_and_nothing_else():
    certificate = pki.make_authority(now=NOW, days=10).certificate
    constraints = extension(certificate, x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extension(certificate, x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not (usage.value.digital_signature or usage.value.crl_sign)
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + 10 * DAY
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)


def test_a_sites_certificate():
    authority, request = pki.make_authority(now=NOW, days=100), asked()
    certificate = pki.issue(authority, request, now=NOW, days=30)
    pki.check_issued(certificate, authority.certificate)
    assert certificate.subject.rfc4514_string() == "CN=clinic-3"
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + 30 * DAY
    subjects = extension(certificate, x509.SubjectAlternativeName).value
    assert list(subjects) == [x509.DNSName("a.example.org"), x509.IPAddress(ip_address("10.0.0.3"))]
    purposes = set(extension(certificate, x509.ExtendedKeyUsage).value)
    assert purposes == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    usage = extension(certificate, x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    assert extension(certificate, x509.BasicConstraints).value == x509.BasicConstraints(ca=False, path_length=None)
    described = pki.describe(certificate, authority.certificate, NOW + 31 * DAY)
    assert described.hosts == request.hosts and described.days_left == -1
    assert described.fingerprint == pki.fingerprint(request.key) != described.authority
    serials = {pki.issue(authority, request, now=NOW, days=1).serial_number for _ in range(8)}
    assert len(serials) == 8 and max(serials) > 2**140


def test_a_certificate_never_outlives_its_authority():
    authority = pki.make_authority(now=NOW, days=100)
    late = pki.issue(authority, asked(), now=NOW + 90 * DAY, days=30)
    assert late.not_valid_after_utc == NOW + 100 * DAY
    with pytest.raises(
        PalaverError, match="^the certificate of the authority ended on 2026-06-09 12:00 UTC: make a new"
    ):
        pki.issue(authority, asked(), now=NOW + 101 * DAY, days=1)
    for days in (0, 398, 1.5):
        with pytest.raises(PalaverError, match="^days is .*1 to 397$"):
            pki.issue(authority, asked(), now=NOW, days=days)


def test_an_operator_can_only_connect():
    certificate = pki.issue(pki.make_authority(now=NOW, days=9), asked("operator.anna", ()), now=NOW, days=9)
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificate, x509.SubjectAlternativeName)


def signed(key, *attributes, subjects=()):
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in attributes])
    builder = x509.CertificateSigningRequestBuilder(subject)
    if subjects:
        builder = builder.add_extension(x509.SubjectAlternativeName(subjects), critical=False)
    return builder.sign(key, hashes.SHA256())


def test_requests_that_no_site_can_make():
    key, name = pki.new_key(), (NameOID.COMMON_NAME, "a")
    assert pki.check_request(signed(key, name)).name == "a"
    for request, said in (
        (signed(key), "one common name alone"),
        (signed(key, name, (NameOID.COMMON_NAME, "b")), "one common name alone"),
        (signed(key, name, (NameOID.ORGANIZATION_NAME, "b")), "one common name alone"),
        (signed(key, (NameOID.COMMON_NAME, "a/**")), "the name 'a/\\*\\*' cannot be one"),
        (signed(key, name, subjects=[x509.DNSName("*.org")]), "the host '\\*.org' cannot be one"),
        (signed(key, name, subjects=[x509.RFC822Name("a@b.org")]), "the host 'a@b.org' cannot be one"),
        (signed(ec.generate_private_key(ec.SECP384R1()), name), "not of curve P-256"),
    ):
        with pytest.raises(PalaverError, match=said):
            pki.check_request(request)


@pytest.mark.parametrize("load", [credentials.load_request, credentials.load_certificate, credentials.load_key])
def test_files_of_others_are_refused_in_one_line(tmp_path, load):
    path, key = tmp_path / "file", pki.new_key()
    credentials.save_key(tmp_path / "key", key)
    credentials.save(tmp_path / "request", pki.make_request(key, "a", ()))
    credentials.save(tmp_path / "certificate", pki.make_authority(now=NOW, days=1).certificate)
    own = load.__name__.removeprefix("load_")
    contents = [(tmp_path / name).read_bytes() for name in ("key", "request", "certificate") if name != own]
    for content in (b"", b"\xff" * 99, b"-----BEGIN", (tmp_path / own).read_bytes()[:-60], b"x" * 2**20, *contents):
        path.write_bytes(content)
        with pytest.raises(PalaverError, match=f"^{path} is not a .*, or is damaged: [^\n]*$"):
            load(path)
    for absent in (tmp_path / "absent", tmp_path):
        with pytest.raises(PalaverError, match=f"^{absent} cannot be read .*: give the file of a [^\n]*$"):
            load(absent)


def flipped(path, kind, whole, count=400):
    """Writes a file again and again, each time with another bit flipped."""
    draws = random.Random(0)
    for _ in range(count):
        mutant = bytearray(whole)
        mutant[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        path.write_text(f"-----BEGIN {kind}-----\n{base64.encodebytes(mutant).decode()}-----END {kind}-----\n")
        yield


def refused_or_the_same(load, path, whole):
    """Whether a mutant is refused in one line; otherwise it says what the whole one does, and is signed the same.

    The count of unused bits of a signature is not signed: any number of bits that are zero may be called unused.
    """
    try:
        found = load(path)
    except PalaverError as error:
        assert re.fullmatch(f"{path}[^\n]*", str(error))
        return True
    of = "tbs_certrequest_bytes" if hasattr(whole, "tbs_certrequest_bytes") else "tbs_certificate_bytes"
    assert getattr(found, of) == getattr(whole, of)
    assert found.signature == whole.signature
    return False


def test_a_request_with_any_bit_flipped_is_refused(tmp_path):
    request, path = pki.make_request(pki.new_key(), "clinic-3", ["a.example.org", "10.0.0.3"]), tmp_path / "request.pem"
    mutants = flipped(path, "CERTIFICATE REQUEST", request.public_bytes(Encoding.DER))

    def load(path):
        credentials.load_request(path)
        return x509.load_pem_x509_csr(path.read_bytes())

    assert sum(refused_or_the_same(load, path, request) for _ in mutants) > 390


def test_a_certificate_with_any_bit_flipped_is_refused(tmp_path):
    path = make(tmp_path / "a", pki.make_authority(now=NOW, days=1), "a") / credentials.CERTIFICATE
    whole = credentials.load_certificate(path)
    mutants = flipped(path, "CERTIFICATE", whole.public_bytes(Encoding.DER))

    def load(path):
        credentials.certificate_of(path)
        return credentials.load_certificate(path)

    assert sum(refused_or_the_same(load, path, whole) for _ in mutants) > 390


def test_keys_are_for_their_user_alone(tmp_path):
    path = tmp_path / "deep" / "site.key"
    key = pki.new_key()
    credentials.save_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert credentials.load_key(path).private_numbers() == key.private_numbers()
    with pytest.raises(PalaverError, match="is there already and is not overwritten"):
        credentials.save_key(path, pki.new_key())
    assert credentials.load_key(path).private_numbers() == key.private_numbers()
    path.chmod(0o640)  # a service's group
    credentials.load_key(path)
    path.chmod(0o644)
    with pytest.raises(PalaverError, match=f"every user of this machine can read: chmod 600 {path}$"):
        credentials.load_key(path)


def test_a_certificate_file_holds_one(tmp_path):
    path = tmp_path / "both.pem"
    made = [pki.make_authority(now=NOW, days=1).certificate.public_bytes(Encoding.PEM) for _ in range(2)]
    path.write_bytes(b"".join(made))
    with pytest.raises(PalaverError, match="it holds 2 certificates: give a file with one$"):
        credentials.load_certificate(path)


def test_the_refusal_list(tmp_path):
    path = tmp_path / "refused.txt"
    path.write_text("# stolen\nclinic-3\n\n  operator.anna # left us\nclinic-3")
    assert credentials.refused(path) == {"clinic-3", "operator.anna"}
    path.write_text("")
    assert credentials.refused(path) == frozenset()
    for content, said in (
        (b"a\nb/c", "line 2: the name 'b/c' cannot be one"),
        (b"sha256:ab", "line 1 is 'sha256:ab': give the name, since Zenoh shows no fingerprints"),
        (b"\xff", "is not a list of names, one a line, or is damaged"),
        (b"a\n" * 40000, "the list has 65536 bytes or more"),
    ):
        path.write_bytes(content)
        with pytest.raises(PalaverError, match=said):
            credentials.refused(path)
    with pytest.raises(PalaverError, match="cannot be read"):
        credentials.refused(tmp_path / "absent")


def test_what_a_folder_holds_belongs_together(tmp_path):
    authority = pki.make_authority(now=NOW, days=100)
    folder = make(tmp_path / "a", authority, "a", days=2)
    path = folder / credentials.CERTIFICATE
    found = credentials.certificate_of(path, now=NOW + DAY)
    assert found[:2] == ("a", ("127.0.0.1", "localhost")) and found.days_left == 1
    assert (found.begins, found.ends) == (NOW - timedelta(minutes=5), NOW + 2 * DAY)
    other = make(tmp_path / "b", pki.make_authority(now=NOW, days=100), "b")
    for files, said in (
        ((path, other / credentials.AUTHORITY), "by another authority"),
        ((path, path), "none of an authority"),
        ((path, None, other / credentials.KEY), "for another key"),
        ((folder / credentials.AUTHORITY,), "the name 'palaver authority .*' cannot be one"),
    ):
        with pytest.raises(PalaverError, match=f"^{tmp_path}[^\n]*{said}[^\n]*$"):
            credentials.certificate_of(*files)
