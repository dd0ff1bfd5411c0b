"""What becomes of answers, by hand; and questions to real sites over 127.0.0.1."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from processes import free_ports, until
from sites import world

pytest.importorskip("zenoh")

import zenoh

from palaver.peers.introduction import introduced, looking
from palaver.peers.questions import ask, decided, put
from palaver.peers.site import Conduct
from palaver.peers.watch import Watcher
from palaver.peers.wire import REASON, Answer, decode, encode
from palaver.peers.zenoh import Links, ZenohTransport
from palaver.types import PalaverError

SURE = np.log(np.float32([[0.98, 0.01, 0.01]]))
EVEN = np.zeros((1, 3), np.float32)
ONE = np.zeros((1, 4), np.uint8)
OURS = b"8 digits"


def made(found, sizes, rule="confidence"):
    latest = dict.fromkeys(found, 5.0)
    return decided(found, latest, sizes, ("a", "b", "c"), rule, 3)


def test_who_is_sure_decides_and_who_is_not_has_no_weight():
    result = made({"a": {0: SURE}, "b": {0: EVEN}}, [1])
    assert [voice.status for voice in result.voices.values()] == ["answered", "answered", "absent"]
    assert [voice.weight for voice in result.voices.values()] == pytest.approx([1, 0, 0])
    assert [voice.milliseconds for voice in result.voices.values()] == [5, 5, None]
    assert result.distribution[0] == pytest.approx([0.98, 0.01, 0.01], abs=1e-6)
    assert result.entropy[0] == pytest.approx(-(0.98 * math.log(0.98) + 0.02 * math.log(0.01)), abs=1e-5)


def test_who_answers_a_part_in_time_is_late_and_counts_there():
    result = made({"a": {0: SURE, 1: SURE}, "b": {1: SURE[:, ::-1]}}, [1, 1], "mean")
    assert result.voices["b"].status == "late"
    assert result.distribution[:, 0] == pytest.approx([0.98, 0.495])
    assert [voice.weight for voice in result.voices.values()] == pytest.approx([0.75, 0.25, 0])


class Replying:
    """A session in which each peer replies with given bytes."""

    def __init__(self, replies, beside=()):
        self.replies, self.beside, self.asked = replies, beside, []

    def get(self, key, payload, **how):
        self.asked.append(payload)
        oks = [
            SimpleNamespace(key_expr=f"palaver/c/ask/{name}", payload=encode(Answer(OURS, 1, logits.tobytes())))
            for name, logits in self.replies.items()
        ]
        return [SimpleNamespace(ok=ok, err=None) for ok in oks] + list(self.beside)


def put_to(session, x=ONE, classes=3, **given):
    return put(session, "palaver/c", OURS, x, ("a", "b", "c"), classes=classes, rule="mean", **given)


@pytest.mark.parametrize("width", [0, 1, 2, 5, 16_000])
def test_answers_of_another_number_of_classes_are_left_out(width):
    result = put_to(Replying({"a": np.zeros((1, width), np.float32), "b": SURE}))
    assert [voice.status for voice in result.voices.values()] == ["absent", "answered", "absent"]
    assert result.distribution[0] == pytest.approx([0.98, 0.01, 0.01])
    alone = put_to(Replying({"a": np.zeros((1, width), np.float32)}))
    assert alone.nobody and alone.distribution.tolist() == [pytest.approx([1 / 3] * 3)]


@pytest.mark.parametrize(("classes", "sizes"), [(10, [1500]), (100, [163] * 9 + [33]), (16_000, [1] * 1500)])
def test_a_question_has_no_more_inputs_than_an_answer_has_room_for(classes, sizes):
    session = Replying({})
    put_to(session, np.zeros((1500, 4), np.uint8), classes)
    assert [decode(each, OURS).rows for each in session.asked] == sizes
    encode(Answer(OURS, 2**31 - 1, bytes(4 * classes * max(sizes))))


def test_a_refusal_is_shown_as_one_short_line_and_zenohs_own_are_not():
    refusal = SimpleNamespace(payload=b"no\x1b[2J\nindeed" + b"!" * 9999, encoding=zenoh.Encoding.TEXT_PLAIN)
    late = SimpleNamespace(payload=b"Timeout", encoding=zenoh.Encoding.ZENOH_STRING)
    replies = [SimpleNamespace(ok=None, err=err) for err in (refusal, late)]
    with pytest.raises(PalaverError) as told:
        put_to(Replying({}, replies))
    assert str(told.value) == "no?[2J?indeed" + "!" * (REASON - 13)
    assert put_to(Replying({}, replies[1:])).nobody
    assert not put_to(Replying({"a": SURE}, replies)).nobody


@pytest.mark.parametrize("timeout", [-1, 0, 3600.1, 1e10, 1e20, math.inf, math.nan])
def test_a_time_out_is_a_second_to_an_hour(timeout):
    with pytest.raises(PalaverError, match=r"timeout is .*: give a number in \(0, 3600\]"):
        put_to(Replying({}), timeout=timeout)


def test_nobody_in_time():
    result = made({}, [2])
    assert result.nobody
    assert result.distribution == pytest.approx(np.full((2, 3), 1 / 3))


@pytest.mark.parametrize("rule", ["confidence", "entropy_as_printed", "mean", "majority", "product"])
def test_numbers_as_far_apart_as_there_are_give_finite_weights(rule):
    far = np.float32([[3e38, -3e38, 0]])
    result = made({"a": {0: far}, "b": {0: EVEN}}, [1], rule)
    assert np.isfinite(result.distribution).all()
    assert sum(voice.weight for voice in result.voices.values()) == pytest.approx(1)


class Running:
    """Three sites on Zenoh that a thread keeps going, and the file of the first."""

    def __init__(self, folder):
        self.world, self.stop = world(3, rounds=20), threading.Event()
        self.ends = {f"site-{me}": f"tcp/127.0.0.1:{port}" for me, port in enumerate(free_ports(3))}
        for site in self.world.sites.values():
            site.conduct = Conduct(rounds=0)  # they only answer
            site.transport.close()
            site.transport = ZenohTransport(Links("asked", site.name, self.ends[site.name], self.ends))
            site.peer.learner.predict(np.zeros((8, 8, 8), np.uint8))  # compiled before anything is asked
        peers = "".join(f'{name} = "{end}"\n' for name, end in self.ends.items())
        self.file = folder / "site.toml"
        self.file.write_text(f'name = "site-0"\n[peers]\n{peers}[collective]\nname = "asked"\n')
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            for site in self.world.sites.values():
                site.cycle(self.world.network.now)
                site.rest(0.005)
            self.world.network.now += 0.1

    def end(self):
        self.stop.set()
        self.thread.join()
        for site in self.world.sites.values():
            site.transport.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = Running(tmp_path_factory.mktemp("asked"))
    yield made
    made.end()


def test_inputs_in_another_order_of_bytes_are_the_same_inputs(running):
    x = running.world.test[0][:4].astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        for site in running.world.sites.values():
            patch.setattr(site.peer, "agreement", site.peer.agreement._replace(dtype=np.dtype(np.int32)))
        little, big = (ask(each, running.file, timeout=20) for each in (x, x.astype(">i4")))
    assert [voice.status for voice in big.voices.values()] == ["answered"] * 3
    np.testing.assert_array_equal(big.logits, little.logits)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((4, 2, 8), np.int32), r"inputs \[8, 8\] of uint8; x holds \[2, 8\] of int32"),
        (np.zeros((4, 2, 8), np.float32), r"inputs \[8, 8\] of uint8; x holds \[2, 8\] of float32"),
        (np.zeros((2, 8, 8), np.int8), r"inputs \[8, 8\] of uint8; x holds \[8, 8\] of int8"),
        (np.zeros((2, 64), np.uint8), r"inputs \[8, 8\] of uint8; x holds \[64\] of uint8"),
    ],
    ids=["as many bytes", "floats", "another type", "another shape"],
)
def test_other_inputs_are_refused_with_what_the_collective_has(running, x, said):
    with pytest.raises(PalaverError, match=f"^site-[012] refuses the question: the collective has {said}$"):
        ask(x, running.file, timeout=20)


def introduction(running, timeout=20):
    with looking(running.file, "operator.demo", None) as (session, settings):
        said = introduced(session, settings, timeout)
        watcher = Watcher(session, "palaver/asked", tuple(settings.peers), said.digest, said.classes, said.beacons)
        until(lambda: len(watcher._present) == 3)
        return said, {name: watcher.state(name) for name in settings.peers}


def test_sites_say_at_once_what_they_have_agreed_on(running, monkeypatch):
    """Though their next beacons come in an hour."""
    for site in running.world.sites.values():
        monkeypatch.setattr(site, "_beacon_at", math.inf)
        monkeypatch.setattr(site, "_soon_at", math.inf)
    said, states = introduction(running)
    assert (said.digest, said.classes) == (running.world.digest, 10)
    assert states == dict.fromkeys(running.ends, "done")


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_one_site_with_other_settings_misleads_nobody(running, monkeypatch, liar):
    monkeypatch.setattr(running.world.sites[liar], "collective", b"8 others")
    said, states = introduction(running)
    assert said.digest == running.world.digest
    assert states[f"site-{liar}"] == "refused"
    assert len(said.beacons) == 3


def test_where_as_many_say_one_thing_as_another_it_is_the_files_own_site(running, monkeypatch):
    digests = [b"8 others", b"8 digits", b"and more"]
    for site, other in zip(running.world.sites.values(), digests, strict=True):
        monkeypatch.setattr(site, "collective", other)
    assert introduction(running)[0].digest == b"8 others"
