"""Checkpoints and restarts of sites on a virtual clock."""

import numpy as np
import pytest
from sites import world

from palaver.peers import checkpoint
from palaver.peers.saving import restore
from palaver.peers.saving import saved as saved_of
from palaver.peers.transport import Arrived
from palaver.types import PalaverError


def test_a_packet_of_an_earlier_life_is_refused():
    pair = world(2)
    taped = []
    send = pair.network.pass_on
    pair.network.pass_on = lambda *message: (taped.append(message), send(*message))
    pair.play(10)
    pair.network.pass_on = send
    pair.start(1, epoch=1)
    pair.play(10)
    site = pair.sites[0]
    arrived, refused = site.seen[1].arrived, site.refused.total()
    packets = [data for kind, sender, _, data in taped if (kind, sender) == ("packet", "site-1")]
    assert len(packets) > 10
    assert site.seen[1].epoch == 1
    for data in packets:
        site.take(Arrived("packet", "site-1", data))
    assert site.seen[1].arrived == arrived
    assert site.refused["site-1", "replayed"] == refused + len(packets)


def test_a_restart_goes_on_from_the_checkpoint(tmp_path):
    calm = world(3, folder=tmp_path, conduct={"checkpoint_every": 5.0})
    calm.play(23)
    died_at, position = calm.sites[2].peer.step, calm.sites[2].peer.position
    calm.kill(2)
    calm.play(2)
    back = calm.start(2, epoch=1)
    saved = checkpoint.restore(tmp_path / "2")
    restore(back, saved)
    assert died_at - 50 <= back.peer.step <= died_at
    assert position - 50 * 32 <= back.peer.position <= position
    assert back.seen.keys() == {0, 1}
    calm.play(60)
    assert back.peer.step == 600
    assert not any(site.refused for site in calm.sites.values())


def test_what_is_saved_and_restored_goes_on_as_if_nothing_had_been(tmp_path):
    """A peer that was restored does exactly what the one it was saved from does."""
    pair = world(2, folder=tmp_path)
    pair.play(10)
    first = pair.sites[0]
    first.save()
    twin = pair.start(0, epoch=1)
    restore(twin, checkpoint.restore(tmp_path / "0"))
    for _ in range(20):
        a, b = first.peer.turn({1}), twin.peer.turn({1})
        np.testing.assert_array_equal(a.x, b.x)
        assert a.outgoing == b.outgoing
    for name, array in first.peer.arrays().items():
        np.testing.assert_array_equal(array, twin.peer.arrays()[name])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys):
    pair = world(2, folder=tmp_path, conduct={"checkpoint_every": 5.0})
    pair.play(23)
    older, newest = sorted(int(path.stem) for path in (tmp_path / "0").glob("*.npz"))
    with (tmp_path / "0" / f"{newest}.npz").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    assert checkpoint.restore(tmp_path / "0").about["step"] == older
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "0" / f"{older}.npz").unlink()
    with pytest.raises(PalaverError, match="holds no other whole checkpoint"):
        checkpoint.restore(tmp_path / "0")


def test_a_damaged_checkpoint_is_set_aside_and_the_good_one_kept(tmp_path):
    site = world(1, folder=tmp_path).sites[0]
    folder = tmp_path / "0"
    for step in (100, 200):
        checkpoint.save(folder, step, saved_of(site))
    (folder / "200.npz").write_bytes(b"damage")
    assert checkpoint.restore(folder) is not None
    checkpoint.save(folder, 150, saved_of(site))
    names = {path.name for path in folder.iterdir()}
    assert names == {"100.json", "100.npz", "150.json", "150.npz", "200.json.damaged", "200.npz.damaged"}


@pytest.mark.parametrize("at", ["restore", "save"])
def test_what_a_kill_while_saving_left_is_swept(tmp_path, at):
    site = world(1, folder=tmp_path).sites[0]
    folder = tmp_path / "0"
    checkpoint.save(folder, 100, saved_of(site))
    for name in ("300.npz", ".400.npz.abc.draft"):
        (folder / name).write_bytes(b"half")
    checkpoint.restore(folder) if at == "restore" else checkpoint.save(folder, 100, saved_of(site))
    assert {path.name for path in folder.iterdir()} == {"100.json", "100.npz"}


def test_a_site_that_is_done_writes_its_checkpoint_once(tmp_path):
    site = world(1, rounds=20, folder=tmp_path, conduct={"checkpoint_every": 1.0}).sites[0]
    for tenth in range(50):
        site.cycle(tenth / 10)
    before = (tmp_path / "0" / "20.json").stat().st_mtime_ns
    assert site.written_at <= 3
    for tenth in range(50, 80):
        site.cycle(tenth / 10)
    assert (tmp_path / "0" / "20.json").stat().st_mtime_ns == before
    assert site.written_at <= 3


def test_a_site_whose_clock_was_wrong_once_is_heard_again(tmp_path):
    made = world(2)
    made.start(1, epoch=5000)
    made.play(5)
    back = made.start(1, epoch=1000, later=lambda heard: checkpoint.later_epoch(tmp_path, heard, clock=1000))
    made.play(10)
    assert back.outbox.epoch == 5001
    assert made.sites[0].seen[1].epoch == 5001
    assert made.sites[0].seen[1].arrived > 5
    assert made.sites[0].seen[1].missing == 0
    assert checkpoint.next_epoch(tmp_path, clock=1000) == 5002


def test_nobody_can_move_a_site_more_than_a_year_ahead(tmp_path):
    assert checkpoint.later_epoch(tmp_path, 1000 + 365 * 86400, clock=1000) is None
    assert list(tmp_path.iterdir()) == []


def test_another_reference_set_data_set_or_model_is_refused_at_a_restart(tmp_path):
    pair = world(2, folder=tmp_path)
    pair.play(5)
    pair.sites[0].save()
    saved = checkpoint.restore(tmp_path / "0")
    other = world(2, seed=1).sites[0]
    with pytest.raises(PalaverError, match="another description or reference set"):
        restore(other, saved)
    pair.own[0] = pair.own[0][0], (pair.own[0][1] + 1) % 10
    with pytest.raises(PalaverError, match="a site with other examples"):
        restore(pair.start(0), saved)
    pair.own[0] = pair.own[0][0], (pair.own[0][1] - 1) % 10
    with pytest.raises(PalaverError, match="another model or optimiser"):
        restore(pair.start(0, widths=(8,)), saved)


def test_a_full_disk_does_not_stop_a_site(tmp_path, monkeypatch):
    pair = world(2, folder=tmp_path, conduct={"checkpoint_every": 5.0})
    pair.play(7)
    kept = sorted((tmp_path / "0").iterdir())

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("palaver.studies.files.os.fsync", full)
        pair.play(10)
    site = pair.sites[0]
    assert "No space left on device" in site.trouble
    assert sorted((tmp_path / "0").iterdir()) == kept
    assert site.peer.step == 170
    pair.play(10)
    assert site.trouble is None
    assert sorted((tmp_path / "0").iterdir()) != kept


def test_an_epoch_is_larger_than_all_before_whatever_the_clock_says(tmp_path):
    assert checkpoint.next_epoch(tmp_path, clock=1000.7) == 1000
    assert checkpoint.next_epoch(tmp_path, clock=500) == 1001
    assert checkpoint.next_epoch(tmp_path, clock=5000) == 5000
    (tmp_path / "epoch.json").write_text("{")
    assert checkpoint.next_epoch(tmp_path, clock=6000) == 6000
