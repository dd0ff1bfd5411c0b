"""Inboxes that hold references: which node receives which packet, in which order, and what is dropped.

A broadcast occupies one *slot* of a common pool however many nodes receive it; an inbox is a ring buffer of slot ids.
A slot is free again when no inbox refers to it, so the pool needs ``N·K + N`` slots for any topology and policy.
Within a round every node pops first; then the broadcasts arrive in the order of their senders' ids.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from palaver.types import NO_PACKET, NO_PEER, Array, PalaverError

OVERFLOW = ("drop_oldest", "drop_newest")
"""What a full inbox does with another packet: it drops its oldest one, or the new one."""


class InboxState(NamedTuple):
    """All inboxes of one collective."""

    slots: Array
    """``[N, K]`` int32: slot ids, one ring buffer per node."""
    head: Array
    """``[N]`` int32: position of the oldest packet in the ring buffer."""
    count: Array
    """``[N]`` int32: packets in each inbox."""
    references: Array
    """``[M]`` int32: how many inboxes refer to each slot; 0 is a free one."""


class Delivery(NamedTuple):
    """What became of one round's broadcasts."""

    slot: Array
    """``[N]`` int32: the slot given to each sender's packet, ``M`` (one past the pool) where it sent none."""
    sent: Array
    """``[N]`` int32: to how many neighbours each node sent."""
    dropped: Array
    """``[N]`` int32: packets each *receiver* lost to a full inbox this round."""


def empty(nodes: int, capacity: int) -> InboxState:
    """Empty inboxes (line 1 of the thesis's Algorithm 2).

    >>> empty(3, 2).references.shape
    (9,)

    Args:
        nodes: N.
        capacity: K, packets that each inbox holds.

    Returns:
        The state, with a pool of ``M = N · K + N`` free slots.

    Raises:
        PalaverError: if ``capacity`` is below 1.

    """
    if capacity < 1:
        raise PalaverError(f"inbox capacity is {capacity}: give at least 1")
    return InboxState(
        slots=jnp.zeros((nodes, capacity), jnp.int32),
        head=jnp.zeros(nodes, jnp.int32),
        count=jnp.zeros(nodes, jnp.int32),
        references=jnp.zeros(nodes * capacity + nodes, jnp.int32),
    )


def pop(state: InboxState, want: Array) -> tuple[InboxState, Array]:
    """Takes the oldest packet out of the inbox of every node that wants one and has one (Algorithm 2, line 8).

    Args:
        state: before.
        want: ``[N]`` bool: which nodes want to read.

    Returns:
        The new state and ``[N]`` int32: the slot each node reads this round, ``NO_PACKET`` where it reads none.

    """
    capacity = state.slots.shape[1]
    take = want & (state.count > 0)
    oldest = jnp.take_along_axis(state.slots, state.head[:, None], axis=1)[:, 0]
    beyond = state.references.shape[0]
    state = state._replace(
        head=jnp.where(take, (state.head + 1) % capacity, state.head),
        count=state.count - take,
        references=state.references.at[jnp.where(take, oldest, beyond)].add(-1, mode="drop"),
    )
    return state, jnp.where(take, oldest, NO_PACKET)


def push(
    state: InboxState, neighbours: Array, broadcast: Array, *, overflow: str = "drop_oldest"
) -> tuple[InboxState, Delivery]:
    """Delivers this round's broadcasts: a slot for each sender, a reference to it in each neighbour's inbox.

    The broadcasters' edges are sorted by receiver and delivered together, in chunks of at most max(N, P) edges: one
    chunk where the broadcasters have no more than that.

    Args:
        state: before.
        neighbours: ``[N, P]`` int32: the nodes that each node sends to, padded with ``NO_PEER``.
        broadcast: ``[N]`` bool: which nodes broadcast.
        overflow: of ``OVERFLOW``.

    Returns:
        The new state, and what became of the broadcasts (lines 14 to 18 of the thesis's Algorithm 2).

    Raises:
        PalaverError: if ``overflow`` is not one of them.

    """
    if overflow not in OVERFLOW:
        raise PalaverError(f"overflow is {overflow!r}: choose one of {', '.join(OVERFLOW)}")
    nodes, width = neighbours.shape
    pool = state.references.shape[0]
    # Few nodes broadcast in a round, so only their edges are looked at, in chunks of at most N (or one sender's P).
    senders_at_once = max(1, nodes // width)
    padded = -(-nodes // senders_at_once) * senders_at_once
    senders = jnp.nonzero(broadcast, size=padded, fill_value=nodes)[0].astype(jnp.int32)
    # N·K packets wait at most, so that N slots are free, one for each sender.
    free = jnp.nonzero(state.references == 0, size=padded, fill_value=pool)[0].astype(jnp.int32)

    def deliver(chunk: Array, carry: tuple[InboxState, Delivery]) -> tuple[InboxState, Delivery]:
        state, delivery = carry
        start = chunk * senders_at_once
        sender, slot = (jax.lax.dynamic_slice_in_dim(ids, start, senders_at_once) for ids in (senders, free))
        to = neighbours.at[sender].get(mode="fill", fill_value=NO_PEER)
        sent = (to != NO_PEER).sum(1, dtype=jnp.int32)
        state, lost = _deliver(state, jnp.where(to == NO_PEER, nodes, to), slot, overflow)
        return state, Delivery(
            slot=delivery.slot.at[sender].set(jnp.where(sent > 0, slot, pool), mode="drop"),
            sent=delivery.sent.at[sender].set(sent, mode="drop"),
            dropped=delivery.dropped + lost,
        )

    zeros = jnp.zeros(nodes, jnp.int32)
    nothing = Delivery(slot=jnp.full(nodes, pool, jnp.int32), sent=zeros, dropped=zeros)
    chunks = -(-broadcast.sum(dtype=jnp.int32) // senders_at_once)
    return jax.lax.fori_loop(0, chunks, deliver, (state, nothing))


def _deliver(state: InboxState, to: Array, slot: Array, overflow: str) -> tuple[InboxState, Array]:
    """Delivers the packets of some senders at once, as if one after the other.

    An arrival has a *place*: how many packets came to its inbox before it and have not been read. Places count on
    beyond K; the ring buffer has room for place ``p`` at ``(head + p) % K``. Of T places a full inbox keeps the last K
    or the first, as its policy says.

    Args:
        state: before.
        to: ``[R, P]`` int32: the receivers of R senders in the order of their ids; N where there is none.
        slot: ``[R]`` int32: where these senders' packets are in the pool.
        overflow: of ``OVERFLOW``.

    Returns:
        The new state, and ``[N]`` int32: packets that each receiver lost.

    """
    nodes, capacity = state.slots.shape
    pool = state.references.shape[0]
    packet = jnp.broadcast_to(slot[:, None], to.shape)
    receiver, packet = jax.lax.sort((to.ravel(), packet.ravel()), num_keys=1, is_stable=True)
    arrivals = jnp.zeros(nodes, jnp.int32).at[receiver].add(1, mode="drop")
    first = jnp.cumsum(arrivals) - arrivals
    total = state.count + arrivals
    lost = jnp.maximum(total - capacity, 0)
    head, waiting, first, oldest = (a.at[receiver].get(mode="clip") for a in (state.head, state.count, first, lost))
    place = waiting + jnp.arange(receiver.size, dtype=jnp.int32) - first
    kept = (receiver < nodes) & (place >= oldest if overflow == "drop_oldest" else place < capacity)
    position = (head + place) % capacity
    # Whatever waits at the position of a packet that is kept is among those that the inbox drops.
    evicted = jnp.where(kept & (place % capacity < waiting), state.slots.at[receiver, position].get(mode="clip"), pool)
    references = state.references.at[evicted].add(-1, mode="drop")
    return InboxState(
        slots=state.slots.at[jnp.where(kept, receiver, nodes), position].set(packet, mode="drop"),
        head=(state.head + lost) % capacity if overflow == "drop_oldest" else state.head,
        count=jnp.minimum(total, capacity),
        references=references.at[jnp.where(kept, packet, pool)].add(1, mode="drop"),
    ), lost
