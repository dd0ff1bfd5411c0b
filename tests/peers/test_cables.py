"""Four sites on machines with thin cables of their own (network namespaces): cut, mended, parted; paced, and asked."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

zenoh = pytest.importorskip("zenoh")

sys.path.insert(0, str(Path(__file__).parents[2]))  # for benchmarks

from benchmarks import namespaces  # noqa: E402
from processes import Process, ended, until  # noqa: E402

from palaver.data import load  # noqa: E402
from palaver.peers.links import AROUND  # noqa: E402
from palaver.peers.settings import SiteSettings  # noqa: E402

NAMES = "abcd"
KBIT = 100
RATE = 4000
"""Bytes of packets in a second; the sites would say about 20,000."""


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """All of them linked and talking; each test leaves them so."""
    if not namespaces.possible():
        pytest.skip("network namespaces need Linux, root and iproute2")
    folder = tmp_path_factory.mktemp("cables")
    with namespaces.machines(NAMES, KBIT) as machines:
        ends = {machine.name: f"tcp/{machine.address}:7447" for machine in machines}
        agreed = {"rounds": 10**6, "payload_bits": 16, "top": 0, "p_broadcast": 1.0, "least_change": 0.0}
        made = [
            Process(
                SiteSettings(
                    name=machine.name,
                    peers=ends,
                    collective=agreed,
                    insecure=True,
                    folder=str(folder / machine.name),
                    pace=10,
                    rate=RATE,
                    http="127.0.0.1:8000",
                ),
                machine,
            )
            for machine in machines
        ]
        with ended(made):
            for site in made:
                site.start()
            until(lambda: all(len(site.present()) == 3 for site in made))
            talking(made)
            yield made


def arrived(sites):
    """Packets that have arrived, by receiver and sender."""
    return {(site.name, link["peer"]): link["arrived"] for site in sites for link in site.look()["links"]}


def talking(sites, of=lambda receiver, sender: True):
    """Waits until a packet that has not arrived yet does on all of these ways."""
    before = arrived(sites)
    until(lambda: all(number > before[way] for way, number in arrived(sites).items() if of(*way)))


def lives(sites):
    """How many lives each site has had."""
    return [site.said().count("examples, from round") for site in sites]


def test_packets_keep_to_the_rate(sites):
    """What else leaves: beacons, at most a quarter of the rate, and what is around messages beyond ``AROUND``."""
    before, began = [site.machine.traffic()[0] for site in sites], time.time()
    for site in sites:
        site.pace(began, 8)
    after, seconds = [site.machine.traffic()[0] for site in sites], time.time() - began
    for site, first, last in zip(sites, before, after, strict=True):
        start, *entries = site.journal("left", began)
        left = [of for entry in entries for of in entry.get("packets", {}).values()]
        of_packets = sum(of["bytes"] + AROUND * of["number"] for of in left)
        passed = entries[-1]["time"] - start["time"]
        assert RATE / 4 < of_packets / passed < RATE * (1 + 1.5 / passed)  # at most a second's worth is saved up
        assert (last - first) / seconds < 2 * RATE
    assert [site.journal("gone") for site in sites] == [[]] * 4


def test_a_question_is_answered_while_packets_flow(sites):
    asked = {"x": load("digits").x_test[:4].tolist(), "timeout": 20}
    sites[0].fetch("predict", asked)  # every site compiles a program for it
    found = [sites[0].fetch("predict", asked)["peers"] for _ in range(7)]
    assert {voice["status"] for voices in found for voice in voices.values()} == {"answered"}
    slowest = [max(voice["milliseconds"] for voice in voices.values()) for voices in found]
    assert np.median(slowest) < 1000


def test_a_cut_cable_is_noticed_and_once_it_is_mended_all_goes_on(sites):
    *rest, d = sites
    refused, cut = [site.refused() for site in sites], time.time()
    d.machine.cut()
    try:
        until(lambda: [[e["peer"] for e in site.journal("gone", cut)] for site in rest] == [["d"]] * 3)
        until(lambda: len(d.journal("gone", cut)) == 3)
        noticed = [entry["time"] - cut for site in sites for entry in site.journal("gone", cut)]
        assert max(noticed) < 3 * d.settings.lease
        until(lambda: d.state() == "alone")
        steps = [site.step() for site in sites]
        until(lambda: all(site.step() > step + 10 for site, step in zip(sites, steps, strict=True)))
        assert {site.state() for site in rest} == {"talking"}
    finally:
        d.machine.mend()
    until(lambda: all(len(site.present()) == 3 for site in sites))
    talking(sites)
    assert lives(sites) == [1] * 4
    assert [site.refused() for site in sites] == refused


def test_a_partition_goes_on_in_both_parts_and_heals(sites):
    halves = {"a": "b", "b": "a", "c": "d", "d": "c"}
    switch = sites[0].machine.switch

    def link(*args):
        subprocess.run(["ip", "-n", switch, "link", *args], check=True)

    def move(bridge):
        for site in sites[2:]:
            link("set", site.machine.port, "master", bridge)

    link("add", "other", "type", "bridge")
    link("set", "other", "up")
    move("other")
    try:
        until(lambda: [site.present() for site in sites] == [{halves[site.name]} for site in sites])
        talking(sites, lambda receiver, sender: halves[receiver] == sender)
    finally:
        move("bridge")
    talking(sites)
    assert lives(sites) == [1] * 4
