"""What every topology must keep to inside a compiled program."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from palaver import topology
from palaver.types import NO_PEER

TOPOLOGIES = {
    "no neighbours": (topology.ring(3, 0), (3, 1)),
    "ring": (topology.ring(7, 3), (7, 3)),
    "full": (topology.full(6), (6, 5)),
    "random regular": (topology.random_regular(8, 3, seed=2), (8, 3)),
    "random changing": (topology.random_changing(8, 3, every=2, rounds=10, seed=2), (8, 3)),
    "star": (topology.from_graph(nx.star_graph(4)), (5, 4)),
    "adjacency": (topology.from_graph(np.triu(np.ones((4, 4), int), 1)), (4, 3)),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_contract(name):
    where, shape = TOPOLOGIES[name]
    plain = np.stack([np.asarray(where(jnp.int32(step))) for step in range(12)])
    assert plain.shape == (12, *shape)
    assert plain.dtype == np.int32
    nodes = shape[0]
    assert ((plain == NO_PEER) | ((plain >= 0) & (plain < nodes))).all()
    assert (plain != np.arange(nodes)[:, None]).all()
    for row in plain.reshape(-1, shape[1]):  # each neighbour once, and the padding is last
        peers = row[row != NO_PEER]
        assert len(set(peers)) == len(peers)
        assert (row[: len(peers)] == peers).all()

    traced = []

    @jax.jit
    def compiled(step):
        traced.append(name)
        return where(step)

    for step in range(12):
        np.testing.assert_array_equal(compiled(jnp.int32(step)), plain[step])
    assert traced == [name]
    at_once = jax.vmap(where, out_axes=0, axis_size=12)(jnp.arange(12, dtype=jnp.int32))
    np.testing.assert_array_equal(at_once, plain)
    # As the simulation uses it: inside a scan, by a traced round.
    _, scanned = jax.lax.scan(lambda step, _: (step + 1, where(step)), jnp.int32(0), None, length=12)
    np.testing.assert_array_equal(scanned, plain)
    assert topology.mean_degree(where) == (plain[0] != NO_PEER).sum() / nodes
