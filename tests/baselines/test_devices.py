"""Baselines on one device and over eight: the same decisions and bits, the same learning."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHILD = Path(__file__).with_name("devices_child.py")
NAMES = ("async-sgd", "codistillation-stale", "gossip", "scarlet")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "found.pickle"
    source = str(Path(__file__).resolve().parents[2] / "src")
    # Compiled with few optimisations, to save time: the test is about which device holds what.
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {quick}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
    }
    child = subprocess.run([sys.executable, CHILD, file], env=environment, capture_output=True, text=True, timeout=400)
    assert child.returncode == 0, child.stderr
    return pickle.loads(file.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_eight_devices_are_one(found, name):
    one, eight = found[name]
    assert (one.pop("devices"), eight.pop("devices")) == (1, 8)
    assert one["['state'].round"] == 18
    assert one.keys() == eight.keys()
    for path in one:
        if np.issubdtype(one[path].dtype, np.floating):
            np.testing.assert_allclose(eight[path], one[path], rtol=1e-4, atol=1e-5, err_msg=path)
        else:
            np.testing.assert_array_equal(eight[path], one[path], err_msg=path)
