"""Talking about a reference set: what nodes say of its rows, and what they remember of what they heard.

Arrays have the axes ``S`` seeds, ``N`` nodes, and ``n`` nodes of one group on this device; the rows that are talked
about in a round are the same for all nodes of a seed (``protocol.reference_start``).
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from palaver.data.inputs import to_float
from palaver.exchange import protocol
from palaver.exchange.description import Collective
from palaver.exchange.mapping import by_group, decode, node_keys, node_loop, of_all, of_nodes
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.speakers import outputs_of_speakers, with_lies
from palaver.exchange.state import Delivered, Heard, OwnBatches, Reading, Said, Shards, State
from palaver.types import NO_LABEL, NO_PACKET, NO_PEER, Array, NodeState

_DENSE = 4
"""A graph whose nodes have more than one in so many of all nodes as neighbours is a matrix; others are lists."""


def blank(size: int, received: jax.ShapeDtypeStruct, seeds: int, nodes: int) -> Heard:
    """Nothing heard yet.

    Args:
        size: R.
        received: shape ``[B, ...]`` of a decoded payload.
        seeds: S.
        nodes: n.

    """
    return Heard(jnp.zeros((seeds, nodes, size, *received.shape[1:])), jnp.zeros((seeds, nodes, size)))


def read(
    state: State,
    shards: Shards,
    coins: protocol.Coins,
    active: Array,
    own: OwnBatches,
    *,
    group: Collective,
    sharding: NodeSharding,
) -> tuple[State, Reading]:
    """What every node trains on: the mean of what it heard about some rows of the reference set, or its own batch.

    Every node goes through the blocks of the reference set in an order of its own. It takes its own batch where it has
    heard nothing about any row of the block.

    Args:
        state: before the round.
        shards: the data.
        coins: ``[S, N]`` of the round.
        active: ``[S, N]`` bool: who takes part in it.
        own: the nodes' own next batches.
        group: the collective.
        sharding: where its nodes are.

    Returns:
        The state as it was, and what was read.

    """
    table, count = shards.reference, group.protocol.batch_size
    assert table is not None
    start = of_nodes(lambda key: protocol.reference_start(group.protocol, key, state.round, table.shape[1]))(
        node_keys(state.key, group.nodes)
    )
    starts = by_group(start, group, sharding)
    recalled = [recall(heard, first, count) for heard, first in zip(state.heard, starts, strict=True)]
    known = of_all([known for _, known in recalled], sharding)
    decided = of_nodes(lambda coins, known: protocol.decide(group.protocol, coins, state.round, known))(coins, known)
    consumed = decided.consume & active
    rows, labels = [], []
    local = zip(starts, by_group(consumed, group, sharding), *own, strict=True)
    for first, consume, own_rows, own_labels in local:
        places = first[..., None] + jnp.arange(count)
        there = jax.vmap(lambda rows, places: rows[places])(table, places)
        rows.append(jnp.where(consume[..., None], there, own_rows))
        labels.append(jnp.where(consume[..., None], NO_LABEL, own_labels))
    nobody = jnp.full(consumed.shape, NO_PACKET, jnp.int32)
    received = [mean for mean, _ in recalled]
    return state, Reading(consumed, decided.broadcast & active, rows, labels, received, nobody, nobody)


def speak(
    state: State,
    nodes: tuple[NodeState, ...],
    shards: Shards,
    wants: Array,
    *,
    group: Collective,
    sharding: NodeSharding,
    loop: str | None,
) -> tuple[State, Said]:
    """What nodes say about this round's rows of the reference set.

    Args:
        state: before the round.
        nodes: a group each, after their training step.
        shards: the data.
        wants: ``[S, N]`` bool: who wants to broadcast, and would reach somebody.
        group: the collective.
        sharding: where its nodes are.
        loop: see ``palaver.exchange.simulate.simulation``.

    Returns:
        The state with what nodes last said, where that is kept, and what they say; the payloads are decoded where
        nodes remember what they hear.

    """
    talk, table, count = group.talk, shards.reference, group.protocol.batch_size
    assert table is not None
    start = _now(state, shards, group)
    index = jax.vmap(partial(jax.lax.dynamic_slice_in_dim, slice_size=count))(table, start)
    x = to_float(shards.x[index])
    ids = by_group(jnp.broadcast_to(jnp.arange(group.nodes), wants.shape), group, sharding)
    speaks, payloads, last = by_group(wants, group, sharding), [], []
    for place, ((node, _), own) in enumerate(zip(group.groups, nodes, strict=True)):
        how = loop or node_loop(node)
        payload = outputs_of_speakers(node, own, x, speaks[place], how, group.protocol.p_broadcast)
        received, liar = decode(node, payload), jnp.zeros_like(speaks[place])
        if group.liars.count:
            told = x, ids[place], speaks[place], received
            liar, received = with_lies(state.key, state.round, node, own, *told, group=group, loop=how)
        payloads.append(received if talk.combine == "mean" else payload)
        if talk.least_change:
            before = state.said[place]
            new = change(before, start, received) >= talk.least_change
            speaks[place] = speaks[place] & (new | liar)  # a liar has no reason to be brief
            last.append(remember(before, start, received, speaks[place]))
    speaking = of_all(speaks, sharding) if talk.least_change else wants
    index = jnp.broadcast_to(index[:, None], (*wants.shape, count))
    return state._replace(said=tuple(last)), Said(speaking, index, of_all(payloads, sharding))


def deliver(
    state: State,
    said: Said,
    neighbours: Array,
    shards: Shards,
    believed: Sequence[Array] | None = None,
    *,
    group: Collective,
    sharding: NodeSharding,
) -> tuple[State, Delivered]:
    """Adds what was said to what its receivers remember.

    Args:
        state: after reading.
        said: of all nodes, payloads decoded.
        neighbours: ``[S, N, P]`` or ``[N, P]`` int32: whom each node's packet reaches, padded with ``NO_PEER``.
        shards: the data.
        believed: ``[S, n, N]`` by group: what each sender's packet weighs at each receiver, 0 where none arrived;
            ``None``: all that arrive weigh 1.
        group: the collective.
        sharding: where its nodes are.

    Returns:
        The state, and what became of what was said.

    """
    received: Array = said.payload
    weight = jnp.broadcast_to(said.broadcast[..., None], received.shape[:3]).astype(received.dtype)
    weight = weight * confidence(received) if group.talk.weighted else weight
    if believed is None:
        sums = zip(*(by_group(part, group, sharding) for part in arriving(received, weight, neighbours)), strict=True)
    else:
        sums = (_weighed(received, weight, by_sender) for by_sender in believed)
    start = _now(state, shards, group)
    heard = tuple(hear(own, start, *new, decay=group.talk.decay) for own, new in zip(state.heard, sums, strict=True))
    sent = jnp.where(said.broadcast, (neighbours != NO_PEER).sum(-1, dtype=jnp.int32), 0)
    return state._replace(heard=heard), Delivered(sent > 0, sent, jnp.zeros_like(sent))


def _now(state: State, shards: Shards, group: Collective) -> Array:
    """``[S]`` int32: the first of the rows that are talked about in this round."""
    assert shards.reference is not None
    size = shards.reference.shape[1]
    return jax.vmap(lambda key: protocol.reference_start(group.protocol, key, state.round, size))(state.key)


def recall(heard: Heard, start: Array, rows: int) -> tuple[Array, Array]:
    """The mean of what was heard about ``rows`` rows from ``start [S, n]`` on, and whether anything was.

    Returns:
        ``[S, n, B, ...]``, 0 about rows of which nothing was heard, and ``[S, n]`` int32: rows of which something was.

    """

    def one(heard: Heard, start: Array) -> tuple[Array, Array]:
        total, weight = (jax.lax.dynamic_slice_in_dim(part, start, rows) for part in heard)
        known = weight > 0
        return total / jnp.where(known, weight, 1).reshape(_like(total, weight)), known.sum(dtype=jnp.int32)

    return of_nodes(one)(heard, start)


def hear(heard: Heard, start: Array, total: Array, weight: Array, *, decay: float) -> Heard:
    """What was heard, with this round's.

    Args:
        heard: before.
        start: ``[S]`` int32: the first of this round's rows.
        total: ``[S, n, B, ...]``: the sum of what arrived at each node, each times its weight.
        weight: ``[S, n, B]``: the sum of the weights; 0 where nothing arrived.
        decay: factor of what was heard before, where something arrived.

    """
    rows = weight.shape[2]

    def one(part: Array, start: Array, new: Array, kept: Array) -> Array:
        old = jax.lax.dynamic_slice_in_dim(part, start, rows, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(part, old * kept.reshape(_like(old, kept)) + new, start, axis=1)

    kept = jnp.where(weight > 0, decay, 1.0)
    return Heard(*(jax.vmap(one)(part, start, new, kept) for part, new in zip(heard, (total, weight), strict=True)))


def arriving(said: Array, weight: Array, neighbours: Array) -> tuple[Array, Array]:
    """Sums of what arrives at each node, ``[S, N, B, ...]``, and of its weights, ``[S, N, B]``.

    Args:
        said: ``[S, N, B, ...]`` of all nodes, decoded.
        weight: ``[S, N, B]``: of each row of it; 0 of nodes that do not speak.
        neighbours: ``[S, N, P]`` or ``[N, P]`` int32: whom each node's packet reaches, padded with ``NO_PEER``.

    """
    *_, nodes, width = neighbours.shape
    weighted = said * weight.reshape(_like(said, weight))
    to = jnp.where(neighbours == NO_PEER, nodes, neighbours)

    def all_at_once(to: Array, part: Array) -> Array:
        sends = jnp.zeros((nodes, nodes)).at[jnp.arange(nodes)[:, None], to].set(1.0, mode="drop")
        return jnp.einsum("ij,i...->j...", sends, part, precision="highest")  # accelerators round to fewer digits

    def one_by_one(to: Array, part: Array) -> Array:
        spread = lambda i, total: total.at[to[:, i]].add(part, mode="drop")  # noqa: E731
        return jax.lax.fori_loop(0, width, spread, jnp.zeros_like(part))

    spread = jax.vmap(all_at_once if width * _DENSE >= nodes else one_by_one, (0 if to.ndim == 3 else None, 0))
    return spread(to, weighted), spread(to, weight)


def _weighed(said: Array, weight: Array, believed: Array) -> tuple[Array, Array]:
    """As ``arriving``, at the nodes of one group, where each sender's packet counts so much: ``[S, n, N]``."""
    total = partial(jnp.einsum, precision="highest")
    return total("sji,sibc->sjbc", believed, said * weight[..., None]), total("sji,sib->sjb", believed, weight)


def confidence(received: Array) -> Array:
    """``log C − h`` of class probabilities ``[..., C]``, at least 0: how certain a sender is of each row."""
    entropy = -(received * jnp.log(jnp.maximum(received, 1e-30))).sum(-1)
    return jnp.maximum(math.log(received.shape[-1]) - entropy, 0.0)


def change(said: Array, start: Array, now: Array) -> Array:
    """``[S, n]``: the total variation ``½ Σ |p − p′|`` of what is said now and was said last, mean over the rows.

    It is 1, as far as distributions can be from each other, for a row of which nothing was said.

    Args:
        said: ``[S, n, R, ...]``: what was last said, 0 about rows of which nothing was.
        start: ``[S]`` int32: the first of this round's rows.
        now: ``[S, n, B, ...]``.

    """
    before = jax.vmap(partial(jax.lax.dynamic_slice_in_dim, slice_size=now.shape[2], axis=1))(said, start)
    rows = (*now.shape[:3], -1)
    silent = ~before.reshape(rows).any(-1)
    return jnp.where(silent, 1.0, 0.5 * jnp.abs(now - before).reshape(rows).sum(-1)).mean(-1)


def remember(said: Array, start: Array, now: Array, speaks: Array) -> Array:
    """``said [S, n, R, ...]`` with what the nodes that speak, ``[S, n]``, say now, ``[S, n, B, ...]``."""

    def one(said: Array, start: Array, now: Array, speaks: Array) -> Array:
        old = jax.lax.dynamic_slice_in_dim(said, start, now.shape[1], axis=1)
        new = jnp.where(speaks.reshape(_like(now, speaks)), now, old)
        return jax.lax.dynamic_update_slice_in_dim(said, new, start, axis=1)

    return jax.vmap(one)(said, start, now, speaks)


def _like(array: Array, leading: Array) -> tuple[int, ...]:
    """The shape of ``leading`` with axes of 1 behind it, so that it broadcasts against ``array``."""
    return (*leading.shape, *(1,) * (array.ndim - leading.ndim))
