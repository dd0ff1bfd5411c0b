"""Which node has which examples: every example is at exactly one node, every node has at least one."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from palaver.arguments import choice, count, number
from palaver.types import PalaverError


def split(name: str, labels: ArrayLike, nodes: int, seed: int, alpha: float = 0.5) -> list[np.ndarray]:
    """Divides the examples among the nodes by the split of this name.

    >>> [len(shard) for shard in split("iid", np.zeros(10, int), nodes=3, seed=0)]
    [4, 3, 3]

    Args:
        name: of ``SPLITS``.
        labels: ``[M]`` class ids.
        nodes: N.
        seed: of the draw.
        alpha: concentration, only for ``dirichlet``.

    Returns:
        ``N`` arrays of int32 indices into the examples.

    Raises:
        PalaverError: an unknown name; otherwise as the split of that name.

    """
    return SPLITS[choice("split", name, SPLITS)](labels, nodes, seed, alpha)


def iid(labels: ArrayLike, nodes: int, seed: int) -> list[np.ndarray]:
    """Divides the examples at random, regardless of class, into shards whose sizes differ by at most one.

    Source: thesis §2.2.2.1.

    >>> sorted(np.concatenate(iid(np.zeros(4), nodes=3, seed=0)).tolist())
    [0, 1, 2, 3]

    Args:
        labels: ``[M]`` class ids; only their number matters here.
        nodes: ``N``.
        seed: of the draw.

    Returns:
        ``N`` arrays of int32 indices into the examples.

    Raises:
        PalaverError: if there are more nodes than examples, or ``nodes`` is below 1.

    """
    return np.array_split(_order(_check(labels, nodes, seed), seed), nodes)


def dirichlet(labels: ArrayLike, nodes: int, seed: int, alpha: float) -> list[np.ndarray]:
    """Divides each class over the nodes in proportions drawn from a Dirichlet distribution.

    A small ``alpha`` gives most of a class to few nodes, a large one comes close to ``iid``. Nodes that got no example
    are then given one each, in ascending order: the last of the shard that is the largest (of several, the first).

    Source: Hsu, Qi & Brown 2019, "Measuring the effects of non-identical data distribution for federated visual
    classification"; here each class is divided, so that shards differ in size too (Yurochkin et al. 2019).

    Args:
        labels: ``[M]`` class ids.
        nodes: ``N``.
        seed: of the draw.
        alpha: the concentration, the same for every node; finite and above 0.

    Returns:
        ``N`` arrays of int32 indices into the examples.

    Raises:
        PalaverError: as ``iid``, or if ``alpha`` is not above 0.

    """
    labels = _check(labels, nodes, seed)
    alpha = number("alpha", alpha, "(0, inf)", double=True)
    rng = np.random.default_rng(seed)
    shards: list[list[int]] = [[] for _ in range(nodes)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(nodes, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for shard, piece in zip(shards, np.split(members, cuts), strict=True):
            shard.extend(piece.tolist())
    for shard in shards:
        if not shard:
            shard.append(max(shards, key=len).pop())
    return [np.array(shard, np.int32) for shard in shards]


def by_class(labels: ArrayLike, nodes: int, seed: int) -> list[np.ndarray]:
    """Sorts the examples by class, shuffled within, and cuts them into near-equal pieces: few classes per node.

    Source: McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data" (their
    pathological split; one piece per node).

    >>> [shard.tolist() for shard in by_class([0, 0, 1, 1], nodes=4, seed=0)]
    [[0], [1], [2], [3]]

    Args:
        labels: ``[M]`` class ids.
        nodes: ``N``.
        seed: of the order within a class.

    Returns:
        ``N`` arrays of int32 indices into the examples.

    Raises:
        PalaverError: as ``iid``.

    """
    labels = _check(labels, nodes, seed)
    order = _order(labels, seed)
    return np.array_split(order[np.argsort(labels[order], kind="stable")], nodes)


def one_large(labels: ArrayLike, nodes: int, seed: int) -> list[np.ndarray]:
    """Gives half of the examples to the first node, at random, and shares the rest equally among the others.

    One node of a single one has everything.

    >>> [len(shard) for shard in one_large(np.zeros(12), nodes=4, seed=0)]
    [6, 2, 2, 2]

    Args:
        labels: ``[M]`` class ids; only their number matters here.
        nodes: ``N``.
        seed: of the draw.

    Returns:
        ``N`` arrays of int32 indices into the examples.

    Raises:
        PalaverError: as ``iid``.

    """
    labels = _check(labels, nodes, seed)
    order = _order(labels, seed)
    if nodes == 1:
        return [order]
    half = min(max(1, len(labels) // 2), len(labels) - nodes + 1)
    return [order[:half], *np.array_split(order[half:], nodes - 1)]


SPLITS: dict[str, Callable[[ArrayLike, int, int, float], list[np.ndarray]]] = {
    "iid": lambda labels, nodes, seed, _alpha: iid(labels, nodes, seed),
    "dirichlet": dirichlet,
    "class": lambda labels, nodes, seed, _alpha: by_class(labels, nodes, seed),
    "one-large": lambda labels, nodes, seed, _alpha: one_large(labels, nodes, seed),
}
"""Every split by name, as functions of labels, nodes, seed and alpha; an entry that is added here is accepted wherever
names are."""


def pad(shards: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Stacks shards of different sizes into one array.

    >>> index, size = pad([np.array([4, 2, 7]), np.array([1])])
    >>> index.tolist(), size.tolist()
    ([[4, 2, 7], [1, 0, 0]], [3, 1])

    Args:
        shards: ``N`` arrays of indices.

    Returns:
        ``index``, ``[N, L]`` int32, with 0 behind the shorter ones, and ``size``, ``[N]`` int32.

    Raises:
        PalaverError: if there is no shard, or one is empty.

    """
    size = np.array([len(shard) for shard in shards], np.int32)
    if not size.size:
        raise PalaverError("shards is empty: give one array of indices a node")
    if not size.all():
        raise PalaverError(f"the shard of node {size.argmin()} is empty: give every node at least one example")
    index = np.zeros((len(shards), size.max()), np.int32)
    for row, shard in zip(index, shards, strict=True):
        row[: len(shard)] = shard
    return index, size


def _order(labels: np.ndarray, seed: int) -> np.ndarray:
    """All examples at random."""
    return np.random.default_rng(seed).permutation(len(labels)).astype(np.int32)


def _check(labels: ArrayLike, nodes: int, seed: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise PalaverError(f"labels has shape {labels.shape}: give one label an example, [examples]")
    where, unit = f" for {len(labels)} examples", "so that every node gets an example"
    count("nodes", nodes, most=len(labels), where=where, unit=unit)
    count("seed", seed, least=0)
    return labels
