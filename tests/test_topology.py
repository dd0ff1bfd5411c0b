"""Graphs by hand and by property, and topologies by name."""

from functools import partial

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaver import topology
from palaver.types import NO_PEER, PalaverError

settings.register_profile("few", max_examples=40, deadline=None, derandomize=True)
few = settings.get_profile("few")


def table(where, step=0):
    return np.asarray(where(jnp.int32(step)))


def matrix(peers):
    """``[N, N]`` counts of how often row names column."""
    counts = np.zeros((len(peers), len(peers)), int)
    for node, row in enumerate(peers):
        for peer in row[row != NO_PEER]:
            counts[node, peer] += 1
    return counts


def assert_simple(peers, degree):
    """``degree`` different neighbours each, no node its own."""
    counts = matrix(peers)
    assert counts.max(initial=0) <= 1
    assert not counts.diagonal().any()
    assert (counts.sum(1) == degree).all()


def test_ring_by_hand():
    assert table(topology.ring(2, 1)).tolist() == [[1], [0]]
    assert table(topology.ring(4, 1)).tolist() == [[1], [2], [3], [0]]
    assert table(topology.ring(4, 2)).tolist() == [[1, 3], [2, 0], [3, 1], [0, 2]]
    assert table(topology.ring(5, 3)).tolist() == [[1, 4, 2], [2, 0, 3], [3, 1, 4], [4, 2, 0], [0, 3, 1]]
    assert table(topology.ring(3, 0)).tolist() == [[NO_PEER]] * 3
    assert table(topology.ring(1, 0)).tolist() == [[NO_PEER]]


@few
@given(st.integers(1, 30), st.data())
def test_ring_is_the_nearest(nodes, data):
    neighbours = data.draw(st.integers(0, nodes - 1))
    peers = table(topology.ring(nodes, neighbours))
    assert_simple(peers, neighbours)
    counts = matrix(peers)
    if neighbours % 2 == 0 or neighbours == nodes - 1:
        assert (counts == counts.T).all()
    else:  # one more clockwise
        assert counts[0, (neighbours + 1) // 2] == 1
        assert counts[0, nodes - (neighbours + 1) // 2] == 0
    # No neighbour is further than half the neighbours away, and the same holds from every node.
    distance = np.minimum(np.arange(nodes), nodes - np.arange(nodes))
    assert (distance[counts[0] == 1] <= (neighbours + 1) // 2).all()
    assert all((np.roll(counts[0], node) == counts[node]).all() for node in range(nodes))


def test_full_by_hand():
    assert table(topology.full(1)).tolist() == [[NO_PEER]]
    assert table(topology.full(3)).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert (matrix(table(topology.full(12))) == 1 - np.eye(12)).all()


@few
@given(st.integers(2, 16), st.integers(0, 2**31 - 1), st.data())
def test_random_regular_is_regular_and_symmetric(nodes, seed, data):
    neighbours = data.draw(st.integers(0, nodes - 1).filter(lambda p: nodes * p % 2 == 0))
    where = topology.random_regular(nodes, neighbours, seed=seed)
    peers = table(where)
    assert_simple(peers, neighbours)
    assert (matrix(peers) == matrix(peers).T).all()
    assert (table(where, 1000) == peers).all()
    assert (table(topology.random_regular(nodes, neighbours, seed=seed)) == peers).all()


def test_random_regular_depends_on_the_seed():
    assert len({table(topology.random_regular(20, 4, seed=seed)).tobytes() for seed in range(10)}) == 10


@pytest.mark.parametrize("every", [1, 3, 7])
def test_random_changing_changes_every_so_many_rounds(every):
    rounds = 5 * every + 1
    where = topology.random_changing(20, 4, every=every, rounds=rounds, seed=1)
    tables = [table(where, step) for step in range(rounds)]
    changes = [step for step in range(1, rounds) if (tables[step] != tables[step - 1]).any()]
    assert changes == list(range(every, rounds, every))
    for peers in tables[::every]:
        assert_simple(peers, 4)
        assert (matrix(peers) == matrix(peers).T).all()


def test_random_changing_keeps_a_bounded_number_of_graphs():
    where = topology.random_changing(12, 4, every=2, rounds=1000, seed=1, graphs=3)
    assert len({table(where, 2 * period).tobytes() for period in range(50)}) == 3
    for step in range(12):
        assert (table(where, step + 6) == table(where, step)).all()
    # A run longer than announced goes through the graphs again.
    short = topology.random_changing(12, 4, every=5, rounds=10, seed=1)
    assert (table(short, 10) == table(short, 0)).all()
    assert (table(short, 5) != table(short, 0)).any()


def test_from_graph_by_hand():
    star = table(topology.from_graph(nx.star_graph(3)))
    assert star.tolist() == [[1, 2, 3], [0, -1, -1], [0, -1, -1], [0, -1, -1]]
    directed = nx.DiGraph([(0, 1), (1, 2)])
    assert table(topology.from_graph(directed)).tolist() == [[1], [2], [NO_PEER]]
    # networkx nodes are numbered in their own order: b is 0, a is 1.
    assert table(topology.from_graph(nx.DiGraph([("b", "a")]))).tolist() == [[1], [NO_PEER]]
    assert table(topology.from_graph(np.zeros((2, 2)))).tolist() == [[NO_PEER], [NO_PEER]]
    assert table(topology.from_graph([[False, True, True], [1, 0, 0], [0, 0, 0]])).tolist() == [
        [1, 2],
        [0, NO_PEER],
        [NO_PEER, NO_PEER],
    ]


@few
@given(st.integers(1, 8), st.data())
def test_from_graph_keeps_the_adjacency(nodes, data):
    bits = data.draw(st.lists(st.booleans(), min_size=nodes * nodes, max_size=nodes * nodes))
    adjacency = np.array(bits, int).reshape(nodes, nodes) * (1 - np.eye(nodes, dtype=int))
    peers = table(topology.from_graph(adjacency))
    assert (matrix(peers) == adjacency).all()
    assert peers.shape == (nodes, max(1, adjacency.sum(1).max()))
    for row in peers:  # ascending, the padding last
        named = row[row != NO_PEER]
        assert (np.diff(named) > 0).all()
        assert (row[len(named) :] == NO_PEER).all()


def test_mean_degree():
    assert topology.mean_degree(topology.ring(7, 3)) == 3
    assert topology.mean_degree(topology.full(12)) == 11
    assert topology.mean_degree(topology.from_graph(nx.star_graph(3))) == 6 / 4
    assert topology.mean_degree(topology.ring(3, 0)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(topology.ring, 0), "nodes is 0: give at least 1"),
        (partial(topology.ring, 4, 4), "neighbours is 4 with 4 nodes: give 0 to 3"),
        (partial(topology.ring, 4, -1), "neighbours is -1 with 4 nodes: give 0 to 3"),
        (partial(topology.ring, 2), "neighbours is 2 with 2 nodes: give 0 to 1"),
        (partial(topology.full, 0), "nodes is 0: give at least 1"),
        (partial(topology.random_regular, 6, 6), "neighbours is 6 with 6 nodes: give 0 to 5"),
        (
            partial(topology.random_regular, 5, 3),
            "no graph gives each of 5 nodes 3 neighbours: make nodes or neighbours even",
        ),
        (
            partial(topology.random_changing, 5, 3, rounds=4),
            "no graph gives each of 5 nodes 3 neighbours: make nodes or neighbours even",
        ),
        (
            partial(topology.random_changing, 6, 3, every=0, rounds=4),
            "every is 0: give at least 1",
        ),
        (partial(topology.random_changing, 6, 3, rounds=0), "rounds is 0: give at least 1"),
        (partial(topology.from_graph, [[0, 1, 0]]), r"graph is an array \(1, 3\) of int64: give .* a square array"),
        (partial(topology.from_graph, [0, 1]), r"graph is an array \(2,\) of int64: give .* a square array"),
        (
            partial(topology.from_graph, np.zeros((0, 0))),
            r"graph is an array \(0, 0\) of .* a square array",
        ),
        (partial(topology.from_graph, nx.Graph()), "nodes is 0: give at least 1"),
        (partial(topology.from_graph, [[0, 2], [1, 0]]), "graph holds values other than 0 and 1"),
        (partial(topology.from_graph, [[0, np.nan], [1, 0]]), "graph holds values other than 0 and 1"),
        (
            partial(topology.from_graph, [[0, 1], [1, 1]]),
            r"node 1 is its own neighbour: remove the self-loops \(1 of them\)",
        ),
        (
            partial(topology.from_graph, nx.Graph([(0, 0), (0, 1), (1, 1)])),
            r"node 0 is its own neighbour: remove the self-loops \(2 of them\)",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(PalaverError, match=message):
        make()


def test_a_multigraph_names_each_neighbour_once():
    double = nx.MultiGraph([(0, 1), (0, 1)])
    assert table(topology.from_graph(double)).tolist() == [[1], [0]]


def test_names_and_their_default_numbers_of_neighbours():
    expected = {
        "ring": topology.ring(9, 2),
        "full": topology.full(9),
        "random": topology.random_regular(9, 4, seed=3),
        "random-changing": topology.random_changing(9, 4, every=2, rounds=6, seed=3),
    }
    assert set(expected) == set(topology.TOPOLOGIES)
    for name, where in expected.items():
        found = topology.named(name, 9, seed=3, every=2, rounds=6)
        for step in range(6):
            np.testing.assert_array_equal(table(found, step), table(where, step))
        assert table(topology.named(name, 1)).tolist() == [[NO_PEER]]
    # A number of neighbours that is given is taken; the default is at most all others.
    assert table(topology.named("ring", 9, 4)).tolist() == table(topology.ring(9, 4)).tolist()
    assert table(topology.named("ring", 2)).tolist() == [[1], [0]]
    assert table(topology.named("random", 3)).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_a_topology_of_ones_own_by_name(monkeypatch):
    star = lambda nodes, _, **__: topology.from_graph(nx.star_graph(nodes - 1))  # noqa: E731
    with pytest.raises(PalaverError, match="topology is 'star': choose one of ring, full, random, random-changing"):
        topology.named("star", 4)
    monkeypatch.setitem(topology.TOPOLOGIES, "star", star)
    assert table(topology.named("star", 3)).tolist() == [[1, 2], [0, NO_PEER], [0, NO_PEER]]
