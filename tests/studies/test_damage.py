"""Damaged files of an interrupted run: the same bytes in the end, or one line; and one process at a time."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palaver import experiments
from palaver.cli import main
from palaver.errors import PalaverError
from palaver.studies import folder as folder_module
from palaver.studies.folder import Folder
from palaver.studies.plan import stored_plan

RUN = ["run", "two-toys", "--scale", "tiny", "--seeds", "2", "--eval-every", "5", "--checkpoint-seconds", "0"]
RESUME = ["run", "two-toys", "--resume", "run"]


@pytest.fixture
def interrupted(plain, monkeypatch, capsys):
    """A whole run in ``whole``, and the same one stopped after step 15 of the second configuration in ``run``.

    Of that configuration the checkpoints after 10 and 15 are there, and the pieces 5, 10 and 15 of its history.
    """
    assert main([*RUN, "--out", "whole"]) == 0
    calls = []

    def stop(step):
        calls.append(step)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(plain, "evaluated", stop)
        assert main([*RUN, "--out", "run"]) == 130
    capsys.readouterr()
    return Path("run.partial")


def tree(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def same() -> bool:
    names = ("metrics.parquet", "settings.json", "figures/fit.svg")
    return all(Path("run", name).read_bytes() == Path("whole", name).read_bytes() for name in names)


def randomised(path):
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [randomised, cut, Path.unlink])
@pytest.mark.parametrize("name", ["checkpoints/1/15.npz", "history/1/15.parquet"])
def test_a_damaged_latest_state_or_its_history_is_made_again(interrupted, capsys, damage, name):
    damage(interrupted / name)
    assert main(RESUME) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{name} is damaged or missing: going on from the checkpoint before it, step 10")
    assert same() and [path.name for path in sorted(Path("run").iterdir())] == [
        *("figures", "metrics.parquet", "report.html", "settings.json", "summary.json"),
    ]


@pytest.mark.parametrize("damage", [randomised, cut, Path.unlink])
@pytest.mark.parametrize("names", [["checkpoints/1/10.npz", "checkpoints/1/15.npz"], ["history/1/5.parquet"]])
def test_without_a_whole_state_it_is_refused(interrupted, capsys, damage, names):
    for name in names:
        damage(interrupted / name)
    before = tree("run.partial")
    assert main(RESUME) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{names[-1]} is damaged or missing, and" in line
    assert "run.partial/checkpoints/1 holds no other whole checkpoint: delete that folder and resume once more" in line
    assert tree("run.partial") == before
    assert main([*RUN, "--out", "run", "--overwrite"]) == 0 and same()


@pytest.mark.parametrize("damage", [randomised, cut, Path.unlink])
@pytest.mark.parametrize("name", ["0.json", "0.parquet", "0.npz"])
def test_a_damaged_finished_configuration_is_trained_anew(interrupted, capsys, damage, name):
    damage(interrupted / "history" / name)
    assert main(RESUME) == 0
    lines = capsys.readouterr().err.splitlines()
    known = (damage, name) != (Path.unlink, "0.json")  # without it nothing says that it was finished
    assert len(lines) == known
    assert not known or lines[0].endswith(f"history/{name} is damaged or missing: its configuration is trained anew")
    assert same()


def test_any_damage_gives_the_same_bytes_or_one_line(interrupted, capsys):
    shutil.copytree("run.partial", "kept")
    chance, codes = random.Random(1), []
    for _ in range(40):
        for folder in ("run", "run.partial"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree("kept", "run.partial")
        path = chance.choice([path for path in sorted(interrupted.rglob("*")) if path.is_file()])
        raw = bytearray(path.read_bytes() or b"?")
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(raw) if chance.random() < 0.7 else bytes(raw[: chance.randrange(len(raw))]))
        codes.append(main(RESUME))
        lines = capsys.readouterr().err.splitlines()
        assert codes[-1] in (0, 2) and len(lines) <= 1, (path, lines)
        assert Path("run").exists() == (codes[-1] == 0) and (codes[-1] == 2 or same()), path
    assert {0, 2} == set(codes)


def mutations(content, place=()):
    """The content with one value replaced by another kind or a far too large one, removed, or added."""
    others = [None, "x", [], {}, -1, 2.5, 1e400, math.nan, 10**30, True, [[1]], {"x": 1}]
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        for other in others:
            if type(other) is not type(value) or other != value:
                content[key] = other
                yield (*place, key, other)
        content[key] = value
        if isinstance(value, dict | list):
            yield from mutations(value, (*place, key))
    if isinstance(content, dict):
        for key, value in list(content.items()):
            del content[key]
            yield (*place, key, "removed")
            content[key] = value
        content["unknown"] = 1
        yield (*place, "unknown")
        del content["unknown"]


def test_altered_settings_are_refused_in_one_line(interrupted, capsys):
    path = interrupted / "settings.json"
    kept = path.read_bytes()
    content, tried, folder = json.loads(kept), 0, Folder(Path("run"), Path("run.partial"))
    for what in mutations(content):
        path.write_text(json.dumps(content, indent=2) + "\n")
        with pytest.raises(PalaverError, match=r"settings\.json cannot be resumed from \(.*\): start anew") as error:
            stored_plan(folder, experiments.chapter)
        assert "\n" not in str(error.value), what
        tried += 1
    assert tried > 300
    for raw in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"rows": ' + b"9" * 5000 + b"}", kept[:-40]):
        path.write_bytes(raw)
        before = tree("run.partial")
        assert main(RESUME) == 2
        assert tree("run.partial") == before
        (line,) = capsys.readouterr().err.splitlines()
        assert "settings.json cannot be resumed from (" in line and len(line) < 1500
    path.unlink()
    path.mkdir()
    assert main(RESUME) == 2
    assert "Is a directory" in capsys.readouterr().err
    path.rmdir()
    path.write_bytes(kept)
    assert main(RESUME) == 0 and same()


def test_settings_are_refused_for_what_they_are_not_for_having_changed(interrupted, capsys):
    path = interrupted / "settings.json"
    content = json.loads(path.read_text())
    for change, reason in (
        ({"rate": 2.5}, "“exact”: rate is 2.5: give a finite number in (0, 2)"),
        ({"steps": "many"}, "“exact”: steps is 'many': give a whole number of at least 1"),
        ({"rate": 0.2}, "it is not as the run wrote it"),
    ):
        row = content["rows"][0]
        path.write_text(json.dumps(content | {"rows": [row | {"settings": row["settings"] | change}]}))
        assert main(RESUME) == 2
        assert f"cannot be resumed from ({reason}): start anew" in capsys.readouterr().err
    path.write_text(json.dumps(content | {"seeds": [-1]}))
    assert main(RESUME) == 2
    assert "(seeds.0: Input should be greater than or equal to 0): start anew" in capsys.readouterr().err


HOLDER = """
import sys
from pathlib import Path
from palaver.studies.folder import open_folder
with open_folder(Path("run"), resume=True, overwrite=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_writes(interrupted, capsys):
    other = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    before = tree("run.partial")
    for args in (RESUME, [*RUN, "--out", "run", "--overwrite"]):
        assert main(args) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"run.partial is being written by process {other.pid} on " in line
        assert line.endswith(": wait until it ends, or give another --out")
        assert tree("run.partial") == before
    other.kill()  # leaves the lock's files, which then hold nothing
    other.communicate()
    assert (interrupted / "lock.pid").exists()
    assert main(RESUME) == 0 and same()


def test_a_new_run_holds_its_folder_until_it_is_published(plain, monkeypatch, capsys):
    codes = []

    def meanwhile(step):
        if step == 10 and not codes:
            codes.extend(main(args) for args in (RESUME, [*RUN, "--out", "run", "--overwrite"]))

    monkeypatch.setattr(plain, "evaluated", meanwhile)
    assert main([*RUN, "--out", "run"]) == 0
    assert codes == [2, 2]
    assert capsys.readouterr().err.count("run.partial is being written by process ") == 2
    assert not list(Path("run").rglob("lock*")) and [path.name for path in Path().iterdir()] == ["run"]


def test_a_run_killed_at_its_start_can_be_replaced(plain, capsys):
    Path("run.partial").mkdir()
    for name in ("lock", "lock.pid", ".settings.json.abc.draft"):
        (Path("run.partial") / name).write_text("x")
    Path("run").mkdir()  # empty: nothing is lost
    assert main([*RUN, "--out", "run"]) == 0
    assert [path.name for path in Path().iterdir()] == ["run"] and not list(Path("run").rglob(".*"))


def test_what_cannot_be_overwritten_or_resumed_is_not_offered_so(plain, capsys):
    Path("run").mkdir()
    Path("run/own.txt").write_text("mine")
    assert main([*RUN, "--out", "run"]) == 2
    assert capsys.readouterr().err.endswith("--overwrite replaces only those; give another --out\n")
    Path("run/own.txt").rename("run/settings.json")
    assert main([*RUN, "--out", "run"]) == 2
    assert "--resume" not in capsys.readouterr().err
    assert main(["run", "two-toys", "--resume", "n" * 300]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["chapter1.draft", ".chapter1.draft", "lock"])
def test_a_file_of_ones_own_is_no_scratch(toy, capsys, name):
    Path("paper").mkdir()
    Path("paper", name).write_text("mine")
    assert main([*RUN, "--out", "paper"]) == 2
    assert "paper exists and is not a result folder" in capsys.readouterr().err
    assert Path("paper", name).read_text() == "mine" and [path.name for path in Path().iterdir()] == ["paper"]


@pytest.mark.parametrize("command", [RESUME, [*RUN, "--out", "run"], [*RUN, "--out", "run", "--overwrite"]])
def test_what_a_kill_after_the_renaming_leaves_is_cleared(plain, capsys, monkeypatch, command):
    assert main([*RUN, "--out", "run"]) == 0

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "_clear_published", killed)
        assert main([*RUN, "--mean", "5", "--out", "run", "--overwrite"]) == 130
    Path("run/lock.pid").write_text("a killed process does not remove it")
    assert {"lock", "lock.pid", "replaced", "summary.json"} < {path.name for path in Path("run").iterdir()}
    results = {name: content for name, content in tree("run").items() if not name.startswith(("run/lock", "run/repl"))}
    capsys.readouterr()
    code = main(command)
    said = {0: "", 2: "is complete" if command == RESUME else "run exists: --overwrite replaces it"}[code]
    assert said in capsys.readouterr().err and code == (0 if "--overwrite" in command else 2)
    assert code == 0 or tree("run") == results
    assert not list(Path("run").glob("lock*")) and not Path("run/replaced").exists()
    assert [path.name for path in Path().iterdir()] == ["run"]


@pytest.mark.parametrize("command", [RESUME, [*RUN, "--out", "run"]])
def test_a_run_that_another_process_finishes_meanwhile_is_not_run_again(interrupted, capsys, monkeypatch, command):
    """The other one ends between the first look at the folder and the lock."""
    if command != RESUME:
        shutil.rmtree("run.partial")
    make = Path.mkdir

    def late(path, *args, **kwargs):
        if path.name == "run.partial" and not Path("run").exists():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree("whole", "run")
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", late)
    before = tree("whole")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("run is complete" if command == RESUME else "run exists: --overwrite") in line
    assert tree("run") == {f"run{name.removeprefix('whole')}": content for name, content in before.items()}
    assert not Path("run.partial").exists()
