"""What a site's process tells of its model."""

import jax
import numpy as np
import pytest
import torch
from sites import LEAN, NODES, world
from sklearn.linear_model import SGDClassifier

pytest.importorskip("zenoh")

from palaver.data import load
from palaver.decision import fit_temperature
from palaver.peers.build import Material
from palaver.peers.core import Peer
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.learners.sklearn import SklearnLearner
from palaver.peers.learners.torch import TorchLearner
from palaver.peers.serve import Reporter, agrees, rehearse, warning
from palaver.peers.transport import Arrived
from palaver.peers.wire import Beacon, decode, encode, question


def test_each_answer_has_the_temperature_that_its_model_fits_on_validation_examples():
    made, data = world(2), load("digits")
    made.play(5)
    site, twin = made.sites[0], world(2, seed=1).sites[0].peer
    validation = data.x_validation, data.y_validation
    reporter = Reporter(Material(site.peer, twin, made.digest, validation, made.test))
    site.twin, site.report, site.temperature = twin, reporter, reporter.temperature
    asker, x = made.network.join("asker"), made.test[0][:3]
    reporter.rehearse(site.peer)  # leaves nothing behind
    assert reporter.temperature(site.peer) == 1
    reporter(site)
    for silent, peer in ((False, site.peer), (True, twin)):
        asker.ask("site-0", encode(question(made.digest, x, silent=silent)))
        site.rest(0)
        (came,) = asker.poll()[-1:]
        found = decode(came.data, made.digest)
        logits = peer.learner.predict(validation[0]).logits
        assert found.temperature == pytest.approx(float(fit_temperature(logits, validation[1])), rel=1e-5)
        np.testing.assert_array_equal(
            np.frombuffer(found.logits, np.float32).reshape(3, 10), peer.learner.predict(x).logits
        )
    assert reporter.temperature(site.peer) != reporter.temperature(twin)


def in_flax():
    return FlaxLearner(NODES[(8,)], NODES[(8,)].init(jax.random.key(0)))


def in_torch():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    return TorchLearner(module, torch.optim.Adam(module.parameters()), LEAN, classes=10)


def in_sklearn():
    return SklearnLearner(SGDClassifier(loss="log_loss"), LEAN, classes=10)


@pytest.mark.parametrize("learner", [in_flax, in_torch, in_sklearn])
def test_a_rehearsal_leaves_nothing_behind(learner):
    """Afterwards a peer does what one does that has not rehearsed."""
    made = world(2)
    rehearsed, other = (Peer(made.agreement, 0, learner(), *made.own[0]) for _ in range(2))
    rehearse(rehearsed)
    for _ in range(20):
        ours, theirs = rehearsed.turn(), other.turn()
        np.testing.assert_array_equal(ours.x, theirs.x)
        assert ours.outgoing == theirs.outgoing
    assert rehearsed.about() == other.about()
    for (name, array), same in zip(rehearsed.arrays().items(), other.arrays().values(), strict=True):
        np.testing.assert_allclose(array, same, atol=1e-6, err_msg=name)


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
