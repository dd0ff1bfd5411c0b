"""Sites of a small collective on a virtual clock."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from palaver import channels, decision, topology
from palaver.data import load
from palaver.exchange.description import Talk
from palaver.exchange.protocol import Protocol
from palaver.exchange.shards import shards
from palaver.models import MLP
from palaver.node import supervised
from palaver.peers.agreement import Agreement, digest
from palaver.peers.core import Peer
from palaver.peers.judge import Judge
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.links import Outbox
from palaver.peers.site import Conduct, Site
from palaver.peers.transport import Network

LEAN = channels.logits(bits=4, top=2)
MEAN = Talk("reference", "mean", 0.8, True, 0.1)
NODES = {
    widths: supervised(
        lambda rngs, widths=widths: MLP((8, 8), 10, hidden=widths, rngs=rngs), LEAN, optimizer=optax.adam(0.003)
    )
    for widths in ((32, 32), (8,))
}


@dataclass
class World:
    """Sites, their network, and what they are made of."""

    network: Network
    agreement: Agreement
    digest: bytes
    own: list[tuple[np.ndarray, np.ndarray]]
    rounds: int
    test: tuple[np.ndarray, np.ndarray]
    folder: Path | None = None
    sites: dict[int, Site] = field(default_factory=dict)
    conduct: dict[str, Any] = field(default_factory=dict)
    outbox: dict[str, Any] = field(default_factory=dict)

    def start(self, me: int, epoch: int = 0, widths: tuple[int, ...] = (32, 32), **given: Any) -> Site:
        """A site that joins; one of its own that was there before is gone."""
        node = NODES[widths]
        learner = FlaxLearner(node, node.init(jax.random.fold_in(jax.random.key(1), me)))
        judge = None
        if self.agreement.talk.gate == "twin":
            judge = Judge(FlaxLearner(node, node.init(jax.random.fold_in(jax.random.key(1), me))), len(self.own))
        folder = None if self.folder is None else self.folder / str(me)
        self.sites[me] = Site(
            self.digest,
            Peer(self.agreement, me, learner, *self.own[me], judge=judge),
            Outbox(self.digest, epoch, **self.outbox),
            self.network.join(self.agreement.names[me]),
            Conduct(self.rounds, folder=folder, **self.conduct),
            **given,
        )
        return self.sites[me]

    def kill(self, me: int) -> None:
        self.sites.pop(me).transport.vanish()

    def play(self, seconds: float, per_second: int = 10) -> None:
        """Every site does a round every tenth of a second."""
        for _ in range(round(seconds * per_second)):
            for site in list(self.sites.values()):
                site.cycle(self.network.now)
            self.network.now += 1 / per_second

    def accuracies(self) -> dict[int, float]:
        """Of each site alone, in percent."""
        x, y = self.test
        return {
            me: 100 * float((site.peer.learner.predict(x).logits.argmax(-1) == y).mean())
            for me, site in self.sites.items()
        }

    def together(self) -> float:
        """Of the decision of all, in percent."""
        x, y = self.test
        logits = np.stack([site.peer.learner.predict(x).logits for site in self.sites.values()])
        p = decision.confidence(jnp.asarray(logits), jnp.ones(logits.shape[:2], bool))
        return 100 * float((np.asarray(p).argmax(-1) == y).mean())


def world(
    nodes: int = 10,
    rounds: int = 600,
    seed: int = 0,
    skew: float = 0.5,
    talk: Talk = MEAN,
    folder: Path | None = None,
    *,
    carry: Any = None,
    conduct: dict[str, Any] | None = None,
    outbox: dict[str, Any] | None = None,
    p_broadcast: float = 0.3,
) -> World:
    """All sites of a collective on digits, started, with a network that delivers at once unless ``carry`` says else."""
    data = load("digits")
    parts = shards(data.x_train, data.y_train, nodes, [seed], split="dirichlet", alpha=skew, reference=0.25)
    reference = np.asarray(data.x_train)[np.asarray(parts.reference[0])]
    agreement = Agreement(
        names=tuple(f"site-{node}" for node in range(nodes)),
        key=jax.random.key(seed),
        topology=topology.named("random-changing", nodes, min(3, nodes - 1), seed=seed, every=10, rounds=rounds),
        protocol=Protocol(0.5, p_broadcast, 32),
        talk=talk,
        capacity=16,
        overflow="drop_oldest",
        channel=LEAN,
        classes=10,
        features=32,
        shape=data.x_train.shape[1:],
        dtype=data.x_train.dtype,
        reference=reference,
    )
    rows = [np.asarray(parts.index[0, n, : int(parts.size[0, n])]) for n in range(nodes)]
    own = [(data.x_train[r], data.y_train[r].astype(np.int32)) for r in rows]
    network = Network() if carry is None else Network(carry)
    made = World(
        network,
        agreement,
        digest({"seed": seed}, reference),
        own,
        rounds,
        (data.x_test, data.y_test),
        folder,
        conduct=conduct or {},
        outbox=outbox or {},
    )
    for me in range(nodes):
        made.start(me)
    return made
