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
    cursor: Array
    """Scalar int32: where the next search for a free slot starts."""


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
        cursor=jnp.zeros((), jnp.int32),
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
    nodes, capacity = state.slots.shape
    pool = state.references.shape[0]
    senders = jnp.nonzero(broadcast, size=nodes, fill_value=nodes)[0].astype(jnp.int32)

    def deliver(i: Array, carry: tuple[InboxState, Array, Array, Array]) -> tuple[InboxState, Array, Array, Array]:
        state, slot_of, sent, dropped = carry
        sender = senders[i]
        to = neighbours[sender]
        to = jnp.where(to == NO_PEER, nodes, to)  # one past the end: such writes are dropped
        slot = jax.lax.while_loop(lambda s: state.references[s] > 0, lambda s: (s + 1) % pool, state.cursor)
        head = state.head.at[to].get(mode="fill", fill_value=0)
        full = state.count.at[to].get(mode="fill", fill_value=0) == capacity
        place = (head + state.count.at[to].get(mode="fill", fill_value=0)) % capacity
        if overflow == "drop_oldest":
            # In a full ring the next position is the oldest packet's own, so writing there replaces it.
            evicted = jnp.where(full, state.slots.at[to, head].get(mode="fill", fill_value=pool), pool)
            references = state.references.at[evicted].add(-1, mode="drop")
            receivers = to
            new_head = state.head.at[jnp.where(full, to, nodes)].set((head + 1) % capacity, mode="drop")
        else:
            references, new_head = state.references, state.head
            receivers = jnp.where(full, nodes, to)
        state = InboxState(
            slots=state.slots.at[receivers, place].set(slot, mode="drop"),
            head=new_head,
            count=state.count.at[jnp.where(full, nodes, to)].add(1, mode="drop"),
            references=references.at[slot].add((receivers < nodes).sum(dtype=jnp.int32)),
            cursor=(slot + 1) % pool,
        )
        dropped = dropped.at[jnp.where(full, to, nodes)].add(1, mode="drop")
        degree = (to < nodes).sum(dtype=jnp.int32)
        slot_of = slot_of.at[sender].set(jnp.where(degree > 0, slot, pool))
        return state, slot_of, sent.at[sender].set(degree), dropped

    zeros = jnp.zeros(nodes, jnp.int32)
    carry = (state, jnp.full(nodes, pool, jnp.int32), zeros, zeros)
    state, slot_of, sent, dropped = jax.lax.fori_loop(0, broadcast.sum(), deliver, carry)
    return state, Delivery(slot_of, sent, dropped)
