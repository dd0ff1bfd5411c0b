"""Who writes the messages: modules from an input to a sequence of symbols (thesis §4.2.2.2).

A generator is a flax module with three methods, so that any other can take its place: ``features(x) -> [B, D]``, the
last hidden layer before the symbols; ``say(features, draw, key) -> Said``, a message, with ``draw(key, logits) ->
symbols`` choosing among the vocabulary; ``read(features, symbols) -> [B, L, V]``, the logits with which this generator
would have said that message, each position given those before it. Its attributes ``length`` and ``vocabulary`` say how
large a message is, and ``independent`` that positions do not depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.models.blocks import Trunk
from palaver.types import Array, PalaverError

Draw: TypeAlias = Callable[[Array, Array], Array]
"""``draw(key, logits [..., V]) -> symbols [..., V]``, on the simplex."""

END = 0
"""The symbol that ends a message of variable length."""


class Said(NamedTuple):
    """A batch of messages; ``L`` positions, ``V`` symbols."""

    symbols: Array
    """``[B, L, V]`` on the simplex; one-hot where the draw is hard. After its end a message repeats ``END``."""
    logits: Array
    """``[B, L, V]`` each position's, given the symbols before it."""
    alive: Array
    """``[B, L]`` in [0, 1]: whether the message had not ended before this position; with soft symbols how surely."""


def _check(length: int, vocabulary: int, clip: float) -> None:
    if length < 1:
        raise PalaverError(f"length is {length}: give at least 1 symbol")
    if vocabulary < 2:
        raise PalaverError(f"vocabulary is {vocabulary}: give at least 2 symbols")
    if not 0 <= clip < math.inf:
        raise PalaverError(f"clip is {clip}: give a finite number, 0 (none) or more")


def _clipped(logits: Array, clip: float) -> Array:
    if not clip:
        return logits
    # About their mean, which no probability depends on: two that are both far up would be the same.
    return clip * jnp.tanh((logits - logits.mean(-1, keepdims=True)) / clip)


class AllAtOnce(nnx.Module):
    """ReLU layers and a head a position: the whole message at once, as in the thesis.

    Args:
        shape: of one input; it is flattened.
        length: L, symbols in a message.
        vocabulary: V.
        hidden: widths of the hidden layers, at least one; the features are the last.
        clip: C, logits less their mean are ``C tanh(z / C)`` (Bello et al. 2016): no symbol becomes
            certain, so that a message has to survive its symbols' being drawn; 0: as they are.

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
        _check(length, vocabulary, clip)
        self.length, self.vocabulary, self.independent, self.clip = length, vocabulary, True, clip
        self.trunk = Trunk(shape, hidden, convolutional=False, rngs=rngs)
        self.heads = nnx.Linear(hidden[-1], length * vocabulary, rngs=rngs)

    def features(self, x: Array) -> Array:
        """``[B, *shape]`` to ``[B, D]``."""
        return self.trunk(x)

    def _logits(self, features: Array) -> Array:
        return _clipped(self.heads(features).reshape(-1, self.length, self.vocabulary), self.clip)

    def say(self, features: Array, draw: Draw, key: Array) -> Said:
        """A message for each of the features ``[B, D]``."""
        logits = self._logits(features)
        return Said(draw(key, logits), logits, jnp.ones(logits.shape[:2]))

    def read(self, features: Array, symbols: Array) -> Array:
        """``[B, L, V]``: the positions are independent, so the same for every message."""
        return self._logits(features)


class Recurrent(nnx.Module):
    """A GRU that says one symbol after the other, each given those before it.

    It starts in the last hidden layer of the input.

    Args:
        shape: of one input; it is flattened.
        length: L, symbols in a message, at most.
        vocabulary: V.
        hidden: widths of the hidden layers, at least one; the features are the last, which is the GRU's width too.
        variable: whether the symbol ``END`` ends a message, which then repeats it; otherwise it is one like others.
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
        _check(length, vocabulary, clip)
        self.length, self.vocabulary, self.independent, self.clip = length, vocabulary, False, clip
        self.variable = variable
        self.trunk = Trunk(shape, hidden, convolutional=False, rngs=rngs)
        self.cell = nnx.GRUCell(vocabulary, hidden[-1], rngs=rngs)
        self.head = nnx.Linear(hidden[-1], vocabulary, rngs=rngs)

    def features(self, x: Array) -> Array:
        """``[B, *shape]`` to ``[B, D]``."""
        return self.trunk(x)

    def say(self, features: Array, draw: Draw, key: Array) -> Said:
        """A message for each of the features ``[B, D]``."""
        silence = jnp.zeros((features.shape[0], self.vocabulary))
        end = jax.nn.one_hot(END, self.vocabulary)

        def one(carry: tuple[Array, Array, Array], key: Array) -> tuple[tuple[Array, Array, Array], Said]:
            state, before, alive = carry
            state, _ = self.cell(state, before)
            logits = _clipped(self.head(state), self.clip)
            symbols = draw(key, logits)
            if not self.variable:
                return (state, symbols, alive), Said(symbols, logits, alive)
            symbols = alive[:, None] * symbols + (1 - alive[:, None]) * end
            # The symbols already are END as far as the message has ended.
            return (state, symbols, 1 - symbols[:, END]), Said(symbols, logits, alive)

        start = (features, silence, jnp.ones(features.shape[0]))
        _, said = jax.lax.scan(one, start, jax.random.split(key, self.length))
        return Said(*(jnp.moveaxis(part, 0, 1) for part in said))

    def read(self, features: Array, symbols: Array) -> Array:
        """``[B, L, V]``: what would have been said, had ``symbols`` ``[B, L, V]`` been said so far."""
        before = jnp.concatenate([jnp.zeros_like(symbols[:, :1]), symbols[:, :-1]], axis=1)

        def one(state: Array, before: Array) -> tuple[Array, Array]:
            state, _ = self.cell(state, before)
            return state, _clipped(self.head(state), self.clip)

        return jnp.moveaxis(jax.lax.scan(one, features, jnp.moveaxis(before, 1, 0))[1], 0, 1)


def bits_available(length: int, vocabulary: int, *, variable: bool = False) -> float:
    """Bits that a message of ``length`` symbols can carry at most: ``L log2 V``.

    With ``variable`` length a message is told by its symbols before ``END``, at most L: ``log2 Σ_t (V − 1)^t``.

    >>> bits_available(32, 2)
    32.0
    >>> round(bits_available(32, 2, variable=True), 2)
    5.04
    """
    if variable:
        return math.log2(sum((vocabulary - 1) ** count for count in range(length + 1)))
    return length * math.log2(vocabulary)
