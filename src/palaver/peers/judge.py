"""Whom a peer believes: ``palaver.gate`` with a silent twin, as ``palaver.exchange.twins`` has it for all nodes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from palaver import gate
from palaver.peers.learners import Learner
from palaver.peers.memory import Arrival
from palaver.types import PyTree

_agreement: Callable[..., Any] = jax.jit(gate.agreement)
_belief: Callable[..., Any] = jax.jit(gate.belief)
_observe: Callable[..., Any] = jax.jit(gate.observe)


class Judge:
    """A peer's twin, which begins as the peer does, and what the peer thinks of the others.

    Args:
        twin: the peer's model before training. It takes each of the peer's steps on a batch of its own, with the same
            random bits; nothing that was heard reaches it.
        peers: N.

    """

    def __init__(self, twin: Learner, peers: int) -> None:
        self.twin = twin
        self.trust = _numpy(gate.strangers(peers))

    def judged(
        self, arrivals: Sequence[Arrival], reference: np.ndarray, decode: Callable[[PyTree], np.ndarray]
    ) -> tuple[list[Arrival], list[int]]:
        """What is believed of what arrived, with its weight.

        Args:
            arrivals: since the last round.
            reference: ``[R, ...]`` inputs of the reference set.
            decode: from payloads to what a receiver learns.

        Returns:
            The arrivals of senders that are trusted, which weigh as far as these are believed; and of each packet whose
            sender is muted, the sender. Who is on probation is in neither.

        """
        answers = dict[int, np.ndarray]()
        believed, muted, left = list[Arrival](), list[int](), list(arrivals)
        while left:  # a packet of each sender at a time
            first = {arrival.sender: arrival for arrival in reversed(left)}
            left = [arrival for arrival in left if arrival is not first[arrival.sender]]
            agreed, arrived = np.zeros(len(self.trust.score), np.float32), np.zeros(len(self.trust.score), bool)
            for sender, arrival in first.items():
                if arrival.start not in answers:
                    rows = reference[arrival.start : arrival.start + len(arrival.value)]
                    answers[arrival.start] = decode(self.twin.encode(rows))
                agreed[sender], arrived[sender] = _agreement(answers[arrival.start], arrival.value), True
            self.trust = _numpy(_observe(self.trust, agreed, arrived))
            belief = np.asarray(_belief(self.trust))
            believed += [
                arrival._replace(weight=arrival.weight * belief[sender])
                for sender, arrival in first.items()
                if belief[sender] > 0
            ]
            muted += [sender for sender in first if self.trust.state[sender] == gate.MUTED]
        return believed, muted

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a restart needs, by name."""
        trust: dict[str, Any] = self.trust._asdict()
        return {f"twin.{name}": array for name, array in self.twin.arrays().items()} | trust

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes up what ``arrays`` gave.

        Raises:
            ValueError: these are another model's.
            KeyError: there are none.

        """
        trust = _numpy(arrays[name] for name in gate.Trust._fields)
        if trust.score.shape != self.trust.score.shape:
            raise ValueError("these are of another number of peers")
        self.twin.restore({n.removeprefix("twin."): a for n, a in arrays.items() if n.startswith("twin.")})
        self.trust = trust


def _numpy(trust: Iterable[Any]) -> gate.Trust:
    """Trust whose arrays are NumPy's."""
    parts: list[Any] = [np.array(part) for part in trust]
    return gate.Trust(*parts)
