"""How programs are compiled and kept."""

import os
import time

import jax
import numpy as np
import pytest
from flax import nnx

from palaver import devices


@pytest.fixture
def config():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_that_compile_in_a_tenth_of_a_second_are_kept(config, monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    devices.keep_compiled(tmp_path)
    assert config.jax_compilation_cache_dir == str(tmp_path)
    assert config.jax_persistent_cache_min_compile_time_secs == 0.05


def test_what_the_environment_says_about_kept_programs_stays(config, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    config.update("jax_persistent_cache_min_compile_time_secs", 3.0)
    devices.keep_compiled(tmp_path)
    assert config.jax_compilation_cache_dir != str(tmp_path)
    assert config.jax_persistent_cache_min_compile_time_secs == 3.0


def test_a_program_that_may_be_torn_is_dropped(config, tmp_path):
    config.update("jax_compilation_cache_dir", str(tmp_path))
    (tmp_path / "old").write_bytes(b"whole")
    os.utime(tmp_path / "old", (0, time.time() - 60))
    (tmp_path / "new").write_bytes(b"to")
    devices.drop_torn()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_initialisation_without_fusion_emitters_gives_the_same_bits():
    def init(keys):
        return jax.vmap(lambda key: nnx.to_pure_dict(nnx.state(nnx.Linear(64, 32, rngs=nnx.Rngs(key)))))(keys)

    keys = jax.random.split(jax.random.key(0), 3)
    assert devices.once()["xla_cpu_use_fusion_emitters"] is False
    with_them = {"xla_backend_optimization_level": 0}
    quick, slow = (jax.jit(init, compiler_options=how)(keys) for how in (devices.once(), with_them))
    assert quick["kernel"].shape == (3, 64, 32)
    np.testing.assert_array_equal(quick["kernel"], slow["kernel"])


def test_an_option_that_this_jaxlib_does_not_have_is_not_understood():
    assert devices.understood({"xla_backend_optimization_level": 0})
    assert not devices.understood({"xla_of_another_year": 0})
