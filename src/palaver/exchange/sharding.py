"""The same program with the node axis over a device mesh.

Each device trains its own nodes. What these nodes send is gathered once per round, and every device then computes all
inboxes and packets, a few integers per node, for itself: no decision depends on how many devices there are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from palaver.types import Array, PalaverError, PyTree

AXIS = "nodes"

_LEAST_WORK = 500_000
"""A core's share of a round, below which cores wait for each other longer than they save (measured on two)."""


class NodeSharding(NamedTuple):
    """How arrays ``[S, N, ...]`` are placed on devices, as functions that the simulation calls."""

    nodes: PyTree
    """``PartitionSpec`` of arrays that are split along the node axis; ``None`` on one device."""
    replicated: PyTree
    """``PartitionSpec`` of arrays that every device holds; ``None`` on one device."""
    local_slice: Callable[[Array, int, int], Array]
    """``local_slice(x [S, N, ...], offset, count)``: this device's part of nodes ``offset .. offset + count - 1``."""
    gather: Callable[[Array], Array]
    """``[S, n, ...]`` of this device to ``[S, count, ...]`` of all."""
    program: Callable[[Callable[..., PyTree], PyTree, PyTree], Callable[..., PyTree]]
    """``program(f, in_specs, out_specs)``: f as one program over the devices."""
    shardings: Callable[[PyTree], PyTree]
    """Specs to shardings for ``jax.jit`` and ``jax.device_put``; ``None`` leaves the choice to JAX."""


ONE_DEVICE = NodeSharding(
    nodes=None,
    replicated=None,
    local_slice=lambda x, offset, count: x[:, offset : offset + count],
    gather=lambda x: x,
    program=lambda f, _in, _out: f,
    shardings=lambda _specs: None,
)
"""Everything on the default device."""


def mesh_sharding(mesh: Mesh) -> NodeSharding:
    """The node axis over a device mesh.

    Every group's number of nodes must be divisible by the number of devices.

    Args:
        mesh: its only axis must be named ``nodes``.

    Returns:
        The sharding.

    """
    devices = mesh.shape[AXIS]

    def local_slice(x: Array, offset: int, count: int) -> Array:
        share = count // devices
        start = offset + jax.lax.axis_index(AXIS) * share
        return jax.lax.dynamic_slice_in_dim(x, start, share, axis=1)

    return NodeSharding(
        nodes=PartitionSpec(None, AXIS),
        replicated=PartitionSpec(),
        local_slice=local_slice,
        gather=lambda x: jax.lax.all_gather(x, AXIS, axis=1, tiled=True),
        program=lambda f, in_specs, out_specs: jax.shard_map(
            f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        ),
        shardings=lambda specs: jax.tree.map(
            lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda s: isinstance(s, PartitionSpec)
        ),
    )


def on_every_device(tree: PyTree, sharding: NodeSharding) -> PyTree:
    """Arrays on all devices of a sharding.

    Every host of several puts them on its own devices: ``jax.device_put`` would send them from host to host to compare
    them.
    """
    where = sharding.shardings(sharding.replicated)
    if jax.process_count() == 1 or where is None:
        return jax.device_put(tree, where)
    return jax.tree.map(
        lambda array: jax.make_array_from_callback(array.shape, where, np.asarray(array).__getitem__), tree
    )


def auto_sharding(counts: list[int], devices: int | None = None, *, work: float = math.inf) -> NodeSharding:
    """The node axis over as many devices as divide the number of nodes in every group, and have enough to do.

    Where several hosts take part, each gives as many of its devices as any other. Where they do not divide the nodes,
    or would have too little to do, every host trains all nodes, on its own devices.

    >>> auto_sharding([4, 6], devices=1) is ONE_DEVICE
    True

    Args:
        counts: nodes in each group.
        devices: use at most so many, of all hosts together; ``None``: all.
        work: of a round, from ``Collective.work``.

    Returns:
        The sharding; ``ONE_DEVICE`` where only one device can be used.

    Raises:
        PalaverError: if ``devices`` is below the number of hosts or above the number of devices that there are.

    """
    have, hosts = jax.devices(), jax.process_count()
    most = len(have) if devices is None else devices
    if not hosts <= most <= len(have):
        shows = "this machine shows" if hosts == 1 else f"{hosts} hosts show"
        raise PalaverError(f"devices is {most}: {shows} {len(have)}; give {hosts} to {len(have)}")
    if jax.default_backend() == "cpu":
        most = min(most, max(1, work / _LEAST_WORK))
    common, each = math.gcd(*counts), [[d for d in have if d.process_index == host] for host in range(hosts)]
    fitting = [d for d in range(1, int(most) + 1) if common % d == 0]
    shared = [d for d in fitting if d % hosts == 0 and d // hosts <= min(map(len, each))]
    if shared:
        used = [device for own in each for device in own[: shared[-1] // hosts]]
    else:
        own = jax.local_devices()
        used = own[: max(d for d in fitting if d <= len(own))]
    return ONE_DEVICE if len(used) == 1 else mesh_sharding(Mesh(np.array(used), (AXIS,)))
