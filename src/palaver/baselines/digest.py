"""Methods in which all nodes learn from their consensus on a public set, in turn with their own data."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.arguments import count
from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, Sizes, States, seeds_of
from palaver.data.order import shuffled
from palaver.types import Array, PalaverError


class _Consensus(NamedTuple):
    """The method's memory."""

    target: Array
    """``[S, R, C]`` log-probabilities for each example of the reference set."""
    made: Array
    """``[S, R]`` int32: the cycle in which they were made, -1 if not yet."""


def digest(
    name: str,
    consensus: Callable[[Array], Array],
    *,
    period: int,
    rounds: int,
    examples: int,
    first: bool,
    cache: int = 1,
) -> Method:
    """Cycles of training on the consensus ("digest") and on own data ("revisit").

    At the beginning of a digest as many minibatches of the reference set as are needed, at most ``examples``, are drawn
    anew, the same for all nodes. Every node sends its logits there, and gets the consensus. The rounds of the digest go
    through these minibatches, again from the first if they are fewer.

    Args:
        name: of the method.
        consensus: the logits ``[S, N, ...,  C]`` of all nodes to log-probabilities ``[S, ..., C]``.
        period: rounds in a cycle.
        rounds: of them, those of the digest.
        examples: of the reference set in a cycle, at most.
        first: whether a cycle begins with the digest, the first cycle then has none; otherwise it ends with it.
        cache: cycles for which a consensus is used again if its example is drawn again; 1: it is not.

    Returns:
        The method. A node sends 2 · 32 · C bits for an example whose consensus is not cached, its share of what the
        server sends included, and 32 bits a cycle that name the examples.

    Raises:
        PalaverError: a number that is out of range.

    """
    period, cache = count("period", period, least=2), count("cache", cache, unit="cycles")
    rounds = count("rounds", rounds, most=period - 1, where=f" of a cycle of {period}")
    examples = count("examples", examples)
    begin = 0 if first else period - rounds

    def minibatches(size: int, reference: int) -> int:
        """Of a cycle, of so many examples each, from so many in the reference set."""
        return max(1, min(rounds, examples // size, reference // size))

    def expected(sizes: Sizes, played: int) -> Sent:
        cycles = max(0, -(-(played - begin) // period) - first)
        drawn = minibatches(sizes.batch_size, sizes.reference) * sizes.batch_size
        return Sent(messages=sizes.reference * _fresh(drawn / sizes.reference, cycles, cache), indices=cycles)

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        seeds, _, size = cohort.rows.shape
        held: _Consensus = memory.shared
        batches = minibatches(size, cohort.reference.shape[1])
        cycle, phase = cohort.round // period, cohort.round % period - begin
        takes_part = cycle >= first
        digests = takes_part & (phase >= 0) & (phase < rounds)

        def agree(held: _Consensus) -> tuple[_Consensus, Array]:
            drawn = _places(cohort, cycle, jnp.arange(batches * size))
            logits = cohort.predict(nodes, _taken(cohort.reference, drawn).reshape(seeds, batches, size))
            return _renewed(held, drawn, consensus(logits).reshape(seeds, batches * size, -1), cycle, cache)

        agrees = takes_part & (phase == 0)
        held, sent = jax.lax.cond(agrees, agree, lambda held: (held, jnp.zeros((seeds, 1), jnp.int32)), held)
        place = _places(cohort, cycle, jnp.maximum(phase, 0) % batches * size + jnp.arange(size))
        public = jnp.broadcast_to(_taken(cohort.reference, place)[:, None], cohort.rows.shape)
        target = _taken(held.target, place)[:, None]
        target = jnp.broadcast_to(target, (*cohort.rows.shape, target.shape[-1]))
        rows = jnp.where(digests, public, cohort.rows)
        nodes, trained = cohort.step(nodes, rows, target, digests)
        sent = Sent(messages=sent, indices=agrees.astype(jnp.int32))
        return Played(nodes, memory._replace(shared=held), trained.loss, sent, read=~digests)

    return Method(
        name=name,
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.classes,
        expected=expected,
        period=period,
        start=_start,
        soft=True,
        public=True,
        check=partial(_check, name),
    )


def _start(sizes: Sizes, nodes: States) -> Memory:
    shape = seeds_of(nodes), sizes.reference
    return Memory(_Consensus(jnp.zeros((*shape, sizes.classes)), jnp.full(shape, -1, jnp.int32)))


def _check(name: str, sizes: Sizes, _neighbours: np.ndarray) -> None:
    if sizes.reference < sizes.batch_size:
        raise PalaverError(
            f"{name} has a reference set of {sizes.reference} examples for minibatches of {sizes.batch_size}: give at "
            f"least {sizes.batch_size}"
        )


def _fresh(share: float, cycles: int, cache: int) -> float:
    """How often, in so many cycles that draw this share, an example is expected to be drawn while it is not cached."""
    fresh = list[float]()
    for _ in range(cycles):  # it is cached if it was sent in one of the cycles before
        fresh.append(share * (1 - sum(fresh[max(0, len(fresh) - cache + 1) :])))
    return sum(fresh)


def _places(cohort: Cohort, cycle: Array, position: Array) -> Array:
    """``[S, ...]`` places in the reference set of these positions in this cycle's order."""
    words = jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, cycle), (2,)))(cohort.key)
    return jax.vmap(lambda word: shuffled(word, position, jnp.int32(cohort.reference.shape[1])))(words)


def _renewed(held: _Consensus, drawn: Array, found: Array, cycle: Array, cache: int) -> tuple[_Consensus, Array]:
    """The memory with what was found about the examples drawn ``[S, K]`` where that is not cached, and how many."""
    made = _taken(held.made, drawn)
    old = (made < 0) | (cycle - made >= cache)
    where = jnp.where(old, drawn, held.made.shape[1])  # those that are cached go nowhere
    kept = jax.vmap(lambda table, place, new: table.at[place].set(new, mode="drop"))
    held = _Consensus(kept(held.target, where, found), kept(held.made, where, jnp.full_like(drawn, cycle)))
    return held, old.sum(1, dtype=jnp.int32)[:, None]


def _taken(table: Array, place: Array) -> Array:
    """``[S, R, ...]`` at ``[S, ...]``."""
    return jax.vmap(lambda t, p: t[p])(table, place)
