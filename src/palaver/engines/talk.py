"""Agents that make up a language, all seeds as one compiled program; a step never returns to Python."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data.order import shuffled
from palaver.engines.evaluate import chunks
from palaver.engines.simulate import as_input
from palaver.language import Group, Language
from palaver.types import Array, PalaverError


class Talkers(NamedTuple):
    """``S`` groups of ``N`` agents, a seed each."""

    groups: Group
    """Leaves ``[S, ...]``."""
    order: Array
    """``[S, 2]`` uint32: keys of the order in which each group goes through the training set."""
    key: Array
    """``[S]`` random keys."""


class Learned(NamedTuple):
    """Means over a stretch of training."""

    information: Array
    """``[S, N]`` I(X; S) in nats as the objective estimates it, of messages as drawn."""
    likelihood: Array
    """``[S, N]`` nats a message: how surprised an agent was by those it heard."""


class Heard(NamedTuple):
    """What agents say about examples, and what a linear reader makes of it."""

    symbols: np.ndarray
    """``[S, N, M, L]`` uint16 ids."""
    features: np.ndarray
    """``[S, N]`` how many examples the reader of features gets right."""
    messages: np.ndarray
    """``[S, N]`` the same of the reader of hard messages."""


class Talking(NamedTuple):
    """The compiled functions of one description; made by ``talking``."""

    init: Any
    """``init(keys [S]) -> Talkers``."""
    advance: Any
    """``advance(talkers, steps) -> (talkers, Learned)``; the talkers given are used up."""
    hear: Any
    """``hear(groups, x [M, ...], y [M]) -> Heard``."""
    nats: Any
    """``nats(groups, x) -> [S, N]``: I(X; S) of hard messages about these examples, see ``Language.nats``."""


@cache
def _without_ynn() -> dict[str, str]:
    """XLA's YNN kernels on the CPU took up to three times as long as its others for matrices of this size."""
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # a jaxlib that does not know them
        return {}
    return options


def talking(language: Language, x: np.ndarray, y: np.ndarray, *, batch_size: int, chunk: int = 500) -> Talking:
    """Compiles a language on a training set.

    Args:
        language: from ``palaver.language.conversation``.
        x: ``[M, ...]`` inputs; uint8 pixels or float32.
        y: ``[M]`` class ids, for the linear readers.
        batch_size: examples in a step, the same for all agents of a group.
        chunk: examples heard at once.

    Raises:
        PalaverError: a batch that is larger than the training set or has fewer than two examples.

    """
    size, shape = len(y), x.shape[1:]
    if not 2 <= batch_size <= size:
        raise PalaverError(
            f"batches of {batch_size} for {size} training examples: give 2 to {size}, since a message is told apart "
            "from another example's"
        )
    # A row of numbers is gathered twice as fast as an image (XLA's CPU backend).
    rows_of_all, labels = jnp.asarray(x).reshape(size, -1), jnp.asarray(y, jnp.int32)

    def init(keys: Array) -> Talkers:
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
        order = jax.vmap(lambda k: jax.random.bits(k, (2,)))(keys[:, 1])
        return Talkers(jax.vmap(language.init)(keys[:, 0]), order, keys[:, 2])

    def step(at: Talkers, x: Array, y: Array) -> tuple[Talkers, Learned]:
        def one(group: Group, order: Array, key: Array) -> tuple[Group, Learned]:
            rows = shuffled(order, group.step * batch_size + jnp.arange(batch_size), jnp.int32(size))
            seen = as_input(x[rows]).reshape(-1, *shape)
            group, terms = language.step(jax.random.fold_in(key, group.step), group, seen, y[rows])
            return group, Learned(terms.information, terms.likelihood)

        groups, learned = jax.vmap(one)(at.groups, at.order, at.key)
        return at._replace(groups=groups), learned

    @partial(jax.jit, donate_argnums=0, compiler_options=_without_ynn())
    def advance(at: Talkers, x: Array, y: Array, steps: Array) -> tuple[Talkers, Learned]:
        def further(_: Array, carry: tuple[Talkers, Learned]) -> tuple[Talkers, Learned]:
            at, learned = step(carry[0], x, y)
            return at, jax.tree.map(jnp.add, carry[1], learned)

        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(step, at, x, y)[1])
        at, total = jax.lax.fori_loop(0, steps, further, (at, nothing))
        return at, jax.tree.map(lambda leaf: leaf / steps, total)

    @jax.jit
    def hear_chunk(groups: Group, x: Array, y: Array, index: Array, weight: Array) -> Any:
        def one(group: Group) -> Any:
            spoken = language.speak(group, language.look(group, as_input(x), index))
            right = [((logits.argmax(-1) == y) & (weight > 0)).sum(-1) for logits in language.read(group, spoken)]
            return spoken.symbols.astype(jnp.uint16), *right

        return jax.vmap(one)(groups)

    def hear(groups: Group, x: np.ndarray, y: np.ndarray) -> Heard:
        found, start = [], 0
        for inputs, labels, weight in chunks(x, y, chunk):
            heard = hear_chunk(groups, inputs, labels, start + np.arange(len(labels)), weight)
            found.append(jax.tree.map(np.asarray, heard))
            start += len(labels)
        symbols, features, messages = zip(*found, strict=True)
        said = np.concatenate(symbols, axis=2)[:, :, : len(y)]
        return Heard(said, np.sum(features, axis=0), np.sum(messages, axis=0))

    @jax.jit
    def nats(groups: Group, x: Array) -> Array:
        def one(group: Group) -> Array:
            seen = language.look(group, as_input(x), jnp.arange(x.shape[0]))
            return language.nats(group, seen, language.speak(group, seen))

        return jax.vmap(one)(groups)

    return Talking(
        # Run once: optimising the many random generators took nine of ten seconds, and they take milliseconds.
        init=jax.jit(init, compiler_options={"xla_backend_optimization_level": 0}),
        advance=lambda at, steps: advance(at, rows_of_all, labels, jnp.int32(steps)),
        hear=hear,
        nats=nats,
    )
