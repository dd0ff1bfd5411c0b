"""A node: model + objective + channel + optimiser, as pure functions for one node and one batch."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.extend.core import Literal

from palaver.arguments import count, failure_of, function, instance
from palaver.channels import none
from palaver.channels.checks import check_channel
from palaver.objectives import Objective, as_outputs, cross_entropy
from palaver.types import (
    NO_LABEL,
    Array,
    Batch,
    Channel,
    Gradients,
    Node,
    NodeState,
    Outputs,
    PalaverError,
    PyTree,
    StepInfo,
)

_PROJECTION = "projection"

_MAKE = "a function of random streams that makes a flax nnx module, such as lambda rngs: MLP((8, 8), 10, rngs=rngs)"


class _Group(NamedTuple):
    """Attributes of the module that are trained on the same loss, with one optimiser state."""

    parts: tuple[str, ...]
    loss: int
    on_local: bool
    """Whether the node's own batches train them; if not, these batches leave parameters and optimiser unchanged."""
    on_received: bool
    """Whether received batches train them; if not, these batches leave parameters and optimiser unchanged."""


def _groups(objective: Objective, attributes: set[str]) -> list[_Group]:
    """Which of these trained attributes of a module are trained on which loss; one in no group is never trained."""
    parts = objective.parts or (tuple(sorted(attributes - {_PROJECTION})),)
    missing = {*itertools.chain(*parts), *(objective.channel_trains or ())} - attributes
    if missing:
        raise PalaverError(f"the model has no {', '.join(sorted(missing))} to train: its objective needs one")
    groups = []
    for loss, part in enumerate(parts):
        both = tuple(name for name in part if objective.channel_trains is None or name in objective.channel_trains)
        local = tuple(name for name in part if name not in both)
        groups += [_Group(names, loss, True, receives) for names, receives in ((both, True), (local, False)) if names]
    if _PROJECTION in attributes:
        loss = next(group.loss for group in groups if group.on_received)
        groups.append(_Group((_PROJECTION,), loss, False, True))
    return groups


def _of(tree: dict[str, PyTree], parts: tuple[str, ...]) -> dict[str, PyTree]:
    """The subtrees of these attributes; some have no variables of a kind."""
    return {name: tree[name] for name in parts if name in tree}


def _descend(
    optimizer: optax.GradientTransformation,
    groups: list[_Group],
    state: NodeState,
    gradients: Gradients,
    consume: Array,
) -> NodeState:
    """One step of every group on its own loss.

    Args:
        optimizer: of every group.
        groups: from ``_groups``.
        state: before the step.
        gradients: of every loss.
        consume: scalar bool: whether the batch was received.

    """
    grads, model_state = gradients
    params, opt_state = dict(state.params), []
    for group, old in zip(groups, state.opt_state, strict=True):
        before = _of(state.params, group.parts), old, _of(state.model_state, group.parts)
        updates, new = optimizer.update(_of(grads[group.loss], group.parts), old, before[0])
        moved: Any = optax.apply_updates(before[0], updates)
        after = moved, new, _of(model_state, group.parts)
        if not (group.on_local and group.on_received):
            trains = consume if group.on_received else ~jnp.asarray(consume)
            after = jax.tree.map(partial(jnp.where, trains), after, before)
        params |= after[0]
        opt_state.append(after[1])
        model_state = model_state | after[2]
    return NodeState(params, model_state, opt_state)


def _build(model: Callable[[nnx.Rngs], nnx.Module], projection: int, key: Array) -> nnx.Module:
    """The module, with the learned projection if there is one."""
    rngs = nnx.Rngs(key)
    with failure_of("model", _MAKE):
        module = instance("what model makes", model(rngs), nnx.Module, _MAKE)
    if projection:
        eye = nnx.initializers.constant(jnp.eye(projection))
        setattr(module, _PROJECTION, nnx.Linear(projection, projection, kernel_init=eye, rngs=rngs))
    return module


def _traced(
    build: Callable[[Array], nnx.Module],
) -> tuple[nnx.GraphDef[Any], nnx.GraphDef[Any], dict[str, PyTree]]:
    """The module's structure in training and in evaluation, and its trained numbers' shapes; nothing is computed."""
    module = nnx.eval_shape(lambda: build(jax.random.key(0)))
    module.train()
    training = nnx.split(module, nnx.Param, ...)[0]
    module.eval()
    evaluation, params, _ = nnx.split(module, nnx.Param, ...)
    shapes = nnx.to_pure_dict(params)
    if not _size(shapes):
        raise PalaverError("the model has no nnx.Param: give a module with something to train")
    return training, evaluation, shapes


def _size(params: PyTree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _outputs(predict: Callable[[PyTree, Any], Outputs], state: PyTree, x: Any, projection: int) -> Outputs:
    """Shapes of the model's outputs on these inputs, checked."""
    with failure_of(f"the model on inputs {x.shape}", "make it for inputs of the data's shape"):
        outputs = jax.eval_shape(predict, state, x)
    batches = outputs.logits.shape[0], outputs.features.shape[0]
    if batches != (x.shape[0],) * 2:
        raise PalaverError(f"the model gives outputs of {batches} examples for {x.shape[0]}: keep the batch axis")
    width = outputs.features.shape[-1]
    if projection not in (0, width):
        raise PalaverError(f"projection is {projection} for features {width} wide: give {width}, or 0 for none")
    return outputs


def check_optimizer(name: str, optimizer: Any, params: Sequence[PyTree]) -> optax.GradientTransformation:
    """Checks an optimiser: it is traced once for each tree of parameters, and nothing is computed.

    Args:
        name: of the argument.
        optimizer: what was given.
        params: shapes of the trees that it will update.

    Returns:
        The optimiser.

    Raises:
        PalaverError: it is no optax transformation, cannot update such parameters, or multiplies by NaN, such as a
            learning rate. A schedule that becomes NaN later is not found.

    """
    instance(name, optimizer, optax.GradientTransformation, "an optax transformation, such as optax.adam(1e-3)")
    for tree in params:
        with failure_of(name, "give an optax transformation that needs only gradients, its state and the parameters"):
            program = jax.make_jaxpr(lambda p: optimizer.update(p, optimizer.init(p), p))(tree)
        factors = [
            arg.val
            for eqn in program.eqns
            if eqn.primitive.name == "mul"
            for arg in eqn.invars
            if isinstance(arg, Literal)
        ]
        floats = [f for f in [*factors, *program.consts] if np.ndim(f) == 0 and jnp.issubdtype(f.dtype, jnp.floating)]
        if any(np.isnan(factor) for factor in floats):
            raise PalaverError(
                f"{name} multiplies by NaN: give a learning rate that is a number, such as optax.adam(1e-3)"
            )
    return optimizer


def _gradients(
    definition: nnx.GraphDef[Any],
    objective: Objective,
    channel: Channel,
    projected: bool,
) -> Callable[[Array, NodeState, Batch, PyTree, Array], tuple[Gradients, StepInfo]]:
    """See ``Node.gradients``."""

    def gradients(key: Array, state: NodeState, batch: Batch, received: PyTree, consume: Array):
        def losses(params: PyTree) -> tuple[tuple[Array, ...], tuple[Outputs, PyTree]]:
            """The objective's losses; on a received batch the channel's loss in place of each."""
            module = nnx.merge(definition, params, state.model_state)
            outputs, local = objective.losses(module, batch, key)
            # Where nothing was received the channel's loss is masked, but its gradient must be finite all the same.
            own = jax.lax.stop_gradient(channel.encode(outputs, batch.labels))
            own = own if channel.decode is None else channel.decode(own)
            compared, target = outputs, jax.tree.map(partial(jnp.where, consume), received, own)
            if projected:
                compared = outputs._replace(features=getattr(module, _PROJECTION)(outputs.features))
            loss = channel.loss(compared, target)
            _, _, rest = nnx.split(module, nnx.Param, ...)
            return tuple(jnp.where(consume, loss, each) for each in local), (outputs, nnx.to_pure_dict(rest))

        values, pull, (outputs, model_state) = jax.vjp(losses, state.params, has_aux=True)
        grads = [pull(tuple(only))[0] for only in np.eye(len(values), dtype=np.float32)]
        info = StepInfo(payload=channel.encode(outputs, batch.labels), loss=jnp.mean(jnp.stack(values)))
        return Gradients(grads, model_state), info

    return gradients


def supervised(
    model: Callable[[nnx.Rngs], nnx.Module],
    channel: Channel | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> Node:
    """A node that learns labels: ``learner`` with the cross-entropy on its own data (thesis §2.2.3.1).

    >>> from palaver import models
    >>> supervised(lambda rngs: models.MLP((8, 8), 10, hidden=(), rngs=rngs)).parameters()
    650

    Args:
        model: makes the module from its random streams; called on ``[B, ...]`` inputs it returns ``Outputs`` or logits
            ``[B, C]``.
        channel: what nodes send each other; ``None``: nothing (``channels.none``).
        optimizer: an optax transformation; ``None``: Adam with its default learning rate 0.001, as in the thesis.

    Returns:
        The node, as pure functions for one node and one batch.

    Raises:
        PalaverError: if the model has nothing to train.

    """
    return learner(model, cross_entropy(), channel, optimizer=optimizer)


def _check_given(model: Any, objective: Any, channel: Any) -> None:
    """Raises ``PalaverError`` for arguments of another kind than ``learner`` takes."""
    if isinstance(model, nnx.Module):
        raise PalaverError(f"model is a module, a {type(model).__name__}: give {_MAKE}")
    function("model", model, _MAKE)
    instance("objective", objective, Objective, "what a function of palaver.objectives returns, such as elbo()")
    instance("channel", channel, Channel, "what a function of palaver.channels returns, such as logits()")


def _init(
    build: Callable[[Array], nnx.Module], optimizer: optax.GradientTransformation, groups: list[_Group], key: Array
) -> NodeState:
    """See ``Node.init``."""
    _, *states = nnx.split(build(key), nnx.Param, ...)
    params, model_state = map(nnx.to_pure_dict, states)
    return NodeState(params, model_state, [optimizer.init(_of(params, group.parts)) for group in groups])


def learner(
    model: Callable[[nnx.Rngs], nnx.Module],
    objective: Objective,
    channel: Channel | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    projection: int = 0,
) -> Node:
    """A node that is trained on its objective with its own data, and on its channel's loss with received data.

    Args:
        model: makes the module from its random streams. Called on ``[B, ...]`` inputs it returns ``Outputs`` or logits
            ``[B, C]``; the objective may ask more of it. ``train()`` and ``eval()`` are called on it.
        objective: from ``palaver.objectives``.
        channel: what the node sends and how it learns from what it receives; ``None``: nothing (``channels.none``).
        optimizer: an optax transformation, one for each loss of the objective; ``None``: Adam(0.001), as in the thesis.
        projection: D, the width of the features, puts a learned linear map (at first the identity) between the node's
            features and those it receives; 0: they are compared as they are.

    Returns:
        The node, as pure functions for one node and one batch; a step is lines 7 to 13 of the thesis's Algorithm 2.

    Raises:
        PalaverError: an argument of another kind, a model that cannot be made, has nothing to train, or lacks a part
            that the objective trains, or an optimiser that cannot update its parameters or multiplies by NaN. A model
            or a channel that does not suit the data is found when these are known: ``payload`` raises it.

    """
    channel = none() if channel is None else channel
    _check_given(model, objective, channel)
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    projection = count("projection", projection, least=0)
    build = partial(_build, model, projection)
    train_def, eval_def, shapes = _traced(build)
    groups = _groups(objective, set(shapes))
    check_optimizer("optimizer", optimizer, [_of(shapes, group.parts) for group in groups])

    init = partial(_init, build, optimizer, groups)

    def evaluated(state: NodeState) -> Any:
        return nnx.merge(eval_def, state.params, state.model_state)

    def predict(state: NodeState, x: Array) -> Outputs:
        return as_outputs(evaluated(state)(x))

    def payload(x: PyTree, labels: PyTree) -> PyTree:
        state = jax.eval_shape(lambda: init(jax.random.key(0)))
        return check_channel(channel, _outputs(predict, state, x, projection), labels)

    def encode(state: NodeState, x: Array) -> PyTree:
        return channel.encode(predict(state, x), jnp.full(x.shape[:1], NO_LABEL, jnp.int32))

    gradients = _gradients(train_def, objective, channel, projection > 0)
    update = partial(_descend, optimizer, groups)

    def step(key: Array, state: NodeState, batch: Batch, received: PyTree, consume: Array):
        found, info = gradients(key, state, batch, received, consume)
        return update(state, found, consume), info

    metrics, pictures = objective.metrics, objective.pictures
    return Node(
        init=init,
        step=step,
        predict=predict,
        payload=payload,
        bits=channel.bits,
        parameters=lambda: _size(shapes),
        encode=encode,
        decode=channel.decode,
        labels_of=channel.labels_of,
        gradients=gradients,
        update=update,
        metrics=None if metrics is None else lambda key, state, x: metrics(evaluated(state), x, key),
        pictures=None if pictures is None else lambda key, state, x: pictures(evaluated(state), x, key),
    )
