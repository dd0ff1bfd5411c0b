"""What a site shows of itself and of the others, on a virtual clock."""

import math
from itertools import pairwise

import pytest
from sites import world

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from palaver.peers.metrics import exposition
from palaver.peers.snapshot import Board, snapshot
from palaver.peers.transport import Arrived
from palaver.peers.wire import VERSION

REPORT = {"accuracy": 0.75, "silent": 0.5, "inbox": 0.0, "lost": 0.125, "refused": 3.0, "present": 2.0}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Three sites after 20 seconds, in which site-2 was killed after 10, and site-0 got junk."""
    made = world(3, folder=tmp_path_factory.mktemp("sites"), conduct={"checkpoint_every": 4.0})
    for me, site in made.sites.items():
        site.report = lambda _, me=me: REPORT | {"accuracy": 0.75 + me / 10, "bytes in": 10.0 + me, "bytes out": 20.0}
    made.play(10)
    made.kill(2)
    made.play(10)
    site = made.sites[0]
    for sender, data in [("site-1", b"junk"), ("site-1", bytes([VERSION]) + b"junk"), ("nobody", b"")]:
        site.take(Arrived("packet", sender, data))
    return made


def test_a_snapshot_has_the_sites_own_figures(played):
    site = played.sites[0]
    found = snapshot(site, now=20.0)
    own = found["sites"][0]
    assert (found["name"], found["time"], found["rounds"]) == ("site-0", 20.0, 600)
    assert (own["state"], own["round"]) == ("talking", 200)
    assert (own["accuracy"], own["silent"], own["lost"]) == (0.75, 0.5, 0.125)
    assert own["bytes_in"] == site.bytes_in > 1000
    assert own["bytes_out"] == sum(found["left"].values()) > found["left"]["packets"] == site.outbox.bytes_out > 1000
    assert own["refused"] == 3
    assert own["hears"] == ["site-1", "site-2"]
    assert found["refused"] == [
        {"peer": "?", "reason": "stranger", "packets": 1},
        {"peer": "site-1", "reason": "malformed", "packets": 1},
        {"peer": "site-1", "reason": "version", "packets": 1},
    ]


def test_a_snapshot_has_the_others_as_their_beacons_told(played):
    _, other, gone = snapshot(played.sites[0], now=20.0)["sites"]
    assert (other["state"], other["accuracy"], other["bytes_in"], other["refused"]) == ("talking", 0.85, 11.0, 3.0)
    assert 190 <= other["round"] <= 200
    assert other["hears"] == ["site-0", "site-2"]
    assert (gone["state"], gone["accuracy"]) == ("gone", 0.95)
    assert 90 <= gone["round"] <= 100


def test_a_snapshot_has_the_packets_of_both_ways(played):
    site, other = played.sites[0], played.sites[1]
    link, gone = snapshot(site, now=20.0)["links"]
    assert (link["peer"], link["present"], gone["peer"], gone["present"]) == ("site-1", True, "site-2", False)
    assert link["sent"] == site.outbox.lines[1].seq > 10
    assert link["arrived"] == other.outbox.lines[0].seq > 10
    assert (link["lost"], link["missing"]) == (0, 0.0)


def test_a_snapshot_says_how_old_the_checkpoint_is_and_what_is_wrong(played):
    site = played.sites[0]
    written = site.written_at
    assert 16 <= written <= 20
    assert snapshot(site, now=21.5)["checkpoint"] == {"trouble": None, "seconds": 21.5 - written}
    fresh = world(2).sites[0]
    assert snapshot(fresh, now=0.0)["checkpoint"] == {"trouble": None, "seconds": None}


def test_a_failed_checkpoint_does_not_count_as_written(tmp_path, monkeypatch):
    made = world(2, folder=tmp_path, conduct={"checkpoint_every": 5.0})
    made.play(7)
    site = made.sites[0]
    assert 5 <= site.written_at < 5.2

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palaver.studies.files.os.fsync", full)
    before = site.written_at
    made.play(10)
    assert site.written_at == before
    assert "No space left on device" in snapshot(site, 17.0)["checkpoint"]["trouble"]
    assert b"palaver_checkpoint_trouble 1.0" in exposition(snapshot(site, 17.0))


def test_sites_that_have_not_been_heard_are_unseen_or_start():
    made = world(3, rounds=5)
    site = made.sites[0]
    assert [row["state"] for row in snapshot(site, 0.0)["sites"]] == ["alone", "unseen", "unseen"]
    site.take(Arrived("here", "site-1"))
    assert [row["state"] for row in snapshot(site, 0.0)["sites"]] == ["joining", "starts", "unseen"]
    made.play(3)
    assert [row["state"] for row in snapshot(site, 3.0)["sites"]] == ["done", "done", "done"]
    made.sites[2].leave()
    site.cycle(3.0)
    assert [row["state"] for row in snapshot(site, 3.0)["sites"]] == ["done", "done", "leaving"]
    made.kill(2)
    site.cycle(3.0)
    assert [row["state"] for row in snapshot(site, 3.0)["sites"]] == ["done", "done", "gone"]
    assert snapshot(site, 3.0)["sites"][1]["accuracy"] is None


def test_numbers_that_json_has_not_are_left_out(played):
    site = world(2).sites[0]
    site.reported = {"accuracy": math.nan, "silent": math.inf, "lost": 0.5}
    own = snapshot(site, 0.0)["sites"][0]
    assert (own["accuracy"], own["silent"], own["lost"]) == (None, None, 0.5)


def test_a_snapshot_does_not_change_with_the_site():
    made = world(2)
    made.play(5)
    site = made.sites[0]
    board = Board(site, 5.0)
    first, kept = board.latest, repr(board.latest)
    made.play(5)
    board.look(5.9)
    assert board.latest is first
    board.look(6.0)
    assert board.latest["sites"][0]["round"] == 100
    assert repr(first) == kept


def test_curves_span_the_whole_time_with_few_points():
    site = world(2).sites[0]
    site.reported = {"accuracy": 0.5, "silent": 0.25}
    board = Board(site, 0.0)
    for second in range(1, 5001):
        board.look(float(second))
    times = [each["time"] for each in board.curves]
    assert (board.curves[0]["accuracy"], board.curves[0]["silent"]) == ([0.5, None], 0.25)
    assert times[0] == 0
    assert times[-1] > 4960
    assert 120 <= len(times) <= 240
    assert {late - early for early, late in pairwise(times)} == {32.0}


def test_metrics_are_what_the_snapshot_says(played):
    site = played.sites[0]
    found = {}
    for family in text_string_to_metric_families(exposition(snapshot(site, 20.0)).decode()):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    assert found["palaver_round",] == 200
    for name, state in (("site-0", "talking"), ("site-1", "talking"), ("site-2", "gone")):
        assert found["palaver_site_state", *sorted((name, state))] == 1
    assert found["palaver_rounds",] == 600
    assert found["palaver_accuracy", "alone"] == 0.75
    assert found["palaver_accuracy", "silent"] == 0.5
    assert found["palaver_received_bytes_total",] == site.bytes_in
    assert found["palaver_sent_bytes_total", "packets"] == site.outbox.bytes_out
    assert found["palaver_sent_bytes_total", "beacons"] == site.ledger.bytes["beacons"] > 1000
    assert found["palaver_sent_bytes_total", "answers"] == 0
    assert found["palaver_packets_sent_total", "site-1"] == site.outbox.lines[1].seq
    assert found["palaver_packets_arrived_total", "site-1"] == site.seen[1].arrived
    assert found["palaver_packets_lost_total", "site-1"] == 0
    assert found["palaver_peer_present", "site-1"] == 1
    assert found["palaver_peer_present", "site-2"] == 0
    assert found["palaver_refused_total", "site-1", "version"] == 1
    assert found["palaver_refused_total", "?", "stranger"] == 1
    assert found["palaver_checkpoint_trouble",] == 0
    assert found["palaver_checkpoint_age_seconds",] == 20 - site.written_at
    assert found["palaver_inbox_packets",] == len(site.peer.inbox) + len(site.peer.arrived)
