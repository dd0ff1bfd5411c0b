"""A site requests, the authority approves, the site joins; what does not fit is refused, nothing written."""

from datetime import timedelta

import pytest

from palaver.errors import MachineError, PalaverError
from palaver.peers import credentials, pki, provision
from palaver.peers.credentials import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, ISSUED, KEY, REQUEST


def contents(folder):
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refuses(tmp_path):
    """Calls a command that must be refused in one line and leave every file as it was."""

    def refuses(said, command, *arguments, **options):
        before = contents(tmp_path)
        with pytest.raises(PalaverError, match=f"^[^\n]*{said}[^\n]*$"):
            command(*arguments, **options)
        assert contents(tmp_path) == before

    return refuses


def certify(folder, authority, name="a", hosts=("10.0.0.3",), **options):
    """The whole way of a site; gives the certificate that the authority signed."""
    provision.request(folder, name, hosts)
    approved = provision.approve(authority, folder / REQUEST, **options)
    issued = authority / ISSUED / f"{name}.pem"
    assert approved.facts["certificate"] == str(issued)
    provision.join(folder, issued, authority / AUTHORITY)
    return issued


def test_a_site_gets_its_certificate_and_renews_it(tmp_path):
    signs, site = tmp_path / "authority", tmp_path / "site"
    made = provision.authority(signs)
    assert made.facts["authority"] in made.text
    asked = provision.request(site, "a", ["db.example.org", "10.0.0.3"])
    assert set(contents(site)) == {KEY, REQUEST} and (site / KEY).stat().st_mode & 0o777 == 0o600
    assert provision.request(site, "a", ["db.example.org", "10.0.0.3"]) == asked  # said again, nothing changes
    key = (site / KEY).read_bytes()
    approved = provision.approve(signs, site / REQUEST, days=10)
    assert approved.facts["fingerprint"] == asked.facts["fingerprint"] and asked.facts["fingerprint"] in approved.text
    assert approved.facts["hosts"] == ["db.example.org", "10.0.0.3"]
    assert set(contents(signs)) == {AUTHORITY_KEY, AUTHORITY, "issued/a.pem"}
    assert (signs / AUTHORITY_KEY).stat().st_mode & 0o777 == 0o600
    joined = provision.join(site, signs / ISSUED / "a.pem", signs / AUTHORITY)
    assert joined.facts["authority"] == made.facts["authority"] and made.facts["authority"] in joined.text
    assert set(contents(site)) == {KEY, CERTIFICATE, AUTHORITY}
    found = credentials.certificate_of(site / CERTIFICATE)
    assert found.name == "a" and 9.99 < found.days_left <= 10 and found.fingerprint == asked.facts["fingerprint"]
    assert all(key not in file for name, file in contents(tmp_path).items() if name != f"site/{KEY}")

    first = (site / CERTIFICATE).read_bytes()
    certify(site, signs, hosts=["10.0.0.4"], days=20)
    renewed = credentials.certificate_of(site / CERTIFICATE)
    assert renewed.hosts == ("10.0.0.4",) and 19.99 < renewed.days_left <= 20
    assert (site / KEY).read_bytes() == key and (site / CERTIFICATE).read_bytes() != first


def test_a_site_takes_a_new_key_in_a_new_folder(tmp_path, refuses):
    signs = tmp_path / "authority"
    provision.authority(signs)
    certify(tmp_path / "old", signs)
    provision.request(tmp_path / "new", "a", ["10.0.0.3"])
    refuses("a name that another key has: .* add --replace", provision.approve, signs, tmp_path / "new" / REQUEST)
    approved = provision.approve(signs, tmp_path / "new" / REQUEST, replace=True)
    assert "The key that had this name can use it until" in approved.text
    provision.join(tmp_path / "new", signs / ISSUED / "a.pem", signs / AUTHORITY)
    assert credentials.certificate_of(tmp_path / "new" / CERTIFICATE).name == "a"


def test_nothing_is_overwritten(tmp_path, refuses):
    signs, site = tmp_path / "authority", tmp_path / "site"
    provision.authority(signs)
    refuses("is there already and is not overwritten", provision.authority, signs)
    certify(site, signs)
    refuses("is there already and is not overwritten", provision.authority, site)
    refuses("is of a: request for b in another folder", provision.request, site, "b", ())
    provision.request(site, "a", ["10.0.0.5"])
    refuses("asks for something else: send that", provision.request, site, "a", ["10.0.0.6"])
    refuses("is there already: give a new or empty folder", provision.init, signs, ["a"])


def test_what_an_authority_does_not_sign(tmp_path, refuses):
    signs, site, operator = tmp_path / "authority", tmp_path / "site", tmp_path / "operator"
    refuses("cannot be read", provision.approve, signs, site / REQUEST)
    provision.request(site, "a", ())
    refuses("authority.key cannot be read", provision.approve, signs, site / REQUEST)
    provision.authority(signs, days=5)
    provision.request(operator, "operator.anna", ())
    refuses("operator.anna, an operator: add --operator", provision.approve, signs, operator / REQUEST)
    refuses("a, a site: leave out --operator", provision.approve, signs, site / REQUEST, operator=True)
    refuses("days is 398: give 1 to 397", provision.approve, signs, site / REQUEST, days=398)
    refuses("is not a signing request", provision.approve, signs, signs / AUTHORITY)
    approved = provision.approve(signs, operator / REQUEST, operator=True)
    assert approved.facts["days_left"] == pytest.approx(5, abs=1e-3)  # no longer than the authority
    other = tmp_path / "other"
    provision.authority(other)
    (signs / AUTHORITY).write_bytes((other / AUTHORITY).read_bytes())
    refuses("is not of the key authority.key beside it", provision.approve, signs, site / REQUEST)


def test_what_a_site_does_not_request(tmp_path, refuses):
    refuses("the name 'a/b' cannot be one", provision.request, tmp_path / "site", "a/b", ())
    refuses("the host 'a:7447' cannot be one", provision.request, tmp_path / "site", "a", ["a:7447"])
    assert not (tmp_path / "site").exists()


def test_what_a_site_does_not_join_with(tmp_path, refuses):
    signs, other, site = tmp_path / "authority", tmp_path / "other", tmp_path / "site"
    made, _ = provision.authority(signs), provision.authority(other)
    refuses("has no request: run palaver peers request", provision.join, site, signs / AUTHORITY, signs / AUTHORITY)
    provision.request(site, "a", ["10.0.0.3"])
    theirs = certify(tmp_path / "theirs", signs)
    refuses("for another key", provision.join, site, theirs, signs / AUTHORITY)
    provision.approve(other, site / REQUEST)
    foreign = other / ISSUED / "a.pem"
    refuses("is by another authority", provision.join, site, foreign, signs / AUTHORITY)

    key, authority = credentials.load_key(site / KEY), credentials.load_authority(signs)

    def issue(name, days_ago, days):
        asked, now = pki.check_request(pki.make_request(key, name, ())), pki.clock() - timedelta(days=days_ago)
        old = authority._replace(certificate=pki.make_authority(now=now, days=1).certificate)
        credentials.save(tmp_path / "made.pem", pki.issue(old if days_ago else authority, asked, now=now, days=days))
        return tmp_path / "made.pem"

    refuses("is for b, and .* is of a", provision.join, site, issue("b", 0, 9), signs / AUTHORITY)
    assert set(contents(site)) == {KEY, REQUEST}
    provision.join(site, issue("a", 0, 9), signs / AUTHORITY)
    refuses("ends before .*, which is in place", provision.join, site, issue("a", 0, 8), signs / AUTHORITY)
    refuses("trusts another authority", provision.join, site, foreign, other / AUTHORITY)
    assert credentials.certificate_of(site / CERTIFICATE).authority == made.facts["authority"]


@pytest.mark.parametrize(
    ("days_ago", "said"), [(3, "of a ended on .*palaver peers request"), (-2, "set this machine's")]
)
def test_a_site_joins_with_what_is_valid_now(tmp_path, refuses, days_ago, said):
    site, now = tmp_path / "site", pki.clock() - timedelta(days=days_ago)
    provision.request(site, "a", ())
    authority = pki.make_authority(now=now, days=100)
    made = pki.issue(authority, credentials.load_request(site / REQUEST), now=now, days=1)
    credentials.save(tmp_path / "made.pem", made)
    credentials.save(tmp_path / "authority.pem", authority.certificate)
    refuses(said, provision.join, site, tmp_path / "made.pem", tmp_path / "authority.pem")


def test_damaged_files_are_refused_in_one_line(tmp_path, refuses):
    signs, site = tmp_path / "authority", tmp_path / "site"
    provision.authority(signs)
    certify(site, signs)
    provision.request(site, "a", ["10.0.0.3"])
    issued = signs / ISSUED / "a.pem"
    join = (provision.join, site, issued, signs / AUTHORITY)
    approve = (provision.approve, signs, site / REQUEST)
    for path, commands in (
        (site / KEY, [(provision.request, site, "a", ["10.0.0.3"]), join]),
        (site / REQUEST, [(provision.request, site, "a", ["10.0.0.3"]), join, approve]),
        (site / CERTIFICATE, [join]),
        (site / AUTHORITY, [join]),
        (issued, [join, approve]),
        (signs / AUTHORITY, [join, approve]),
        (signs / AUTHORITY_KEY, [approve]),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        for command in commands:
            refuses(f"{path} is not .*, or is damaged: ", *command)
        path.write_bytes(whole)
    provision.approve(signs, site / REQUEST)
    provision.join(site, issued, signs / AUTHORITY)


def test_a_demo_has_all_keys_in_one_place_and_says_so(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    done = provision.init(folder, ["a", "b"], days=7)
    assert "For trying out only: whoever reads this folder has the keys of all sites and of the authority." in done.text
    assert {path.name for path in folder.iterdir()} == {"authority", "a", "b", "operator.demo"}
    assert done.facts == {
        "folder": str(folder),
        "sites": ["a", "b"],
        "operator": "operator.demo",
        "demo": True,
        "authority": credentials.certificate_of(folder / "a" / CERTIFICATE).authority,
    }
    for name in ("a", "b", "operator.demo"):
        assert set(contents(folder / name)) == {KEY, CERTIFICATE, AUTHORITY}
        found = credentials.certificate_of(folder / name / CERTIFICATE)
        assert found.name == name and 6.99 < found.days_left <= 7
        assert found.hosts == (() if name == "operator.demo" else ("localhost", "127.0.0.1", name))
    assert len({(folder / name / KEY).read_bytes() for name in ("a", "b")}) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_name_that_is_no_host_has_a_certificate_all_the_same(tmp_path):
    provision.init(tmp_path / "demo", ["a_b", "10.0.0.3"])
    hosts = [credentials.certificate_of(tmp_path / "demo" / name / CERTIFICATE).hosts for name in ("a_b", "10.0.0.3")]
    assert hosts == [("localhost", "127.0.0.1"), ("localhost", "127.0.0.1", "10.0.0.3")]


def test_a_demo_is_made_whole_or_not_at_all(tmp_path, refuses, monkeypatch):
    folder = tmp_path / "demo"
    refuses("sites is '': give one name or more", provision.init, folder, [])
    refuses("sites is 'a,A': give one name or more, each once", provision.init, folder, ["a", "A"])
    refuses("the name 'a/b' cannot be one", provision.init, folder, ["a/b"])
    refuses("the site 'operator.x' has an operator's name", provision.init, folder, ["operator.x"])
    refuses("days is 0: give 1 to 397", provision.init, folder, ["a"], days=0)

    def full(*_, **__):
        raise MachineError("the disk is full")

    monkeypatch.setattr(provision, "join", full)
    with pytest.raises(MachineError, match="the disk is full"):
        provision.init(folder, ["a"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "folder", tmp_path / ("x" * 300)):
        for command, arguments in (
            (provision.authority, ()),
            (provision.request, ("a", ())),
            (provision.init, (["a"],)),
        ):
            with pytest.raises(MachineError, match=r"^[^\n]* cannot be written: [^\n]*$"):
                command(place, *arguments)
