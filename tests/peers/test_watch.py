"""A collective as it is seen from outside, by beacons that are made up."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("zenoh")

from rich.console import Console

from palaver.peers.up import _say
from palaver.peers.watch import Watcher, table
from palaver.peers.wire import Beacon, encode

OURS, NAMES = b"8 digits", ("a", "b", "c")


class Deaf:
    """A session in which nothing comes in."""

    def liveliness(self):
        return self

    def declare_subscriber(self, key, handler, **how):
        return None

    def get(self, key, **how):
        return []


def beacon(of=OURS, step=7, **report):
    return encode(Beacon(of, 1, step, "talking", {}, report))


def watcher(**heard):
    return Watcher(Deaf(), "palaver/c", NAMES, OURS, 10, heard)


def test_what_was_heard_at_first_is_seen_before_any_beacon():
    found = watcher(a=beacon(accuracy=0.5), b=beacon(b"8 others"), d=beacon())
    for name in ("a", "b"):
        found._present.add(name)
    assert [found.state(name) for name in NAMES] == ["talking", "refused", "unseen"]
    found._present.add("c")
    assert found.state("c") == "starts"
    assert {name: seen.step for name, seen in found.seen.items()} == {"a": 7}


def test_figures_that_are_not_known_are_null():
    found = watcher(a=beacon(accuracy=0.5, agrees=math.nan, lost=math.inf)).to_json()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["a"]["report"] == {"accuracy": 0.5, "agrees": None, "lost": None}


def test_beacons_may_come_while_the_table_is_made():
    found = watcher(a=beacon())
    rows = iter(found.seen.items())
    found._take("b", beacon())
    assert [name for name, _ in rows] == ["a"]
    assert list(found.seen) == ["a", "b"]
    assert table(found).row_count == 3


def test_a_collective_that_does_not_answer_has_no_accuracy():
    asked = watcher().asked(np.zeros((4, 2), np.uint8), np.zeros(4, int))
    assert (asked.together, asked.alone) == (None, {})


def test_what_is_not_known_at_the_end_is_a_dash(capsys):
    final = {"failed": {}, "alone": 0.5, "together": 0.75, "silent_alone": None, "silent_together": None}
    _say(final | {"peers": {"a": {"packet_bytes": 1000}}}, Console(width=200))
    said = capsys.readouterr().out
    assert "a site alone 50.0 %, together 75.0 %; had they been silent – and –." in said
