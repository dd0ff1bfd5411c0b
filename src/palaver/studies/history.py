"""What a configuration of an unfinished run has left: a file per evaluation, then its whole history and summary."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from palaver.studies.chapter import Evaluation
from palaver.studies.files import (
    DamagedError,
    check_digests,
    digest,
    read_arrays,
    read_sealed,
    write_arrays,
    write_frame,
    write_sealed,
    writing,
)
from palaver.studies.record import SCHEMA


class History(NamedTuple):
    """The files of one configuration.

    While it trains, its pieces lie in a folder of its own: ``N.parquet`` holds the rows of the evaluation after step N,
    ``N.npz`` its pictures, if any. A checkpoint keeps the digests of the pieces before it. When it is finished, its
    history, its pictures and its summary lie beside that folder; the summary, written last, keeps the digests of both.
    """

    folder: Path
    """Of all configurations."""
    row: int
    """The configuration's place in the plan."""

    @property
    def pieces(self) -> Path:
        """The folder of its pieces."""
        return self.folder / str(self.row)

    def add(self, evaluation: Evaluation) -> dict[str, str]:
        """Writes the pieces of an evaluation.

        Returns:
            The digests of its files by their names.

        Raises:
            MachineError: a file cannot be written.

        """
        written = [self.pieces / f"{evaluation.step}.parquet"]
        write_frame(written[0], evaluation.frame)
        if evaluation.pictures:
            written.append(self.pieces / f"{evaluation.step}.npz")
            named = {f"{self.row}/{evaluation.step}/{kind}": grid for kind, grid in evaluation.pictures.items()}
            write_arrays(written[-1], named)
        return {path.name: digest(path) for path in written}

    def gather(self, digests: Mapping[str, str]) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
        """All rows and pictures of these pieces.

        Args:
            digests: of the pieces by their names, in the order of the evaluations.

        Raises:
            DamagedError: a piece is missing, or is not as it was written.

        """
        check_digests(self.pieces, digests)
        frames = [pl.read_parquet(self.pieces / name) for name in digests if name.endswith(".parquet")]
        pictures = read_arrays(self.pieces / name for name in digests if name.endswith(".npz"))
        return pl.concat([pl.DataFrame(schema=SCHEMA), *frames]), pictures

    def finish(self, rows: pl.DataFrame, pictures: Mapping[str, np.ndarray], found: Mapping[str, Any]) -> None:
        """Writes what the finished configuration leaves.

        Args:
            rows: its whole history.
            pictures: arrays by name.
            found: what ``finished`` gives back: its summary, and how long it took.

        Raises:
            MachineError: a file cannot be written; the configuration is not finished then.

        """
        write_frame(self.pieces.with_suffix(".parquet"), rows)
        write_arrays(self.pieces.with_suffix(".npz"), pictures)
        files = [self.pieces.with_suffix(ending) for ending in (".parquet", ".npz")]
        write_sealed(self._summary, {"files": {path.name: digest(path) for path in files}, "found": found})

    def finished(self) -> dict[str, Any] | None:
        """What ``finish`` got as ``found``; None where the configuration is not finished.

        Damaged files do not count: a line on stderr names them, and the configuration is to be trained anew.
        """
        if not self._summary.exists():
            return None
        try:
            stored = read_sealed(self._summary)
            check_digests(self.folder, stored["files"])
        except DamagedError as error:
            print(f"palaver: {error}: its configuration is trained anew", file=sys.stderr)
            with writing(self._summary):
                self._summary.unlink()
            shutil.rmtree(self.pieces, ignore_errors=True)
            return None
        return stored["found"]

    def read(self) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
        """The whole history and the pictures of a finished configuration."""
        return pl.read_parquet(self.pieces.with_suffix(".parquet")), read_arrays([self.pieces.with_suffix(".npz")])

    @property
    def _summary(self) -> Path:
        return self.pieces.with_suffix(".json")
