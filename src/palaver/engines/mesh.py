"""The same program with the node axis over a device mesh.

Each device trains its own nodes; what they said is gathered once a round, and every device then plays the whole
exchange, a few integers a node, for itself. So no decision depends on how many devices there are.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from palaver.types import Array, PalaverError

AXIS = "nodes"


class Spread(NamedTuple):
    """How arrays ``[S, N, ...]`` lie on devices, as functions that the engine calls."""

    nodes: Any
    """Spec of arrays that are split along the node axis."""
    whole: Any
    """Spec of arrays that every device holds."""
    own: Callable[..., Array]
    """``own(x [S, N, ...], offset, count)``: this device's share of nodes ``offset .. offset + count - 1``."""
    gather: Callable[[Array], Array]
    """``[S, n, ...]`` of this device to ``[S, count, ...]`` of all."""
    program: Callable[[Callable[..., Any], Any, Any], Callable[..., Any]]
    """``program(f, in_specs, out_specs)``: f as one program over the devices."""
    shardings: Callable[[Any], Any]
    """Specs to shardings for ``jax.jit`` and ``jax.device_put``; ``None`` leaves the choice to JAX."""


ONE_DEVICE = Spread(
    nodes=None,
    whole=None,
    own=lambda x, offset, count: x[:, offset : offset + count],
    gather=lambda x: x,
    program=lambda f, _in, _out: f,
    shardings=lambda _specs: None,
)
"""Everything on the default device."""


def over(mesh: Mesh) -> Spread:
    """The node axis over ``mesh``, whose only axis must be named ``nodes``.

    Every group's number of nodes must be divisible by the number of devices.
    """
    devices = mesh.shape[AXIS]

    def own(x: Array, offset: int, count: int) -> Array:
        share = count // devices
        start = offset + jax.lax.axis_index(AXIS) * share
        return jax.lax.dynamic_slice_in_dim(x, start, share, axis=1)

    return Spread(
        nodes=PartitionSpec(None, AXIS),
        whole=PartitionSpec(),
        own=own,
        gather=lambda x: jax.lax.all_gather(x, AXIS, axis=1, tiled=True),
        program=lambda f, in_specs, out_specs: jax.shard_map(
            f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        ),
        shardings=lambda specs: jax.tree.map(
            lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda s: isinstance(s, PartitionSpec)
        ),
    )


def across(counts: list[int], devices: int | None = None) -> Spread:
    """Spreads groups of ``counts`` nodes over as many of the devices as divide them all; one: ``ONE_DEVICE``.

    Args:
        counts: nodes in each group.
        devices: use at most so many; ``None``: all.

    Raises:
        PalaverError: if more devices are asked for than there are.

    """
    have = jax.devices()
    most = len(have) if devices is None else devices
    if not 1 <= most <= len(have):
        raise PalaverError(f"devices is {most}: this machine shows {len(have)}; give 1 to {len(have)}")
    common = math.gcd(*counts)
    used = max(d for d in range(1, most + 1) if common % d == 0)
    return ONE_DEVICE if used == 1 else over(Mesh(np.array(have[:used]), (AXIS,)))


def keep_compiled(folder: Path) -> None:
    """Keeps compiled programs in ``folder`` for the next run, unless ``JAX_COMPILATION_CACHE_DIR`` names a place."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def use_cores() -> None:
    """On a CPU, makes one JAX device of each core, so that the cores share the nodes out.

    Must precede JAX's first computation; after it, or where ``XLA_FLAGS`` already sets a number of devices, nothing
    changes.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX's word that it has begun
            allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            jax.config.update("jax_num_cpu_devices", allowed or 1)
