"""JAX's devices and its compiled programs: settings that must precede the first computation."""

import contextlib
import os
from pathlib import Path

import jax


def keep_compiled(folder: Path) -> None:
    """Keeps compiled programs in ``folder`` for the next run, unless ``JAX_COMPILATION_CACHE_DIR`` names a folder."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def use_cores() -> None:
    """On a CPU, makes one JAX device of each core, so that the nodes are divided among the cores.

    Call it before JAX's first computation; after it, or where ``XLA_FLAGS`` already sets a number of devices, nothing
    changes.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # how JAX says that it has already started
            allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            jax.config.update("jax_num_cpu_devices", allowed or 1)
