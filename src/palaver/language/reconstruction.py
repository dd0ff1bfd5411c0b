"""How much of an input comes back from its message alone: a decoder trained on hard messages (thesis §4.2.2.2)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from palaver.models.blocks import Decoder
from palaver.types import Array


def reconstruct(
    key: Array,
    symbols: Array,
    x: Array,
    held_out: Array,
    *,
    vocabulary: int,
    hidden: int = 256,
    batch_size: int = 256,
    steps: int = 1000,
) -> Array:
    """What a decoder makes of messages it has not seen. ``vmap`` it over senders.

    It descends the squared error by Adam; its outputs are squashed to [0, 1].

    Args:
        key: of the decoder and its batches.
        symbols: ``[M, L]`` ids of training messages.
        x: ``[M, ...]`` the inputs that they are about, uint8 pixels or numbers in [0, 1].
        held_out: ``[T, L]`` other messages.
        vocabulary: V.
        hidden: units of its hidden layer.
        batch_size: examples in a batch.
        steps: of training.

    Returns:
        ``[T, ...]`` reconstructions.

    """
    made, drawn = jax.random.split(key)
    decoder = Decoder(x.shape[1:], symbols.shape[1] * vocabulary, [hidden], convolutional=False, rngs=nnx.Rngs(made))
    structure, params = nnx.split(decoder)
    optimizer = optax.adam(1e-3)

    def decoded(params: Any, symbols: Array) -> Array:
        words = jax.nn.one_hot(symbols, vocabulary).reshape(len(symbols), -1)
        return nnx.sigmoid(nnx.merge(structure, params)(words))

    def loss(params: Any, rows: Array) -> Array:
        told = x[rows].astype(jnp.float32) / (255 if x.dtype == jnp.uint8 else 1)
        return ((decoded(params, symbols[rows]) - told) ** 2).mean()

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        params, state = carry
        slope = jax.grad(loss)(params, jax.random.randint(key, (batch_size,), 0, len(symbols)))
        updates, state = optimizer.update(slope, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(drawn, steps))
    return decoded(params, held_out)
