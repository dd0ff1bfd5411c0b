"""Official files: where they come from, whether they are the right ones, and how they are read."""

import gzip
import math
import os
import tarfile
import textwrap
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from palaver import npz
from palaver.types import PalaverError

CIFAR_SHAPE = (32, 32, 3)
"""Height, width and channels of a CIFAR-10 image."""

_IDX_UBYTE = b"\x00\x00\x08"
_CIFAR_RECORD = 1 + math.prod(CIFAR_SHAPE)
_CHUNK = 1 << 16
_ARRAYS = ("x", "y", "x_test", "y_test")
_MOST_AXES = 4
"""Of an IDX file that can be a data set: examples, height, width, channels."""


class Official(NamedTuple):
    """A data set's official files."""

    folder: str
    """Where they lie under the data root."""
    base: str
    """The address in front of each file's name, with the slash."""
    hashes: Mapping[str, str]
    """File name to ``algorithm:hex``, in the order in which they are read."""
    archive: tuple[str, str] | None = None
    """Name and ``algorithm:hex`` of the tar archive that holds ``folder``; ``None`` where files come one by one."""


MNIST = Official(
    folder="mnist",
    base="https://ossci-datasets.s3.amazonaws.com/mnist/",
    hashes={
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)
"""LeCun, Cortes & Burges: 60,000 + 10,000 handwritten digits, 28 x 28."""

FASHION_MNIST = Official(
    folder="fashion-mnist",
    base="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    hashes={
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
)
"""Xiao, Rasul & Vollgraf 2017: 60,000 + 10,000 pieces of clothing, 28 x 28."""

CIFAR10 = Official(
    folder="cifar-10-batches-bin",
    base="https://www.cs.toronto.edu/~kriz/",
    hashes={
        "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    archive=("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
)
"""Krizhevsky 2009: 50,000 + 10,000 photographs in ten classes, 32 x 32, colour."""


def fetch(official: Official, root: Path) -> list[Path]:
    """The official files under ``root``: missing ones are downloaded, and the checksum of every file is checked.

    Args:
        official: which files.
        root: the data root; the files lie in its folder ``official.folder``.

    Returns:
        One path per file, in the order of ``official.hashes``.

    Raises:
        PalaverError: if a file there is not the official one, or a missing one cannot be downloaded.

    """
    folder = root / official.folder
    for name, known_hash in official.hashes.items():
        if not os.path.exists(folder / name):
            _download(official, name, root)
        _verify(folder / name, known_hash)
    return [folder / name for name in official.hashes]


def _verify(path: Path, known_hash: str) -> None:
    algorithm, expected = known_hash.split(":")
    try:
        got = pooch.file_hash(str(path), alg=algorithm)
    except OSError as error:
        raise _unreadable(path, error) from error
    if got != expected:
        raise PalaverError(
            f"{path} is not the official file: its {algorithm} is {got}, expected {expected}; "
            "delete it, and it is downloaded again"
        )


def _download(official: Official, name: str, root: Path) -> None:
    """Puts the file ``name`` (or with an archive, all files) where it belongs."""
    where, processor = root / official.folder, None
    remote, known_hash = name, official.hashes[name]
    if official.archive is not None:
        remote, known_hash = official.archive
        where, processor = root, pooch.Untar([f"{official.folder}/{member}" for member in official.hashes], ".")
    url = official.base + remote
    new = [path for path in (where, *where.parents) if not path.exists()]
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    pooch.get_logger().setLevel("ERROR")  # it would tell of each download, beside the bar or the one line of an error
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            progress = _PoochProgress(bars, bars.add_task(remote, total=None))
            # pooch documents any object with tqdm's methods here, and its own downloader; its annotations say less.
            downloader: Any = pooch.HTTPDownloader(progressbar=cast(Any, progress), chunk_size=_CHUNK)
            pooch.retrieve(url, known_hash, remote, where, processor=processor, downloader=downloader)
    except (OSError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:  # requests raises OSErrors
        for path in new:
            with suppress(OSError):  # something is in it after all
                path.rmdir()
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240)
        raise PalaverError(
            f"{name} is not in {root / official.folder} and did not come from {url} ({reason}): "
            f"put it there by hand, or give the folder that holds {official.folder}/ as --data-root or PALAVER_DATA"
        ) from error


class _PoochProgress:
    """A rich progress bar with the four members that pooch asks of one."""

    def __init__(self, bars: Progress, task: TaskID):
        self._bars, self._task = bars, task
        self.total = 0

    def update(self, done: int) -> None:
        self._bars.update(self._task, total=self.total, advance=done)

    def reset(self) -> None:
        self._bars.reset(self._task)

    def close(self) -> None:
        self._bars.refresh()


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, plain or compressed (name ends in ``.gz``).

    The format: two zero bytes, the type (8), the number of axes, each axis's length (32 bits, big-endian), the values
    (LeCun, Cortes & Burges, the MNIST database).

    Args:
        path: of the file.

    Returns:
        uint8, of the shape the file gives: ``[M, height, width]`` for images, ``[M]`` for labels.

    Raises:
        PalaverError: if the file is missing, not an IDX file of unsigned bytes, cut short or too long.

    """
    raw = _read(path)
    axes = raw[3] if len(raw) > 3 else 0
    start = 4 + 4 * axes
    if raw[:3] != _IDX_UBYTE or not 1 <= axes <= _MOST_AXES or len(raw) < start:
        raise PalaverError(
            f"{path} begins with {raw[:4].hex() or 'nothing'}, no IDX header of unsigned bytes (000008, the number of "
            f"axes, 1 to {_MOST_AXES}, their lengths): replace it by the original"
        )
    shape = tuple(int(length) for length in np.frombuffer(raw, ">u4", axes, 4))
    if len(raw) - start != math.prod(shape):
        raise PalaverError(
            f"{path} holds {len(raw) - start} values, its header says {math.prod(shape)} (shape {shape}): "
            "replace it by the original"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in ``.gz``."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, MemoryError, zlib.error) as error:
        raise _unreadable(path, error) from error


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a CIFAR-10 binary batch: records of one label byte and 3,072 pixels, red, green, blue, row by row.

    The format is that of the "binary version" (Krizhevsky 2009).

    Args:
        path: of the file.

    Returns:
        Images ``[M, 32, 32, 3]`` and labels ``[M]``, both uint8.

    Raises:
        PalaverError: if the file is missing, empty, or not a whole number of records.

    """
    raw = _read(path)
    if not raw or len(raw) % _CIFAR_RECORD:
        raise PalaverError(
            f"{path} has {len(raw)} bytes, not a multiple of {_CIFAR_RECORD} (a label and 3 x 32 x 32 pixels): "
            "replace it by the original"
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, _CIFAR_RECORD)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), records[:, 0].copy()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an NPZ file.

    Args:
        path: of the file.

    Returns:
        The arrays ``x`` and ``y``, and those of ``x_test`` and ``y_test`` that the file has, by name, as stored.

    Raises:
        PalaverError: if the file is missing, damaged, no NPZ, lacks ``x`` or ``y``, or holds Python objects.

    """
    try:
        arrays = npz.read_npz(path, lambda names: [name for name in _ARRAYS if name in names])
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error
    missing = [key for key in ("x", "y") if key not in arrays]
    if missing:
        raise PalaverError(f"{path} has no array {missing[0]}: save it with numpy.savez(file, x=..., y=...)")
    return arrays


def _unreadable(path: Path, error: Exception) -> PalaverError:
    """One line for a file that is missing, forbidden or damaged."""
    if isinstance(error, FileNotFoundError):
        return PalaverError(f"{path} is missing: put the file there, or name another folder")
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
    return PalaverError(f"{path} cannot be read ({reason}): replace it by the original")
