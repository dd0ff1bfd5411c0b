"""Decentralised averaging without a server: every node averages with its neighbours after every step."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, Sizes, States, floats
from palaver.types import NO_PEER, Array, PalaverError


def matrix(neighbours: Array) -> Array:
    """The weights of Metropolis and Hastings: ``W_ij = 1 / (max(d_i, d_j) + 1)`` along edges, the rest on ``W_ii``.

    Rows and columns sum to 1 where every edge goes both ways, so that averaging keeps the mean of all nodes.

    >>> matrix(jnp.array([[1], [0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]

    Args:
        neighbours: ``[N, P]`` int32, padded with ``NO_PEER``.

    Returns:
        ``[N, N]``.

    """
    count = len(neighbours)
    edge = neighbours != NO_PEER
    degree = edge.sum(1)
    weight = jnp.where(edge, 1 / (jnp.maximum(degree[:, None], degree[neighbours]) + 1), 0)
    away = jnp.zeros((count, count)).at[jnp.arange(count)[:, None], neighbours].add(weight)
    return away + jnp.diag(1 - away.sum(1))


def gossip() -> Method:
    """A step of every node, then ``θ_i = Σ_j W_ij θ_j`` over its neighbours and itself, in every round.

    Lian et al. 2017, "Can decentralized algorithms outperform centralized algorithms?" (D-PSGD), with the order and the
    weights of decentralizepy (``matrix``), on the collective's own topology. Batch statistics are averaged too;
    optimisers stay the nodes' own.

    Returns:
        The method. A node with d neighbours sends 32 · P · d bits a round.

    """

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        (state,), trained = cohort.step(nodes, cohort.rows)
        weight = cohort.local(matrix(cohort.neighbours)[None])[0]

        def of_leaf(leaf: Array) -> Array:
            every = cohort.gather(leaf)
            return (weight @ every.reshape(*every.shape[:2], -1)).reshape(leaf.shape)

        mixed = partial(floats, of_leaf)
        state = state._replace(params=mixed(state.params), model_state=mixed(state.model_state))
        degree = (cohort.neighbours != NO_PEER).sum(1)
        return Played((state,), memory, trained.loss, Sent(messages=degree))

    return Method(
        name="gossip",
        play=play,
        bits=lambda sizes: 32 * sizes.parameters,
        expected=lambda sizes, rounds: Sent(messages=rounds * sizes.degree),
        averages=True,
        check=_check_undirected,
    )


def _check_undirected(_sizes: Sizes, neighbours: np.ndarray) -> None:
    """Raises ``PalaverError`` unless every neighbour is a neighbour in return."""
    edges = {(i, int(j)) for i, row in enumerate(neighbours) for j in row if j != NO_PEER}
    for i, j in sorted(edges):
        if (j, i) not in edges:
            raise PalaverError(
                f"gossip averages both ways along an edge, but node {j} does not send to node {i}: give an undirected "
                "graph, such as a ring with an even number of neighbours"
            )
