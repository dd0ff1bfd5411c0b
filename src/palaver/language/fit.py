"""Training of a small model on arrays by Adam, as part of a compiled program."""

from collections.abc import Callable

import jax
import optax

from palaver.types import Array, PyTree


def fit(
    key: Array,
    params: PyTree,
    loss: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]],
    memory: PyTree,
    *,
    size: int,
    batch_size: int,
    steps: int,
    learning_rate: float = 1e-3,
) -> PyTree:
    """Parameters after some steps of Adam on batches that are drawn with replacement.

    Args:
        key: of the batches.
        params: before the first step.
        loss: ``loss(params, memory, rows [B] int32) -> (scalar, memory)``; the next step gets that memory.
        memory: for the first step.
        size: M, examples to draw from.
        batch_size: B.
        steps: of Adam.
        learning_rate: of Adam.

    Returns:
        The parameters after the last step.

    """
    optimizer = optax.adam(learning_rate)

    def step(carry: tuple[PyTree, PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree, PyTree], None]:
        params, opt_state, memory = carry
        rows = jax.random.randint(key, (batch_size,), 0, size)
        grads, memory = jax.grad(loss, has_aux=True)(params, memory, rows)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, memory), None

    carry = params, optimizer.init(params), memory
    return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][0]
