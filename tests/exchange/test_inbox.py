"""Inboxes against real queues, and a collective's traffic against the exact Markov chain of one inbox."""

from collections import deque
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params
from scipy.stats import binom

from palaver import topology
from palaver.exchange import inbox
from palaver.exchange.protocol import Protocol, node_key, toss
from palaver.types import NO_PACKET, NO_PEER, PalaverError

NODES, PEERS = 5, 4


@partial(jax.jit, static_argnames="overflow")
def play(state, want, neighbours, broadcast, overflow):
    """One round: the state after the pops, what was popped, the state after the pushes, what became of them."""
    popped, slot = inbox.pop(state, want)
    pushed, delivery = inbox.push(popped, neighbours, broadcast, overflow=overflow)
    return popped, slot, pushed, delivery


@st.composite
def tables(draw):
    """``[N, P]``: different neighbours, no node its own, in any order, padded anywhere."""
    rows = []
    for node in range(NODES):
        others = draw(st.permutations([peer for peer in range(NODES) if peer != node]))
        kept = draw(st.lists(st.booleans(), min_size=PEERS, max_size=PEERS))
        rows.append([peer if keep else NO_PEER for peer, keep in zip(others, kept, strict=True)])
    return rows


coins = st.lists(st.booleans(), min_size=NODES, max_size=NODES)
often = st.lists(st.sampled_from([True, True, True, False]), min_size=NODES, max_size=NODES)
rounds = st.lists(st.tuples(coins, tables(), often), min_size=1, max_size=12)


def waiting_slots(state):
    """Slot ids in every inbox, oldest first."""
    slots, head, count = map(np.asarray, (state.slots, state.head, state.count))
    capacity = slots.shape[1]
    return [[slots[i, (head[i] + j) % capacity] for j in range(count[i])] for i in range(len(slots))]


@pytest.mark.parametrize("overflow", inbox.OVERFLOW)
@pytest.mark.parametrize("capacity", [1, 3])
def test_it_is_a_queue(capacity, overflow):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(rounds)
    def check(played):
        state = inbox.empty(NODES, capacity)
        pool = NODES * capacity + NODES
        queues = [deque() for _ in range(NODES)]
        written: dict[int, tuple[int, int]] = {}  # what is in each slot: (round, sender)
        sent = received = dropped = 0
        for step, (want, neighbours, broadcast) in enumerate(played):
            result = play(state, np.array(want), np.array(neighbours, np.int32), np.array(broadcast), overflow)
            popped, slot, state, delivery = jax.tree.map(np.asarray, result)

            for node in range(NODES):
                if want[node] and queues[node]:
                    assert written[int(slot[node])] == queues[node].popleft()
                    received += 1
                else:
                    assert slot[node] == NO_PACKET

            lost = [0] * NODES
            for node in range(NODES):
                peers = [peer for peer in neighbours[node] if peer != NO_PEER]
                if not broadcast[node] or not peers:
                    assert delivery.slot[node] == pool
                    assert delivery.sent[node] == 0
                    continue
                assert delivery.sent[node] == len(peers)
                sent += len(peers)
                for peer in peers:
                    if len(queues[peer]) == capacity:
                        lost[peer] += 1
                        if overflow == "drop_newest":
                            continue
                        queues[peer].popleft()
                    queues[peer].append((step, node))
            assert delivery.dropped.tolist() == lost
            dropped += sum(lost)

            # Each sender gets a slot of its own, one that no inbox referred to.
            taken = [int(s) for s in delivery.slot if s < pool]
            assert len(set(taken)) == len(taken)
            assert not popped.references[taken].any()
            written |= {int(s): (step, node) for node, s in enumerate(delivery.slot) if s < pool}

            now = waiting_slots(state)
            assert [[written[int(s)] for s in box] for box in now] == [list(queue) for queue in queues]
            flat = np.concatenate([np.array(box, int) for box in now])
            np.testing.assert_array_equal(state.references, np.bincount(flat, minlength=pool))
            assert sent == received + dropped + sum(map(len, queues))

    check()


def test_by_hand_drop_oldest_and_drop_newest():
    # Nodes 1 and 2 send to node 0, whose inbox holds one packet; slots 0, 1 are given in the order of the senders.
    neighbours = np.array([[NO_PEER], [0], [0]], np.int32)
    no_node, both = np.zeros(3, bool), np.array([False, True, True])
    first = {"drop_oldest": 1, "drop_newest": 0}
    for overflow, kept in first.items():
        _, slot, state, delivery = play(inbox.empty(3, 1), no_node, neighbours, both, overflow)
        assert slot.tolist() == [NO_PACKET] * 3
        assert delivery.slot.tolist() == [6, 0, 1]  # 6 = one past the pool of 3·1 + 3
        assert delivery.sent.tolist() == [0, 1, 1]
        assert delivery.dropped.tolist() == [1, 0, 0]
        assert state.count.tolist() == [1, 0, 0]
        _, slot, _, _ = play(state, ~no_node, neighbours, no_node, overflow)
        assert slot.tolist() == [kept, NO_PACKET, NO_PACKET]


def one_push(nodes, neighbours, capacity, overflow):
    """Every inbox after three rounds of broadcasts, as pairs (round, sender), and the packets lost: ours, and queues'.

    Nobody reads.
    """
    state, rng = inbox.empty(nodes, capacity), np.random.default_rng(0)
    queues, written = [deque() for _ in range(nodes)], {}
    lost, expected_lost = np.zeros(nodes, int), np.zeros(nodes, int)
    for step in range(3):
        broadcast = rng.random(nodes) < (0.3, 1.0, 0.6)[step]
        *_, state, delivery = play(state, np.zeros(nodes, bool), neighbours, broadcast, overflow)
        slots = np.asarray(delivery.slot)
        lost += np.asarray(delivery.dropped)
        for node in np.flatnonzero(broadcast).tolist():
            written[int(slots[node])] = step, node
            for peer in neighbours[node].tolist():
                if peer == NO_PEER:
                    continue
                if len(queues[peer]) == capacity:
                    expected_lost[peer] += 1
                    if overflow == "drop_newest":
                        continue
                    queues[peer].popleft()
                queues[peer].append((step, node))
    found = [[written[int(slot)] for slot in box] for box in waiting_slots(state)]
    return (found, lost.tolist()), ([list(queue) for queue in queues], expected_lost.tolist())


@pytest.mark.parametrize("overflow", inbox.OVERFLOW)
@pytest.mark.parametrize("graph", ["ring", "all to one"])
def test_many_nodes(graph, overflow):
    # 30,000 nodes: receiver * edges would not fit into 32 bits. All to one: an inbox gets thousands of times its K.
    nodes = 30_000
    if graph == "ring":
        neighbours = np.asarray(topology.ring(nodes, 2)(0))
    else:
        neighbours = np.full((nodes, 1), 7, np.int32)
        neighbours[7] = NO_PEER
    found, expected = one_push(nodes, neighbours, 3, overflow)
    assert found == expected
    assert sum(expected[1]) > 20_000


@pytest.mark.parametrize("nodes", [30, 3000])
def test_a_round_is_delivered_at_once(nodes, monkeypatch):
    # However many nodes broadcast, a ring's edges are delivered in P = 2 chunks, and nothing else is a loop.
    ring, everyone = topology.ring(nodes, 2)(0), jnp.ones(nodes, bool)
    loops = [
        equation.primitive.name
        for equation in equations(jax.make_jaxpr(inbox.push)(inbox.empty(nodes, 4), ring, everyone).jaxpr)
        if equation.primitive.name in ("while", "scan")
    ]
    assert loops == ["while"]
    deliver, chunks = inbox._deliver, []
    monkeypatch.setattr(inbox, "_deliver", lambda *args: chunks.append(args[1].shape) or deliver(*args))
    with jax.disable_jit():
        inbox.push(inbox.empty(nodes, 4), ring, everyone)
    assert chunks == [(nodes // 2, 2)] * 2


def equations(jaxpr):
    """All equations, those of inner jaxprs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_mistakes_are_named():
    with pytest.raises(PalaverError, match="inbox capacity is 0: give at least 1"):
        inbox.empty(3, 0)
    with pytest.raises(PalaverError, match="overflow is 'burn': choose one of drop_oldest, drop_newest"):
        inbox.push(inbox.empty(2, 1), jnp.array([[1], [0]]), jnp.ones(2, bool), overflow="burn")


MANY, CAPACITY, ROUNDS, SEEDS, P_CONSUME = 12, 16, 2000, 16, 0.5


class Traffic(NamedTuple):
    """Per seed ``[SEEDS]``, over all nodes and rounds."""

    arrivals: np.ndarray
    """Packets that arrived at an inbox, per node and round."""
    dropped: np.ndarray
    """Share of them that was dropped."""
    fill: np.ndarray
    """Mean number of waiting packets."""


@jax.jit
def _traffic(keys, neighbours, p_broadcast):
    def one(key):
        own_keys = jax.vmap(lambda node: node_key(key, node))(jnp.arange(MANY))

        def body(state, step):
            coins = jax.vmap(lambda own: toss(Protocol(P_CONSUME, p_broadcast, 1), own, step))(own_keys)
            state, _ = inbox.pop(state, coins.consume)
            state, delivery = inbox.push(state, neighbours, coins.broadcast)
            return state, (delivery.sent.sum(), delivery.dropped.sum(), state.count.sum())

        sums = jax.lax.scan(body, inbox.empty(MANY, CAPACITY), jnp.arange(ROUNDS))[1]
        return jax.tree.map(lambda a: a.sum(), sums)

    return jax.vmap(one)(keys)


def traffic(where, p_broadcast) -> Traffic:
    peers = np.asarray(where(jnp.int32(0)))
    peers = np.pad(peers, ((0, 0), (0, MANY - 1 - peers.shape[1])), constant_values=NO_PEER)
    keys = jnp.stack([jax.random.key(seed) for seed in range(SEEDS)])
    sent, dropped, fill = (np.asarray(a, float) for a in _traffic(keys, jnp.asarray(peers), jnp.float32(p_broadcast)))
    return Traffic(sent / (MANY * ROUNDS), dropped / sent, fill / (MANY * ROUNDS))


def expected(neighbours: int, p_broadcast: float) -> tuple[float, float]:
    """Dropped share and mean fill, exactly.

    The arrivals at one node in a round are Binomial(p, p_b), independent of its own coins and of all earlier rounds, so
    its fill is a Markov chain on 0..K, ``fill ← min(K, fill − [consume and fill > 0] + arrivals)``, here iterated from
    the empty inbox for all the rounds.
    """
    arrive = binom.pmf(np.arange(neighbours + 1), neighbours, p_broadcast)
    step, lost = np.zeros((CAPACITY + 1, CAPACITY + 1)), np.zeros(CAPACITY + 1)
    for fill in range(CAPACITY + 1):
        for served, chance in ((1, P_CONSUME), (0, 1 - P_CONSUME)):
            left = fill - min(served, fill)
            for come, likely in enumerate(arrive):
                step[fill, min(CAPACITY, left + come)] += chance * likely
                lost[fill] += chance * likely * max(0, left + come - CAPACITY)
    at = np.eye(CAPACITY + 1)[0]
    drops = fills = 0.0
    for _ in range(ROUNDS):
        drops += at @ lost
        at = at @ step
        fills += at @ np.arange(CAPACITY + 1)
    return drops / (ROUNDS * neighbours * p_broadcast), fills / ROUNDS


def assert_within(samples: np.ndarray, mean: float, errors: float = 5) -> None:
    """The mean over the (independent) seeds lies within so many of its standard errors of ``mean``.

    1e-5 on top for shares so small that no packet falls on them: one packet of all these is about that much.
    """
    assert abs(samples.mean() - mean) < errors * samples.std(ddof=1) / np.sqrt(len(samples)) + 1e-5


GRAPHS = {"ring(4)": (topology.ring(MANY, 4), 4), "full": (topology.full(MANY), MANY - 1)}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("times", [1, 2, 0.5])
def test_traffic(name, times):
    where, neighbours = GRAPHS[name]
    p_broadcast = times * P_CONSUME / neighbours
    found = traffic(where, p_broadcast)
    # A broadcast goes to p neighbours at once: the error of the rate is p sqrt(p_b (1 - p_b) / (N T seeds)).
    error = neighbours * np.sqrt(p_broadcast * (1 - p_broadcast) / (MANY * ROUNDS * SEEDS))
    assert abs(found.arrivals.mean() - times * P_CONSUME) < 5 * error
    share, fill = expected(neighbours, p_broadcast)
    assert_within(found.dropped, share)
    assert_within(found.fill, fill)
    if times == 1:
        # As many arrive as are read: the fill is a random walk without drift between two walls, about uniform on 0..K.
        # A walk of variance v a round hits the upper wall v / (2K) a round: v = p_c (1 - p_b) + p_c (1 - p_c).
        variance = P_CONSUME * (1 - p_broadcast) + P_CONSUME * (1 - P_CONSUME)
        assert share == pytest.approx(variance / (2 * CAPACITY) / P_CONSUME, rel=0.2)
        assert share < 0.05
        assert fill == pytest.approx(CAPACITY / 2, rel=0.1)
    elif times == 2:
        # Twice as many arrive as can be read: all but those read, and the K still waiting, are dropped. The inbox is
        # nearly full (how nearly depends on the arrivals' variance, which the chain above accounts for).
        assert share == pytest.approx(0.5, abs=CAPACITY / (2 * P_CONSUME * ROUNDS))
        assert fill > 0.9 * CAPACITY
    else:
        assert found.dropped.max() < 1e-3
        assert fill < 1
