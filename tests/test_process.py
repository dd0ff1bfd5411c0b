"""The command as a process: Ctrl-C and SIGTERM at any time, and memory that is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palaver import cli, commands

TOY = Path(__file__).parent / "studies"
IMPORTING = """
import builtins, sys, time
from palaver import __main__
real = builtins.__import__
def slow(name, *args, **kwargs):
    if name == "palaver.cli":
        print("ready", flush=True)
        for _ in range(600):  # a signal that comes just before a sleep begins is seen at its end
            time.sleep(0.1)
    return real(name, *args, **kwargs)
builtins.__import__ = slow
sys.exit(__main__.main())
"""
DEAF = """
import ctypes, sys
from palaver import __main__, cli
__main__._PATIENCE = 0.1
def wait_in_c():
    mutex, c = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    c.pthread_mutex_lock(mutex)
    print("ready", flush=True)
    c.pthread_mutex_lock(mutex)  # for ever; no signal ends it, and no handler of Python's is called
cli.main = wait_in_c
sys.exit(__main__.main())
"""
STAGES = """
import sys, time
from palaver import __main__, experiments
import toy_chapter
stage, *sys.argv[1:] = sys.argv[1:]
def wait(*_):
    print("ready", flush=True)
    for _ in range(600):  # a signal that comes just before a sleep begins is seen at its end
        time.sleep(0.1)
toy_chapter.CHAPTER = toy_chapter.CHAPTER._replace(**{stage: wait})
experiments.CHAPTERS["toy"] = experiments.ChapterEntry("a toy", "toy_chapter:CHAPTER", 2)
sys.exit(__main__.main())
"""
"""Waits in one of the toy chapter's functions."""
TOO_LARGE = """
import sys
from palaver import cli
from palaver.studies import budget
budget.available = lambda devices: 10**30
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("program", "signals"),
    [(IMPORTING, [signal.SIGINT]), (IMPORTING, [signal.SIGTERM]), (DEAF, [signal.SIGINT, signal.SIGTERM])],
)
def test_a_signal_ends_it_in_one_line(program, signals):
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for each in signals:  # two of a kind may arrive as one
        assert process.poll() is None, each
        process.send_signal(each)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "palaver: stopped\n")


def last_line(stage, args, stop, folder):
    """What a run of the toy chapter says that gets a signal in one of the chapter's functions."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGES, stage, "run", "toy", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ready\n":
        assert line, process.communicate()
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    return err.splitlines()[-1]


GOES_ON = "palaver: stopped; palaver run toy --resume run goes on from here"


def test_a_signal_at_any_stage_tells_of_what_can_be_resumed(tmp_path):
    new, resume = ["--scale", "tiny", "--out", "run"], ["--resume", "run"]
    assert last_line("check", new, signal.SIGINT, tmp_path) == "palaver: stopped"
    assert not list(tmp_path.iterdir())
    assert last_line("prepare", new, signal.SIGINT, tmp_path) == GOES_ON
    assert last_line("check", resume, signal.SIGTERM, tmp_path) == GOES_ON
    assert last_line("report", resume, signal.SIGINT, tmp_path) == GOES_ON
    assert (tmp_path / "run.partial" / "summary.json").exists() and not (tmp_path / "run").exists()
    assert last_line("report", resume, signal.SIGINT, tmp_path) == GOES_ON


@pytest.mark.parametrize(
    "run",
    [
        "collective --widths 2000000000 --seeds 1",  # over several devices
        "collective --batch-size 2000000000 --seeds 1",
        "teaching --data digits --hidden 2000000000",
        "language --data digits --length 100000000",
    ],
)
def test_memory_that_is_not_there_ends_it_in_one_line(run, tmp_path):
    command = [sys.executable, "-c", TOO_LARGE, "run", *run.split(), "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("palaver: the memory does not suffice") and "--dry-run" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_does_not_change_how_it_ends(closed, tmp_path):
    command = f"{sys.executable} -m palaver report {tmp_path / 'none'} {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == (closed == ">&-"), ended.stderr


def test_an_interrupt_without_words_has_some(monkeypatch, capsys, tmp_path):
    def interrupted(folders):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "report", interrupted)
    assert cli.main(["report", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "palaver: stopped\n"
