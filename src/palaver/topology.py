"""Which nodes send to which: a topology maps a round to each node's neighbours, padded with ``NO_PEER``.

The topologies here are ``jax.tree_util.Partial``, so that a compiled program takes their tables as arguments. Any other
function of the round can be used too; its tables are then constants of the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax.tree_util import Partial

from palaver.arguments import choice, count, failure_of, function, shown
from palaver.arguments import seed as check_seed
from palaver.types import NO_PEER, PalaverError, Topology

_CHECKED_ROUNDS = (0, 1, 2, 10, 100, 1_000, 10_000)
"""Whose tables ``check_topology`` looks at."""


def _check(nodes: int, neighbours: int) -> tuple[int, int]:
    nodes = count("nodes", nodes)
    return nodes, count("neighbours", neighbours, least=0, most=nodes - 1, where=f" with {nodes} nodes")


def _fixed(table: np.ndarray) -> Topology:
    return Partial(lambda neighbours, _round: neighbours, jnp.asarray(table, jnp.int32))


def _table(graph: nx.Graph[Any] | nx.DiGraph[Any], width: int | None = None) -> np.ndarray:
    """Neighbour ids of ``graph`` (nodes ``0..N-1``) in ascending order, ``[N, P]`` with ``NO_PEER`` behind."""
    rows = [sorted(graph.neighbors(node)) for node in range(graph.number_of_nodes())]
    width = max(1, *map(len, rows)) if width is None else width
    return np.array([row + [NO_PEER] * (width - len(row)) for row in rows], np.int32)


def ring(nodes: int, neighbours: int = 2) -> Topology:
    """Nodes in a circle; each sends to its ``neighbours`` nearest nodes (thesis §2.2.2.3).

    With an odd number, one more of them lies in the direction of ascending ids, and the graph is directed (unless every
    node sends to all others).

    >>> ring(5, 2)(0).tolist()
    [[1, 4], [2, 0], [3, 1], [4, 2], [0, 3]]

    Args:
        nodes: N.
        neighbours: P, of each node; 0: no node sends.

    Returns:
        The topology: ``[N, P]`` int32, the nearest first, the same in every round; ``[N, 1]`` of ``NO_PEER`` for P = 0.

    Raises:
        PalaverError: unless ``0 <= neighbours < nodes``.

    """
    nodes, neighbours = _check(nodes, neighbours)
    steps = [(d + 2) // 2 * (1 if d % 2 == 0 else -1) for d in range(neighbours)]
    table = (np.arange(nodes)[:, None] + np.array(steps, int)[None, :]) % nodes
    return _fixed(table if neighbours else np.full((nodes, 1), NO_PEER))


def full(nodes: int) -> Topology:
    """Every node sends to every other: the topology with the thesis's highest accuracy (§2.3.1.1).

    >>> full(3)(0).tolist()
    [[1, 2], [0, 2], [0, 1]]

    Args:
        nodes: N.

    Returns:
        The topology: ``[N, N - 1]`` int32 in ascending order, the same in every round; ``[1, 1]`` of ``NO_PEER`` for a
        single node.

    Raises:
        PalaverError: if ``nodes`` is below 1.

    """
    nodes, _ = _check(nodes, 0)
    others = np.arange(nodes - 1, dtype=np.int32)[None, :]
    return _fixed(others + (others >= np.arange(nodes)[:, None])) if nodes > 1 else ring(1, 0)


def random_regular(nodes: int, neighbours: int, *, seed: int = 0) -> Topology:
    """One random graph in which every node has ``neighbours`` neighbours (Steger & Wormald 1999, by networkx).

    If a node sends to another, that one sends to it too. The thesis names random neighbours as an extension (§2.2.2.3).

    >>> random_regular(6, 3)(0).shape
    (6, 3)

    Args:
        nodes: N.
        neighbours: P, of each node; 0: no node sends.
        seed: of the graph.

    Returns:
        The topology: ``[N, P]`` int32 in ascending order, the same in every round; ``[N, 1]`` of ``NO_PEER`` for P = 0.

    Raises:
        PalaverError: unless ``0 <= neighbours < nodes`` and ``nodes * neighbours`` is even.

    """
    return _fixed(_regular(nodes, neighbours, seed))


def random_changing(
    nodes: int, neighbours: int, *, every: int = 1, rounds: int, seed: int = 0, graphs: int = 256
) -> Topology:
    """A random regular graph, drawn anew every ``every`` rounds (an extension that the thesis names, §2.2.2.3).

    At most ``graphs`` different graphs are drawn for ``rounds`` rounds; a longer run goes through them again in the
    same order, so that memory stays bounded.

    Args:
        nodes: N.
        neighbours: P, of each node.
        every: rounds that a graph is used for.
        rounds: how many the run has.
        seed: of all the graphs.
        graphs: how many are kept at most.

    Returns:
        The topology: in round ``r`` the neighbours ``[N, P]`` int32 of graph ``r // every``.

    Raises:
        PalaverError: as ``random_regular``; or if ``every``, ``rounds`` or ``graphs`` is below 1.

    """
    every, rounds, graphs = count("every", every), count("rounds", rounds), count("graphs", graphs)
    periods = min(-(-rounds // every), graphs)
    children = np.random.SeedSequence(check_seed("seed", seed)).generate_state(periods)
    tables = jnp.asarray(np.stack([_regular(nodes, neighbours, int(child)) for child in children]))
    return Partial(lambda tables, step: tables[(step // every) % periods], tables)


def _regular(nodes: int, neighbours: int, seed: int) -> np.ndarray:
    nodes, neighbours = _check(nodes, neighbours)
    if nodes * neighbours % 2:
        raise PalaverError(
            f"no graph gives each of {nodes} nodes {neighbours} neighbours: make nodes or neighbours even"
        )
    return _table(nx.random_regular_graph(neighbours, nodes, seed=check_seed("seed", seed)))


def from_graph(graph: nx.Graph[Any] | nx.DiGraph[Any] | Any) -> Topology:
    """Any graph: a networkx graph, or an adjacency array ``[N, N]`` whose row ``i`` marks the nodes ``i`` sends to.

    >>> from_graph([[0, 1, 1], [0, 0, 1], [0, 0, 0]])(0).tolist()
    [[1, 2], [2, -1], [-1, -1]]

    Args:
        graph: the graph. Nodes of a networkx graph are numbered in its own order; along an undirected edge both nodes
            send. Of an array, 1 (or true) marks that the row's node sends to the column's.

    Returns:
        The topology: ``[N, P]`` int32 in ascending order, the same in every round. P is the largest number of nodes
        that one node sends to, at least 1; shorter rows end with ``NO_PEER``.

    Raises:
        PalaverError: if there is no node, the array is not square or holds other values than 0 and 1, or a node is
            its own neighbour.

    """
    if not isinstance(graph, nx.Graph):
        with failure_of("graph", "give a networkx graph, or a square array [nodes, nodes]"):
            matrix = np.asarray(graph)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 1:
            raise PalaverError(
                f"graph is {shown(matrix)}: give a networkx graph, or a square array [nodes, nodes] of 0 and 1"
            )
        if not np.isin(matrix, (0, 1)).all():
            raise PalaverError("graph holds values other than 0 and 1: give 1 where row sends to column")
        graph = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
    _check(graph.number_of_nodes(), 0)
    loops = list(nx.selfloop_edges(graph))
    if loops:
        raise PalaverError(f"node {loops[0][0]} is its own neighbour: remove the self-loops ({len(loops)} of them)")
    return _fixed(_table(nx.convert_node_labels_to_integers(graph)))


def mean_degree(topology: Topology) -> float:
    """Neighbours per node, on average over the nodes in round 0: the p of ``exchange.description.equilibrium``.

    >>> mean_degree(from_graph([[0, 1, 1], [0, 0, 1], [0, 0, 0]]))
    1.0

    Args:
        topology: a round to neighbour ids ``[N, P]``.

    Returns:
        The average; padding does not count.

    """
    return float((np.asarray(topology(jnp.int32(0))) != NO_PEER).sum(1).mean())


def check_topology(topology: Any, nodes: int | None = None, *, rounds: int = 1) -> np.ndarray:
    """Checks a topology, which may be a caller's own function.

    Its table has the same shape in every round, since it is traced with the round unknown. Of a topology that changes,
    the ids are looked at in rounds 0, 1, 2, 10, 100, 1,000 and 10,000, as far as there are so many: in another round an
    id that is out of range is not found.

    >>> check_topology(ring(3, 2)).tolist()
    [[1, 2], [2, 0], [0, 1]]

    Args:
        topology: what was given.
        nodes: N that it has to have; None: any.
        rounds: of the run, where they are known.

    Returns:
        The table ``[N, P]`` of round 0.

    Raises:
        PalaverError: it is no function of the round that JAX can trace, or not to ``[N, P]`` int32; or an id is neither
            another node's nor ``NO_PEER``.

    """
    function("topology", topology, "a function of the round, from palaver.topology (a graph or an array: from_graph)")
    with failure_of(
        "topology", "give a function that JAX can trace, of the round to neighbour ids [nodes, neighbours]"
    ):
        table: Any = jax.eval_shape(topology, jax.ShapeDtypeStruct((), jnp.int32))
    if not isinstance(table, jax.ShapeDtypeStruct) or len(table.shape) != 2 or 0 in table.shape:
        raise PalaverError(f"topology gives {shown(table)}: give neighbour ids [nodes, neighbours], at least 1 of each")
    if table.dtype != jnp.int32:
        raise PalaverError(f"topology gives ids of {table.dtype}: give int32")
    if nodes is not None and table.shape[0] != nodes:
        raise PalaverError(f"topology is of {table.shape[0]} nodes: give one of {nodes}")
    tables: list[Any] = []
    for step in (step for step in _CHECKED_ROUNDS if step < rounds):
        found = topology(jnp.int32(step))
        if not tables or found is not tables[-1]:  # the same object where it does not change
            _check_ids(np.asarray(found), step)
            tables.append(found)
    return np.asarray(tables[0])


def _check_ids(table: np.ndarray, step: int) -> None:
    """Raises ``PalaverError`` unless every id is another node's or ``NO_PEER``."""
    nodes = len(table)
    wrong = ((table < 0) & (table != NO_PEER)) | (table >= nodes) | (table == np.arange(nodes)[:, None])
    if wrong.any():
        node, place = map(int, np.argwhere(wrong)[0])
        raise PalaverError(
            f"topology has node {node} send to {table[node, place]} in round {step}: give ids of other nodes, 0 to "
            f"{nodes - 1}, or NO_PEER ({NO_PEER}) to pad"
        )


TOPOLOGIES: dict[str, Callable[..., Topology]] = {
    "ring": lambda nodes, neighbours, **_: ring(nodes, neighbours or min(2, nodes - 1)),
    "full": lambda nodes, _, **__: full(nodes),
    "random": lambda nodes, neighbours, *, seed, **_: random_regular(nodes, neighbours or min(4, nodes - 1), seed=seed),
    "random-changing": lambda nodes, neighbours, *, seed, every, rounds: random_changing(
        nodes, neighbours or min(4, nodes - 1), every=every, rounds=rounds, seed=seed
    ),
}
"""Every topology by the name that settings give it; an entry that is added here is accepted wherever names are."""


def named(name: str, nodes: int, neighbours: int = 0, *, seed: int = 0, every: int = 100, rounds: int = 1) -> Topology:
    """The topology of this name; a single node has no neighbours in any of them.

    >>> named("ring", 4)(0).tolist()
    [[1, 3], [2, 0], [3, 1], [0, 2]]

    Args:
        name: of ``TOPOLOGIES``.
        nodes: N.
        neighbours: P, of each node; 0: as many as the topology has by default (``ring`` 2, ``full`` all, random 4).
        seed: of random graphs.
        every: rounds after which ``random-changing`` draws a new graph.
        rounds: how many the run has.

    Returns:
        The topology of that name.

    Raises:
        PalaverError: an unknown name; otherwise as the topology of that name.

    """
    make, nodes = TOPOLOGIES[choice("topology", name, TOPOLOGIES)], count("nodes", nodes)
    return ring(1, 0) if nodes == 1 else make(nodes, neighbours, seed=seed, every=every, rounds=rounds)
