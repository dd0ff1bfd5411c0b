"""A run can be killed at any time and goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

RUN = [sys.executable, "-m", "palaver.cli", "run", "collective", "--checkpoint-seconds", "0"]
SETTINGS = [
    *("--scale", "tiny", "--channel", "logits", "--nodes", "4", "--widths", "8", "--dropout", "0.1"),
    *("--seeds", "2", "--rounds", "240", "--eval-every", "10"),
]


def started(*flags, cwd):
    return subprocess.Popen([*RUN, *flags], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(folder, stop, cwd):
    """Starts a run, waits until it has saved something, and stops it; returns its exit code."""
    run = started(*SETTINGS, "--out", folder, cwd=cwd)
    saved = cwd / f"{folder}.partial" / "checkpoints" / "0"
    end = time.monotonic() + 120
    while not (saved.exists() and any(entry.name.isdigit() for entry in saved.iterdir())):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(run.pid, stop)
    run.communicate(timeout=60)
    return run.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The metrics of the run that nobody stopped."""
    cwd = tmp_path_factory.mktemp("whole")
    run = started(*SETTINGS, "--out", "run", cwd=cwd)
    assert run.communicate(timeout=300) and run.returncode == 0
    assert not (cwd / "run.partial").exists()
    return pl.read_parquet(cwd / "run" / "metrics.parquet")


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_resumes_to_the_same_bits(stop, code, whole, tmp_path):
    assert interrupted("run", stop, tmp_path) == code
    assert not (tmp_path / "run").exists()
    run = started("--resume", "run", cwd=tmp_path)
    said, complaint = run.communicate(timeout=300)
    assert run.returncode == 0, complaint
    assert "resuming" in said
    metrics = pl.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert metrics.equals(whole)
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "figures",
        "metrics.parquet",
        "report.html",
        "settings.json",
        "summary.json",
    ]
