"""What learns at a site: any framework's model behind one protocol, NumPy in and out."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from palaver.peers.wire import RefusedError
from palaver.types import Outputs, PyTree


class Learner(Protocol):
    """A model with its optimiser, and what it says and hears through a channel.

    ``x`` are inputs ``[B, ...]`` as the site holds them: uint8 pixels, or float32. Payloads are trees of arrays with
    leading axis B, as ``palaver.types.Channel.encode`` makes them.
    """

    def learn(
        self, x: np.ndarray, labels: np.ndarray, received: PyTree | None, *, seed: np.ndarray, say: bool = False
    ) -> PyTree | None:
        """One optimiser step, done when it returns.

        A batch of which no label is known and nothing was heard has a loss of 0, with a gradient of 0. The optimiser
        takes its step all the same, as in the simulation: momentum and weight decay go on. Estimators of scikit-learn
        know no such step and stay as they are.

        It may raise whatever the model does. Where something was received, estimators of scikit-learn are then as they
        were before, and so are the parameters of a module of PyTorch of which the loss is not finite; JAX gives its old
        state away with each step and raises nothing.

        Args:
            x: ``[B, ...]``.
            labels: ``[B]`` int32; ``NO_LABEL`` where they are not known.
            received: what others say about ``x``, decoded; ``None``: a batch of its own, to be learnt by its labels.
            seed: ``[2]`` uint32: random bits, other ones for each step.
            say: whether what it says about ``x`` is wanted.

        Returns:
            With ``say``, a payload about ``x`` of the step's own forward pass: by the model before the step, in
            training mode, with the labels that are known. ``None`` otherwise: nothing is computed that nobody hears.

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


@contextmanager
def foreign(what: str) -> Generator[None]:
    """While open, a model is given what others sent: where it fails, that is refused, and the site goes on.

    Models are anyone's code, which may raise anything.

    Args:
        what: it is given.

    Raises:
        RefusedError: the model failed.

    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise RefusedError("model", f"{what}: {type(error).__name__}") from error
