"""A data set in memory: three parts that share no example, checked once so that nothing later has to."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split

from palaver.arguments import count, failure_of, instance, number
from palaver.arguments import seed as check_seed
from palaver.types import PalaverError

_LABEL_LIMIT = 2**31 - 1


class Dataset(NamedTuple):
    """Inputs and labels for training, validation and test. ``M`` differs from part to part."""

    name: str
    """What it was loaded as."""
    x_train: np.ndarray
    """``[M, ...]`` uint8 (0 to 255, images as height, width, channels) or float32."""
    y_train: np.ndarray
    """``[M]`` class ids, int32."""
    x_validation: np.ndarray
    """``[M, ...]`` as ``x_train``."""
    y_validation: np.ndarray
    """``[M]`` as ``y_train``."""
    x_test: np.ndarray
    """``[M, ...]`` as ``x_train``."""
    y_test: np.ndarray
    """``[M]`` as ``y_train``."""
    classes: int
    """How many classes there are; labels run from 0 to ``classes - 1``."""
    reference: np.ndarray | None = None
    """``[R, ...]`` as ``x_train``: inputs without labels that all nodes of a collective share; ``None``: none."""

    def __repr__(self) -> str:
        """The sizes; the arrays are long."""
        sizes = "/".join(str(len(labels)) for labels in (self.y_train, self.y_validation, self.y_test))
        kind = f"inputs {self.shape} of {self.x_train.dtype}, {self.classes} classes"
        return f"Dataset({self.name}: {sizes} examples for training/validation/test, {kind})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.x_train.shape[1:]

    @property
    def nbytes(self) -> int:
        """The size of all parts in memory, in bytes."""
        return sum(part.nbytes for part in self if isinstance(part, np.ndarray))

    @property
    def bits_per_example(self) -> int:
        """The size of one input as it is stored, in bits: what sending the input itself would cost."""
        return 8 * self.x_train.itemsize * math.prod(self.shape)


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    classes: int | None = None,
    name: str = "arrays",
    seed: int = 0,
) -> Dataset:
    """Makes a data set of arrays, and cuts what is not given out of ``x``.

    The cuts are stratified: every part has the classes in the same proportions. Where a class has too few examples
    for that, the cut is a plain random one. Rows keep their order.

    >>> data = from_arrays(np.eye(20), np.arange(20) % 2)
    >>> [len(part) for part in (data.y_train, data.y_validation, data.y_test)], data.shape, data.bits_per_example
    ([14, 2, 4], (20,), 640)

    Args:
        x: ``[M, ...]``. uint8 are pixels: kept as they are, and scaled to [0, 1] for the models. Everything else
            becomes float32, unscaled.
        y: ``[M]`` integer class ids.
        x_test: ``[M', ...]`` inputs of the same shape and kind; without it the test part is cut out of ``x``.
        y_test: ``[M']`` their labels.
        validation: the share of ``x`` that becomes the validation part; at least one example.
        test: the share of ``x`` that becomes the test part where ``x_test`` is not given; at least one example.
        classes: how many classes there are; the largest label plus 1 where not given.
        name: what the set is called in results.
        seed: of the cuts.

    Returns:
        The data set.

    Raises:
        PalaverError: if lengths or shapes differ, something is empty or not finite, a label is no integer or out of
            range, a share is not between 0 and 1, or nothing is left to train on.

    """
    if (x_test is None) != (y_test is None):
        missing = "y_test" if y_test is None else "x_test"
        raise PalaverError(f"{missing} is missing: give both x_test and y_test, or neither to cut a test part out of x")
    seed, name = check_seed("seed", seed), instance("name", name, str, "text")
    classes = None if classes is None else count("classes", classes, most=_LABEL_LIMIT)
    parts: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    parts["x"], labels["y"] = check_examples("x", x, "y", y, classes=classes)
    if x_test is not None and y_test is not None:
        parts["x_test"], labels["y_test"] = check_examples("x_test", x_test, "y_test", y_test, classes=classes)
    parts = _convert(parts)
    labels = {name: ids.astype(np.int32) for name, ids in labels.items()}
    if classes is None:
        classes = 1 + max(int(ids.max()) for ids in labels.values())
    return Dataset(name, *_cut_parts(parts, labels, validation, test, seed), classes=classes)


def subset(dataset: Dataset, train: int, validation: int, test: int) -> Dataset:
    """A smaller data set: so many examples of each part, from the start of a random order that is always the same.

    A smaller subset is therefore contained in a larger one.

    >>> data = subset(from_arrays(np.eye(20), np.arange(20) % 2), train=5, validation=1, test=2)
    >>> [len(part) for part in (data.y_train, data.y_validation, data.y_test)]
    [5, 1, 2]

    Args:
        dataset: the larger one.
        train: examples of the training part.
        validation: examples of the validation part.
        test: examples of the test part.

    Returns:
        The smaller data set, with the same name and number of classes.

    Raises:
        PalaverError: if a part is asked for no example or for more than it has.

    """
    taken = {}
    for part, size in (("train", train), ("validation", validation), ("test", test)):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        size = count(part, size, most=len(y), where=f" of the {len(y)} examples in {dataset.name}")
        rows = np.random.default_rng(0).permutation(len(y))[:size]
        taken |= {f"x_{part}": x[rows], f"y_{part}": y[rows]}
    return dataset._replace(**taken)


def check_examples(
    x_name: str, x: ArrayLike, y_name: str, y: ArrayLike, *, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Checks that inputs are numbers, and that each has a class id.

    >>> [part.shape for part in check_examples("x", [[0.5], [0.25]], "y", [1, 0], classes=2)]
    [(2, 1), (2,)]

    Args:
        x_name: of the inputs, for the message.
        x: ``[M, ...]`` inputs.
        y_name: of the labels, for the message.
        y: ``[M]`` class ids.
        classes: how many classes there are; None: any number.

    Returns:
        Both as arrays.

    Raises:
        PalaverError: they are not; whether the numbers are finite is ``check_finite``'s.

    """
    with failure_of(x_name, "give one array [examples, ...], every example of the same shape"):
        x = np.asarray(x)
    with failure_of(y_name, "give one label an example, [examples]"):
        y = np.asarray(y)
    if x.dtype.kind not in "buif":
        raise PalaverError(f"{x_name} holds {x.dtype}: give integers or floats")
    if x.ndim < 2:
        raise PalaverError(
            f"{x_name} has shape {x.shape}: give [examples, ...], for one number an example {x_name}[:, None]"
        )
    if x.size == 0:
        raise PalaverError(f"{x_name} has shape {x.shape}: give at least one example of at least one number")
    if y.ndim != 1:
        raise PalaverError(f"{y_name} has shape {y.shape}: give one label an example, [examples]")
    if y.dtype.kind not in "bui":
        raise PalaverError(
            f"{y_name} holds {y.dtype}: give integer class ids, from numpy.unique(..., return_inverse=True)"
        )
    limit = _LABEL_LIMIT if classes is None else classes
    wrong = np.flatnonzero((y < 0) | (y >= limit))
    if wrong.size:
        at = int(wrong[0])
        raise PalaverError(f"label {y[at]} at example {at} of {y_name} is out of range: give 0 to {limit - 1}")
    if len(x) != len(y):
        raise PalaverError(f"{x_name} has {len(x)} examples and {y_name} {len(y)}: give one label an example")
    return x, y


def check_finite(name: str, x: np.ndarray) -> None:
    """Checks that no input is NaN or infinite.

    Args:
        name: of the inputs, for the message.
        x: ``[M, ...]`` inputs.

    Raises:
        PalaverError: one is; the message names the example.

    """
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    raise PalaverError(
        f"{name} holds non-finite values at example {bad[0]}: remove or fill the {bad.size} such examples "
        "(float32 ends at 3.4e38)"
    )


def _convert(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Brings all inputs to one type: uint8 stays, everything else becomes float32."""
    pixels = {x.dtype == np.uint8 for x in parts.values()}
    if len(pixels) > 1 or len({x.shape[1:] for x in parts.values()}) > 1:
        x, x_test = parts["x"], parts["x_test"]
        raise PalaverError(
            f"x has inputs {x.shape[1:]} {x.dtype} and x_test {x_test.shape[1:]} {x_test.dtype}: "
            "give both the same shape and kind"
        )
    if pixels == {True}:
        return parts
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is reported below
        converted = {name: x.astype(np.float32) for name, x in parts.items()}
    for name, x in converted.items():
        check_finite(name, x)
    return converted


def _cut_parts(
    parts: dict[str, np.ndarray], labels: dict[str, np.ndarray], validation: float, test: float, seed: int
) -> tuple[np.ndarray, ...]:
    """The inputs and labels for training, validation and test, in the order of ``Dataset``."""
    x, y = parts["x"], labels["y"]
    rows, held_out = np.arange(len(y)), _count("validation", validation, len(y))
    if "x_test" not in parts:
        rows, cut = _cut(rows, y, _count("test", test, len(y)), seed)
        parts["x_test"], labels["y_test"] = x[cut], y[cut]
    rows, cut = _cut(rows, y, held_out, seed)
    return x[rows], y[rows], x[cut], y[cut], parts["x_test"], labels["y_test"]


def _count(name: str, share: float, examples: int) -> int:
    return max(1, round(number(name, share, "(0, 1)") * examples))


def _cut(rows: np.ndarray, y: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes ``count`` of ``rows`` out: what is left and what was taken, both in ascending order."""
    left = len(rows) - count
    if left < 1:
        raise PalaverError(
            f"{len(y)} examples leave none to train on: give more, or smaller shares for validation and test"
        )
    sizes = np.unique(y[rows], return_counts=True)[1]
    stratify = y[rows] if sizes.min() > 1 and min(left, count) >= len(sizes) else None
    kept, taken = train_test_split(rows, test_size=count, stratify=stratify, random_state=seed)
    return np.sort(kept), np.sort(taken)
