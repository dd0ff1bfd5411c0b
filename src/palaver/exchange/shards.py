"""Which node has which examples, for every seed."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from palaver.arguments import number
from palaver.arguments import seeds as check_seeds
from palaver.data import pad
from palaver.data import split as split_by_name
from palaver.data.dataset import check_examples, check_finite
from palaver.exchange.state import Shards


def shards(
    x: np.ndarray,
    y: np.ndarray,
    nodes: int,
    seeds: int | Sequence[int] | np.ndarray,
    *,
    split: str = "iid",
    alpha: float = 0.5,
    fraction: float = 1.0,
) -> Shards:
    """The training set and, for each seed, which node has which examples: each example is at one node only.

    All examples are distributed, or with a ``fraction`` below 1 that share of them (thesis §2.2.2.1).

    >>> parts = shards(np.zeros((10, 3)), np.zeros(10, int), nodes=4, seeds=[0, 1])
    >>> parts.index.shape, parts.size[0].tolist()
    ((2, 4, 3), [3, 3, 2, 2])

    Args:
        x: ``[M, ...]`` inputs.
        y: ``[M]`` class ids.
        nodes: N.
        seeds: one per split, or how many.
        split: a name of ``palaver.data.SPLITS``: ``iid``, ``dirichlet`` (label skew) or ``class``.
        alpha: Dirichlet concentration.
        fraction: share of the examples that the collective has, drawn anew for each seed.

    Returns:
        The training set, and for each seed the nodes' shards as rows of it.

    Raises:
        PalaverError: examples that are no finite numbers with one label each, more nodes than examples, no seed or one
            given twice, an unknown split, an alpha that is not above 0, or a fraction outside (0, 1].

    """
    x, y = check_examples("x", x, "y", y)
    check_finite("x", x)
    seeds, fraction = check_seeds(seeds), number("fraction", fraction, "(0, 1]")
    owned = max(1, round(fraction * len(y)))
    per_seed = []
    for seed in seeds:
        rows = np.random.default_rng([seed, 1]).permutation(len(y))[:owned] if owned < len(y) else np.arange(len(y))
        per_seed.append(pad([rows[part] for part in split_by_name(split, y[rows], nodes, seed, alpha=alpha)]))
    longest = max(index.shape[1] for index, _ in per_seed)
    index = np.stack([np.pad(index, ((0, 0), (0, longest - index.shape[1]))) for index, _ in per_seed])
    return Shards(
        x=jnp.asarray(x),
        y=jnp.asarray(y, jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.asarray(np.stack([size for _, size in per_seed]), jnp.int32),
    )
