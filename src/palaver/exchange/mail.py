"""Packets from node to node: read from inboxes, delivered into them (Algorithm 2 of the thesis)."""

import jax
import jax.numpy as jnp

from palaver.exchange import inbox
from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group, decode, of_nodes
from palaver.exchange.protocol import Coins, decide
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.state import Delivered, OwnBatches, Reading, Said, State
from palaver.types import NO_LABEL, NO_PACKET, Array, Packet, PyTree


def blank(payload: PyTree, batch_size: int, *leading: int) -> Packet:
    """Packets of zeros with these leading axes."""
    return Packet(
        index=jnp.zeros((*leading, batch_size), jnp.int32),
        payload=jax.tree.map(lambda a: jnp.zeros((*leading, *a.shape), a.dtype), payload),
        sender=jnp.zeros(leading, jnp.int32),
        step=jnp.zeros(leading, jnp.int32),
    )


def read(
    state: State, coins: Coins, active: Array, own: OwnBatches, *, group: Collective, sharding: NodeSharding
) -> tuple[State, Reading]:
    """What every node trains on: the oldest packet of its inbox, or its own batch.

    Args:
        state: before the round.
        coins: ``[S, N]`` of the round.
        active: ``[S, N]`` bool: who takes part in it.
        own: the nodes' own next batches.
        group: the collective.
        sharding: where its nodes are.

    Returns:
        The state without the packets that were read, and what was read.

    """
    packets = _stored(state)
    decided = of_nodes(lambda coins, waiting: decide(group.protocol, coins, state.round, waiting))(
        coins, state.inbox.count
    )
    consumed = decided.consume & active
    popped, slot = jax.vmap(inbox.pop)(state.inbox, consumed)
    slot = jnp.maximum(slot, 0)
    rows, labels, received = [], [], []
    local = zip(*(by_group(x, group, sharding) for x in (slot, consumed)), *own, strict=True)
    for (node, _), (place, consume, own_rows, own_labels) in zip(group.groups, local, strict=True):
        rows.append(jnp.where(consume[..., None], _take(packets.index, place), own_rows))
        payload = jax.tree.map(lambda pool, place=place: _take(pool, place), packets.payload)
        sent = NO_LABEL if node.labels_of is None else of_nodes(node.labels_of)(payload).astype(own_labels.dtype)
        labels.append(jnp.where(consume[..., None], sent, own_labels))
        received.append(decode(node, payload))
    sender = jnp.where(consumed, _take(packets.sender, slot), NO_PACKET)
    step = jnp.where(consumed, _take(packets.step, slot), -1)
    after = state._replace(inbox=popped, packets=packets)
    return after, Reading(consumed, decided.broadcast & active, rows, labels, received, sender, step)


def deliver(state: State, said: Said, neighbours: Array, *, group: Collective) -> tuple[State, Delivered]:
    """Delivers what was said into the receivers' inboxes.

    Args:
        state: after reading.
        said: of all nodes.
        neighbours: ``[S, N, P]`` or ``[N, P]`` int32: whom each node's packet reaches, padded with ``NO_PEER``.
        group: the collective.

    Returns:
        The state with the packets on their way, and what became of them.

    """
    nodes = said.broadcast.shape[1]

    def push(boxes: inbox.InboxState, to: Array, broadcast: Array) -> tuple[inbox.InboxState, inbox.Delivery]:
        return inbox.push(boxes, to, broadcast, overflow=group.overflow)

    boxes, delivery = jax.vmap(push, (0, 0 if neighbours.ndim == 3 else None, 0))(
        state.inbox, neighbours, said.broadcast
    )
    after = state._replace(
        inbox=boxes,
        outgoing=Packet(
            index=said.index,
            payload=said.payload,
            sender=jnp.broadcast_to(jnp.arange(nodes, dtype=jnp.int32), delivery.slot.shape),
            step=jnp.full_like(delivery.slot, state.round),
        ),
        slot=delivery.slot,
    )
    return after, Delivered(delivery.slot < boxes.references.shape[-1], delivery.sent, delivery.dropped)


def _stored(state: State) -> Packet:
    """The pool with last round's packets in it.

    They are written only now, before anything is read: XLA can then write the pool in place.
    """
    return jax.tree.map(
        jax.vmap(lambda pool, slot, new: pool.at[slot].set(new, mode="drop")),
        state.packets,
        jax.tree.map(lambda _: state.slot, state.packets),
        state.outgoing,
    )


def _take(pool: Array, slot: Array) -> Array:
    """``[S, M, ...]`` at ``[S, n]``."""
    return jax.vmap(lambda p, s: p[s])(pool, slot)
