"""What learns at a site: any framework's model behind one protocol, NumPy in and out."""

from typing import Protocol

import numpy as np

from palaver.types import Outputs, PyTree


class Learner(Protocol):
    """A model with its optimiser, and what it says and hears through a channel.

    ``x`` are inputs ``[B, ...]`` as the site holds them: uint8 pixels, or float32. Payloads are trees of arrays with
    leading axis B, as ``palaver.types.Channel.encode`` makes them.
    """

    def learn(self, x: np.ndarray, labels: np.ndarray, received: PyTree | None, *, seed: np.ndarray) -> PyTree:
        """One optimiser step.

        Args:
            x: ``[B, ...]``.
            labels: ``[B]`` int32; ``NO_LABEL`` where they are not known.
            received: what others say about ``x``, decoded; ``None``: a batch of its own, to be learnt by its labels.
            seed: ``[2]`` uint32: random bits, other ones for each step.

        Returns:
            What it would say about ``x``, from the step's own forward pass.

        """
        ...

    def encode(self, x: np.ndarray) -> PyTree:
        """What it says about inputs without labels: a payload."""
        ...

    def predict(self, x: np.ndarray) -> Outputs:
        """Its outputs, in evaluation mode: logits ``[B, C]`` and features ``[B, D]``, float32."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a restart needs, by name."""
        ...

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes up what ``arrays`` gave.

        Raises:
            ValueError: these are another learner's.

        """
        ...
