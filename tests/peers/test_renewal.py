"""Running sites take up renewed certificates and lists of refusals: real sessions over TLS on 127.0.0.1."""

import socket
import ssl
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from sites import world

pytest.importorskip("zenoh")

from palaver.errors import MachineError
from palaver.peers import credentials, pki
from palaver.peers import zenoh as transports
from palaver.peers.metrics import exposition
from palaver.peers.questions import put
from palaver.peers.renewal import EVERY, Renewal, contents
from palaver.peers.settings import SiteSettings
from palaver.peers.snapshot import snapshot
from palaver.peers.zenoh import ZenohTransport

NAMES = ("site-0", "site-1")


@pytest.fixture(scope="module")
def authority():
    return pki.make_authority(now=pki.clock() - timedelta(days=9), days=100)


def certify(folder, authority, name, seconds=86400.0, key=None):
    """Puts a certificate in place that ends after so many seconds, with the folder's key if it has one."""
    path = folder / credentials.KEY
    if key is None:
        key = credentials.load_key(path) if path.exists() else pki.new_key()
    if not path.exists():
        credentials.save_key(path, key)
    asked = pki.check_request(pki.make_request(key, name, ["127.0.0.1"]))
    made = pki.issue(authority, asked, now=pki.clock() - timedelta(days=1, seconds=-seconds), days=1)
    credentials.save(folder / credentials.CERTIFICATE, made)
    credentials.save(folder / credentials.AUTHORITY, authority.certificate)
    return made


class Pair:
    """Two sites with certificates, each with what looks at its files; ``now`` runs ahead of the clock at a look."""

    def __init__(self, path, authority):
        self.path, self.authority, self.ahead = path, authority, 0.0
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.bind(("127.0.0.1", 0))
            self.ports = [each.getsockname()[1] for each in (first, second)]
        ends = {name: f"tls/127.0.0.1:{port}" for name, port in zip(NAMES, self.ports, strict=True)}
        self.world = world(2, rounds=100_000, outbox={"window": 8})
        self.sites, self.renewals, self.journals = [], [], [[], []]
        for me, name in enumerate(NAMES):
            certify(path / name, authority, name)
            (path / f"{name}.txt").write_text("")
            settings = SiteSettings(
                name=name,
                peers=ends,
                credentials=str(path / name),
                refusals=str(path / f"{name}.txt"),
                operators=("operator.demo",),
                collective={"name": "renewed"},
                lease=1.0,
            )
            site = self.world.sites[me]
            site.transport.close()
            site.transport, site.journal = ZenohTransport(settings.links()), self.journals[me].append
            self.sites.append(site)
            self.renewals.append(Renewal(settings, site, contents(settings)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for site in self.sites:
            site.transport.close()

    def play(self, until, seconds=20.0):
        """Both sites go on until something is so."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end
            for site in self.sites:
                site.cycle(time.monotonic())
                site.rest(0.005)

    def look(self, *who):
        """The sites look at their files twice."""
        for _ in range(2):
            self.ahead += EVERY
            for me in who:
                self.renewals[me].look(time.monotonic() + self.ahead)

    def renew(self, seconds):
        for name in NAMES:
            certify(self.path / name, self.authority, name, seconds)
        self.look(0, 1)

    def talk(self):
        """Each site gets two packets of the other that were said from now on."""
        steps = [site.peer.step for site in self.sites]
        before = [self.arrived(me) for me in (0, 1)]
        self.play(lambda: all(site.peer.step > step for site, step in zip(self.sites, steps, strict=True)))
        self.play(lambda: all(self.arrived(me) >= before[me] + 2 for me in (0, 1)))

    def arrived(self, me):
        return self.sites[me].seen[1 - me].arrived if 1 - me in self.sites[me].seen else 0

    def served(self, me):
        """The certificate that a site shows to whoever connects."""
        context = ssl.create_default_context(cafile=self.path / NAMES[1 - me] / credentials.AUTHORITY)
        context.load_cert_chain(*(self.path / NAMES[1 - me] / n for n in (credentials.CERTIFICATE, credentials.KEY)))
        with (
            socket.create_connection(("127.0.0.1", self.ports[me]), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return secure.getpeercert(binary_form=True)


def der(certificate):
    return ssl.PEM_cert_to_DER_cert(certificate.public_bytes(credentials.Encoding.PEM).decode())


def state(site):
    """What a restart would lose."""
    return site.peer.step, site.outbox.epoch, {to: line.seq for to, line in site.outbox.lines.items()}, len(site.seen)


def test_a_renewed_certificate_is_used_and_nothing_is_forgotten(tmp_path, authority):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        first = pair.served(0)
        made = certify(tmp_path / NAMES[0], authority, NAMES[0])
        before, memory = state(pair.sites[0]), pair.sites[0].peer.memory.weight.copy()
        pair.renewals[0].look(time.monotonic())
        assert pair.served(0) == first  # it may still be written
        pair.look(0, 1)
        assert pair.served(0) == der(made) != first
        assert state(pair.sites[0]) == before
        np.testing.assert_array_equal(pair.sites[0].peer.memory.weight, memory)
        assert [site.standing.renewals for site in pair.sites] == [1, 0]
        pair.talk()
        assert not any(site.refused for site in pair.sites)
        assert [entry["event"] for entry in pair.journals[0]].count("renewed") == 1
        pair.look(0, 1)
        assert [site.standing.renewals for site in pair.sites] == [1, 0]


def test_talk_goes_on_after_certificates_have_ended_that_were_renewed(tmp_path, authority):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        pair.renew(seconds=5)
        ends = time.monotonic() + 5
        pair.talk()
        assert all(0 < site.standing.days_left < 5 / 86400 for site in pair.sites)
        pair.renew(seconds=86400)
        pair.play(lambda: time.monotonic() > ends + 1)
        pair.talk()
        assert all(0.99 < site.standing.days_left < 1 for site in pair.sites)
        assert b"palaver_certificate_days_left 0.99" in exposition(snapshot(pair.sites[0], 0.0))
        assert b"palaver_renewals_total 2.0" in exposition(snapshot(pair.sites[0], 0.0))


def test_sites_fall_silent_when_their_certificates_end(tmp_path, authority):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        pair.renew(seconds=4)
        pair.talk()
        pair.play(lambda: not any(site.present for site in pair.sites))
        pair.look(0, 1)
        assert all(site.standing.days_left < 0 for site in pair.sites)


def test_a_name_is_not_heard_while_it_is_on_the_list(tmp_path, authority):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        (tmp_path / "site-0.txt").write_text("site-1  # key stolen\n")
        pair.look(0, 1)
        pair.play(lambda: not pair.sites[0].present)
        before, step, told = pair.arrived(0), pair.sites[1].peer.step, pair.sites[0].neighbours[1].step
        pair.play(lambda: pair.sites[1].peer.step > step + 200)
        assert (pair.arrived(0), pair.sites[0].neighbours[1].step) == (before, told)
        assert pair.sites[0].present == set()
        (tmp_path / "site-0.txt").write_text("")
        pair.look(0, 1)
        pair.talk()
        assert pair.sites[0].standing.renewals == 2


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("damaged", "site.pem is not a certificate, or is damaged"),
        ("gone", "site.pem cannot be read"),
        ("another name", "is for site-9, not for site-0"),
        ("another key", "is for another key than this folder's"),
        ("ended", "of site-0 ended on"),
        ("not yet", "set this machine's clock"),
        ("by another authority", "is by another authority"),
        ("another authority's throughout", "is by another authority than the one that it had"),
        ("bad list", "line 1: the name 'a/b' cannot be one"),
    ],
)
def test_files_that_cannot_be_used_change_nothing_and_are_told_once(tmp_path, authority, capsys, what, said):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        first, own = pair.served(0), tmp_path / NAMES[0]
        kept = {path: path.read_bytes() for path in own.iterdir()} | {tmp_path / "site-0.txt": b""}
        match what:
            case "damaged":
                (own / credentials.CERTIFICATE).write_bytes(b"-----BEGIN CERTIFICATE-----\n")
            case "gone":
                (own / credentials.CERTIFICATE).unlink()
            case "another name":
                certify(own, authority, "site-9")
            case "another key":
                certify(own, authority, "site-0", key=pki.new_key())
            case "ended":
                certify(own, authority, "site-0", seconds=-60)
            case "not yet":
                certify(own, authority, "site-0", seconds=3 * 86400)
            case "by another authority":
                certify(own, pki.make_authority(now=pki.clock() - timedelta(days=9), days=100), "site-0")
                credentials.save(own / credentials.AUTHORITY, authority.certificate)
            case "another authority's throughout":
                certify(own, pki.make_authority(now=pki.clock() - timedelta(days=9), days=100), "site-0")
            case _:
                (tmp_path / "site-0.txt").write_text("a/b\n")
        for _ in range(3):
            pair.look(0, 1)
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
        assert said in pair.sites[0].standing.trouble
        assert b"palaver_renewal_trouble 1.0" in exposition(snapshot(pair.sites[0], 0.0))
        assert pair.sites[0].standing.renewals == 0 and pair.sites[1].standing.trouble is None
        for path, data in kept.items():
            path.write_bytes(data)
        assert pair.served(0) == first
        pair.talk()
        pair.look(0, 1)
        assert pair.sites[0].standing.trouble is None
        assert capsys.readouterr().err == ""


def test_where_no_session_can_be_opened_with_new_files_the_earlier_ones_are_used(
    tmp_path, authority, capsys, monkeypatch
):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        first, opened, calls = pair.served(0), transports._opened, []

        def once(links, how):
            calls.append(links.name)
            if len(calls) == 1:
                raise MachineError("no session")
            return opened(links, how)

        certify(tmp_path / NAMES[0], authority, NAMES[0])
        monkeypatch.setattr(transports, "_opened", once)
        pair.look(0)
        assert calls == ["site-0", "site-0"]
        assert "no session; the site goes on with what it had" in capsys.readouterr().err
        assert pair.served(0) == first
        pair.talk()


def test_a_question_on_its_way_is_waited_for(tmp_path, authority):
    with Pair(tmp_path, authority) as pair:
        pair.talk()
        site, x = pair.sites[0], pair.world.test[0][:3]
        for each in pair.sites:
            each.peer.learner.predict(x)
        asked, found = threading.Event(), []

        def ask():
            with site.transport.asking() as session:
                asked.set()
                found.append(put(session, site.transport.at, site.collective, x, NAMES, classes=10, timeout=20.0))

        thread = threading.Thread(target=ask)
        thread.start()
        assert asked.wait(10)
        made = certify(tmp_path / NAMES[0], authority, NAMES[0])
        pair.look(0)
        assert site.standing.renewals == 0
        pair.play(lambda: not thread.is_alive())
        assert [voice.status for voice in found[0].voices.values()] == ["answered", "answered"]
        pair.look(0)
        assert site.standing.renewals == 1 and pair.served(0) == der(made)
        certify(tmp_path / NAMES[0], authority, NAMES[0])
        with site.transport.asking():
            pair.look(0)
            pair.ahead += 30
            pair.look(0)
        assert site.standing.renewals == 2  # nobody can hold it up for good
