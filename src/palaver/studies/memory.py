"""How much memory a study takes, from shapes alone: nothing is allocated, compiled or trained."""

import math
import textwrap
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from palaver.errors import MachineError
from palaver.host import free_memory
from palaver.types import PyTree

WORD = np.dtype(np.float32).itemsize
"""Bytes of a float32 or an int32."""


class Footprint(NamedTuple):
    """What one configuration is about to take."""

    parameters: int
    """Trained numbers of all learners of one seed."""
    bits: float | None
    """Bits that its learners send in all, a seed, as expected before the run; None: nothing is sent."""
    memory: Mapping[str, int] = MappingProxyType({})
    """Bytes that are held at once, by what takes them."""

    @property
    def bytes(self) -> int:
        """All of the memory."""
        return sum(self.memory.values())


def abstract(*shape: int, dtype: Any = jnp.float32) -> Any:
    """An array of this shape that takes no memory: an argument of ``peak`` and of ``jax.eval_shape``."""
    return jax.ShapeDtypeStruct(shape, dtype)


def nbytes(tree: PyTree) -> int:
    """Bytes of a tree's arrays.

    >>> nbytes({"a": jnp.zeros((2, 3), jnp.float32), "b": abstract(10**12, dtype=jnp.int8)})
    1000000000024

    Args:
        tree: of arrays, ``abstract`` or not.

    """
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def peak(function: Callable[..., PyTree], *shapes: PyTree) -> int:
    """Bytes that a function holds beside its arguments, at its worst moment: results and what is still to be used.

    XLA also fuses operations, so that some of these arrays never exist: for a training step of the library's CNN the
    estimate is 4 % above what XLA allocates.

    >>> peak(lambda x: (x + 1).sum(), abstract(1000))
    4004

    Args:
        function: of arrays, and trees of arrays.
        shapes: its arguments, ``abstract`` or not.

    """
    return _peak(jax.make_jaxpr(function)(*shapes).jaxpr)


def _peak(program: Jaxpr) -> int:
    last = {var: place for place, step in enumerate(program.eqns) for var in step.invars if not hasattr(var, "val")}
    last |= dict.fromkeys((var for var in program.outvars if not hasattr(var, "val")), len(program.eqns))
    made: dict[Any, int] = {}
    most = 0
    for place, step in enumerate(program.eqns):
        made |= {var: _size(var.aval) for var in step.outvars}
        inner = max(map(_peak, _inner(step.params)), default=0)
        most = max(most, sum(made.values()) + max(0, inner - sum(_size(var.aval) for var in step.outvars)))
        for var in [var for var in made if last.get(var, -1) <= place]:
            del made[var]
    return most


def _size(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize


def _inner(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """The programs that a step of a program runs."""
    for leaf in jax.tree.leaves(list(params.values()), is_leaf=lambda each: isinstance(each, ClosedJaxpr | Jaxpr)):
        if isinstance(leaf, ClosedJaxpr):
            yield leaf.jaxpr
        elif isinstance(leaf, Jaxpr):
            yield leaf


@contextmanager
def allocation_errors() -> Generator[None]:
    """While open, memory that numpy or XLA does not get is a ``MachineError`` of one line; other errors stay."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no memory"
        told = "Out of memory", "RESOURCE_EXHAUSTED"
        if isinstance(error, jax.errors.JaxRuntimeError) and not any(word in reason for word in told):
            raise
        raise MachineError(
            f"the memory does not suffice ({textwrap.shorten(reason, 160)}): --dry-run shows what takes it, so give "
            "less, or close other programs and go on with --resume"
        ) from None


def available(devices: int = 1) -> int:
    """Bytes that are free for a run: on accelerators the memory of so many, otherwise the machine's or container's.

    Other hosts count as much as this one.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return devices * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return free_memory() * jax.process_count()
