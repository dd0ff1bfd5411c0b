"""What a site's process tells of its model."""

import numpy as np
import pytest
from sites import world

pytest.importorskip("zenoh")

from palaver.data import load
from palaver.decision import fit_temperature
from palaver.peers.build import Material
from palaver.peers.serve import Reporter, agrees, warning
from palaver.peers.transport import Arrived
from palaver.peers.wire import Ask, Beacon, decode, encode


def test_each_answer_has_the_temperature_that_its_model_fits_on_validation_examples():
    made, data = world(2), load("digits")
    made.play(5)
    site, twin = made.sites[0], world(2, seed=1).sites[0].peer
    validation = data.x_validation, data.y_validation
    reporter = Reporter(Material(site.peer, twin, made.digest, validation, made.test))
    site.twin, site.report, site.temperature = twin, reporter, reporter.temperature
    asker, x = made.network.join("asker"), made.test[0][:3]
    assert reporter.temperature(site.peer) == 1
    reporter(site)
    for silent, peer in ((False, site.peer), (True, twin)):
        asker.ask("site-0", encode(Ask(made.digest, 3, x.tobytes(), silent)))
        site.rest(0)
        (came,) = asker.poll()[-1:]
        found = decode(came.data, made.digest)
        logits = peer.learner.predict(validation[0]).logits
        assert found.temperature == pytest.approx(float(fit_temperature(logits, validation[1])), rel=1e-5)
        np.testing.assert_array_equal(
            np.frombuffer(found.logits, np.float32).reshape(3, 10), peer.learner.predict(x).logits
        )
    assert reporter.temperature(site.peer) != reporter.temperature(twin)


def test_agreement_is_about_what_was_heard():
    peer = world(2).sites[0].peer
    assert np.isnan(agrees(peer))
    own = np.eye(10, dtype=np.float32)[peer.learner.predict(peer.agreement.reference[:40]).logits.argmax(-1)]
    peer.memory.weight[:40] = 2
    peer.memory.total[:40] = 2 * own
    assert agrees(peer) == 1
    peer.memory.total[:10] = 2 * np.roll(own[:10], 1, axis=-1)
    assert agrees(peer) == 0.75


def test_a_site_that_all_refuse_says_so_once(capsys):
    site, journal = world(2).sites[0], []
    site.journal = journal.append
    warn, odd = warning(site), encode(Beacon(b"9 digits", 0, 0, "talking", {}))
    site.take(Arrived("here", "site-1"))
    for _ in range(3):
        warn()
        site.take(Arrived("beacon", "site-1", odd))
    err = capsys.readouterr().err
    assert err.startswith("palaver: every site that site-0 reaches has other settings") and err.count("\n") == 1
    assert [entry["what"] for entry in journal if entry["event"] == "trouble"] == [site.notice]
    site.take(Arrived("beacon", "site-1", encode(Beacon(site.collective, 0, 0, "talking", {}))))
    warn()
    site.take(Arrived("beacon", "site-1", odd))
    warn()
    assert capsys.readouterr().err.count("\n") == 1
