"""A disk that fails at any moment: one line, nothing lost, and the resumed run gives the same bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palaver.cli import main
from palaver.errors import MachineError
from palaver.studies.files import write_arrays, write_frame, write_json

RUN = ["run", "toy", "--scale", "tiny", "--seeds", "2", "--checkpoint-seconds", "0", "--out"]
RESULTS = ("metrics.parquet", "settings.json", "figures/fit.svg")


class Disk:
    """Fails the chosen attempt to make, open for writing or rename something below a folder, from when it is told to.

    Python calls it at each of them, wherever in a library they are; it cannot be removed, hence one for all tests.
    """

    def __init__(self):
        self.place, self.fails_at, self.error, self.count = "", 0, 0, 0
        sys.addaudithook(self._called)

    def _called(self, event, args):
        if not self.place or not isinstance(args and args[0], str | os.PathLike):
            return
        path = os.fspath(args[0])
        writes = {"open": lambda: args[2] & (os.O_WRONLY | os.O_RDWR), "os.rename": lambda: True}
        writes["os.mkdir"] = lambda: not os.path.isdir(path)  # one that is there is not made again
        if event in writes and self.place in path and writes[event]():
            self.count += 1
            if self.count == self.fails_at:
                raise OSError(self.error, os.strerror(self.error), path)

    def run(self, args, fails_at=0, error=errno.ENOSPC):
        """Runs a command whose ``fails_at``-th write below its folder fails; 0: none. Returns its exit code."""
        self.place, self.fails_at, self.error, self.count = str(Path(args[-1]).absolute()), fails_at, error, 0
        try:
            return main(args)
        finally:
            self.place = ""


@pytest.fixture(scope="module")
def disk():
    return Disk()


def contents(folder) -> list[bytes]:
    return [(Path(folder) / name).read_bytes() for name in RESULTS]


def the_line(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_every_write_that_fails_is_one_line_and_the_run_can_be_resumed(plain, disk, capsys):
    assert disk.run([*RUN, "whole"]) == 0
    writes, whole = disk.count, contents("whole")
    assert writes > 30
    capsys.readouterr()
    started = 0
    for fails_at in range(1, writes + 1):
        out = Path(f"run{fails_at}")
        assert disk.run([*RUN, str(out)], fails_at) == 1, fails_at
        line = the_line(capsys)
        assert line.startswith("palaver: ") and "No space left on device" in line and str(out) in line
        assert not out.exists()
        if started := started or Path(f"{out}.partial/settings.json").exists():
            assert "MB left; then palaver run toy --resume" in line
            assert main(["run", "toy", "--resume", str(out)]) == 0, fails_at
            assert contents(out) == whole, fails_at
            assert not list(out.rglob(".*")) and not list(out.rglob("lock*"))
            capsys.readouterr()
        else:
            assert "start anew" in line or "give another --out" in line
        assert not list(Path().glob(f"{out}.*"))
    assert started


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("fails_at", [12, 16, 24])
def test_other_faults_of_a_disk_are_told_alike(plain, disk, capsys, error, fails_at):
    assert disk.run([*RUN, "run"], fails_at, error) == 1
    line = the_line(capsys)
    assert f"cannot be written: {os.strerror(error)}: m" in line  # make room on it, or mend it
    assert line.endswith(f"; then palaver run toy --resume {Path('run').absolute()} goes on")
    assert main(["run", "toy", "--resume", "run"]) == 0


def test_complete_results_are_never_lost_while_they_are_replaced(plain, disk, capsys):
    """A kill at the same moments leaves the same files: nothing is cleaned up after such a fault."""
    again = [*RUN[:-1], "--overwrite", "--mean", "5", "--out"]
    assert disk.run([*RUN, "old"]) == 0
    assert disk.run([*again, "old"]) == 0
    writes, new = disk.count, contents("old")
    for fails_at in range(writes - 4, writes + 1):
        out = Path(f"run{fails_at}")
        assert main([*RUN, str(out)]) == 0
        old = contents(out)
        assert disk.run([*again, str(out)], fails_at) == 1
        assert contents(out if out.exists() else f"{out}.partial/replaced") == old
        capsys.readouterr()
        if fails_at % 2:
            assert main(["run", "toy", "--resume", str(out)]) == 0
        else:  # anew: the old results get their name back first
            assert disk.run([*again, str(out)], 12) == 1
            assert contents(out) == old
            assert main(["run", "toy", "--resume", str(out)]) == 0
        assert contents(out) == new
        assert not list(Path().glob(f"{out}.*")) and not (out / "replaced").exists()


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """Mounts a disk of so many kilobytes."""
    mounted = []

    def mount(kilobytes):
        place = tmp_path_factory.mktemp("disk")
        made = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.splitlines()[0]}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 20, 24, 28, 32, 36, 40])
def test_a_disk_that_is_really_full(plain, small_disk, capsys, kilobytes):
    assert main([*RUN, "whole"]) == 0
    capsys.readouterr()
    place = small_disk(kilobytes)
    assert main([*RUN, str(place / "run")]) == 1
    line = the_line(capsys)
    assert "No space left on device" in line
    if not (place / "run.partial").exists():
        assert line.endswith("start anew") or line.endswith("give another --out")
        return
    assert f"make room on the disk at {place}, which has 0.0 MB left; then palaver run toy --resume" in line
    subprocess.run(["mount", "-o", "remount,size=1m", str(place)], check=True)
    assert main(["run", "toy", "--resume", str(place / "run")]) == 0
    assert contents(place / "run") == contents("whole")
    assert [path.name for path in place.iterdir()] == ["run"]


@pytest.mark.parametrize("write", [write_arrays, write_frame, write_json])
def test_a_file_larger_than_the_disk_leaves_the_old_one(small_disk, write):
    place = small_disk(64)
    path = place / "file"
    path.write_text("old")
    numbers = np.random.default_rng(0).random(100_000)
    content = {
        write_arrays: {"numbers": numbers},
        write_frame: pl.DataFrame({"numbers": numbers}),
        write_json: numbers.tolist(),
    }
    with pytest.raises(MachineError, match=rf"file cannot be written: No space left on device: .* at {place}, which"):
        write(path, content[write])
    assert path.read_text() == "old" and [each.name for each in place.iterdir()] == ["file"]
