"""What those nodes say that speak in a round, of inputs that are the same for all: the truth, or lies."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from palaver.exchange.description import Collective
from palaver.exchange.liars import lies, untruth
from palaver.exchange.mapping import of_nodes
from palaver.types import Array, Node, NodeState, PyTree

_MARGIN = 1.5
"""How many speakers are computed at once, in multiples of those that are expected."""


def outputs_of_speakers(node: Node, states: NodeState, x: Array, speaks: Array, loop: str, expected: float) -> PyTree:
    """The payloads ``[S, n, B, ...]`` of the nodes that speak, about the same inputs; zeros for the others.

    The forward pass is a second one beside the step's, so it is computed for the speakers alone: one after the other,
    or so many at once as are expected to speak.

    Args:
        node: of the group.
        states: leaves ``[S, n, ...]``.
        x: ``[S, B, ...]`` inputs.
        speaks: ``[S, n]`` bool.
        loop: ``vmap`` or ``map``, see ``palaver.exchange.round.node_loop``.
        expected: the share of the nodes that speak in a round.

    """
    assert node.encode is not None
    seeds, nodes = speaks.shape
    learners = seeds * nodes
    flat = jax.tree.map(lambda a: a.reshape(learners, *a.shape[2:]), states)
    wanted, seed = speaks.reshape(-1), jnp.repeat(jnp.arange(seeds), nodes)
    shapes = jax.eval_shape(node.encode, jax.tree.map(lambda a: a[0], flat), x[0])
    zeros = jax.tree.map(lambda a: jnp.zeros((learners, *a.shape), a.dtype), shapes)
    if loop == "map":

        def one(args: tuple[NodeState, Array, Array]) -> PyTree:
            state, seed, wanted = args
            nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
            return jax.lax.cond(wanted, lambda: node.encode(state, x[seed]), lambda: nothing)  # type: ignore[misc]

        said = jax.lax.map(one, (flat, seed, wanted))
    else:
        at_once = min(learners, max(1, math.ceil(_MARGIN * expected * learners)))
        chunks = -(-learners // at_once)
        who = jnp.nonzero(wanted, size=chunks * at_once, fill_value=learners)[0]

        def some(chunk: Array, said: PyTree) -> PyTree:
            ids = jax.lax.dynamic_slice_in_dim(who, chunk * at_once, at_once)
            own = jax.tree.map(lambda a: a.at[ids].get(mode="clip"), flat)
            new = jax.vmap(node.encode)(own, x[seed.at[ids].get(mode="clip")])  # type: ignore[arg-type]
            return jax.tree.map(lambda a, b: a.at[ids].set(b, mode="drop"), said, new)

        said = jax.lax.fori_loop(0, -(-wanted.sum() // at_once), some, zeros)
    return jax.tree.map(lambda a: a.reshape(seeds, nodes, *a.shape[1:]), said)


def with_lies(
    keys: Array,
    step: Array,
    node: Node,
    own: NodeState,
    x: Array,
    ids: Array,
    speaks: Array,
    received: Array,
    *,
    group: Collective,
    loop: str,
) -> tuple[Array, Array]:
    """Who lies, ``[S, n]``, and what is received: in place of what liars would have said, their lies.

    These are about all that a liar's model holds to be true, whatever the channel sends of it.

    Args:
        keys: ``[S]``, of the seeds.
        step: scalar int32: the round.
        node: of the group.
        own: its states, leaves ``[S, n, ...]``.
        x: ``[S, B, ...]`` inputs.
        ids: ``[S, n]`` of the nodes.
        speaks: ``[S, n]`` bool.
        received: ``[S, n, B, C]``: what they would say, decoded.
        group: the collective.
        loop: as for ``outputs_of_speakers``.

    """

    def encode(state: NodeState, x: Array) -> Array:
        return jax.nn.softmax(node.predict(state, x).logits)

    keys = jnp.broadcast_to(keys[:, None], ids.shape)
    liar = of_nodes(partial(lies, group.liars, nodes=group.nodes))(keys, ids)
    honest = node._replace(encode=encode)
    truth = outputs_of_speakers(honest, own, x, speaks & liar, loop, group.protocol.p_broadcast)
    false = of_nodes(partial(untruth, group.liars, step))(keys, ids, truth)
    return liar, jnp.where(liar[..., None, None], false, received)
