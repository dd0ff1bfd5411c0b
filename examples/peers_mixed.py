"""Three sites with models of three frameworks: JAX, PyTorch and scikit-learn, none of which has seen all digits.

Every site keeps its data and its model. What they send is what they think of examples of a reference set that has no
labels: the two most likely classes, in 16 bits an example. This is played in one process; on machines of their own the
peers do the same. It needs the extras ``peers`` and ``torch``: ``pip install -c constraints.txt -e ".[peers,torch]"``.
"""

import argparse

import jax
import numpy as np
import optax
import torch
from sklearn.linear_model import SGDClassifier

from palaver import channels, decision, models, supervised, topology
from palaver.data import load
from palaver.exchange.description import Talk
from palaver.exchange.protocol import Protocol
from palaver.exchange.shards import shards
from palaver.peers.agreement import Agreement
from palaver.peers.core import Peer
from palaver.peers.learners import Learner
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.learners.sklearn import SklearnLearner
from palaver.peers.learners.torch import TorchLearner
from palaver.peers.lockstep import play
from palaver.studies.statistics import Interval, interval, paired

SITES = ("JAX, MLP", "PyTorch, MLP", "scikit-learn, linear")
CHANNEL = channels.logits(bits=4, top=2)
DIGITS = load("digits")
NODE = supervised(lambda rngs: models.MLP((8, 8), 10, hidden=(48,), rngs=rngs), CHANNEL, optimizer=optax.adam(0.01))
init, decide = jax.jit(NODE.init), jax.jit(decision.confidence)


def learners(seed: int) -> list[Learner]:
    """One of each framework, not trained."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
    linear = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.02)
    return [
        FlaxLearner(NODE, init(jax.random.key(seed))),
        TorchLearner(module, torch.optim.Adam(module.parameters(), lr=0.01), CHANNEL, classes=10),
        SklearnLearner(linear, CHANNEL, classes=10),
    ]


def accuracies(seed: int, rounds: int, *, silent: bool) -> list[float]:
    """Test accuracy of each site and of their decision; silent sites reach nobody."""
    parts = shards(DIGITS.x_train, DIGITS.y_train, len(SITES), [seed], split="class", reference=0.3)
    x, y = np.asarray(parts.x), np.asarray(parts.y)
    agreement = Agreement(
        names=SITES,
        key=jax.random.key(seed),
        topology=topology.full(len(SITES)),
        protocol=Protocol(p_consume=0.5, p_broadcast=0.5, batch_size=64),
        talk=Talk(examples="reference", combine="mean", weighted=True),
        capacity=16,
        overflow="drop_oldest",
        channel=CHANNEL,
        classes=10,
        features=0,
        shape=x.shape[1:],
        dtype=x.dtype,
        reference=x[np.asarray(parts.reference[0])],
    )
    rows = [np.asarray(parts.index[0, site, : parts.size[0, site]]) for site in range(len(SITES))]
    peers = [
        Peer(agreement, site, learner, x[rows[site]], y[rows[site]]) for site, learner in enumerate(learners(seed))
    ]
    play(peers, rounds, collective=bytes(8), awake=lambda peer, step: not silent)
    logits = np.stack([peer.learner.predict(DIGITS.x_test).logits for peer in peers])
    together = np.asarray(decide(logits, np.ones(logits.shape[:2], bool)))
    return [float((scores.argmax(-1) == DIGITS.y_test).mean()) for scores in (*logits, together)]


def main() -> None:
    """Prints accuracies of silent and of talking sites, over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    silent, talking = (
        np.array([accuracies(seed, given.rounds, silent=silent) for seed in range(given.seeds)])
        for silent in (True, False)
    )
    print(f"{'test accuracy, %':22s}{'silent':>20s}{'talking':>20s}{'gain, points':>20s}")
    for place, name in enumerate((*SITES, "decision")):
        one, other = (interval(values[:, place], "fraction") for values in (silent, talking))
        gain = paired(other, one, lambda a, b: a - b)
        print(f"{name:22s}{shown(one):>20s}{shown(other):>20s}{shown(gain):>20s}")


def shown(found: Interval | None) -> str:
    """A mean over seeds and its 95 % interval, in percent; an interval needs three seeds."""
    assert found is not None
    mean, low, high = (None if end is None else 100 * end for end in (found["mean"], found["low"], found["high"]))
    return f"{mean:.1f}" if low is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
