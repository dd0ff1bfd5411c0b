"""Generators of messages: modules from an input to a sequence of symbols (thesis §4.2.2.2)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.arguments import count, number, sizes
from palaver.models.blocks import Trunk
from palaver.types import Array

Draw: TypeAlias = Callable[[Array, Array], Array]
"""``draw(key, logits [..., V]) -> symbols [..., V]``, on the simplex."""

END = 0
"""The symbol that ends a message of variable length."""


class Message(NamedTuple):
    """A batch of messages; ``L`` positions, ``V`` symbols."""

    symbols: Array
    """``[B, L, V]`` on the simplex; one-hot where the draw is hard. After its end a message repeats ``END``."""
    logits: Array
    """``[B, L, V]`` of each position, given the symbols before it."""
    mask: Array
    """``[B, L]``: 1 up to the end of the message and 0 after it; with soft symbols the probability, in [0, 1], that it
    has not ended before this position.
    """


class Generator(Protocol):
    """What a flax module needs so that agents can send messages with it."""

    length: int
    """L, symbols in a message, at most."""
    vocabulary: int
    """V."""
    independent: bool
    """Whether no position's logits depend on the symbols before it."""

    def features(self, x: Array, /) -> Array:
        """The last hidden layer before the symbols.

        Args:
            x: ``[B, *shape]`` what the agent sees.

        Returns:
            ``[B, D]``.

        """
        ...

    def generate(self, features: Array, draw: Draw, key: Array, /) -> Message:
        """A message about each example.

        Args:
            features: ``[B, D]`` from ``features``.
            draw: chooses the symbols from their logits: an estimator's draw in training, ``hard`` in evaluation.
            key: random key, of which every call of ``draw`` gets a part of its own.

        Returns:
            The messages, with the logits that their symbols were drawn from.

        """
        ...

    def logits(self, features: Array, symbols: Array, /) -> Array:
        """The logits of given messages under this generator, which another agent may have sent.

        Args:
            features: ``[B, D]`` from ``features``.
            symbols: ``[B, L, V]`` the messages, on the simplex.

        Returns:
            ``[B, L, V]``: each position's logits, given the symbols before it.

        """
        ...


def _check(length: int, vocabulary: int, hidden: Sequence[int], clip: float) -> tuple[int, int, tuple[int, ...], float]:
    length, vocabulary = (
        count("length", length, unit="symbol"),
        count("vocabulary", vocabulary, least=2, unit="symbols"),
    )
    return length, vocabulary, sizes("hidden", hidden), number("clip", clip, "[0, inf)")


def _clipped(logits: Array, clip: float) -> Array:
    if not clip:
        return logits
    # Of the difference to their mean, which no probability depends on: two large logits would both be clipped to C.
    return clip * jnp.tanh((logits - logits.mean(-1, keepdims=True)) / clip)


MakeGenerator: TypeAlias = Callable[[nnx.Rngs], Generator]
"""``make(rngs)``: a generator with its initial parameters."""


class AllAtOnce(nnx.Module):
    """ReLU layers, then one linear head for each position: the whole message at once, as in the thesis.

    Args:
        shape: of one input; it is flattened.
        length: L, symbols in a message.
        vocabulary: V.
        hidden: widths of the hidden layers, at least one; the features are the last.
        clip: C, logits less their mean are ``C tanh(z / C)`` (Bello et al. 2016), so that no symbol becomes certain and
            messages must stay informative when some of their symbols differ by chance; 0: no bound.

    Raises:
        PalaverError: no hidden layer, a length below 1, a vocabulary below 2, or a clip that is negative or infinite.

    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        length: int = 32,
        vocabulary: int = 2,
        hidden: Sequence[int] = (256,),
        clip: float = 0.0,
        rngs: nnx.Rngs,
    ):
        length, vocabulary, hidden, clip = _check(length, vocabulary, hidden, clip)
        self.length, self.vocabulary, self.independent, self.clip = length, vocabulary, True, clip
        self.trunk = Trunk(shape, hidden, convolutional=False, rngs=rngs)
        self.heads = nnx.Linear(hidden[-1], length * vocabulary, rngs=rngs)

    def features(self, x: Array) -> Array:
        """The last hidden layer ``[B, D]`` of inputs ``[B, *shape]``."""
        return self.trunk(x)

    def generate(self, features: Array, draw: Draw, key: Array) -> Message:
        """A message about each example: one call of ``draw`` for all positions.

        Args:
            features: ``[B, D]`` from ``features``.
            draw: ``draw(key, logits [B, L, V])`` chooses the symbols.
            key: random key, given to ``draw``.

        Returns:
            The messages; none ends before its last position.

        """
        logits = self.logits(features)
        return Message(draw(key, logits), logits, jnp.ones(logits.shape[:2]))

    def logits(self, features: Array, symbols: Array | None = None) -> Array:
        """The logits of given messages under this generator; positions are independent, so they are always the same.

        Args:
            features: ``[B, D]`` from ``features``.
            symbols: ``[B, L, V]``, not used.

        Returns:
            ``[B, L, V]``.

        """
        return _clipped(self.heads(features).reshape(-1, self.length, self.vocabulary), self.clip)


class Recurrent(nnx.Module):
    """A GRU that generates one symbol after the other, each given those before it.

    Its first state is the last hidden layer of the input.

    Args:
        shape: of one input; it is flattened.
        length: L, symbols in a message, at most.
        vocabulary: V.
        hidden: widths of the hidden layers, at least one; the features are the last, which is the GRU's width too.
        variable: whether the symbol ``END`` ends a message, which then repeats it; otherwise it is a symbol like any.
        clip: as ``AllAtOnce``.

    Raises:
        PalaverError: as ``AllAtOnce``.

    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        length: int = 32,
        vocabulary: int = 2,
        hidden: Sequence[int] = (256,),
        variable: bool = False,
        clip: float = 0.0,
        rngs: nnx.Rngs,
    ):
        length, vocabulary, hidden, clip = _check(length, vocabulary, hidden, clip)
        self.length, self.vocabulary, self.independent, self.clip = length, vocabulary, False, clip
        self.variable = variable
        self.trunk = Trunk(shape, hidden, convolutional=False, rngs=rngs)
        self.cell = nnx.GRUCell(vocabulary, hidden[-1], rngs=rngs)
        self.head = nnx.Linear(hidden[-1], vocabulary, rngs=rngs)

    def features(self, x: Array) -> Array:
        """The last hidden layer ``[B, D]`` of inputs ``[B, *shape]``: the GRU's first state."""
        return self.trunk(x)

    def generate(self, features: Array, draw: Draw, key: Array) -> Message:
        """A message about each example: one call of ``draw`` for each position, whose symbol the next one depends on.

        Args:
            features: ``[B, D]`` from ``features``.
            draw: ``draw(key, logits [B, V])`` chooses a position's symbol.
            key: random key, split among the positions.

        Returns:
            The messages; of variable length if the generator is ``variable``.

        """
        start = jnp.zeros((features.shape[0], self.vocabulary))
        end = jax.nn.one_hot(END, self.vocabulary)

        def one(carry: tuple[Array, Array, Array], key: Array) -> tuple[tuple[Array, Array, Array], Message]:
            state, previous, mask = carry
            state, logits = self._next(state, previous)
            symbols = draw(key, logits)
            if not self.variable:
                return (state, symbols, mask), Message(symbols, logits, mask)
            symbols = mask[:, None] * symbols + (1 - mask[:, None]) * end
            # Of a message that has ended the symbols are END already, so its mask stays 0.
            return (state, symbols, 1 - symbols[:, END]), Message(symbols, logits, mask)

        carry = (features, start, jnp.ones(features.shape[0]))
        _, message = jax.lax.scan(one, carry, jax.random.split(key, self.length))
        return Message(*(jnp.moveaxis(part, 0, 1) for part in message))

    def logits(self, features: Array, symbols: Array) -> Array:
        """The logits of given messages under this generator.

        Args:
            features: ``[B, D]`` from ``features``.
            symbols: ``[B, L, V]`` the messages, on the simplex.

        Returns:
            ``[B, L, V]``: each position's logits, given the symbols before it.

        """
        previous = jnp.concatenate([jnp.zeros_like(symbols[:, :1]), symbols[:, :-1]], axis=1)
        return jnp.moveaxis(jax.lax.scan(self._next, features, jnp.moveaxis(previous, 1, 0))[1], 0, 1)

    def _next(self, state: Array, previous: Array) -> tuple[Array, Array]:
        """The next state, and the logits of the symbol after ``previous``."""
        state, _ = self.cell(state, previous)
        return state, _clipped(self.head(state), self.clip)


def _sizes(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("length", "vocabulary", "hidden", "clip")}


GENERATORS: dict[str, Callable[[Sequence[int], Any, nnx.Rngs], Generator]] = {
    "all-at-once": lambda shape, settings, rngs: AllAtOnce(shape, **_sizes(settings), rngs=rngs),
    "recurrent": lambda shape, settings, rngs: Recurrent(
        shape, **_sizes(settings), variable=settings.variable_length, rngs=rngs
    ),
}
"""Every generator by the name that settings give it, for inputs ``[B, *shape]``.

An entry that is added here is accepted wherever names are.

The settings object has ``length``, ``vocabulary``, ``hidden``, ``clip`` and ``variable_length``.
"""


def bits_available(length: int, vocabulary: int, *, variable: bool = False) -> float:
    """The largest number of bits that a message can carry: the logarithm of the number of different messages.

    >>> bits_available(32, 2)
    32.0
    >>> round(bits_available(32, 2, variable=True), 2)
    5.04

    Args:
        length: L, symbols in a message, at most.
        vocabulary: V.
        variable: whether ``END`` ends a message.

    Returns:
        Bits: ``L log2 V``; with variable length ``log2 Σ_t (V − 1)^t``, t from 0 to L, since messages are then the
        sequences of up to L symbols other than ``END``.

    """
    if variable:
        return math.log2(sum((vocabulary - 1) ** t for t in range(length + 1)))
    return length * math.log2(vocabulary)
