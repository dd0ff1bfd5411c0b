"""Which node has which examples, for every seed."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from palaver.arguments import number
from palaver.arguments import seeds as check_seeds
from palaver.data import pad
from palaver.data import split as split_by_name
from palaver.data.dataset import check_examples, check_finite
from palaver.exchange.state import Shards
from palaver.types import NO_LABEL, PalaverError


def shards(
    x: np.ndarray,
    y: np.ndarray,
    nodes: int,
    seeds: int | Sequence[int] | np.ndarray,
    *,
    split: str = "iid",
    alpha: float = 0.5,
    fraction: float = 1.0,
    labelled: float = 1.0,
    reference: float | np.ndarray | jax.Array = 0.0,
) -> Shards:
    """The training set and, for each seed, which node has which examples: each example is at one node only.

    All examples are distributed, or with a ``fraction`` below 1 that share of them (thesis §2.2.2.1). A reference set,
    which all nodes share, is a share of the examples that no shard gets, or inputs of its own; it has no labels.

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
        fraction: share of the examples that are distributed, of those that are not in the reference set, drawn anew for
            each seed.
        labelled: share of every shard whose labels its node knows, at least one example.
        reference: the share of the examples that becomes the reference set, drawn anew for each seed, or the inputs
            ``[R, ...]`` of another one; 0: there is none. Shards of the same seed and number of examples are the same
            with a reference set and without.

    Returns:
        The training set, and for each seed the nodes' shards as rows of it.

    Raises:
        PalaverError: examples that are no finite numbers with one label each, more nodes than examples, no seed or one
            given twice, an unknown split, an alpha that is not above 0, a fraction or a labelled
            share outside (0, 1], or a reference set of another shape or type, or with all the examples.

    """
    x, y = check_examples("x", x, "y", y)
    check_finite("x", x)
    seeds, fraction = check_seeds(seeds), number("fraction", fraction, "(0, 1]")
    labelled = number("labelled", labelled, "(0, 1]")
    inputs = _alike(np.asarray(reference), x) if isinstance(reference, np.ndarray | jax.Array) else None
    share = number("reference", reference, "[0, 1)") if inputs is None else 0.0
    examples = len(y)
    owned, apart = portions(examples, fraction, share)
    if not owned:
        raise PalaverError(f"reference is {share:g} of {examples} examples, which leaves none: give a smaller share")
    per_seed, references = [], []
    for seed in seeds:
        rows = np.random.default_rng([seed, 1]).permutation(examples) if owned < examples else np.arange(examples)
        references.append(rows[examples - apart :])
        rows = rows[:owned]
        per_seed.append(pad([rows[part] for part in split_by_name(split, y[rows], nodes, seed, alpha=alpha)]))
    if inputs is not None:
        x, y = np.concatenate([x, inputs]), np.concatenate([y, np.full(len(inputs), NO_LABEL)])
        references = [examples + np.random.default_rng([seed, 2]).permutation(len(inputs)) for seed in seeds]
    longest = max(index.shape[1] for index, _ in per_seed)
    index = np.stack([np.pad(index, ((0, 0), (0, longest - index.shape[1]))) for index, _ in per_seed])
    size = np.stack([size for _, size in per_seed])
    return Shards(
        x=jnp.asarray(x),
        y=jnp.asarray(y, jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.asarray(size, jnp.int32),
        labelled=None if labelled == 1 else jnp.asarray(np.maximum(1, np.round(labelled * size)), jnp.int32),
        reference=jnp.asarray(np.stack(references), jnp.int32) if references[0].size else None,
    )


def portions(examples: int, fraction: float, reference: float) -> tuple[int, int]:
    """How many examples are distributed among the nodes, and how many become the reference set.

    >>> portions(1000, fraction=0.5, reference=0.1)
    (450, 100)

    Args:
        examples: M.
        fraction: share of those that are distributed, of those that are not in the reference set.
        reference: share of those that become the reference set.

    Returns:
        Both numbers; the first is 0 where the reference set leaves no example.

    """
    apart = max(1, round(reference * examples)) if reference else 0
    left = examples - apart
    return min(left, max(1, round(fraction * left))), apart


def _alike(reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The inputs of a reference set, checked to be such as the training set's; only uint8 are pixels."""
    pixels, fits = [part.dtype == np.uint8 for part in (reference, x)], reference.dtype.kind in "buif"
    if not (
        fits and pixels[0] == pixels[1] and reference.ndim and len(reference) and reference.shape[1:] == x.shape[1:]
    ):
        raise PalaverError(
            f"reference has shape {reference.shape} and type {reference.dtype}: give inputs [rows, ...] of the "
            f"training set's shape {x.shape[1:]} and type {x.dtype}"
        )
    check_finite("reference", reference)
    return reference.astype(x.dtype)
