"""Access control by certificates, on real sessions over 127.0.0.1: who writes what is heard, and who is not."""

import contextlib
import json
import socket
import time

import pytest

zenoh = pytest.importorskip("zenoh")

from palaver.peers import provision  # noqa: E402
from palaver.peers.zenoh import Links, ZenohTransport, config, opened  # noqa: E402


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zenoh") / "keys"
    provision.init(folder, ["a", "b", "c"])
    return folder


@pytest.fixture
def links(keys):
    """Links of a site or operator of a collective of a, b and c on free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ends = {name: f"tls/127.0.0.1:{each.getsockname()[1]}" for name, each in zip("abc", sockets, strict=True)}

    def of(name, **given):
        listen = ends.get(name, "")
        return Links("c", name, listen, ends, keys / name, operators=("operator.demo",), **given)

    return of


def wait(transport, kind, sender):
    """What has come in until something of this kind and sender does, that too."""
    found, until = [], time.monotonic() + 5
    while not any((each.kind, each.sender) == (kind, sender) for each in found):
        assert time.monotonic() < until, f"no {kind} of {sender} in {found}"
        found += transport.poll(0.1)
    return found


def packets(arrived):
    return [(each.kind, each.sender, each.data) for each in arrived if each.kind in ("packet", "beacon")]


def test_sites_hear_each_other_under_their_names(links):
    with contextlib.closing(ZenohTransport(links("a"))) as a, contextlib.closing(ZenohTransport(links("b"))) as b:
        wait(a, "here", "b")
        wait(b, "here", "a")
        b.send("a", b"for a")
        b.send("c", b"for c")
        b.beacon(b"for all")
        found = packets(wait(a, "beacon", "b") + wait_more(a))
        assert sorted(found) == [("beacon", "b", b"for all"), ("packet", "b", b"for a")]
        b.close()
        wait(a, "gone", "b")


def wait_more(transport):
    """What else comes in a moment; for messages of other priorities, which may come later."""
    found = []
    for _ in range(10):
        found += transport.poll(0.05)
    return found


@pytest.mark.parametrize(
    "key",
    ["palaver/c/p/c/a", "palaver/c/state/c", "palaver/other/p/b/a", "palaver/c/alive/c"],
    ids=["another's packets", "another's beacons", "another collective", "another's presence"],
)
def test_a_site_that_writes_under_another_name_is_not_heard(links, key):
    with contextlib.closing(ZenohTransport(links("a"))) as a, opened(links("b")) as b:
        time_out = time.monotonic() + 5
        publisher = b.declare_publisher("palaver/c/p/b/a")
        while not publisher.matching_status.matching:
            assert time.monotonic() < time_out
            time.sleep(0.01)
        token = b.liveliness().declare_token(key) if "alive" in key else b.put(key, b"lie")
        publisher.put(b"truth")  # by the same link and priority, so that a lie would be there before it
        found = wait(a, "packet", "b")
        assert packets(found) == [("packet", "b", b"truth")]
        assert not any(each.sender == "c" for each in found)
        del token


def test_an_operator_asks_and_reads_but_cannot_write(links):
    with contextlib.closing(ZenohTransport(links("a"))) as a, opened(links("operator.demo")) as operator:
        heard = []
        subscriber = operator.declare_subscriber(
            "palaver/c/state/*", lambda sample: heard.append(bytes(sample.payload))
        )
        until = time.monotonic() + 5
        while not heard:
            assert time.monotonic() < until
            a.beacon(b"state of a")
            time.sleep(0.02)
        for key in ("palaver/c/p/b/a", "palaver/c/state/b", "palaver/c/p/operator.demo/a"):
            operator.put(key, b"lie")
        replies = operator.get("palaver/c/ask/*", payload=b"question", timeout=5.0)
        found = wait(a, "ask", "")
        found[-1].reply(b"answer")
        assert [bytes(reply.ok.payload) for reply in replies] == [b"answer"]
        assert packets(found) == []
        subscriber.undeclare()


def test_many_questions_to_a_busy_site_are_answered_a_few_at_a_time(links):
    with (
        contextlib.closing(ZenohTransport(links("a"))) as a,
        contextlib.closing(opened(links("operator.demo"))) as operator,
    ):
        until = time.monotonic() + 5
        while not list(operator.liveliness().get("palaver/c/alive/a", timeout=1)):
            assert time.monotonic() < until
        replies = [operator.get("palaver/c/ask/a", payload=bytes([n]), timeout=10) for n in range(40)]
        sizes = []
        while sum(sizes) < 40:
            assert time.monotonic() < until + 10, sizes
            time.sleep(0.2)  # busy: everything waits meanwhile
            asked = [each for each in a.poll() if each.kind == "ask"]
            sizes.append(len(asked))
            for each in asked:
                each.reply(each.data)
        found = [bytes(reply.ok.payload) for handler in replies for reply in handler]
    assert found == [bytes([n]) for n in range(40)]
    assert max(sizes) == 16


@pytest.mark.parametrize("name", ["c", "operator.demo"])
def test_packets_are_read_by_their_receiver_alone(links, name):
    lawless = config(links(name)) | {"access_control": {"enabled": False}}  # its own rules would keep it from hearing
    eaves = zenoh.Config.from_json5(json.dumps(lawless))
    with contextlib.closing(ZenohTransport(links("b"))) as b, zenoh.open(eaves) as reader:
        heard = []
        mine = "palaver/c/p/b/c" if name == "c" else "palaver/c/state/b"
        subscribers = [
            reader.declare_subscriber(key, lambda sample: heard.append((str(sample.key_expr), bytes(sample.payload))))
            for key in ("palaver/c/p/b/a", "palaver/c/p/b/*", "palaver/c/p/**", "palaver/**", mine)
        ]
        until = time.monotonic() + 5
        while len(heard) < 20:  # what it may not read would be among it
            assert time.monotonic() < until
            b.send("a", b"for a")
            b.send("c", b"for c")
            b.beacon(b"for all")
            time.sleep(0.02)
        assert {key for key, _ in heard} == {mine}
        del subscribers


def test_a_name_on_the_list_of_refusals_is_not_heard(links):
    with contextlib.ExitStack() as stack:
        a, b, c = (
            stack.enter_context(contextlib.closing(ZenohTransport(links(name, refused=who))))
            for name, who in (("a", frozenset("b")), ("b", frozenset()), ("c", frozenset()))
        )
        wait(a, "here", "c")
        wait(b, "here", "c")
        b.send("a", b"from b")
        c.send("a", b"from c")
        assert packets(wait(a, "packet", "c") + wait_more(a)) == [("packet", "c", b"from c")]


def test_an_operator_on_the_list_of_refusals_gets_no_answer_and_reads_no_beacon(links):
    with (
        contextlib.closing(ZenohTransport(links("a", refused=frozenset(["operator.demo"])))) as a,
        contextlib.closing(ZenohTransport(links("b"))) as b,
        opened(links("operator.demo")) as operator,
    ):
        heard = []
        subscriber = operator.declare_subscriber("palaver/c/state/*", lambda s: heard.append(bytes(s.payload)))
        until = time.monotonic() + 5
        while heard.count(b"of b") < 20:  # a beacon of a would be among them
            assert time.monotonic() < until
            a.beacon(b"of a")
            b.beacon(b"of b")
            time.sleep(0.02)
        operator.get("palaver/c/ask/*", payload=b"question", timeout=2.0)
        wait(b, "ask", "")
        assert set(heard) == {b"of b"}
        assert "ask" not in {each.kind for each in wait_more(a)}
        subscriber.undeclare()


def test_nobody_is_found_without_an_endpoint(links):
    found = config(links("a"))
    assert found["scouting"] == {"multicast": {"enabled": False}, "gossip": {"enabled": False}}
    assert len(found["connect"]["endpoints"]) == 2
    assert found["access_control"]["default_permission"] == "deny"
    assert not config(links("a")._replace(credentials=None)).get("access_control")
