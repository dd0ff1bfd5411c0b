"""A run can be killed at any time and goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

RUN = [sys.executable, "-m", "palaver.cli", "run"]
COLLECTIVE = ["collective", "--nodes", "4", "--widths", "8", "--rounds", "240", "--eval-every"]
LEARNING = {
    "labels": [*COLLECTIVE, "10", "--channel", "logits", "--dropout", "0.1"],
    "vae": [*COLLECTIVE, "40", "--objective", "vae", "--channel", "gaussian", "--latent", "2"],
    "language": ["language", "--view", "crops", "--level", "both", "--steps", "300", "--eval-every", "20"],
}


def started(learning, *flags, cwd):
    experiment, *settings = LEARNING[learning]
    if "--resume" not in flags:
        flags = ("--scale", "tiny", "--seeds", "2", *settings, *flags)
    command = [*RUN, experiment, "--checkpoint-seconds", "0", *flags]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(learning, folder, stop, cwd):
    """Starts a run, waits until it has saved something, and stops it; returns its exit code."""
    run = started(learning, "--out", folder, cwd=cwd)
    saved = cwd / f"{folder}.partial" / "checkpoints" / "0"
    end = time.monotonic() + 120
    while not (saved.exists() and any(entry.name.isdigit() for entry in saved.iterdir())):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(run.pid, stop)
    run.communicate(timeout=60)
    return run.returncode


def whole(learning, cwd):
    """The metrics of the run that nobody stopped."""
    run = started(learning, "--out", "whole", cwd=cwd)
    assert run.communicate(timeout=300) and run.returncode == 0
    assert not (cwd / "whole.partial").exists()
    return pl.read_parquet(cwd / "whole" / "metrics.parquet")


@pytest.mark.parametrize(
    ("learning", "stop", "code"),
    [("labels", signal.SIGKILL, -9), ("vae", signal.SIGINT, 130), ("language", signal.SIGKILL, -9)],
)
def test_resumes_to_the_same_bits(learning, stop, code, tmp_path):
    assert interrupted(learning, "run", stop, tmp_path) == code
    assert not (tmp_path / "run").exists()
    run = started(learning, "--resume", "run", cwd=tmp_path)
    said, complaint = run.communicate(timeout=300)
    assert run.returncode == 0, complaint
    assert "resuming" in said
    metrics = pl.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert metrics.equals(whole(learning, tmp_path))
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "figures",
        "metrics.parquet",
        *(["pictures.npz"] if learning != "labels" else []),
        "report.html",
        "settings.json",
        "summary.json",
    ]
