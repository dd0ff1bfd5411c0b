"""Nodes that send their data once and then no more: bagging, a deep ensemble, shipping the shard; and silence."""

import numpy as np

from palaver.baselines.method import Cohort, Memory, Method, Played, Pool, Sent, Sizes, States


def silent() -> Method:
    """Every node trains on its own shard, and nothing is ever sent.

    Returns:
        The method: to the bit a collective with ``p_consume`` and ``p_broadcast`` 0.

    """
    return Method(name="silent", play=_alone, bits=lambda _sizes: 0, expected=lambda _sizes, _rounds: Sent())


def bagging() -> Method:
    """Every node trains on a bootstrap of all examples: as many draws with replacement (Breiman 1996).

    Returns:
        The method. A node's share is what a central store sends it: every draw, input and label, once.

    """

    def pool(index: np.ndarray, size: np.ndarray, seeds: list[int]) -> Pool:
        whole, total = _everything(index, size)
        rows = [
            held[np.random.default_rng([seed, 2]).integers(count, size=(size.shape[1], count))]
            for seed, held, count in zip(seeds, whole, total, strict=True)
        ]
        rows = np.stack([_padded(drawn, whole.shape[1]) for drawn in rows])
        return _pooled(rows, total, total[:, None])

    return Method(name="bagging", play=_alone, bits=_label_bits, expected=_once, pool=pool)


def ensemble() -> Method:
    """Every node trains on all examples, from initial parameters and in an order of its own.

    Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles".

    Returns:
        The method. A node's share is what a central store sends it: every example, input and label, once.

    """

    def pool(index: np.ndarray, size: np.ndarray, _seeds: list[int]) -> Pool:
        whole, total = _everything(index, size)
        return _pooled(np.repeat(whole[:, None], size.shape[1], 1), total, total[:, None])

    return Method(name="ensemble", play=_alone, bits=_label_bits, expected=_once, pool=pool)


def ship() -> Method:
    """Every node sends its shard to all others before the first round, and all train on everything.

    They learn what the nodes of ``ensemble`` do, at the price of data that are at the nodes to begin with.

    Returns:
        The method. A node sends its examples, input and label, to N − 1 others once.

    """

    def pool(index: np.ndarray, size: np.ndarray, _seeds: list[int]) -> Pool:
        whole, total = _everything(index, size)
        return _pooled(np.repeat(whole[:, None], size.shape[1], 1), total, size * (size.shape[1] - 1))

    def expected(sizes: Sizes, _rounds: int) -> Sent:
        examples = sizes.examples * (sizes.nodes - 1) / sizes.nodes
        return Sent(messages=examples, examples=examples)

    return Method(name="ship", play=_alone, bits=_label_bits, expected=expected, pool=pool)


def _alone(cohort: Cohort, nodes: States, memory: Memory) -> Played:
    nodes, trained = cohort.step(nodes, cohort.rows)
    return Played(nodes, memory, trained.loss)


def _once(sizes: Sizes, _rounds: int) -> Sent:
    """Every example of all nodes."""
    return Sent(messages=sizes.examples, examples=sizes.examples)


def _label_bits(sizes: Sizes) -> float:
    """A label's, as ``channels.labels`` sends it."""
    return (sizes.classes - 1).bit_length()


def _everything(index: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All examples of each seed's nodes as rows ``[S, L]``, padded, and how many these are ``[S]``."""
    total = size.sum(1)
    held = np.arange(index.shape[2]) < size[..., None]
    return np.stack([_padded(rows[mask], total.max()) for rows, mask in zip(index, held, strict=True)]), total


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, length - rows.shape[-1])])


def _pooled(rows: np.ndarray, total: np.ndarray, sent: np.ndarray) -> Pool:
    """Shards of all of a seed's examples for each of its nodes, ``[S, N, L]``, for so many examples that were sent."""
    size = np.broadcast_to(total[:, None], rows.shape[:2])
    examples = np.broadcast_to(sent, size.shape).astype(np.int32)
    return Pool(rows.astype(np.int32), size.astype(np.int32), Sent(messages=examples, examples=examples))
