"""What becomes of answers, by hand; and questions to real sites over 127.0.0.1."""

import math
import threading

import numpy as np
import pytest
from processes import free_ports
from sites import world

pytest.importorskip("zenoh")

from palaver.peers.questions import ask, decided
from palaver.peers.site import Conduct
from palaver.peers.zenoh import Links, ZenohTransport
from palaver.types import PalaverError

SURE = np.log(np.float32([[0.98, 0.01, 0.01]]))
EVEN = np.zeros((1, 3), np.float32)


def made(found, sizes, rule="confidence"):
    latest = dict.fromkeys(found, 5.0)
    return decided(found, latest, sizes, ("a", "b", "c"), rule)


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


def test_answers_of_another_number_of_classes_are_left_out():
    result = made({"a": {0: SURE}, "b": {0: np.zeros((1, 5), np.float32)}, "c": {0: SURE}}, [1], "mean")
    assert result.distribution.shape == (1, 3)
    assert result.voices["b"].status == "absent"


def test_nobody_in_time():
    result = made({}, [2])
    assert result.nobody
    assert result.distribution.tolist() == [[1.0], [1.0]]


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
