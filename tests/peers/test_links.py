"""Pacing and replay, by hand."""

import pytest

from palaver.peers.core import Outgoing
from palaver.peers.links import AROUND, PATIENCE, REMEMBERED, Outbox, Seen
from palaver.peers.wire import RefusedError, Said, decode

OURS = b"8 digits"


def packet(step, to=1, size=64):
    return Outgoing(to, step, 0, bytes(size), b"")


def said(seq, epoch=1):
    return Said(OURS, epoch, seq, 0, 0, b"")


def take(seen, packet):
    seen.check(packet)
    seen.add(packet)


def steps(taken):
    return [(to, decode(data, OURS).step) for to, data, _ in taken]


def test_a_full_window_waits_and_the_queue_drops_its_oldest():
    outbox = Outbox(OURS, 1, window=2, queue=3)
    for step in range(7):
        outbox.offer(packet(step))
        if step == 1:
            assert steps(outbox.take(0)) == [(1, 0), (1, 1)]
    assert steps(outbox.take(0)) == []
    assert outbox.lines[1].overflown == 2
    outbox.heard_from(1, (1, 0))
    assert steps(outbox.take(0)) == [(1, 4)]
    outbox.heard_from(1, (1, 2))
    assert steps(outbox.take(0)) == [(1, 5), (1, 6)]


def test_packets_that_stay_away_are_lost_after_some_beacons():
    outbox = Outbox(OURS, 1, window=1)
    outbox.offer(packet(0))
    outbox.offer(packet(1))
    assert steps(outbox.take(0)) == [(1, 0)]
    for beacon in range(PATIENCE):
        assert outbox.take(beacon) == []
        outbox.heard_from(1, None if beacon else (0, 5))  # of an earlier life: it says nothing about this one
    assert outbox.lines[1].lost == 1
    assert steps(outbox.take(9)) == [(1, 1)]


def test_packets_on_a_slow_link_are_not_lost_though_beacons_come_fast():
    """Where a receiver hears others too it sends twenty beacons a second, and a thin link takes seconds to a packet."""
    outbox = Outbox(OURS, 1, window=1)
    outbox.offer(packet(0))
    outbox.offer(packet(1))
    assert steps(outbox.take(0)) == [(1, 0)]
    for twentieth in range(1, 40):
        outbox.heard_from(1, None)
        assert outbox.take(twentieth / 20) == []
    outbox.heard_from(1, (1, 0))
    assert outbox.lines[1].lost == 0
    assert steps(outbox.take(2)) == [(1, 1)]


def test_a_beacon_cannot_acknowledge_what_was_never_sent():
    outbox = Outbox(OURS, 1, window=1)
    outbox.offer(packet(0))
    outbox.take(0)
    outbox.heard_from(1, (1, 1))
    outbox.heard_from(2, (1, 0))
    assert outbox.lines[1].flying == 1


def test_the_rate_holds_over_any_time():
    """About 391 bytes with what is around a packet, 400 bytes a second: ten in 10 seconds, and at first one at once."""
    outbox = Outbox(OURS, 1, window=1000, queue=1000, rate=400.0)
    for step in range(100):
        outbox.offer(packet(step))
    size = len(outbox.take(0)[0][1]) + AROUND
    sent = outbox.lines[1].seq
    for tenth in range(1, 101):
        outbox.take(tenth / 10)
    assert 4000 - size <= size * (outbox.lines[1].seq - sent) <= 4000 + size
    outbox.take(1000)  # idle time is not saved up
    assert size * (outbox.lines[1].seq - sent) <= 4000 + 400 + 2 * size


def test_neighbours_take_turns():
    outbox = Outbox(OURS, 1, queue=9, rate=2.5 * 391)
    for step in range(4):
        for to in (1, 2, 3):
            outbox.offer(packet(step, to))
    first, second = ([to for to, *_ in outbox.take(now)] for now in (0, 1))
    assert first == [1, 2, 3]
    assert second == [1, 2, 3]


def test_each_packet_once_in_any_order_and_nothing_of_an_earlier_life():
    seen = Seen()
    for seq in (0, 3, 1, 2, 100, 99, 100 - REMEMBERED + 1):
        take(seen, said(seq))
    for seq in (0, 3, 100, 99, 100 - REMEMBERED, 100 - REMEMBERED + 1):
        with pytest.raises(RefusedError) as refused:
            take(seen, said(seq))
        assert refused.value.reason == "replayed"
    assert (seen.newest, seen.arrived) == (100, 7)
    assert seen.missing == 1 - 7 / 101
    take(seen, said(0, epoch=2))
    with pytest.raises(RefusedError, match="its sender is in 2"):
        take(seen, said(101, epoch=1))
    assert (seen.newest, seen.missing) == (0, 0)


def test_a_leap_of_the_sequence_costs_nothing():
    seen = Seen()
    take(seen, said(2**31 - 1))
    assert seen.bits == 1
    with pytest.raises(RefusedError):
        take(seen, said(5))
    assert Seen.from_json(seen.to_json()) == seen
