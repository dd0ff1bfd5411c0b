"""The examples for Docker Compose and systemd say what they should, and their commands make a collective."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from benchmarks.namespaces import Machine, machines, possible
from containers import COMPOSE, DOCKERFILE, EXAMPLE, UNIT, Mount, contained, image, mounts, started, unit

from palaver.data import load

pytest.importorskip("zenoh")

SITES = ("a", "b", "c")


def run(command, **given):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **given)


def validated(path):
    return run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)])


def test_the_compose_file_is_as_the_compose_specification_says(tmp_path):
    done = validated(EXAMPLE / "compose.yaml")
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((EXAMPLE / "compose.yaml").read_text().replace("stop_grace_period", "stop_grace_periods"))
    done = validated(wrong)
    assert done.returncode == 1
    assert "'stop_grace_periods' was unexpected" in done.stdout


def test_docker_reads_the_compose_file_as_it_is_meant():
    """Docker's own reader, which needs no daemon."""
    command = ["docker", "compose", "--file", str(EXAMPLE / "compose.yaml"), "--profile", "*", "config"]
    if not shutil.which("docker") or run(["docker", "compose", "version"]).returncode:
        pytest.skip("docker compose is not here")
    done = run([*command, "--format", "json"])
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == set(COMPOSE["services"])
    for name, service in services.items():
        assert [volume["target"] for volume in service["volumes"]] == [to for _, to, _ in mounts(name, Path("/v"))]


def test_containers_have_no_rights_beyond_their_own_volumes():
    for name, service in COMPOSE["services"].items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "ports", "pid", "ipc", "devices"} & set(service)
    written = {name: {m.source.name for m in mounts(name, Path("/v")) if not m.read_only} for name in SITES}
    assert written == {name: {f"site-{name}", "data"} for name in SITES}
    keys = {
        name: [str(m.source) for m in mounts(name, Path("/v")) if m.source.is_relative_to("/v/keys")] for name in SITES
    }
    assert keys == {name: [f"/v/keys/demo/{name}"] for name in SITES}
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["palaver"]


def test_the_image_is_built_from_files_that_are_there():
    sources = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    root = (EXAMPLE / COMPOSE["services"]["a"]["build"]["context"]).resolve()
    assert all((root / name).exists() for name in sources)
    project = (root / "pyproject.toml").read_text()
    needed = [*re.findall(r'^readme = "(.+)"$', project, re.MULTILINE), "constraints.txt", "pyproject.toml", "src"]
    assert set(needed) <= set(sources)


def test_the_unit_starts_again_after_a_fault_and_not_after_bad_input():
    found = {name: value[-1] for name, value in unit().items()}
    assert (found["Restart"], found["RestartPreventExitStatus"]) == ("on-failure", "2")
    assert (found["User"], found["StateDirectory"]) == ("palaver", "palaver/%i")
    assert COMPOSE["services"]["a"]["stop_grace_period"] == f"{found['TimeoutStopSec']}s"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    text = UNIT.read_text().replace("/opt/palaver/bin/palaver", sys.executable)
    good, bad = tmp_path / "good" / "palaver-peer@a.service", tmp_path / "bad" / "palaver-peer@a.service"
    for path, content in ((good, text), (bad, text.replace("RestartSec", "RestartSecs"))):
        path.parent.mkdir()
        path.write_text(content)
    done = run(["systemd-analyze", "verify", "--man=no", str(good)])
    assert (done.returncode, done.stderr) == (0, "")
    assert "'RestartSecs'" in run(["systemd-analyze", "verify", "--man=no", str(bad)]).stderr
    exposed = run(["systemd-analyze", "security", "--offline=true", "--threshold=20", str(good)])
    if "unrecognized option" not in exposed.stderr:  # systemd below 250
        assert exposed.returncode == 0, exposed.stdout


def test_sites_agree(tmp_path, monkeypatch, capsys):
    from palaver.cli import main

    assert main(["peers", "init", str(tmp_path / "keys"), "--sites", ",".join(SITES)]) == 0
    found = []
    for name in SITES:
        shutil.copy(EXAMPLE / f"{name}.toml", tmp_path)
        capsys.readouterr()
        assert main(["peer", str(tmp_path / f"{name}.toml"), "--check"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [each["name"] for each in found] == list(SITES)
    assert len({each["digest"] for each in found}) == 1


class Deployed(NamedTuple):
    """Running sites, and what runs another command beside them."""

    folder: Path
    machines: dict[str, Machine]
    processes: dict[str, subprocess.Popen]
    etc: dict[str, Path]

    def of_service(self, name, command=None, more=()):
        """The command of a service of the compose file, or another one in the same container."""
        of = image()
        args = [*of.entrypoint, *COMPOSE["services"][name]["command"]] if command is None else command
        at = self.etc.get(name, self.etc["operator"])
        return contained(started(args), at, [*mounts(name, self.folder / "volumes"), *more], of.folder)

    def operator(self, *command):
        """Runs a command where no site is."""
        return run(self.machines["operator"].command(*command))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Sites a and b as the compose file has them, c as the unit has it."""
    if not possible():
        pytest.skip("network namespaces need Linux, root and iproute2")
    folder = tmp_path_factory.mktemp("deployed")
    for volume in COMPOSE["volumes"]:
        (folder / "volumes" / volume).mkdir(parents=True)
    with machines([*SITES, "operator"]) as made, contextlib.ExitStack() as stack:
        sites = made[:-1]
        etc = {machine.name: folder / machine.name / "etc" for machine in made}
        for path in etc.values():
            path.mkdir(parents=True)
            (path / "hosts").write_text("".join(f"{each.address} {each.name}\n" for each in sites))
        found = Deployed(folder, {machine.name: machine for machine in made}, {}, etc)
        done = found.operator(*found.of_service("keys"))
        assert done.returncode == 0, done.stderr
        commands = {name: found.of_service(name) for name in SITES[:2]} | {"c": of_unit(folder, etc["c"], "c")}
        for machine in sites:
            process = subprocess.Popen(machine.command(*commands[machine.name]), env=os.environ | image().environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
            found.processes[machine.name] = process
        yield found


def of_unit(folder, etc, name):
    """What systemd starts for a site, with files where it finds them."""
    (state,), (cache,), (start,) = (unit()[setting] for setting in ("StateDirectory", "CacheDirectory", "ExecStart"))
    assert unit()["Environment"] == [f"PALAVER_DATA=/var/cache/{cache}"]
    volumes = folder / "volumes"
    mounted = [
        Mount(EXAMPLE / f"{name}.toml", f"/etc/palaver/{name}.toml", read_only=True),
        Mount(volumes / "keys" / "demo" / name, f"/etc/palaver/keys/{name}", read_only=True),
        Mount(volumes / f"site-{name}", "/var/lib/" + state.replace("%i", name)),
        Mount(volumes / "data", f"/var/cache/{cache}"),
    ]
    return contained(started(start.replace("%i", name).split()), etc, mounted)


def test_the_examples_commands_make_a_collective(deployed):
    kind, *check = COMPOSE["services"]["a"]["healthcheck"]["test"]
    assert kind == "CMD"
    until, waiting, seen = time.monotonic() + 600, list(SITES), {}
    while waiting:
        waiting = [name for name in waiting if run(deployed.machines[name].command(*started(check))).returncode]
        assert all(process.poll() is None for process in deployed.processes.values())
        assert time.monotonic() < until
        time.sleep(0.5)
    assert deployed.operator(*started(check)).returncode == 1  # no site is there
    while {name: set(each["heard"]) for name, each in seen.items()} != {n: set(SITES) - {n} for n in SITES}:
        done = deployed.operator(*deployed.of_service("operator"), "--json")
        assert time.monotonic() < until, (seen, done.stderr)
        seen = json.loads(done.stdout) if done.returncode == 0 else {}
    np.save(deployed.folder / "x.npy", load("digits").x_test[:5])
    x = Mount(deployed.folder / "x.npy", "/etc/palaver/x.npy", read_only=True)
    _, *site = COMPOSE["services"]["operator"]["command"]
    asking = deployed.of_service("operator", ["palaver", "ask", "x.npy", *site, "--timeout", "10", "--json"], [x])
    done = deployed.operator(*asking)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [found["peers"][name]["status"] for name in SITES] == ["answered"] * 3


def test_the_examples_sites_leave_with_a_checkpoint(deployed):
    for process in deployed.processes.values():
        process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert [process.wait(60) for process in deployed.processes.values()] == [0, 0, 0]
    assert time.monotonic() - began < 60
    places = {"a": "site-a/a", "b": "site-b/b", "c": "site-c"}
    for place in places.values():
        folder = deployed.folder / "volumes" / place
        assert list(folder.glob("*.npz"))
        assert (folder / "journal.jsonl").stat().st_size
