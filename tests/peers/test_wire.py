"""Every byte from outside: read as it was written, or refused with a reason, and nothing grows."""

import gc
import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from sites import world

from palaver.peers import wire
from palaver.peers.transport import Arrived
from palaver.peers.wire import Answer, Beacon, RefusedError, Said

OURS = b"8 digits"
FIRST = bytes([wire.VERSION])
MESSAGES = [
    Said(OURS, 1764400000, 5, 1000, 96, b"x" * 64),
    Said(OURS, 0, 2**31 - 1, 0, 0, b"", b"pixels"),
    Beacon(OURS, 3, 7, "burn-in", {"site-1": (2**63 - 1, 4)}, {"accuracy": 0.5}),
    wire.question(OURS, np.zeros((2, 8, 8), np.uint8)),
    Answer(OURS, 12, np.float32([[0.5, 1.5]]).tobytes(), 1.25),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_read_as_it_was_written(message):
    data = wire.encode(message)
    assert wire.decode(data, OURS) == message
    for cut in range(len(data)):
        with pytest.raises(RefusedError):
            wire.decode(data[:cut], OURS)
    with pytest.raises(RefusedError) as refused:
        wire.decode(data + b"\0", OURS)
    assert refused.value.reason == "malformed"


def test_a_packet_of_the_leanest_form_has_91_bytes():
    """32 rows of 16 bits, and 27 bytes around them."""
    assert len(wire.encode(MESSAGES[0])) == 64 + 27


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: b"\1" + msgspec.msgpack.encode(raw), "version"),
        (lambda raw: FIRST + msgspec.msgpack.encode([9, *raw[1:]]), "malformed"),
        (lambda raw: FIRST + msgspec.msgpack.encode([raw[0], b"9 digits", *raw[2:]]), "collective"),
        (lambda raw: FIRST + msgspec.msgpack.encode([raw[0], b"short", *raw[2:]]), "malformed"),
        (lambda raw: FIRST + msgspec.msgpack.encode([*raw[:2], -1, *raw[3:]]), "malformed"),
        (lambda raw: FIRST + msgspec.msgpack.encode([*raw[:3], 2**31, *raw[4:]]), "malformed"),
        (lambda raw: FIRST + msgspec.msgpack.encode([*raw[:3], float("nan"), *raw[4:]]), "malformed"),
        (lambda raw: FIRST + msgspec.msgpack.encode([*raw, 1]), "malformed"),
        (lambda raw: FIRST + b"\x91" * 5000, "malformed"),
        (lambda raw: FIRST + b"\xdd\xff\xff\xff\xff", "malformed"),
        (lambda raw: FIRST + bytes(wire.LARGEST), "size"),
    ],
)
def test_other_bytes_are_refused_with_their_reason(change, reason):
    raw = list(msgspec.msgpack.decode(wire.encode(MESSAGES[0])[1:]))
    with pytest.raises(RefusedError) as refused:
        wire.decode(change(raw), OURS)
    assert refused.value.reason == reason


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-30, 1e30, "1", None])
def test_a_temperature_is_a_finite_number_above_0(temperature):
    raw = list(msgspec.msgpack.decode(wire.encode(MESSAGES[-1])[1:]))
    assert raw[-1] == 1.25
    with pytest.raises(RefusedError) as refused:
        wire.decode(FIRST + msgspec.msgpack.encode([*raw[:-1], temperature]), OURS)
    assert refused.value.reason == "malformed"


def test_a_message_that_is_too_large_is_never_sent():
    with pytest.raises(ValueError, match="at most 65536"):
        wire.encode(wire.question(OURS, np.zeros((1, wire.LARGEST), np.uint8)))


def test_an_array_has_exactly_its_bytes_and_finite_numbers():
    floats = np.float32([[1, 2], [3, 4]])
    np.testing.assert_array_equal(wire.array(floats.tobytes(), (2, 2), floats.dtype), floats)
    for data, reason in ((floats.tobytes()[:-1], "payload"), (np.float32([1, 2, 3, np.inf]).tobytes(), "not finite")):
        with pytest.raises(RefusedError) as refused:
            wire.array(data, (2, 2), floats.dtype)
        assert refused.value.reason == reason


def mutants(originals, number, seed):
    """Messages with bytes changed, cut out, doubled or put in."""
    draws = np.random.default_rng(seed)
    for _ in range(number):
        data = bytearray(originals[draws.integers(len(originals))])
        for _ in range(draws.integers(1, 4)):
            place, size = int(draws.integers(len(data) + 1)), int(draws.integers(1, 9))
            match draws.integers(4):
                case 0:
                    data[place : place + size] = draws.integers(0, 256, size, np.uint8).tobytes()
                case 1:
                    del data[place : place + size]
                case 2:
                    data[place:place] = data[place : place + size]
                case _:
                    data[place:place] = draws.integers(0, 256, size, np.uint8).tobytes()
        yield bytes(data)


def test_100_000_mutants_raise_nothing_and_leave_nothing_behind():
    pair = world(2)
    taped = []
    send = pair.network.pass_on
    pair.network.pass_on = lambda kind, sender, to, data: (taped.append((kind, data)), send(kind, sender, to, data))
    pair.play(20)
    site = pair.sites[0]
    packets, beacons = ([data for of, data in taped if of == kind] for kind in ("packet", "beacon"))
    asked = wire.encode(
        wire.question(pair.digest, np.zeros((1, *site.peer.agreement.shape), site.peer.agreement.dtype))
    )
    answers = []

    def pour(number, seed):
        for kind, data in (("packet", packets), ("beacon", beacons), ("ask", [asked])):
            for mutant in mutants(data, number // 3 + 1, seed):
                site.take(Arrived(kind, "site-1", mutant, answers.append if kind == "ask" else None))
                site.peer.absorb()
        answers.clear()

    pour(10_000, seed=1)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    pour(100_000, seed=2)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000
    assert site.refused.total() > 90_000
    assert {reason for _, reason in site.refused} <= wire.REASONS.keys()
    assert all(np.isfinite(array).all() for name, array in site.peer.arrays().items() if array.dtype.kind == "f")
    assert len(site.refused) <= 2 * len(wire.REASONS)
    pair.play(5)
    assert site.peer.step == 250
