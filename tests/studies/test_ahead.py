"""Configurations that are made ready while another one trains."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from palaver import commands
from palaver.cli import main
from palaver.studies.ahead import in_turn
from palaver.types import PalaverError

COMPILED = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
from palaver import experiments
from palaver.data import load
from palaver.studies.chapter import Configuration
chapter = experiments.chapter(sys.argv[1])
settings = chapter.scales["tiny"]
study = chapter.prepare(Configuration("tiny", settings), chapter.load(settings, load), range(2), int(sys.argv[2]))

def tell(event, seconds, fun_name="", **_):
    if event.endswith("backend_compile_duration"):
        print(fun_name)

jax.monitoring.register_event_duration_secs_listener(tell)
study.compile()
print("then")
state, _ = study.advance(study.begin())
study.advance(state)
"""
"""Prints the names of the programs that are compiled ahead, and then those that are compiled while it trains."""


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_results_come_in_their_order_and_no_more_than_so_many_are_begun(ahead):
    begun, jobs = [], [lambda number=number: (begun.append(number), number)[1] for number in range(6)]
    for taken, found in enumerate(in_turn(jobs, ahead)):
        assert found == taken and max(begun) <= taken + ahead
    assert sorted(begun) == list(range(6))


def test_a_failure_is_raised_at_its_turn():
    studies = in_turn([lambda: 1, lambda: 1 // 0, lambda: 3], ahead=2)
    assert next(studies) == 1
    with pytest.raises(ZeroDivisionError):
        next(studies)


def test_closing_waits_for_nothing():
    may_end, ended = threading.Event(), threading.Event()

    def job():
        may_end.wait(60)
        ended.set()

    with closing(in_turn([lambda: 1, job], ahead=2)) as studies:
        assert next(studies) == 1
    assert not ended.is_set()
    may_end.set()


def test_results_are_the_same_bytes_with_and_without(plain, monkeypatch):
    monkeypatch.setattr(plain, "CHAPTER", plain.CHAPTER._replace(ahead=True))
    for ahead in (0, 3):
        monkeypatch.setattr(commands, "room_ahead", lambda found, devices, ahead=ahead: ahead)
        assert main(["run", "two-toys", "--scale", "tiny", "--out", f"run{ahead}"]) == 0
    for name in ("metrics.parquet", "settings.json"):
        one, other = (Path(f"run{ahead}", name).read_bytes() for ahead in (0, 3))
        assert one.replace(b"run0", b"run3") == other


def test_what_fails_ahead_is_told_in_its_turn(plain, monkeypatch, capsys):
    prepare = plain.CHAPTER.prepare

    def failing(row, *rest):
        if row.name == "noisy":
            raise PalaverError("noise is too loud: give less")
        return prepare(row, *rest)

    monkeypatch.setattr(plain, "CHAPTER", plain.CHAPTER._replace(ahead=True, prepare=failing))
    monkeypatch.setattr(commands, "room_ahead", lambda found, devices: 2)
    assert main(["run", "two-toys", "--scale", "tiny", "--out", "run"]) == 2
    assert capsys.readouterr().err == "palaver: noise is too loud: give less\n"
    assert Path("run.partial/history/0.parquet").exists()  # of the first, which is kept


@pytest.mark.parametrize(("chapter", "devices"), [("collective", 1), ("collective", 2), ("language", 1)])
def test_what_is_compiled_ahead_is_not_compiled_again(chapter, devices):
    told = subprocess.run(
        [sys.executable, "-c", COMPILED, chapter, str(devices)], capture_output=True, text=True, check=True
    )
    before, then = (part.splitlines() for part in told.stdout.split("then\n"))
    long = {name for name in before if "init" in name or "advance" in name}
    assert len(long) == 2 and not long & set(then), (before, then)
