"""Faults and foes of real processes on loopback: two sites, and a session of the tests' own that plays a third one."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import msgspec
import numpy as np
import pytest

zenoh = pytest.importorskip("zenoh")

from processes import Process, ended, free_ports, until  # noqa: E402

from palaver.peers.settings import SiteSettings  # noqa: E402
from palaver.peers.wire import LARGEST, decode, digest_of, encode, question  # noqa: E402
from palaver.peers.zenoh import Links, opened  # noqa: E402

PACE = 20


def mounted(folder):
    """Whether a small file system of its own is now at the folder."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "palaver-test", str(folder)]
    return os.name == "posix" and bool(shutil.which("mount")) and not subprocess.run(mount, check=False).returncode


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Sites a, which runs, and b, which does not yet; the tests go on with them in their order."""
    folder = tmp_path_factory.mktemp("faults")
    *ports, http_a, http_b = free_ports(5)
    ends = {name: f"tcp/127.0.0.1:{port}" for name, port in zip("abc", ports, strict=True)}
    sites = [
        Process(
            SiteSettings(
                name=name,
                peers=ends,
                collective={"name": "faults", "rounds": 10**6, "p_broadcast": 1.0, "least_change": 0.0},
                folder=str(folder / name),
                pace=PACE,
                checkpoint_seconds=2,
                http=f"127.0.0.1:{http}",
            )
        )
        for name, http in (("a", http_a), ("b", http_b))
    ]
    sites[0].folder.mkdir()
    with contextlib.ExitStack() as stack:
        if mounted(sites[0].folder):
            stack.callback(subprocess.run, ["umount", str(sites[0].folder)], check=True)
        stack.enter_context(ended(sites))
        sites[0].start()
        yield sites


@pytest.fixture
def foreign(pair):
    """A session that anyone can open where there are no certificates, which says that it is site c."""
    a, _ = pair
    with opened(Links("faults", "c", "", a.settings.peers)) as session:
        token = session.liveliness().declare_token("palaver/faults/alive/c")
        until(lambda: all("c" in site.present() for site in pair))
        yield session
        token.undeclare()


def captured(session, key, number):
    """So many messages that go to a key."""
    found = []
    with session.declare_subscriber(f"palaver/faults/{key}", lambda sample: found.append(bytes(sample.payload))):
        until(lambda: len(found) >= number)
    return found[:number]


def talking(one, other):
    """Waits until packets arrive both ways that have not left yet."""
    before = one.link(other.name)["sent"], other.link(one.name)["sent"]
    until(lambda: other.link(one.name)["arrived"] > before[0] and one.link(other.name)["arrived"] > before[1])


def test_a_site_that_is_alone_learns_and_one_that_joins_late_is_talked_with(pair):
    a, b = pair
    until(lambda: a.step() > 2 * PACE)
    assert a.state() == "alone"
    b.start()
    talking(a, b)
    assert (a.present(), b.present()) == ({"b"}, {"a"})
    assert b.step() < a.step()
    assert a.refused() == b.refused() == {}


def test_what_is_put_again_is_refused(pair, foreign):
    _, b = pair
    packets = captured(foreign, "p/a/b", 12)
    random.Random(0).shuffle(packets)
    for first in range(0, 12, 4):  # no more at once than wait in any case
        for packet in packets[first : first + 4]:
            foreign.put("palaver/faults/p/a/b", packet)
        until(lambda first=first: b.refused() == {("a", "replayed"): first + 4})
    assert b.link("a")["missing"] == 0


def test_packets_in_any_order_count_once_each(pair, foreign):
    _, b = pair
    data = captured(foreign, "p/a/b", 1)[0]
    said, before = decode(data, digest_of(data)), b.refused().get(("c", "replayed"), 0)

    def send(epoch, *seqs):
        for seq in seqs:
            foreign.put("palaver/faults/p/c/b", encode(msgspec.structs.replace(said, epoch=epoch, seq=seq)))

    send(7, 3, 0, 2, 1, 0, 3, 9, 8)
    until(lambda: b.link("c")["arrived"] == 6)
    assert b.link("c")["missing"] == pytest.approx(4 / 10)
    until(lambda: b.refused().get(("c", "replayed")) == before + 2)
    send(6, 10, 11)  # of an earlier life
    until(lambda: b.refused().get(("c", "replayed")) == before + 4)
    send(8, 0)
    until(lambda: b.link("c")["arrived"] == 1)


def test_a_flood_costs_neither_steps_nor_memory(pair, foreign):
    _, b = pair
    good = captured(foreign, "p/a/b", 1)[0]
    junk = [os.urandom(100), good[:-1], good[:1] + os.urandom(len(good) - 1), b"", bytes(LARGEST + 1)]
    other = encode(question(b"stranger", np.zeros((1, 1), np.uint8)))
    calm, before = b.pace(time.time() - 10, 4), b.refused()
    stop, put = threading.Event(), 0

    def flood():
        nonlocal put
        while not stop.is_set():
            for data in (*junk, good, other):
                for key in ("p/c/b", "state/c"):
                    foreign.put(f"palaver/faults/{key}", data)
                    put += 1

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        since = time.time()
        b.pace(since, 2)
        resident = b.resident()
        pace = b.pace(since, 6)
        grown = b.resident() - resident
    finally:
        stop.set()
        thread.join()
    refused = {reason: n - before.get(("c", reason), 0) for (peer, reason), n in b.refused().items() if peer == "c"}
    assert put > 10_000
    assert {"version", "malformed", "size", "collective", "replayed"} <= {r for r, n in refused.items() if n > 10}
    assert pace > calm / 3
    assert grown < 30 * 2**20


def test_a_site_that_stands_still_holds_up_nobody(pair):
    a, b = pair
    since = time.time()
    calm = a.pace(since - 5, 3)
    b.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: a.present() == set())
        step, began = a.step(), time.monotonic()
        until(lambda: time.monotonic() > began + 3)
        alone = (a.step() - step) / (time.monotonic() - began)
    finally:
        b.process.send_signal(signal.SIGCONT)
    assert alone > calm / 3
    refused = a.refused()
    talking(a, b)
    assert a.refused() == refused


def test_the_last_one_goes_on_alone_and_a_damaged_checkpoint_costs_one(pair):
    a, b = pair
    b.kill()
    until(lambda: a.present() == set())
    until(lambda: a.state() == "alone")
    step = a.step()
    until(lambda: a.step() > step + PACE)
    older, newest = sorted(int(path.stem) for path in b.folder.glob("*.json") if path.stem.isdecimal())[-2:]
    with (b.folder / f"{newest}.npz").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    refused = a.refused()
    b.start()
    talking(a, b)
    assert f"going on from the checkpoint before it, step {older}\n" in b.said()
    assert f"examples, from round {older}\n" in b.said()
    until(lambda: a.state() == "talking")
    assert a.refused() == refused


def test_a_full_disk_is_told_and_checkpoints_go_on_when_there_is_room(pair):
    a, _ = pair
    if not os.path.ismount(a.folder):
        pytest.skip("no file system can be mounted here")
    until(lambda: list(a.folder.glob("*.npz")))
    with contextlib.suppress(OSError), (a.folder / "fill").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    until(lambda: a.look()["checkpoint"]["trouble"])
    assert "No space left on device" in a.look()["checkpoint"]["trouble"]
    assert "No space left on device" in a.said()
    step, kept = a.step(), sorted(a.folder.glob("*.npz"))
    until(lambda: a.step() > step + 3 * PACE)
    assert sorted(a.folder.glob("*.npz")) == kept
    (a.folder / "fill").unlink()
    until(lambda: a.look()["checkpoint"]["trouble"] is None)
    assert max(int(path.stem) for path in a.folder.glob("*.npz")) > step


def test_a_restart_with_other_data_or_another_reference_set_is_refused(pair, tmp_path):
    _, b = pair
    assert b.end() == 0
    kept = {path: path.read_bytes() for path in b.folder.glob("*.npz")}
    x = np.zeros((64, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "own.npz", x=x, y=np.zeros(64, int))
    changes = {
        "another description or reference set": [
            {"reference": str(tmp_path / "x.npy")},
            {"collective": b.settings.collective | {"seed": 1}},
        ],
        "other examples": [{"examples": str(tmp_path / "own.npz")}],
    }
    for said, cases in changes.items():
        for case in cases:
            before = len(b.said())
            assert b.start(**case).process.wait(120) == 2
            told = b.said()[before:]
            assert told.count("\n") == 1
            assert said in told
    assert {path: path.read_bytes() for path in kept} == kept
