"""Sites as real processes over Zenoh on loopback."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from datetime import timedelta

import numpy as np
import pytest
from processes import Process, ended, free_ports, until

from palaver.data import load
from palaver.errors import MachineError, PalaverError
from palaver.peers import credentials, pki
from palaver.peers.settings import SiteSettings

pytest.importorskip("zenoh")

from palaver.peers.questions import ask
from palaver.peers.zenoh import Links, opened


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
    assert all(2_000 < each["packet_bytes"] < 40_000 for each in left)
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
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:99999'\n", "give tcp/HOST:PORT"),
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:0'\n", "give tcp/HOST:PORT"),
        ("name = 'a'\nlisten = 'tcp/127.0.0.1:'\n[peers]\na = 'tcp/127.0.0.1:1'\n", "give tcp/HOST:PORT"),
        ("name = 'a'\n[peers]\na = 'tcp/127.0.0.1:1'\nb = 'tcp/127.0.0.1:1'\n", "a and b have one endpoint"),
        ("name = 'a'\noperators = ['anna']\n[peers]\na = 'tcp/127.0.0.1:1'\n", "begin with operator."),
        ("name = 'a'\nlease = 1e-5\n[peers]\na = 'tcp/127.0.0.1:1'\n", "lease is 1e-05"),
        ("name = 'a'\nlease = 1e300\n[peers]\na = 'tcp/127.0.0.1:1'\n", "lease is 1e+300"),
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


MAKE = """
import torch

def alone():
    return torch.nn.Linear(64, 10)

def takes(argument):
    return alone(), None

def fails():
    raise ValueError("no such\\nthing")
"""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("model.py:alone", "gives a Linear: give (module, optimizer)"),
        ("model.py:takes", "fails (TypeError: takes() missing 1 required positional argument: 'argument'): mend"),
        ("model.py:fails", "fails (ValueError: no such): mend the file"),
        ("broken.py:make", "fails (ModuleNotFoundError: No module named 'no_such_module'): mend the file"),
        ("syntax.py:make", "fails (SyntaxError: "),
        ("model.py:none", "has no function none"),
        ("no.py:make", "a file that is there"),
    ],
)
def test_a_function_that_makes_no_model_is_told_in_one_line(tmp_path, capsys, make, said):
    pytest.importorskip("torch")
    from palaver.cli import main

    for name, text in {"model.py": MAKE, "broken.py": "import no_such_module", "syntax.py": "def"}.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "site.toml"
    path.write_text(f"name = 'a'\nlearner = 'torch'\nmake = '{make}'\n[peers]\na = 'tcp/127.0.0.1:1'\n")
    assert main(["peer", str(path), "--check"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("name", "said"), [("r.npz", "several arrays"), ("r.npy", "has 31 rows: give at least 32")])
def test_a_reference_set_must_be_one_array_of_a_batch_at_least(tmp_path, capsys, name, said):
    from palaver.cli import main

    inputs = np.zeros((31, 8, 8), np.uint8)
    np.savez(tmp_path / "r.npz", x=inputs)
    np.save(tmp_path / "r.npy", inputs)
    path = tmp_path / "site.toml"
    path.write_text(f"name = 'a'\nreference = '{name}'\n[peers]\na = 'tcp/127.0.0.1:1'\n")
    assert main(["peer", str(path), "--check"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("peers", range(1, 9))
def test_any_number_of_sites_has_a_graph(peers):
    ends = {f"s{place}": f"tcp/127.0.0.1:{place + 1}" for place in range(peers)}
    agreed = SiteSettings(name="s0", peers=ends).agreed()
    assert agreed.settings.make_topology(peers, 100)(0).shape[0] == peers


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


MODELS = """
def in_torch():
    import torch

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    return module, torch.optim.Adam(module.parameters())


def in_sklearn():
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss")
"""


def test_sites_of_three_frameworks_learn_from_each_other_and_answer(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    (tmp_path / "model.py").write_text(MODELS)
    names = ("flax", "torch", "sklearn")
    ends = {name: f"tcp/127.0.0.1:{port}" for name, port in zip(names, free_ports(3), strict=True)}
    makes = {"torch": "model.py:in_torch", "sklearn": "model.py:in_sklearn"}
    sites = [
        Process(
            SiteSettings(
                name=name,
                peers=ends,
                collective={"rounds": 1000},
                learner=name,
                make=makes.get(name, ""),
                folder=str(tmp_path / name),
                pace=20.0,
            )
        )
        for name in names
    ]
    with ended(sites):
        for site in sites:
            site.start()
        x = load("digits").x_test[:5]

        def all_answer():
            assert [site.process.poll() for site in sites] == [None] * 3, [site.said() for site in sites]
            with contextlib.suppress(PalaverError):  # none is there yet
                found = ask(x, tmp_path / "flax.toml", timeout=10, rule="mean")
                return found if {voice.status for voice in found.voices.values()} == {"answered"} else None

        found = until(all_answer)
        assert found.distribution.shape == (5, 10)
        assert [voice.weight for voice in found.voices.values()] == pytest.approx([1 / 3] * 3)
        assert len(np.unique(found.logits[:, 0], axis=0)) == 3
        for site in sites:  # each has sent what the others read
            left = until(lambda site=site: {to for entry in site.journal("left") for to in entry.get("packets", {})})
            assert left <= set(names) - {site.name}
        assert [site.journal("refused") for site in sites] == [[]] * 3
        assert [site.end() for site in sites] == [0] * 3


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """Two running sites with certificates; the folder of their files."""
    folder = tmp_path_factory.mktemp("secured")
    assert palaver("peers", "init", "keys", "--sites", "a,b", cwd=folder).returncode == 0
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ends = {name: f"tls/127.0.0.1:{each.getsockname()[1]}" for name, each in zip("ab", sockets, strict=True)}
    for name in ends:
        peers = "\n".join(f'{other} = "{end}"' for other, end in ends.items())
        (folder / f"{name}.toml").write_text(
            f'name = "{name}"\ncredentials = "keys/{name}"\noperators = ["operator.demo"]\nfolder = "run-{name}"\n'
            f"pace = 50\n[peers]\n{peers}\n[collective]\nrounds = 100000\n"
        )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "palaver", "peer", f"{name}.toml"], cwd=folder, stderr=subprocess.DEVNULL
        )
        for name in ends
    ]
    try:
        yield folder
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(60) for process in processes] == [0, 0]
        assert len(list(folder.glob("run-*/*.npz"))) >= 2  # each has left with a checkpoint


def certify(folder):
    """An operator's folder, whose certificate has ended."""
    key, then = pki.new_key(), pki.clock() - timedelta(days=2)
    authority = pki.make_authority(now=then, days=30)
    asked = pki.check_request(pki.make_request(key, "operator.demo", ()))
    credentials.save_key(folder / credentials.KEY, key)
    credentials.save(folder / credentials.CERTIFICATE, pki.issue(authority, asked, now=then, days=1))
    credentials.save(folder / credentials.AUTHORITY, authority.certificate)


OPERATOR = ("--credentials", "keys/operator.demo")


def test_an_operator_sees_and_asks_sites_with_certificates(secured):
    until, seen = time.monotonic() + 120, {}
    while not all(seen.get(name, {"heard": []})["heard"] for name in "ab"):  # each has heard the other
        assert time.monotonic() < until
        done = palaver("status", "--site", "a.toml", *OPERATOR, "--json", cwd=secured)
        seen = json.loads(done.stdout) if done.returncode == 0 else {}
    assert seen["a"]["heard"] == ["b"]
    np.save(secured / "x.npy", load("digits").x_test[:5])
    done = palaver("ask", "x.npy", "--site", "b.toml", *OPERATOR, "--timeout", "10", "--json", cwd=secured)
    found = json.loads(done.stdout)
    assert [voice["status"] for voice in found["peers"].values()] == ["answered", "answered"]
    assert np.shape(found["distribution"]) == (5, 10)
    assert np.sum(found["distribution"], 1) == pytest.approx(1)


def test_links_without_a_certificate_are_refused_counted_and_told_why(secured):
    host, port = tomllib.loads((secured / "a.toml").read_text())["peers"]["a"].removeprefix("tls/").split(":")
    plain, journal = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), secured / "run-a" / "journal.jsonl"
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    wanted = {"peer sent no certificates", "received corrupt message of type InvalidContentType"}
    until, told, counted = time.monotonic() + 120, set(), []
    while not (wanted <= told and counted):
        assert time.monotonic() < until, (told, counted)
        with socket.create_connection((host, int(port))) as tcp:
            tcp.sendall(b"plain TCP, not TLS")
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port))) as tcp,
            plain.wrap_socket(tcp) as tls,
        ):
            tls.recv(1)
        time.sleep(0.5)
        lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
        told = {why for each in lines if each["event"] == "links refused" for why in each["why"]}
        counted = [each for each in lines if each["event"] == "refused" and each["reason"] == "link"]
    assert all(each["peer"] == "?" and each["packets"] > 0 for each in counted)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("x.npy", "--site", "b.toml"), "have certificates: give an operator's credentials"),
        (("x.npy", "--site", "b.toml", *OPERATOR, "--operator", "a"), "begins with operator."),
        (("x.npy", "--site", "b.toml", *OPERATOR, "--rule", "best"), "rule is 'best'"),
        (("x.npy", "--site", "b.toml", *OPERATOR, "--timeout", "0"), "timeout is 0.0"),
        (("x.npy", "--site", "b.toml", *OPERATOR, "--timeout", "1e20"), "timeout is 1e+20"),
        (("x.npy", "--site", "b.toml", "--credentials", "keys/b"), "is for b, not for operator.demo"),
        (("x.npy", "--site", "b.toml", "--credentials", "keys/none"), "cannot be read"),
        (("x.npy", "--site", "b.toml", "--credentials", "others/operator.demo"), "is by another authority than"),
        (("x.npy", "--site", "b.toml", "--credentials", "ended"), "ended on"),
        (("x.npy", "--site", "no.toml", *OPERATOR), "no.toml cannot be read"),
        (("no.npy", "--site", "b.toml", *OPERATOR), "no.npy cannot be read"),
    ],
)
def test_bad_questions_are_told_in_one_line(tmp_path, monkeypatch, capsys, args, said):
    from palaver.cli import main

    monkeypatch.chdir(tmp_path)
    for name in ("keys", "others"):
        assert main(["peers", "init", name, "--sites", "b"]) == 0
    certify(tmp_path / "ended")
    np.save("x.npy", np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "b.toml").write_text("name = 'b'\ncredentials = 'keys/b'\n[peers]\nb = 'tls/127.0.0.1:1'\n")
    capsys.readouterr()
    for command in (["ask", *args], ["status", *args[1:]])[: 1 if "--rule" in args or "no.npy" in args else 2]:
        assert main(command) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_who_cannot_connect_is_not_told_about_listening():
    with pytest.raises(MachineError, match=r"^operator.demo cannot connect: .*: give other credentials or endpoints$"):
        opened(Links("c", "operator.demo", "", {"a": "nonsense"}))
