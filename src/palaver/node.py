"""A node: model + objective + channel + optimiser, as pure functions for one node and one batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from palaver.objectives import Objective, as_outputs, cross_entropy
from palaver.types import Array, Batch, Channel, Node, NodeState, Outputs, PalaverError, PyTree

_PROJECTION = "projection"


class _Group(NamedTuple):
    """Attributes of the module that descend the same loss with one optimiser state."""

    parts: tuple[str, ...]
    loss: int
    on_own: bool
    """Whether they learn from the node's own data; otherwise they stand still then, momentum and all."""
    on_heard: bool
    """Whether they learn from what is heard; otherwise they stand still then."""


def _groups(objective: Objective, attributes: set[str]) -> list[_Group]:
    """Who descends what, for a module with these trained attributes. One that is in no group is never trained."""
    parts = objective.parts or (tuple(sorted(attributes - {_PROJECTION})),)
    missing = {*itertools.chain(*parts), *(objective.listens or ())} - attributes
    if missing:
        raise PalaverError(f"the model has no {', '.join(sorted(missing))} to train: its objective needs one")
    groups = []
    for loss, part in enumerate(parts):
        listening = tuple(name for name in part if objective.listens is None or name in objective.listens)
        still = tuple(name for name in part if name not in listening)
        groups += [_Group(names, loss, True, hears) for names, hears in ((listening, True), (still, False)) if names]
    if _PROJECTION in attributes:
        loss = next(group.loss for group in groups if group.on_heard)
        groups.append(_Group((_PROJECTION,), loss, False, True))
    return groups


def _of(tree: dict[str, PyTree], parts: tuple[str, ...]) -> dict[str, PyTree]:
    """The subtrees of these attributes; some have no variables of a kind."""
    return {name: tree[name] for name in parts if name in tree}


def _descend(
    optimizer: optax.GradientTransformation,
    groups: list[_Group],
    state: NodeState,
    slopes: list[dict[str, PyTree]],
    extra: dict[str, PyTree],
    consume: Array,
) -> NodeState:
    """One step of every group on its own loss; ``slopes``: a loss each, ``extra``: what the forward pass left."""
    params, opt_state = dict(state.params), []
    for group, old in zip(groups, state.opt_state, strict=True):
        before = _of(state.params, group.parts), old, _of(state.extra, group.parts)
        updates, new = optimizer.update(_of(slopes[group.loss], group.parts), old, before[0])
        moved: Any = optax.apply_updates(before[0], updates)
        after = moved, new, _of(extra, group.parts)
        if not (group.on_own and group.on_heard):
            moves = consume if group.on_heard else ~jnp.asarray(consume)
            after = jax.tree.map(partial(jnp.where, moves), after, before)
        params |= after[0]
        opt_state.append(after[1])
        extra = extra | after[2]
    return NodeState(params, extra, opt_state)


def _build(model: Callable[[nnx.Rngs], nnx.Module], projection: int, key: Array) -> nnx.Module:
    """The module, with the learned projection if there is one."""
    rngs = nnx.Rngs(key)
    module = model(rngs)
    if projection:
        eye = nnx.initializers.constant(jnp.eye(projection))
        setattr(module, _PROJECTION, nnx.Linear(projection, projection, kernel_init=eye, rngs=rngs))
    return module


def _definition(build: Callable[[Array], nnx.Module], mode: str) -> nnx.GraphDef[Any]:
    """The module's structure in ``train`` or ``eval`` mode; nothing is computed."""
    abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
    getattr(abstract, mode)()
    return nnx.split(abstract, nnx.Param, ...)[0]


def silence() -> Channel:
    """The channel of nodes that never speak: an empty payload of zero bits."""
    return Channel(encode=lambda _o, _l: (), loss=lambda outputs, _p: jnp.zeros(()), bits=lambda _s: 0)


def supervised(
    model: Callable[[nnx.Rngs], nnx.Module],
    channel: Channel | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> Node:
    """A node that learns labels: ``learner`` with the cross-entropy on its own data."""
    return learner(model, cross_entropy(), channel, optimizer=optimizer)


def learner(
    model: Callable[[nnx.Rngs], nnx.Module],
    objective: Objective,
    channel: Channel | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    projection: int = 0,
) -> Node:
    """A node that descends its objective on its own data, and its channel's on what it hears.

    Args:
        model: makes the module from its random streams. Called on ``[B, ...]`` inputs it returns ``Outputs`` or logits
            ``[B, C]``; the objective may ask more of it. ``train()`` and ``eval()`` are called on it (batch norm,
            dropout).
        objective: from ``palaver.objectives``.
        channel: what the node says and how it learns from what it hears; ``None``: it never speaks.
        optimizer: an optax transformation; ``None``: Adam with its default learning rate 0.001, as in the thesis.
            Where the objective trains parts of the module for different losses, each part has one of its own.
        projection: D, the width of the features, puts a learned linear map (at first the identity) between the node's
            features and those it hears; 0: they are compared as they are.

    Raises:
        PalaverError: if the model has nothing to train, or lacks a part that the objective trains.

    """
    channel = silence() if channel is None else channel
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer

    build = partial(_build, model, projection)
    train_def, eval_def = _definition(build, "train"), _definition(build, "eval")
    shapes = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.split(build(jax.random.key(0)), nnx.Param, ...)[1]))
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    if size == 0:
        raise PalaverError("the model has no nnx.Param: give a module with something to train")
    groups = _groups(objective, set(shapes))

    def init(key: Array) -> NodeState:
        _, *states = nnx.split(build(key), nnx.Param, ...)
        params, extra = map(nnx.to_pure_dict, states)
        return NodeState(params, extra, [optimizer.init(_of(params, group.parts)) for group in groups])

    def losses(params: PyTree, extra: PyTree, batch: Batch, payload: PyTree, consume: Array, key: Array) -> Any:
        module = nnx.merge(train_def, params, extra)
        outputs, local = objective.losses(module, batch, key)
        # Where nothing was heard the channel's loss is masked, but its gradient must be finite all the same.
        own = jax.lax.stop_gradient(channel.encode(outputs, batch.labels))
        payload = jax.tree.map(partial(jnp.where, consume), payload, own)
        compared = outputs
        if projection:
            compared = outputs._replace(features=getattr(module, _PROJECTION)(outputs.features))
        heard = channel.loss(compared, payload)
        _, _, rest = nnx.split(module, nnx.Param, ...)
        return tuple(jnp.where(consume, heard, loss) for loss in local), (outputs, nnx.to_pure_dict(rest))

    def step(key: Array, state: NodeState, batch: Batch, payload: PyTree, consume: Array):
        values, pull, (outputs, extra) = jax.vjp(
            lambda params: losses(params, state.extra, batch, payload, consume, key), state.params, has_aux=True
        )
        places = range(len(values))
        slopes = [pull(tuple(jnp.float32(place == other) for other in places))[0] for place in places]
        after = _descend(optimizer, groups, state, slopes, extra, consume)
        labels = batch.labels
        if channel.known is not None:
            labels = jnp.where(consume, channel.known(payload).astype(labels.dtype), labels)
        return after, channel.encode(outputs, labels), jnp.mean(jnp.stack(values))

    def asked(state: NodeState) -> Any:
        return nnx.merge(eval_def, state.params, state.extra)

    def predict(state: NodeState, x: Array) -> Outputs:
        return as_outputs(asked(state)(x))

    def payload(x: PyTree, labels: PyTree) -> PyTree:
        state = jax.eval_shape(init, jax.random.key(0))
        return jax.eval_shape(lambda s, x, y: channel.encode(predict(s, x), y), state, x, labels)

    metrics, pictures = objective.metrics, objective.pictures
    return Node(
        init=init,
        step=step,
        predict=predict,
        payload=payload,
        bits=channel.bits,
        parameters=lambda: size,
        metrics=None if metrics is None else lambda key, state, x: metrics(asked(state), x, key),
        pictures=None if pictures is None else lambda key, state, x: pictures(asked(state), x, key),
    )
