"""One collective on two hosts, which are processes here: the same results, also after either of them was lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from palaver.cli import main
from palaver.errors import MachineError, PalaverError
from palaver.studies import checkpoints, hosts

SECONDS = 240
SETTINGS = (
    "collective --scale tiny --data digits --seeds 2 --examples 400 --nodes 4 --widths 64 --channel logits "
    "--dropout 0.1 --rounds 60 --eval-every 5"
)
"""Enough work for two devices."""
LOST = "palaver: another host has ended or cannot be reached"
GOES_ON = "; palaver run collective --resume run goes on from here"


def start(folder, arguments, *, devices=1, at=0, job=None):
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {quick}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    environment |= job or {}
    child = Path(__file__).with_name("hosts_child.py")
    return subprocess.Popen(
        [sys.executable, child, str(at), "run", *arguments.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(*processes):
    """Exit codes, what each wrote on stderr, and what on stdout."""
    try:
        wrote = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], [err for _, err in wrote], [out for out, _ in wrote]


def on_two(folder, arguments, *, stops=(0, 0), auto=False):
    """Both hosts of a run, each of one device; host i is killed at its ``stops[i]``-th call.

    ``auto``: in what looks to each like a job of Slurm, of one machine.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pair = []
    for host, at in enumerate(stops):
        told = {"JOB_ID": 1, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2, "PROCID": host, "LOCALID": host}
        job = {f"SLURM_{name}": str(value) for name, value in told.items()} | {"JAX_COORDINATOR_PORT": str(port)}
        place = "--hosts auto" if auto else f"--hosts 2 --host-id {host} --coordinator 127.0.0.1:{port}"
        pair.append(start(folder, f"{arguments} {place}", at=at, job=job if auto else None))
    return ends(*pair)


def test_results_are_those_of_one_process_whichever_host_was_lost(tmp_path):
    new, resume = f"{SETTINGS} --checkpoint-seconds 0 --out run", "collective --checkpoint-seconds 0 --resume run"
    assert ends(start(tmp_path, new, devices=2, at=3))[0] == [-signal.SIGKILL]  # one process of two devices
    codes, errors, _ = on_two(tmp_path, resume, stops=(4, 0))
    assert codes == [-signal.SIGKILL, 1]
    assert errors == ["", f"{LOST}: start palaver on all hosts again, with --resume where the run had begun\n"]
    codes, errors, _ = on_two(tmp_path, resume, stops=(0, 4))
    assert codes == [1, -signal.SIGKILL]
    assert errors == [f"{LOST}{GOES_ON}\n", ""]
    assert not (tmp_path / "run").exists()
    assert ends(start(tmp_path, resume, devices=2))[:2] == ([0], [""])
    codes, errors, outs = on_two(tmp_path, f"{SETTINGS} --out whole", auto=True)
    assert (codes, errors) == ([0, 0], ["", ""])
    assert "report: whole/report.html" in outs[0] and outs[1] == ""
    folders = [tmp_path / "run", tmp_path / "whole"]
    metrics = [(folder / "metrics.parquet").read_bytes() for folder in folders]
    assert metrics[0] == metrics[1]
    settings = [json.loads((folder / "settings.json").read_text()) | {"date": ""} for folder in folders]
    summaries = [json.loads((folder / "summary.json").read_text()) | {"timings": {}} for folder in folders]
    assert settings[0] == settings[1] and summaries[0] == summaries[1]
    assert summaries[0]["device"] == "2 x cpu (cpu)"


def test_a_stop_that_another_host_is_asked_for_stops_this_one(toy, monkeypatch, capsys):
    monkeypatch.setattr(hosts, "gather", lambda votes: np.array([votes, [True, False]]))
    assert main(["run", "toy", "--scale", "tiny", "--out", "run"]) == 130
    assert capsys.readouterr().err == "palaver: stopped; palaver run toy --resume run goes on from here\n"
    saved = Path("run.partial", "checkpoints", "0")
    assert sorted(path.name for path in saved.iterdir()) == ["10.json", "10.npz"]
    # Host 0 alone says when a checkpoint is due.
    monkeypatch.setattr(hosts, "gather", lambda votes: np.array([[False, False], [False, True]]))
    monkeypatch.setattr(checkpoints.Checkpoints, "save", lambda *_: pytest.fail("saved"))
    assert main(["run", "toy", "--resume", "run", "--checkpoint-seconds", "0"]) == 0


def test_nodes_that_cannot_be_divided_are_told_of(toy, monkeypatch, capsys):
    monkeypatch.setattr(hosts, "undivided", lambda state: True)
    assert main(["run", "toy", "--scale", "tiny", "--out", "run"]) == 0
    why = "its nodes cannot be divided among them, or are too little work for it"
    assert capsys.readouterr().err == f"palaver: every host trains all of “mean 3”: {why}\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--host-id 1", "host_id is 1, but hosts is not given: add --hosts N"),
        ("--coordinator a:1", "coordinator is a:1, but hosts is not given: add --hosts N"),
        ("--hosts auto --host-id 1", "host_id is 1, but hosts is auto, which finds it out: leave it out"),
        ("--hosts 0", "hosts is 0: give a count of at least 1, or auto"),
        ("--hosts 2", "host_id is not given: give each of 2 hosts its own --host-id, 0 to 1"),
        ("--hosts 2 --host-id 2", "host_id is 2: give each of 2 hosts its own --host-id, 0 to 1"),
        ("--hosts 2 --host-id 0 --coordinator a", "coordinator is 'a': give HOST:PORT, where host 0 can be reached by"),
        ("--hosts 2 --host-id 0 --coordinator a:70000", "coordinator is 'a:70000': give HOST:PORT"),
    ],
)
def test_flags_that_do_not_go_together(flags, line, capsys):
    assert main(["run", "collective", *flags.split()]) == 2
    assert capsys.readouterr().err.startswith(f"palaver: {line}")


def test_chapters_that_train_on_one_device_take_no_hosts(capsys):
    assert main(["run", "teaching", "--hosts", "2", "--host-id", "0", "--coordinator", "a:1"]) == 2
    assert capsys.readouterr().err == "palaver: teaching trains on one device: leave out --hosts\n"


def test_hosts_that_do_not_meet_end_with_one_line(tmp_path):
    alone = start(tmp_path, f"{SETTINGS} --hosts 2 --host-id 1 --coordinator 127.0.0.1:9", at=-1)
    codes, (error,), _ = ends(alone)
    assert codes == [1] and len(error.splitlines()) == 1
    assert error.startswith("palaver: not all hosts met at 127.0.0.1:9 within 2 s: start palaver on every one of them")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "reason", "error", "line"),
    [
        (
            ("auto", None, None),
            ValueError("not defined"),
            PalaverError,
            "hosts is auto, but",
        ),
        ((2, 0, "a:1"), RuntimeError("port\nused"), MachineError, r"host 0 cannot listen at a:1 \(port\): give a free"),
    ],
)
def test_what_jax_does_not_start_with_is_told_in_one_line(place, reason, error, line, monkeypatch):
    def initialize(*_, **__):
        raise reason

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(hosts, "_answer_aborts", lambda words: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(error, match=line):
        hosts.join(*place)


def test_hosts_with_other_data_are_refused(monkeypatch):
    parts = [np.arange(3), np.zeros((2, 2))]
    hosts.check_same("data set", parts)
    monkeypatch.setattr(hosts, "gather", lambda digest: np.stack([digest, digest, digest ^ 1]))
    with pytest.raises(PalaverError, match="host 2 has another data set than host 0: give every host the same files"):
        hosts.check_same("data set", parts)


def test_an_array_of_host_0_arrives_to_the_bit():
    array = np.array([[-0.0, np.nan], [np.inf, 1e-45]], np.float32)
    assert hosts.share_array(array).tobytes() == array.tobytes()
    assert (hosts.share(b"plan"), hosts.share()) == (b"plan", b"")
