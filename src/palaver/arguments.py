"""Checks of what a caller gives: numbers, seeds, choices, functions. A value passes, or one line says what is allowed.

NumPy's numbers, and arrays of no axis, are as good as Python's; true and false are no numbers. A number that JAX traces
passes, since it is not known yet.
"""

import math
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from jax.core import Tracer

from palaver.errors import PalaverError

LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy, JAX and scikit-learn all take as it is."""


def shown(value: Any) -> str:
    """A value for a message: in one short line.

    >>> shown("ring"), shown(2.5), shown(len), shown(list(range(99)))
    ("'ring'", '2.5', 'a function', 'a list')

    Args:
        value: anything.

    Returns:
        The value itself, or what kind of thing it is.

    """
    value = _scalar(value)
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and hasattr(value, "dtype"):
        return f"an array {shape} of {value.dtype}"
    if callable(value):
        return f"the class {value.__name__}" if isinstance(value, type) else "a function"
    text = repr(value)
    return text if len(text) <= 60 and text.isprintable() else f"a {type(value).__name__}"


def count(name: str, value: Any, *, least: int = 1, most: int | None = None, where: str = "", unit: str = "") -> int:
    """A whole number.

    >>> count("capacity", 16)
    16

    Args:
        name: of the argument.
        value: what was given.
        least: the smallest number that is allowed.
        most: the largest; None: any.
        where: for the message, after the value.
        unit: for the message, what is counted.

    Returns:
        The number.

    Raises:
        PalaverError: it is none, or out of range.

    """
    if isinstance(value, Tracer):
        return cast(int, value)
    found = _scalar(value)
    whole = isinstance(found, int) and not isinstance(found, bool)
    if whole and least <= found and (most is None or found <= most):
        return found
    allowed = f"at least {least}" if most is None else f"{least} to {most}"
    kind = "" if whole else "a whole number, "
    raise PalaverError(f"{name} is {shown(value)}{where}: give {kind}{allowed}{unit and f' {unit}'}")


_TINY, _MOST = (float(bound) for bound in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
FLOAT32 = (
    f"float32, in which programs compute, goes from {_TINY:.2g} to {_MOST:.2g} in size, and to 1 − 6e-08 below 1: "
    "give a number that it has"
)


def in_float32(value: float) -> bool:
    """Whether float32 has a number like this one: not infinite, 0 only if it is 0, and below 1 if it is.

    >>> in_float32(0.1), in_float32(1e308), in_float32(1e-300), in_float32(1 - 1e-12)
    (True, False, False, False)

    """
    if not (value == 0 or _TINY <= abs(value) <= _MOST):
        return False
    return value >= 1 or bool(np.float32(value) < 1)


def number(name: str, value: Any, within: str, *, double: bool = False) -> float:
    """A finite number in an interval.

    >>> number("mix", 0.5, "[0, 1]")
    0.5

    Args:
        name: of the argument.
        value: what was given.
        within: the interval as it is written, ``[`` and ``]`` with and ``(`` and ``)`` without the bound.
        double: whether what takes it computes in float64, and not as programs do in float32.

    Returns:
        The number.

    Raises:
        PalaverError: it is none, out of range, or none that float32 has.

    """
    if isinstance(value, Tracer):
        return cast(float, value)
    low, high = map(float, within[1:-1].split(","))
    found = _scalar(value)
    if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < math.inf:
        above = low < found or (within[0] == "[" and found == low)
        if above and (found < high or (within[-1] == "]" and found == high)):
            if not double and not in_float32(found):
                raise PalaverError(f"{name} is {shown(value)}: {FLOAT32}")
            return float(found)
    allowed = f"a number in {within}"
    if high == math.inf:
        allowed = f"a finite number above {low:g}" if within[0] == "(" else f"a finite number, {low:g} or more"
    raise PalaverError(f"{name} is {shown(value)}: give {allowed}")


def flag(name: str, value: Any) -> bool:
    """True or false.

    Args:
        name: of the argument.
        value: what was given.

    Returns:
        The value.

    Raises:
        PalaverError: it is neither.

    """
    if not isinstance(found := _scalar(value), bool):
        raise PalaverError(f"{name} is {shown(value)}: give True or False")
    return found


def sizes(name: str, value: Any, *, may_be_empty: bool = False) -> tuple[int, ...]:
    """Whole numbers of at least 1: the shape of an input, or the widths of layers.

    >>> sizes("hidden", [32, 32])
    (32, 32)

    Args:
        name: of the argument.
        value: what was given.
        may_be_empty: whether there may be none.

    Returns:
        The numbers.

    Raises:
        PalaverError: they are none, or none where there must be one.

    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise PalaverError(f"{name} is {shown(value)}: give a tuple of whole numbers, such as (32, 32)")
    found = tuple(count(f"{name}[{place}]", one) for place, one in enumerate(value))
    if not (found or may_be_empty):
        raise PalaverError(f"{name} is empty: give at least one number, such as (32,)")
    return found


def seed(name: str, value: Any) -> int:
    """The seed of a random generator, 0 to ``LARGEST_SEED``.

    Args:
        name: of the argument.
        value: what was given.

    Returns:
        The seed.

    Raises:
        PalaverError: it is none.

    """
    return count(name, value, least=0, most=LARGEST_SEED)


def seeds(value: Any) -> list[int]:
    """The argument ``seeds``: how many, from 0 on, or the seeds themselves.

    >>> seeds(3), seeds([7, 2])
    ([0, 1, 2], [7, 2])

    Args:
        value: a count, or different seeds in any sequence or array ``[S]``.

    Returns:
        The seeds.

    Raises:
        PalaverError: it is neither, there is no seed, or one is given twice.

    """
    found = _scalar(value)
    if isinstance(found, int):
        return list(range(count("seeds", found, unit="or the seeds themselves")))
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise PalaverError(f"seeds is {shown(value)}: give how many, or the seeds themselves, whole numbers")
    several = [seed(f"seeds[{place}]", one) for place, one in enumerate(found)]
    if not several:
        raise PalaverError("seeds is empty: give at least one")
    if len(set(several)) < len(several):
        twice = next(one for one in several if several.count(one) > 1)
        raise PalaverError(f"seeds holds {twice} more than once: give different seeds")
    return several


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """One of several names.

    Args:
        name: of the argument.
        value: what was given.
        allowed: the names.

    Returns:
        The name.

    Raises:
        PalaverError: it is none of them.

    """
    if not isinstance(value, str) or value not in allowed:
        raise PalaverError(f"{name} is {shown(value)}: choose one of {', '.join(allowed)}")
    return value


def instance(name: str, value: Any, kind: Any, remedy: str) -> Any:
    """A value of a type.

    Args:
        name: of the argument.
        value: what was given.
        kind: the type, or several as ``isinstance`` takes them.
        remedy: for the message, what to give.

    Returns:
        The value.

    Raises:
        PalaverError: it is of another type.

    """
    if not isinstance(value, kind):
        raise PalaverError(f"{name} is {shown(value)}: give {remedy}")
    return value


def function(name: str, value: Any, remedy: str) -> Any:
    """A function.

    Args:
        name: of the argument.
        value: what was given.
        remedy: for the message, what to give.

    Returns:
        The function.

    Raises:
        PalaverError: it cannot be called.

    """
    if not callable(value):
        raise PalaverError(f"{name} is {shown(value)}: give {remedy}")
    return value


@contextmanager
def failure_of(what: str, remedy: str) -> Generator[None]:
    """Says in one line that a function which a caller gave has failed; the cause stays in the traceback.

    Args:
        what: the argument, the first words of the message.
        remedy: what to do.

    Raises:
        PalaverError: whatever the block raised, but for ``MemoryError``, which is the machine's fault.

    """
    try:
        yield
    except (PalaverError, MemoryError):
        raise
    except Exception as error:
        said = next(iter(str(error).splitlines()), "").rstrip(".")
        raise PalaverError(f"{what} fails ({type(error).__name__}: {said}): {remedy}") from error


def _scalar(value: Any) -> Any:
    """Python's number for one of NumPy or JAX; everything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
