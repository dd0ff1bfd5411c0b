"""What a site's words tell about its examples: five sites of ``palaver up`` (digits at Dirichlet 0.1), 5 seeds.

- Membership, of who may ask: how well the probability of the label tells a site's training examples from test examples
  of the same class, as the area under the ROC curve (0.5: not at all), mean over classes by the site's number of
  examples. Beside it, the same of the site's silent twin.
- Classes, of who hears all its packets: how far the mean of what a site last said about the reference set is from the
  distribution of its labels, as total variation, against that of a guess that all classes are as frequent.
"""

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import log_softmax
from scipy.stats import rankdata

from palaver.peers.build import Material, make_material
from palaver.peers.core import Peer
from palaver.peers.lockstep import play
from palaver.peers.settings import SiteSettings
from palaver.studies.statistics import interval

SEEDS, SITES = 5, 5
TALK = {
    "2 classes of 4 bits": ({}, (0, 100, 1000)),
    "1 class, its id alone": ({"payload_bits": 0, "top": 1}, (100,)),
    "all classes of 16 bits": ({"payload_bits": 16, "top": 0}, (100,)),
}
"""What packets say, the default first: settings of the collective, and after how many rounds it is looked at."""


def area(members: np.ndarray, others: np.ndarray) -> float:
    """Under the ROC curve: the share of pairs in which the member's number is larger, equal ones counted half."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))


def membership(peer: Peer, others: tuple[np.ndarray, np.ndarray]) -> float:
    """The area for a site's training examples against ``others``, inputs and labels that nobody learnt."""

    def of_label(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return log_softmax(peer.learner.predict(x).logits.astype(float), axis=-1)[np.arange(len(y)), y]

    own, theirs = of_label(peer.x, peer.y), of_label(*others)
    number = np.bincount(peer.y, minlength=peer.agreement.classes)
    areas = [
        area(own[peer.y == label], theirs[others[1] == label]) if number[label] else 0.0 for label in range(len(number))
    ]
    return float(np.average(areas, weights=number))


def classes(peer: Peer) -> tuple[float, float]:
    """How far a guess at a site's classes is off: the mean of what it said, and all as frequent."""
    assert peer.said is not None
    own = np.bincount(peer.y, minlength=peer.agreement.classes) / len(peer.y)
    rows = peer.said[peer.said.any(-1)]
    heard = rows.mean(0) if len(rows) else np.full_like(own, 1 / len(own))
    return float(np.abs(own - heard).sum() / 2), float(np.abs(own - 1 / len(own)).sum() / 2)


def played(seed: int, collective: dict[str, int], rounds: tuple[int, ...]) -> list[list[float]]:
    """The figures after so many rounds, means over the sites."""
    ends = {f"site-{place}": f"tcp/127.0.0.1:{place + 1}" for place in range(SITES)}
    made: list[Material] = [
        make_material(SiteSettings(name=name, peers=ends, collective={"seed": seed} | collective)) for name in ends
    ]
    validation, test = made[0].validation, made[0].test
    others = np.concatenate([validation[0], test[0]]), np.concatenate([validation[1], test[1]])
    found, step = list[list[float]](), 0
    for until in rounds:
        play([each.peer for each in made], until - step, collective=made[0].digest)
        for _ in range(until - step):
            for each in made:
                each.twin.turn()
        step = until
        rows = [(membership(each.peer, others), membership(each.twin, others), *classes(each.peer)) for each in made]
        found.append(np.mean(rows, 0).tolist())
    return found


def main() -> None:
    """Prints the figures after some rounds, as means over the sites and 95 % intervals over the seeds."""
    table = Table("packets", "rounds", "membership", "of the silent twin", "classes, by packets", "by guessing")
    for what, (collective, rounds) in TALK.items():
        found = np.array([played(seed, collective, rounds) for seed in range(SEEDS)])
        for place, after in enumerate(rounds):
            cells = (interval(found[:, place, figure].tolist(), "fraction") for figure in range(found.shape[2]))
            shown = (f"{cell['mean']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]" for cell in cells)
            table.add_row(what, f"{after:,}", *shown)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
