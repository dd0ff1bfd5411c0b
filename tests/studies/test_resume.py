"""A run can be killed at any time and goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palaver.cli import main

COLLECTIVE = "collective --widths 8 --rounds 160"
CHAPTERS = {
    "labels": f"{COLLECTIVE} --eval-every 10 --nodes 4 --channel logits --dropout 0.1",
    "reference": "collective --rounds 160 --eval-every 10 --group mlp:8:2 --group linear:2 --channel logits "
    "--payload-bits 4 --reference 0.2 --combine mean --weighted --least-change 0.01 --half-life 100 --labelled 0.5 "
    "--asleep 0.2 --asleep-rounds 3 --slow 1",
    "vae": f"{COLLECTIVE} --eval-every 40 --nodes 2 --objective vae --channel gaussian --latent 2",
    "language": "language --steps 60 --eval-every 10 --level both --length 8 --seeds 1",
    "teaching": "teaching --stack 2 --target soft --epochs 6 --eval-every 2",
}
SMALL = ["--scale", "tiny", "--seeds", "2", "--examples", "400"]


def interrupted(args, stop, cwd):
    """Starts a run, waits until it has saved something, and stops it; returns its exit code."""
    command = [sys.executable, "-m", "palaver", "run", *args, "--checkpoint-seconds", "0", "--out", "run"]
    run = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    saved = cwd / "run.partial" / "checkpoints" / "0"
    end = time.monotonic() + 120
    while not any(saved.glob("*.json")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(run.pid, stop)
    run.communicate(timeout=60)
    return run.returncode


@pytest.mark.parametrize(
    ("chapter", "stop", "code"),
    [
        ("labels", signal.SIGKILL, -9),
        ("reference", signal.SIGKILL, -9),
        ("vae", signal.SIGINT, 130),
        ("language", signal.SIGKILL, -9),
        ("teaching", signal.SIGKILL, -9),
    ],
)
def test_resumes_to_the_same_bits(chapter, stop, code, tmp_path):
    name, *settings = CHAPTERS[chapter].split()
    args = [name, *SMALL, *settings]
    assert interrupted(args, stop, tmp_path) == code
    assert not (tmp_path / "run").exists()
    # One new process goes on with that run and then makes the same run from start to end.
    commands = [["run", name, "--resume", "run"], ["run", *args, "--out", "whole"]]
    program = f"from palaver.cli import main; assert not any([main(args) for args in {commands}])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming run with the settings it was started with" in done.stdout
    settings = [json.loads((tmp_path / folder / "settings.json").read_text()) for folder in ("run", "whole")]
    assert settings[0].pop("date") <= settings[1].pop("date") and settings[0] == settings[1]
    for name in ("metrics.parquet", *(["pictures.npz"] if chapter in ("vae", "language") else [])):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    resumed, whole = (json.loads((tmp_path / folder / "summary.json").read_text()) for folder in ("run", "whole"))
    timings = [summary.pop("timings") for summary in (resumed, whole)]
    assert resumed == whole
    assert timings[0]["metrics"].keys() == timings[1]["metrics"].keys()
    assert bool(timings[0]["metrics"]) == bool(timings[0]["rows"]) == (chapter == "teaching")
    assert "seconds" not in json.dumps(resumed)  # a teacher is trained once: both runs have the same of it
    assert not list(tmp_path.glob("*.partial"))
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "figures",
        "metrics.parquet",
        *(["pictures.npz"] if chapter in ("vae", "language") else []),
        "report.html",
        "settings.json",
        "summary.json",
        *(["timings.parquet"] if chapter == "teaching" else []),
    ]


def test_an_unfinished_folder_may_be_named_as_it_is_found(plain, monkeypatch, capsys):
    monkeypatch.setattr(plain, "evaluated", lambda step: signal.raise_signal(signal.SIGINT))
    assert main(["run", "toy", "--scale", "tiny", "--out", "run"]) == 130
    monkeypatch.setattr(plain, "evaluated", lambda step: None)
    capsys.readouterr()
    for command in (["report", "run"], ["report", "run.partial"], ["compare", "run.partial", "run"]):
        assert main(command) == 2
        line = "palaver: run is not complete: palaver run NAME --resume run goes on with it\n"
        assert capsys.readouterr().err == line
    assert main(["run", "toy", "--resume", "run.partial"]) == 0
    assert Path("run/summary.json").exists() and not Path("run.partial").exists()
