"""Of the saved states two are kept, with checksums; a damaged one is never restored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from palaver.errors import PalaverError
from palaver.studies.checkpoints import Checkpoints
from palaver.studies.files import DamagedError


def state(value: float):
    """Every kind of leaf: arrays of JAX and NumPy, numbers, a type that NumPy does not know, random keys."""
    return {
        "key": jax.random.split(jax.random.key(7), 3),
        "other": jax.random.key(int(value), impl="rbg"),
        "half": jnp.full((2, 3), value, jnp.bfloat16),
        "flags": (np.array([True, False]), np.float64(value), jnp.int32(value)),
        "none": jnp.zeros((0, 4)),
    }


def same(found, expected) -> bool:
    def bits(tree):
        leaves = [jax.random.key_data(leaf) if "key" in str(leaf.dtype) else leaf for leaf in jax.tree.leaves(tree)]
        return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]

    return bits(found) == bits(expected) and jax.tree.structure(found) == jax.tree.structure(expected)


def test_the_latest_two_are_kept_and_the_latest_is_restored(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "0")
    assert checkpoints.restore(state(0)) is None
    for step in (5, 10, 15):
        checkpoints.save(step, state(step), {"seconds": step / 10})
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["10.json", "10.npz", "15.json", "15.npz"]
    found = checkpoints.restore(state(0))
    assert found.step == 15 and found.about == {"seconds": 1.5} and same(found.state, state(15))
    assert jax.random.key_impl(found.state["other"]) == jax.random.key_impl(state(0)["other"])
    assert found.state["half"].dtype == ml_dtypes.bfloat16 and isinstance(found.state["flags"][0], np.ndarray)
    assert capsys.readouterr().err == ""
    checkpoints.discard()
    assert not (tmp_path / "0").exists()


DAMAGE = {
    "a bit": lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "random": lambda raw: np.random.default_rng(0).bytes(len(raw)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_of_a_damaged_one_the_one_before_is_restored(tmp_path, capsys, suffix, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10):
        checkpoints.save(step, state(step), {"note": "long" * 100})
    path = tmp_path / f"10.{suffix}"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    found = checkpoints.restore(state(0))
    assert found.step == 5 and same(found.state, state(5))
    line = f"palaver: {path} is damaged or missing: going on from the checkpoint before it, step 5\n"
    assert capsys.readouterr().err == line
    checkpoints.save(7, state(7), {})  # the damaged one is not in its way
    assert checkpoints.restore(state(0)).step == 7


def test_when_none_is_whole_the_run_starts_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path / "0")
    for step in (5, 10):
        checkpoints.save(step, state(step), {})
        (tmp_path / "0" / f"{step}.npz").unlink()
    with pytest.raises(PalaverError, match=r"0/10\.npz is damaged or missing, and .*/0 holds .*anew with --overwrite"):
        checkpoints.restore(state(0))


def test_what_belongs_to_a_state_must_be_whole_too(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10):
        checkpoints.save(step, state(step), {"piece": step})

    def check(about):
        if about["piece"] == 10:
            raise DamagedError("the piece is damaged")

    assert checkpoints.restore(state(0), check).step == 5
    assert capsys.readouterr().err.startswith("palaver: the piece is damaged: going on from")


@pytest.mark.parametrize(
    "other",
    [
        state(0) | {"more": jnp.zeros(1)},
        {name: leaf for name, leaf in state(0).items() if name != "half"},
        state(0) | {"half": jnp.zeros((3, 2), jnp.bfloat16)},
        state(0) | {"half": jnp.zeros((2, 3), jnp.float16)},
        state(0) | {"none": jnp.zeros((0, 4), jnp.int32)},
    ],
)
def test_a_state_of_another_shape_is_not_restored(tmp_path, other):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state(5), {})
    with pytest.raises(PalaverError, match=r"5\.npz holds the arrays of another state, and .* start anew"):
        checkpoints.restore(other)


SHARDED = """
import sys, jax, numpy as np
from pathlib import Path
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from palaver.studies.checkpoints import Checkpoints

mesh = Mesh(np.array(jax.devices()), ("node",))
def state(n):
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "node"))
    return {
        "params": jax.device_put(n + np.arange(2 * 16 * 3, dtype=np.float32).reshape(2, 16, 3), split),
        "keys": jax.device_put(jax.random.split(jax.random.key(n), (2, 16)), split),
        "round": jax.device_put(np.int32(n), whole),
    }
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(3, state(3), {})
found = checkpoints.restore(state(0)).state
for name, leaf in state(3).items():
    assert found[name].sharding == leaf.sharding and found[name].committed, name
    bare = jax.random.key_data if name == "keys" else np.asarray
    assert np.array_equal(bare(found[name]), bare(leaf)), name
print(found["params"].sharding.num_devices, found["keys"].sharding.num_devices)
"""


def test_a_state_goes_back_to_its_devices(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(tmp_path)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "8 8\n", done.stderr


def test_a_state_that_cannot_be_saved_leaves_the_older_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state(5), {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.save(10, state(10), {"seconds": Path()})  # as if it had been killed between its two files
    assert checkpoints.restore(state(0)).step == 5
    checkpoints.save(15, state(15), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["15.json", "15.npz", "5.json", "5.npz"]
