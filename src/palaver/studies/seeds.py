"""Seeds as random keys."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def seed_keys(seeds: Sequence[int]) -> jax.Array:
    """``[S]`` random keys, one a seed."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])
