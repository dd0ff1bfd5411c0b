"""A function of one node, applied to all: over seeds and nodes (``S``, ``N``), groups and devices.

Arrays of all nodes are ``[S, N, ...]`` and the same on every device; those of one group's nodes on this device are
``[S, n, ...]``.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from palaver.exchange import protocol
from palaver.exchange.description import Collective
from palaver.exchange.sharding import NodeSharding
from palaver.types import Array, Node, NodeState, PyTree


def of_nodes(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``function`` of one node mapped over leading axes ``[S, N]`` of its arguments."""
    return jax.vmap(jax.vmap(function))


def node_keys(keys: Array, nodes: int) -> Array:
    """The keys ``[S, N]`` of all nodes, for seeds' keys ``[S]``."""
    return jax.vmap(lambda key: jax.vmap(partial(protocol.node_key, key))(jnp.arange(nodes)))(keys)


def init_nodes(group: Collective, keys: Array) -> tuple[Array, tuple[NodeState, ...]]:
    """Every node's state before training, of seeds' keys ``[S]``, and the keys for all that is drawn afterwards.

    Returns:
        Keys ``[S]``, and a group each, leaves ``[S, n, ...]``.

    """
    keys, init_keys = jax.vmap(lambda key: tuple(jax.random.split(key)))(keys)
    states, first = list[NodeState](), 0
    for node, count in group.groups:
        of_seed = jax.vmap(lambda key, i, node=node: node.init(jax.random.fold_in(key, i)), (None, 0))
        states.append(jax.vmap(of_seed, (0, None))(init_keys, jnp.arange(first, first + count)))
        first += count
    return keys, tuple(states)


def vmap_nodes(function: Callable[..., PyTree], loop: str) -> Callable[..., PyTree]:
    """``function`` of one node applied over leading axes ``[S, n]`` of all its arguments.

    Args:
        function: of arrays, and pytrees of arrays.
        loop: ``vmap`` computes all nodes at once, ``map`` one after the other.

    """

    def over(*args: PyTree) -> PyTree:
        seeds, nodes = jax.tree.leaves(args)[0].shape[:2]
        flat = jax.tree.map(lambda a: a.reshape(seeds * nodes, *a.shape[2:]), args)
        out = jax.vmap(function)(*flat) if loop == "vmap" else jax.lax.map(lambda a: function(*a), flat)
        return jax.tree.map(lambda a: a.reshape(seeds, nodes, *a.shape[1:]), out)

    return over


def node_loop(node: Node) -> str:
    """``vmap``, or on a CPU ``map`` for convolutional nodes, whose patches then stay in the cache (measured)."""
    params = jax.eval_shape(node.init, jax.random.key(0)).params
    convolutional = any(leaf.ndim >= 4 for leaf in jax.tree.leaves(params))
    return "map" if convolutional and jax.default_backend() == "cpu" else "vmap"


def decode(node: Node, payload: PyTree) -> PyTree:
    """Payloads ``[S, n, B, ...]`` as ``Node.step`` takes them."""
    return payload if node.decode is None else of_nodes(node.decode)(payload)


def received_shapes(node: Node, payload: PyTree) -> PyTree:
    """Shapes of one payload, decoded."""
    return payload if node.decode is None else jax.eval_shape(node.decode, payload)


def by_group(x: Array, group: Collective, sharding: NodeSharding) -> list[Array]:
    """``[S, N, ...]`` as this device's part of each group, ``[S, n, ...]``."""
    offsets = np.cumsum([0, *(count for _, count in group.groups)])
    return [
        sharding.local_slice(x, int(start), count) for start, (_, count) in zip(offsets, group.groups, strict=False)
    ]


def of_all(local: Sequence[PyTree], sharding: NodeSharding) -> PyTree:
    """What every group has on this device ``[S, n, ...]`` as that of all nodes ``[S, N, ...]``."""
    gathered = [jax.tree.map(sharding.gather, part) for part in local]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *gathered)
