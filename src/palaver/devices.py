"""JAX's devices and its compiled programs: settings that must precede the first computation."""

import contextlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jax

_WORTH_KEEPING = 0.05
"""Seconds of compiling that a file saves; below that reading it back takes about as long."""


def keep_compiled(folder: Path) -> None:
    """Keeps compiled programs in ``folder`` for the next run, unless ``JAX_COMPILATION_CACHE_DIR`` names a folder.

    Also those that JAX by default does not keep, of less than a second: of a small collective or language these are
    most of its programs.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)


def use_cores() -> None:
    """On a CPU, makes one JAX device of each core, so that the nodes are divided among the cores.

    Call it before JAX's first computation; after it, or where ``XLA_FLAGS`` already sets a number of devices, nothing
    changes.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # how JAX says that it has already started
            allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            jax.config.update("jax_num_cpu_devices", allowed or 1)


@cache
def once() -> dict[str, bool | int | str]:
    """Compiler options for a program that runs once, such as an initialisation.

    XLA's CPU backend would take ten times as long to optimise it as it could save, and without its fusion emitters,
    which build each kernel by a pipeline of their own, it compiles in half the time. At this level results are the same
    bits with them and without.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, bool | int | str] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    return options if understood(options) else {"xla_backend_optimization_level": 0}


def understood(options: Mapping[str, bool | int | str]) -> bool:
    """Whether this jaxlib knows these compiler options; some are there only for a few versions."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
