"""A node: model + objective + channel + optimiser, as pure functions for one node and one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from palaver.types import Array, Batch, Channel, Node, NodeState, Outputs, PalaverError, PyTree


def silence() -> Channel:
    """The channel of nodes that never speak: an empty payload of zero bits."""
    return Channel(encode=lambda _o, _l: (), loss=lambda outputs, _p: jnp.zeros(()), bits=lambda _s: 0)


def _as_outputs(said: Any) -> Outputs:
    """What the model returned: ``Outputs``, or bare logits ``[B, C]``, which are then their own features."""
    return said if isinstance(said, Outputs) else Outputs(logits=said, features=said)


def supervised(
    model: Callable[[nnx.Rngs], nnx.Module],
    channel: Channel | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> Node:
    """A node that learns labels: cross-entropy on its own data, the channel's objective on what it hears.

    Args:
        model: makes the module from its random streams. Called on ``[B, ...]`` inputs it returns ``Outputs`` or logits
            ``[B, C]``. ``train()`` and ``eval()`` are called on it (batch norm, dropout).
        channel: what the node says and how it learns from what it hears; ``None``: it never speaks.
        optimizer: an optax transformation; ``None``: Adam with its default learning rate 0.001, as in the thesis.

    Raises:
        PalaverError: if the model has nothing to train.

    """
    channel = silence() if channel is None else channel
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer

    def build(key: Array) -> nnx.Module:
        return model(nnx.Rngs(key))

    def definition(training: bool) -> nnx.GraphDef[Any]:
        abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
        (abstract.train if training else abstract.eval)()
        return nnx.split(abstract, nnx.Param, ...)[0]

    train_def, eval_def = definition(True), definition(False)
    shapes = jax.tree.leaves(jax.eval_shape(lambda: nnx.split(build(jax.random.key(0)), nnx.Param, ...)[1]))
    size = sum(int(np.prod(leaf.shape)) for leaf in shapes)
    if size == 0:
        raise PalaverError("the model has no nnx.Param: give a module with something to train")

    def init(key: Array) -> NodeState:
        _, *states = nnx.split(build(key), nnx.Param, ...)
        params, extra = map(nnx.to_pure_dict, states)
        return NodeState(params, extra, optimizer.init(params))

    def forward(definition: nnx.GraphDef[Any], params: PyTree, extra: PyTree, x: Array) -> tuple[Outputs, PyTree]:
        module = nnx.merge(definition, params, extra)
        outputs = _as_outputs(module(x))
        _, _, rest = nnx.split(module, nnx.Param, ...)
        return outputs, nnx.to_pure_dict(rest)

    def objective(params: PyTree, extra: PyTree, batch: Batch, payload: PyTree, consume: Array):
        outputs, extra = forward(train_def, params, extra, batch.x)
        # Where nothing was heard the channel's loss is masked, but its gradient must be finite all the same.
        own = jax.lax.stop_gradient(channel.encode(outputs, batch.labels))
        payload = jax.tree.map(partial(jnp.where, consume), payload, own)
        local = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, batch.labels).mean()
        loss = jnp.where(consume, channel.loss(outputs, payload), local)
        return loss, (outputs, extra)

    def step(_key: Array, state: NodeState, batch: Batch, payload: PyTree, consume: Array):
        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, (outputs, extra)), grads = gradient(state.params, state.extra, batch, payload, consume)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        state = NodeState(optax.apply_updates(state.params, updates), extra, opt_state)
        labels = batch.labels
        if channel.known is not None:
            labels = jnp.where(consume, channel.known(payload).astype(labels.dtype), labels)
        return state, channel.encode(outputs, labels), loss

    def predict(state: NodeState, x: Array) -> Outputs:
        return forward(eval_def, state.params, state.extra, x)[0]

    def payload(x: PyTree, labels: PyTree) -> PyTree:
        state = jax.eval_shape(init, jax.random.key(0))
        return jax.eval_shape(lambda s, x, y: channel.encode(predict(s, x), y), state, x, labels)

    return Node(init=init, step=step, predict=predict, payload=payload, bits=channel.bits, parameters=lambda: size)
