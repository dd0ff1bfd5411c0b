"""Several hosts, a process each, that train one collective together on JAX's own runtime; host 0 alone writes.

JAX ends a process with a page of C++ logs when another one is lost, and nothing in Python is asked. Here each host ends
with one line instead: what C++ writes is kept from the terminal, and the abort is answered by a handler of our own.
"""

import ctypes
import hashlib
import os
import re
import signal
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

from palaver.errors import MachineError, PalaverError
from palaver.studies.stopping import goes_on

_PATIENCE = 45
"""Seconds that all hosts have to come."""
_SILENCE = 30
"""Seconds without a sign of life after which a host is lost; one whose process has ended is known at once."""
_WRITING = 24 * 3600
"""Seconds that a host may wait for another at the very end, which may still write its results."""
_LATEST = 2**20
"""Bytes of what was written, the latest, that are looked through for the runtime's last words."""
_RUNTIME = b"JAX distributed service"
"""In what C++ writes as it aborts a process because of another one."""
_COLLECTIVE = re.compile("gloo|nccl|rccl|coordination service|UNAVAILABLE|DEADLINE_EXCEEDED", re.IGNORECASE)
"""In an error that another host's end causes here."""

_KEPT: list[Any] = []
"""What must live as long as the process: the file that C++ writes to, and the handlers of its abort."""


def check_hosts(hosts: int | str | None, host_id: int | None, coordinator: str | None) -> bool:
    """Whether other hosts take part; starts nothing.

    Args:
        hosts: how many, ``auto``, or None.
        host_id: this one's number.
        coordinator: ``HOST:PORT`` of host 0.

    Raises:
        PalaverError: they do not go together.

    """
    for name, value in (("host_id", host_id), ("coordinator", coordinator)):
        if value is not None and (hosts is None or isinstance(hosts, str)):
            given = "not given: add --hosts N" if hosts is None else "auto, which finds it out: leave it out"
            raise PalaverError(f"{name} is {value}, but hosts is {given}")
    if hosts is None or isinstance(hosts, str):
        return hosts is not None
    if hosts < 1:
        raise PalaverError(f"hosts is {hosts}: give a count of at least 1, or auto")
    if hosts == 1 and coordinator is None and not host_id:
        return False
    if host_id is None or not 0 <= host_id < hosts:
        found = "not given" if host_id is None else f"{host_id}"
        raise PalaverError(f"host_id is {found}: give each of {hosts} hosts its own --host-id, 0 to {hosts - 1}")
    port = re.fullmatch(r"\S+:(\d{1,5})", coordinator or "")
    if port is None or not 0 < int(port[1]) < 2**16:
        found = "not given" if coordinator is None else repr(coordinator)
        raise PalaverError(f"coordinator is {found}: give HOST:PORT, where host 0 can be reached by all of them")
    return True


def join(hosts: int | str, host_id: int | None, coordinator: str | None) -> None:
    """Waits for the other hosts and connects this one with them; call it before JAX's first computation.

    Args:
        hosts: how many, or ``auto``.
        host_id: this one's number.
        coordinator: ``HOST:PORT`` of host 0.

    Raises:
        PalaverError: ``auto`` where no job of several processes is found.
        MachineError: host 0 cannot listen there. Where another host does not come, the process ends with one line.

    """
    where = "the first host" if coordinator is None else coordinator
    _answer_aborts(
        lambda: (
            f"not all hosts met at {where} within {_PATIENCE} s: start palaver on every one of them at about the "
            "same time, with the same --hosts and --coordinator, and let them reach that port"
        )
    )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    jax.config.update("jax_check_proxy_envs", False)  # docs/scaling.md tells of them
    auto = isinstance(hosts, str)
    try:
        with warnings.catch_warnings(action="ignore"):  # of a Kubernetes client that is not installed
            jax.distributed.initialize(
                coordinator,
                None if auto else hosts,
                host_id,
                cluster_detection_method=None if auto else "deactivate",
                initialization_timeout=_PATIENCE,
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_WRITING,
            )
    except ValueError:
        raise PalaverError(
            "hosts is auto, but this is no process of a Slurm, Open MPI 4 or cloud TPU job: "
            "give --hosts N --host-id I --coordinator HOST:PORT"
        ) from None
    except (RuntimeError, OSError) as error:
        raise MachineError(f"host 0 cannot listen at {where} ({_first_line(error)}): give a free port") from None
    _answer_aborts(_lost)
    if not first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def first() -> bool:
    """Whether this is host 0, which alone writes; true where it is the only one."""
    return jax.process_index() == 0


def share(content: bytes = b"") -> bytes:
    """Host 0's bytes, on every host; all must call it."""
    size = int(broadcast_one_to_all(np.int32(len(content))))
    return share_array(np.frombuffer(content if first() else bytes(size), np.uint8)).tobytes() if size else b""


def share_array(array: np.ndarray) -> np.ndarray:
    """Host 0's array, to the bit, on every host; the others give one of the same shape and type."""
    if jax.process_count() == 1:
        return array
    # As bytes: hosts are added up, others' zeros too, and a sum makes 0 of -0.
    found = broadcast_one_to_all(np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8))
    return np.frombuffer(found.tobytes(), array.dtype).reshape(array.shape)


def gather(values: np.ndarray) -> np.ndarray:
    """``[hosts, ...]``: the values of every host, on every host; all must call it."""
    return process_allgather(values)


def check_same(what: str, parts: Iterable[np.ndarray]) -> None:
    """Raises ``PalaverError`` on every host unless all have the same arrays; all must call it.

    Args:
        what: they are, for the message.
        parts: the arrays.

    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    found = gather(np.frombuffer(digest.digest(), np.uint8))
    others = np.flatnonzero((found != found[0]).any(axis=1))
    if others.size:
        raise PalaverError(f"host {others[0]} has another {what} than host 0: give every host the same files")


def whole(array: Any) -> np.ndarray:
    """An array that may be divided among hosts, whole on every host; all must call it."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return process_allgather(array, tiled=True)
    return np.asarray(array)


def put_like(array: np.ndarray, like: jax.Array) -> jax.Array:
    """A whole array on the devices of another one, those of this host."""
    if like.is_fully_addressable:
        return jax.device_put(array, like.sharding)
    return jax.make_array_from_callback(array.shape, like.sharding, lambda part: array[part])


def undivided(tree: Any) -> bool:
    """Whether several hosts take part and none of a tree's arrays is divided among them."""
    leaves = jax.tree.leaves(tree)
    return jax.process_count() > 1 and all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves)


def leave() -> None:
    """Waits until all hosts have called it and disconnects them: from now on one may end before the others."""
    with suppress(jax.errors.JaxRuntimeError):  # another one was lost just now: this one is done all the same
        jax.distributed.shutdown()


@contextmanager
def lost_hosts() -> Generator[None]:
    """While open, an error that another host's end causes is a ``MachineError`` of one line; other errors stay."""
    try:
        yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, PalaverError) or jax.process_count() == 1 or not _COLLECTIVE.search(str(error)):
            raise
        raise MachineError(_lost()) from None


def _lost() -> str:
    """What to say where another host is lost."""
    said = "another host has ended or cannot be reached"
    return said + (goes_on() or ": start palaver on all hosts again, with --resume where the run had begun")


def _first_line(error: Exception) -> str:
    return textwrap.shorten(str(error).split("\n")[0], 160)


def _answer_aborts(words: Callable[[], str]) -> None:
    """From now on the process ends with these words and code 1 where JAX aborts it because of another one.

    Python's streams go on to the terminal, and what C++ writes goes to a file.
    """
    if not _KEPT:
        kept = tempfile.TemporaryFile()  # noqa: SIM115
        _KEPT.append(kept)
        for name, number in (("stdout", 1), ("stderr", 2)):
            with suppress(AttributeError, OSError, ValueError):  # it is closed
                stream = getattr(sys, name)
                stream.flush()
                setattr(sys, name, os.fdopen(os.dup(number), "w", buffering=1, encoding=stream.encoding))
                os.dup2(kept.fileno(), number)

    def answer(_: int) -> None:
        kept = _KEPT[0].fileno()
        wrote = os.pread(kept, _LATEST, max(0, os.fstat(kept).st_size - _LATEST))
        if _RUNTIME in wrote:
            _end(words())
        os.write(sys.stderr.fileno(), wrote)  # of something else; the abort goes on

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(answer)
    _KEPT.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def _end(words: str) -> NoReturn:
    with suppress(AttributeError, OSError, ValueError):
        os.write(sys.stderr.fileno(), f"palaver: {words}\n".encode())
    os._exit(1)
