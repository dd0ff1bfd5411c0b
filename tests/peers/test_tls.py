"""Zenoh links sites by the files that provisioning writes, and nobody else: real sessions over 127.0.0.1."""

import json
import socket
import threading
from datetime import timedelta

import pytest

from palaver.peers import credentials, pki

zenoh = pytest.importorskip("zenoh")


def folder(path, authority, name, hosts=("127.0.0.1",), ago=0, days=1):
    """A site's folder, with a certificate that was made so many days ago."""
    key, now = pki.new_key(), pki.clock() - timedelta(days=ago)
    asked = pki.check_request(pki.make_request(key, name, hosts))
    credentials.save_key(path / credentials.KEY, key)
    credentials.save(path / credentials.CERTIFICATE, pki.issue(authority, asked, now=now, days=days))
    credentials.save(path / credentials.AUTHORITY, authority.certificate)
    return path


def tls(own, *, own_keys=True):
    """Zenoh's settings for a site's folder, without its certificate if so said."""
    keys = {
        f"{side}_{kind}": str(own / name)
        for side in ("listen", "connect")
        for kind, name in (("private_key", credentials.KEY), ("certificate", credentials.CERTIFICATE))
    }
    common = {"root_ca_certificate": str(own / credentials.AUTHORITY), "verify_name_on_connect": True}
    return common | {"close_link_on_expiration": True, "enable_mtls": own_keys} | (keys if own_keys else {})


def session(keys, protocol="tls", listen=(), connect=()):
    """A session that has a link when it is opened, or raises in half a second where it cannot have one."""
    settings = {
        "mode": "peer",
        "listen": {"endpoints": listen},
        "connect": {"endpoints": connect, "timeout_ms": 500, "exit_on_failure": True},
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
        "transport": {"shared_memory": {"enabled": False}, "link": {"protocols": [protocol], "tls": keys}},
    }
    return zenoh.open(zenoh.Config.from_json5(json.dumps(settings)))


class Listener:
    """A site that listens, whom it had links with, and what it has heard."""

    def __init__(self, own):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.at = f"127.0.0.1:{free.getsockname()[1]}"
        self.heard, self.linked, self.came, self.gone = [], [], threading.Event(), threading.Event()
        self.session = session(tls(own), listen=[f"tls/{self.at}"])
        self.session.declare_subscriber("palaver/x", self.hear)
        self.links = self.session.info.declare_link_events_listener(self.link)

    def hear(self, sample):
        self.heard.append(bytes(sample.payload))
        self.came.set()

    def link(self, event):
        if event.kind == zenoh.SampleKind.PUT:
            self.linked.append(event.link.auth_identifier)
        else:
            self.gone.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()


def say(keys, at, text):
    """Says something to a listener, once it is known that it subscribes."""
    with session(keys, connect=[f"tls/{at}"]) as own:
        publisher, ready = own.declare_publisher("palaver/x"), threading.Event()
        publisher.declare_matching_listener(lambda status: status.matching and ready.set())
        assert publisher.matching_status.matching or ready.wait(3)
        publisher.put(text)


@pytest.fixture(scope="module")
def authority():
    return pki.make_authority(now=pki.clock() - timedelta(days=9), days=100)


@pytest.fixture(scope="module")
def first(tmp_path_factory, authority):
    return folder(tmp_path_factory.mktemp("first"), authority, "a", ("127.0.0.1", "localhost"))


def test_a_site_and_an_operator_are_heard_under_their_names(tmp_path, authority, first):
    with Listener(first) as listener:
        say(tls(folder(tmp_path / "b", authority, "b")), listener.at, b"site")
        assert listener.came.wait(3)
        listener.came.clear()
        operator = tls(folder(tmp_path / "o", authority, "operator.anna", ()))
        say(operator, listener.at.replace("127.0.0.1", "localhost"), b"operator")
        assert listener.came.wait(3)
        assert listener.heard == [b"site", b"operator"] and listener.linked == ["b", "operator.anna"]


@pytest.mark.parametrize("who", ["another's", "another authority", "ended", "no certificate", "plain TCP"])
def test_who_connects_without_a_valid_certificate_is_not_heard(tmp_path, authority, first, who):
    others = pki.make_authority(now=pki.clock(), days=1)
    with Listener(first) as listener:
        if who == "another's":
            own = folder(tmp_path / "b", others, "b")
            credentials.save(own / credentials.AUTHORITY, authority.certificate)  # it trusts us; do we trust it?
        elif who == "another authority":
            own = folder(tmp_path / "b", others, "b")
        else:
            own = folder(tmp_path / "b", authority, "b", ago=2 if who == "ended" else 0)
        protocol = "tcp" if who == "plain TCP" else "tls"
        with pytest.raises(zenoh.ZError, match="Unable to connect"):
            session(tls(own, own_keys=who != "no certificate"), protocol, connect=[f"{protocol}/{listener.at}"])
        assert listener.linked == []
        say(tls(folder(tmp_path / "c", authority, "c")), listener.at, b"welcome")  # it would have heard them
        assert listener.came.wait(3)
        assert listener.heard == [b"welcome"] and listener.linked == ["c"]


@pytest.mark.parametrize("who", ["another host", "another authority", "ended", "an operator"])
def test_who_listens_without_a_valid_certificate_is_not_told(tmp_path, authority, first, who):
    signs = pki.make_authority(now=pki.clock(), days=1) if who == "another authority" else authority
    name = "operator.anna" if who == "an operator" else "b"
    hosts = ("10.0.0.9",) if who == "another host" else ("127.0.0.1",)
    own = folder(tmp_path / "b", signs, name, hosts, ago=2 if who == "ended" else 0)
    with Listener(own) as listener:
        with pytest.raises(zenoh.ZError, match="Unable to connect"):
            session(tls(first), connect=[f"tls/{listener.at}"])
        assert listener.linked == []


def test_a_link_closes_when_its_certificate_ends(tmp_path, authority, first):
    seconds = 3  # of which opening the sessions may take two
    own = folder(tmp_path / "b", authority, "b", ago=1 - seconds / 86400)
    with Listener(first) as listener, session(tls(own), connect=[f"tls/{listener.at}"]):
        assert not listener.gone.is_set()
        assert listener.gone.wait(seconds + 1)
        assert listener.linked == ["b"]
