"""Sites as real processes over Zenoh on loopback."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("zenoh")


def palaver(*args, **given):
    return subprocess.run(
        [sys.executable, "-m", "palaver", *args], capture_output=True, text=True, timeout=300, check=False, **given
    )


@pytest.fixture(scope="module")
def final():
    """Three peers, one of which is killed when half is done."""
    done = palaver("up", "--peers", "3", "--rounds", "300", "--kill-some", "1", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_local_collective_talks_and_survives_a_kill(final):
    assert final["killed"] == ["site-2"]
    assert final["failed"] == {}
    assert final["together"] > 0.8
    assert final["alone"] > final["silent_alone"] + 0.15
    assert final["seconds_to_first_decision"] < 60
    left = [final["peers"][name] for name in ("site-0", "site-1")]
    assert [each["round"] for each in left] == [300, 300]
    assert [each["refused"] for each in left] == [0, 0]
    assert all(2_000 < each["bytes_out"] < 40_000 for each in left)
    assert final["peers"]["site-2"]["alone"] is None


def test_sigterm_ends_all_peers_in_order(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "palaver", "up", "--peers", "2", "--rounds", "100000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    until = time.monotonic() + 120
    while not list(tmp_path.glob("palaver-*/site-1/journal.jsonl")):  # both are on their way
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["interrupted"] is True
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


SITE = """
name = "a"
[peers]
a = "tcp/127.0.0.1:{port}"
b = "tcp/127.0.0.1:1"
[collective]
rounds = 100
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'a'\n", "has no peers"),
        ("peers = {}\nname = 'a'\n", "peers is {}"),
        ("name = 'c'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "name is 'c': give one of peers, a"),
        ("name = 'a'\n[peers]\na = 'tcp/10.0.0.1:1'\n", "not on loopback, and there are no credentials"),
        ("name = 'a'\n[peers]\na = 'tls/127.0.0.1:1'\n", "give tcp/HOST:PORT"),
        ("name = 'a'\n[peers]\n'a/*' = 'tcp/127.0.0.1:1'\n", "the name 'a/*' cannot be one"),
        ("name = 'a'\nrates = 3\n[peers]\na = 'tcp/127.0.0.1:1'\n", "rates is no setting"),
        ("name = 'a'\nrate = -3\n[peers]\na = 'tcp/127.0.0.1:1'\n", "rate is -3"),
        ("name = 'a'\nlearner = 'jax'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "learner is 'jax': give one of flax"),
        ("name = 'a'\nlearner = 'torch'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "give FILE.py:FUNCTION"),
        ("name = 'a'\nexamples = 'no.npz'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "no.npz cannot be read"),
        ("name = 'a'\nreference = 'no.npy'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "no.npy cannot be read"),
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:1'\n[collective]\nnodes = 3\n", "collective.nodes is set"),
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:1'\n[collective]\ntop = -3\n", "collective.top is -3"),
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:1'\n[collective]\nseed = 0.5\n", "collective.seed is 0.5"),
        ("name = ", "cannot be read"),
    ],
)
def test_bad_settings_of_a_site_are_told_in_one_line(tmp_path, capsys, text, said):
    from palaver.cli import main

    path = tmp_path / "site.toml"
    path.write_text(text)
    assert main(["peer", str(path), "--check"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_check_says_what_a_site_would_be(tmp_path, capsys):
    from palaver.cli import main

    path = tmp_path / "site.toml"
    path.write_text(SITE.format(port=2))
    assert main(["peer", str(path), "--check"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["reference"], found["peers"]) == ("a", 314, ["a", "b"])
    assert len(bytes.fromhex(found["digest"])) == 8
    path.write_text(SITE.format(port=2).replace("100", "101"))
    main(["peer", str(path), "--check"])
    assert json.loads(capsys.readouterr().out)["digest"] != found["digest"]
