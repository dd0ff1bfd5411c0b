"""Data sets by name."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pooch
from sklearn.datasets import load_digits

from palaver.arguments import instance
from palaver.data import files
from palaver.data.dataset import Dataset, from_arrays
from palaver.types import PalaverError

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")
"""What ``load`` knows by name; ``idx:DIR`` and ``npz:FILE`` read files of one's own."""

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(name: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set; the cuts are stratified and always the same.

    ==================  ====================  =========================  =====================================
    name                one input             train / validation / test  files
    ==================  ====================  =========================  =====================================
    ``digits``          ``(8, 8)`` uint8      1,257 / 270 / 270          none: scikit-learn brings it
    ``mnist``           ``(28, 28)`` uint8    50,000 / 10,000 / 10,000   ``mnist/*-ubyte.gz``
    ``fashion-mnist``   ``(28, 28)`` uint8    50,000 / 10,000 / 10,000   ``fashion-mnist/*-ubyte.gz``
    ``cifar10``         ``(32, 32, 3)``       45,000 / 5,000 / 10,000    ``cifar-10-batches-bin/*.bin``
                        uint8
    ``idx:DIR``         as in the files       90 % / 10 % / the files'   ``{train,t10k}-{images-idx3,labels-idx1}``
                                                                         ``-ubyte``, plain or ``.gz``
    ``npz:FILE``        as in the file        70 / 10 / 20 %, or with    arrays ``x``, ``y``, and if it has them
                                              ``x_test`` as ``idx:DIR``  ``x_test``, ``y_test``
    ==================  ====================  =========================  =====================================

    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.classes
    ((1257, 8, 8), 10)

    Args:
        name: as above.
        root: where the official files lie or are downloaded to; by default what the environment variable
            ``PALAVER_DATA`` says, or else the user's cache folder. ``idx:`` and ``npz:`` paths do not use it.

    Returns:
        The data set.

    Raises:
        PalaverError: if the name is unknown, or a file is missing, damaged or not the official one.

    """
    scheme, _, path = instance("name", name, str, "the name of a data set").partition(":")
    if scheme == "idx" and path:
        return _idx(name, Path(path).expanduser())
    if scheme == "npz" and path:
        arrays: dict[str, Any] = files.read_npz(Path(path).expanduser())
        return from_arrays(**arrays, name=name)
    if name not in NAMES:
        raise PalaverError(f"data set {name!r} is unknown: choose one of {', '.join(NAMES)}, idx:DIR, npz:FILE")
    if name == "digits":
        return _digits()
    folder = Path(root or os.environ.get("PALAVER_DATA") or pooch.os_cache("palaver")).expanduser()
    if name == "cifar10":
        return _cifar10(folder)
    official = {"mnist": files.MNIST, "fashion-mnist": files.FASHION_MNIST}[name]
    return _from_idx(name, files.fetch(official, folder), validation=1 / 6, classes=10)


def _digits() -> Dataset:
    x, y = load_digits(return_X_y=True)
    pixels = np.round(x.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    return from_arrays(pixels, y, validation=0.15, test=0.15, classes=10, name="digits")


def _cifar10(root: Path) -> Dataset:
    *train, (x_test, y_test) = [files.read_cifar(path) for path in files.fetch(files.CIFAR10, root)]
    x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return from_arrays(x, y, x_test=x_test, y_test=y_test, validation=0.1, classes=10, name="cifar10")


def _idx(name: str, folder: Path) -> Dataset:
    paths = []
    for file in _IDX_FILES:
        found = [path for path in (folder / file, folder / f"{file}.gz") if os.path.exists(path)]
        if not found:
            raise PalaverError(f"{file} (or {file}.gz) is not in {folder}: put it there, or name another folder")
        paths.append(found[0])
    return _from_idx(name, paths, validation=0.1, classes=None)


def _from_idx(name: str, paths: list[Path], *, validation: float, classes: int | None) -> Dataset:
    x, y, x_test, y_test = (files.read_idx(path) for path in paths)
    return from_arrays(x, y, x_test=x_test, y_test=y_test, validation=validation, classes=classes, name=name)
