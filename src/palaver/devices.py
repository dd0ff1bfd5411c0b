"""JAX's devices and its compiled programs: settings that must precede the first computation."""

import contextlib
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jax

_WRITING = 1.0
"""Seconds that JAX takes at most to write a compiled program into a file."""

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


def drop_torn() -> None:
    """Deletes compiled programs that were kept in the last second: a thread may be writing one as its process ends.

    JAX would warn of a torn file in every later run, and never replace it.
    """
    with contextlib.suppress(OSError, TypeError):  # no such folder, or none is set
        for path in Path(jax.config.jax_compilation_cache_dir).iterdir():  # type: ignore[attr-defined]
            if time.time() - path.stat().st_mtime < _WRITING:
                path.unlink(missing_ok=True)


def use_cores() -> None:
    """On a CPU, makes one JAX device of each core, so that the nodes are divided among the cores.

    Call it before JAX's first computation; after it, or where ``XLA_FLAGS`` already sets a number of devices, nothing
    changes.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # how JAX says that it has already started
            jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """Processor cores that this process may use."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


def once() -> dict[str, bool | int | str]:
    """Compiler options for a program that runs once, such as an initialisation: hardly optimised on a CPU."""
    return _without_emitters(0)


def brief() -> dict[str, bool | int | str]:
    """Compiler options for a program that runs some hundred times: optimised a little on a CPU."""
    return _without_emitters(1)


@cache
def _without_emitters(level: int) -> dict[str, bool | int | str]:
    """XLA's CPU backend at this level of optimisation, and without its fusion emitters.

    These build each kernel by a pipeline of their own: without them a program compiles in half the time. At level 0
    results are the same bits with them and without.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, bool | int | str] = {"xla_backend_optimization_level": level}
    quicker = options | {"xla_cpu_use_fusion_emitters": False}
    return quicker if understood(quicker) else options


def understood(options: Mapping[str, bool | int | str]) -> bool:
    """Whether this jaxlib knows these compiler options; some are there only for a few versions."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
