"""Silent twins of all nodes, and whom these believe for it: ``palaver.gate`` over nodes and seeds.

A twin begins as its node does, and takes each of its node's steps on a batch of its own: nothing that was heard ever
reaches it. Arrays have the axes ``S`` seeds, ``N`` nodes, and ``n`` nodes of one group on this device.
"""

import jax
import jax.numpy as jnp

from palaver import gate
from palaver.data.inputs import to_float
from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group, decode, node_loop, of_nodes, vmap_nodes
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.speakers import outputs_of_speakers
from palaver.exchange.state import OwnBatches, Said, Shards, State
from palaver.types import NO_PEER, Array, Batch, Node, NodeState


def strangers(group: Collective, seeds: int) -> tuple[gate.Trust, ...]:
    """What nodes think of each other before the first round, a group each, leaves ``[S, n, N]``."""
    blank = gate.strangers(group.nodes)
    return tuple(
        jax.tree.map(lambda a, many=many: jnp.broadcast_to(a, (seeds, many, *a.shape)), blank)
        for _, many in group.groups
    )


def train(
    state: State,
    shards: Shards,
    keys: Array,
    own: OwnBatches,
    steps: Array,
    *,
    group: Collective,
    sharding: NodeSharding,
    loop: str | None,
) -> tuple[NodeState, ...]:
    """The twins after the steps that their nodes take on batches of their own.

    Args:
        state: before the round.
        shards: the data.
        keys: ``[S, N]`` random keys of the nodes' steps.
        own: the nodes' own next batches.
        steps: ``[S, N]`` bool: whose node trains on its own batch.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    """
    of_all = [by_group(x, group, sharding) for x in (keys, steps)]
    local = zip(group.groups, state.twins, state.heard, *own, *of_all, strict=True)
    after = []
    for (node, _), twins, heard, rows, labels, key, step in local:
        nothing = jnp.zeros((group.protocol.batch_size, *heard.total.shape[3:]))

        def one(
            key: Array,
            twin: NodeState,
            rows: Array,
            labels: Array,
            step: Array,
            node: Node = node,
            nothing: Array = nothing,
        ) -> NodeState:
            batch = Batch(to_float(shards.x[rows]), labels)
            return jax.lax.cond(step, lambda: node.step(key, twin, batch, nothing, jnp.bool_(False))[0], lambda: twin)

        after.append(vmap_nodes(one, loop or node_loop(node))(key, twins, rows, labels, step))
    return tuple(after)


def judge(
    state: State,
    said: Said,
    neighbours: Array,
    shards: Shards,
    *,
    group: Collective,
    sharding: NodeSharding,
    loop: str | None,
) -> tuple[State, list[Array]]:
    """Every node judges what arrives by its twin.

    Args:
        state: with the twins after their steps.
        said: of all nodes, payloads decoded.
        neighbours: ``[S, N, P]`` or ``[N, P]`` int32: whom each node's packet reaches, padded with ``NO_PEER``.
        shards: the data.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    Returns:
        The state with what nodes think of each other, and for each group what each sender's packet weighs at each
        receiver, ``[S, n, N]``, 0 where none arrived.

    """
    x, trusts, believed = to_float(shards.x[said.index[:, 0]]), [], []
    arrived = by_group(_arrivals(said.broadcast, neighbours), group, sharding)
    for (node, _), twins, trust, here in zip(group.groups, state.twins, state.trust, arrived, strict=True):
        answers = outputs_of_speakers(node, twins, x, here.any(-1), loop or node_loop(node), 1.0)
        by_sender = jax.vmap(gate.agreement, (None, 0))
        agreed = jax.vmap(jax.vmap(by_sender, (0, None)))(decode(node, answers), said.payload)
        after = of_nodes(gate.observe)(trust, agreed, here)
        trusts.append(after)
        believed.append(jnp.where(here, of_nodes(gate.belief)(after), 0.0))
    return state._replace(trust=tuple(trusts)), believed


def _arrivals(broadcast: Array, neighbours: Array) -> Array:
    """``[S, N, N]`` bool: whether a packet arrives at a receiver, from a sender."""
    nodes = broadcast.shape[1]
    to = jnp.broadcast_to(jnp.where(neighbours == NO_PEER, nodes, neighbours), (*broadcast.shape, neighbours.shape[-1]))

    def one(to: Array, broadcast: Array) -> Array:
        senders = jnp.arange(nodes)[:, None]
        return jnp.zeros((nodes, nodes), bool).at[to, senders].set(broadcast[:, None], mode="drop")

    return jax.vmap(one)(to, broadcast)
