"""From a site's settings to what it runs: what does not fit is told before anything runs."""

import re

import numpy as np
import pytest

pytest.importorskip("zenoh")

from palaver.peers.build import make_material
from palaver.peers.core import Outgoing
from palaver.peers.settings import SiteSettings
from palaver.peers.wire import LARGEST, encode
from palaver.types import PalaverError

RAW = {"reference": 0, "combine": "latest", "weighted": False, "least_change": 0.0, "p_broadcast": 1.0}


def settings(collective, **given):
    ends = {name: f"tcp/127.0.0.1:{port}" for name, port in (("a", 7447), ("b", 7448))}
    return SiteSettings(name="a", peers=ends, collective={"data": "digits"} | collective, **given)


@pytest.mark.parametrize("name", ["asleep", "slow", "vanish", "liars", "patience"])
def test_what_only_simulated_nodes_read_is_refused(name):
    with pytest.raises(PalaverError, match=f"collective.{name} is set: leave it out, only simulated nodes read it"):
        settings({name: 0.5 if name == "asleep" else 1}).agreed()


def test_a_batch_that_no_packet_holds_is_refused_and_the_largest_that_is_named_fits():
    with pytest.raises(PalaverError, match="batch_size is 1200: a packet would have 78000 bytes") as refused:
        make_material(settings(RAW | {"batch_size": 1200, "payload_bits": 0, "top": 2}))
    most = int(re.search(r"at most (\d+), or a reference set", str(refused.value))[1])
    found = make_material(settings(RAW | {"batch_size": most, "payload_bits": 0, "top": 2}))
    deal = found.peer.agreement
    (said, *_) = found.peer.turn({1}).outgoing
    most_seq = Outgoing(1, 2**31 - 1, 2**31 - 1, said.payload, said.x)
    assert len(encode(most_seq.message(found.digest, 2**63 - 1, 2**31 - 1))) <= LARGEST
    assert np.frombuffer(said.x, deal.dtype).size == 64 * most > 60_000
    make_material(settings(RAW | {"batch_size": 1200, "p_broadcast": 0.0}))


def test_a_reference_set_beside_own_examples_is_refused_in_one_line(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((64, 8, 8), np.uint8))
    with pytest.raises(PalaverError, match="collective.reference is 0, with which sites send") as refused:
        make_material(settings(RAW, reference=str(tmp_path / "x.npy")))
    assert "\n" not in str(refused.value)


def test_it_is_said_aloud_that_own_examples_leave_the_site_and_only_then(capsys):
    make_material(settings(RAW))
    assert capsys.readouterr().err == "palaver: a sends its own examples, raw: collective.reference is 0\n"
    make_material(settings(RAW | {"p_broadcast": 0.0}))
    make_material(settings({}))
    assert capsys.readouterr().err == ""


def test_inputs_of_others_may_be_16_times_as_large_as_the_largest_known():
    assert make_material(settings(RAW)).peer.agreement.largest == 16 * 255
