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
SETTINGS = ["--scale", "tiny", "--nodes", "4", "--widths", "8", "--seeds", "2", "--rounds", "240", "--eval-every", "10"]
LEARNING = {
    "labels": ["--channel", "logits", "--dropout", "0.1"],
    "vae": ["--objective", "vae", "--channel", "gaussian", "--latent", "2", "--eval-every", "40"],
}


def started(*flags, cwd):
    return subprocess.Popen([*RUN, *flags], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(learning, folder, stop, cwd):
    """Starts a run, waits until it has saved something, and stops it; returns its exit code."""
    run = started(*SETTINGS, *LEARNING[learning], "--out", folder, cwd=cwd)
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
    run = started(*SETTINGS, *LEARNING[learning], "--out", "whole", cwd=cwd)
    assert run.communicate(timeout=300) and run.returncode == 0
    assert not (cwd / "whole.partial").exists()
    return pl.read_parquet(cwd / "whole" / "metrics.parquet")


@pytest.mark.parametrize(("learning", "stop", "code"), [("labels", signal.SIGKILL, -9), ("vae", signal.SIGINT, 130)])
def test_resumes_to_the_same_bits(learning, stop, code, tmp_path):
    assert interrupted(learning, "run", stop, tmp_path) == code
    assert not (tmp_path / "run").exists()
    run = started("--resume", "run", cwd=tmp_path)
    said, complaint = run.communicate(timeout=300)
    assert run.returncode == 0, complaint
    assert "resuming" in said
    metrics = pl.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert metrics.equals(whole(learning, tmp_path))
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "figures",
        "metrics.parquet",
        *(["pictures.npz"] if learning == "vae" else []),
        "report.html",
        "settings.json",
        "summary.json",
    ]
