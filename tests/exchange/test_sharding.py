"""The same collective on one device, over 8, and over 2 processes: the same decisions, the same learning."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from palaver.exchange.sharding import ONE_DEVICE, auto_sharding
from palaver.types import PalaverError

CHILD = Path(__file__).with_name("sharding_child.py")
MINUTES = 4


def start(devices: int, *arguments: object) -> subprocess.Popen:
    source = Path(__file__).resolve().parents[2] / "src"
    path = os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
    # Compiled with few optimisations, to save time: the test is about which device holds what.
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {quick}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": path,
    }
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*children: subprocess.Popen) -> None:
    try:
        outputs = [child.communicate(timeout=60 * MINUTES)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    for child, text in zip(children, outputs, strict=True):
        assert child.returncode == 0, text


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Integers exactly, floats to 1e-5."""
    assert one.keys() == other.keys()
    integers = 0
    for path in one.keys() - {"devices"}:
        if np.issubdtype(one[path].dtype, np.floating):
            np.testing.assert_allclose(other[path], one[path], rtol=1e-5, atol=1e-5, err_msg=path)
        else:
            np.testing.assert_array_equal(other[path], one[path], err_msg=path)
            integers += 1
    assert integers >= 10


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    finish(start(8, folder, "many"))
    return pickle.loads((folder / "many.pickle").read_bytes())


@pytest.mark.parametrize("talk", ["own", "reference", "gate"])
def test_eight_devices_are_one(talk, many):
    one, eight = many[talk]
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["['state'].round"] == 12
    # Packets were read and dropped in both seeds, or everything was heard and remembered.
    assert (one["['state'].counts.consumed"].sum(1) > 8).all()
    assert (one["['state'].counts.sent"].sum(1) > 8).all()
    if talk == "own":
        assert (one["['state'].counts.dropped"].sum(1) > 8).all()
    else:
        assert all((one[f"['state'].heard[{group}].weight"] > 0).mean() > 0.2 for group in range(2))
        assert all(one[f"['state'].said[{group}]"].any() for group in range(2))
    assert_same(one, eight)


def test_two_processes_are_one(many, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    finish(*[start(2, tmp_path, port, process) for process in range(2)])
    for process in range(2):
        found = pickle.loads((tmp_path / f"process{process}.pickle").read_bytes())
        for talk, (one, _) in many.items():
            assert found[talk]["devices"] == 4
            assert_same(one, found[talk])


def test_auto_sharding_takes_as_many_devices_as_divide_all_groups():
    assert auto_sharding([5, 7]) is ONE_DEVICE
    assert auto_sharding([4], 1) is ONE_DEVICE
    have = len(jax.devices())
    for devices in (0, -1, have + 1):
        with pytest.raises(PalaverError, match=f"devices is {devices}: this machine shows {have}; give 1 to {have}"):
            auto_sharding([4], devices)
