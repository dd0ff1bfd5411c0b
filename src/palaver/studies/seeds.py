"""Seeds as random keys."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def seed_keys(seeds: Sequence[int]) -> jax.Array:
    """The random keys of seeds.

    >>> seed_keys([0, 1]).shape
    (2,)

    Args:
        seeds: S of them.

    Returns:
        ``[S]`` keys, one per seed.

    """
    return jnp.stack([jax.random.key(seed) for seed in seeds])
