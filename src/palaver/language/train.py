"""Training of language games, all seeds as one compiled program; a step never returns to Python."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data.inputs import chunks, to_float
from palaver.data.order import shuffled
from palaver.devices import brief as compiled_briefly
from palaver.devices import once, understood
from palaver.language.game import GameState, LanguageGame
from palaver.types import Array, PalaverError


class LanguageState(NamedTuple):
    """State of ``S`` games of ``N`` agents, one for each seed."""

    games: GameState
    """Leaves ``[S, ...]``."""
    order: Array
    """``[S, 2]`` uint32: keys of the order in which each game goes through the training set."""
    key: Array
    """``[S]`` random keys."""


class TrainMeans(NamedTuple):
    """Means over the steps of one call of ``LanguageTraining.advance``."""

    information: Array
    """``[S, N]`` I(X; S) in nats as the objective estimates it, of messages as drawn in training."""
    message_nll: Array
    """``[S, N]`` nats a message: negative log-likelihood of the messages that an agent received."""


class MessageScores(NamedTuple):
    """The agents' hard messages about examples, and the online probes' right answers."""

    symbols: np.ndarray
    """``[S, N, M, L]`` uint16 ids."""
    features: np.ndarray
    """``[S, N]`` the number of examples whose class the online probe of features gives."""
    messages: np.ndarray
    """``[S, N]`` the same of the online probe of hard messages."""


class LanguageTraining(NamedTuple):
    """The compiled functions of one game on one training set; made by ``language_training``."""

    init: Callable[[Array], LanguageState]
    """``init(keys [S])``."""
    advance: Callable[[LanguageState, int], tuple[LanguageState, TrainMeans]]
    """``advance(state, steps)``: the state after so many steps; the buffers of the given one are donated."""
    evaluate: Callable[[GameState, np.ndarray, np.ndarray], MessageScores]
    """``evaluate(games, x [M, ...], y [M])``."""
    information: Callable[[GameState, np.ndarray], Array]
    """``information(games, x) -> [S, N]``: I(X; S) of hard messages about these examples, see
    ``LanguageGame.information``.
    """
    compile: Callable[[Array], None]
    """``compile(keys [S])``: compiles ``init`` and ``advance`` for as many games, and runs neither."""


@cache
def _without_ynn() -> dict[str, str]:
    """Compiler options: on matrices of this size XLA's YNN kernels took up to three times as long as its others."""
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    return options if understood(options) else {}


def language_training(
    game: LanguageGame, x: np.ndarray, y: np.ndarray, *, batch_size: int, chunk: int = 500, brief: bool = False
) -> LanguageTraining:
    """Compiles a game on a training set.

    Args:
        game: from ``palaver.language.language_game``.
        x: ``[M, ...]`` inputs; uint8 pixels or float32.
        y: ``[M]`` class ids, for the online probes.
        batch_size: examples in a step, the same for all agents of a game.
        chunk: examples evaluated at once.
        brief: whether so little is trained that compiling takes longer: it is then kept short. The results differ in
            their last bits.

    Returns:
        The compiled functions; the training set is on the device.

    Raises:
        PalaverError: a batch that is larger than the training set or has fewer than two examples.

    """
    size = len(y)
    if not 2 <= batch_size <= size:
        raise PalaverError(
            f"batches of {batch_size} for {size} training examples: give 2 to {size}, as messages are contrasted with "
            "others"
        )
    # A row of numbers is gathered twice as fast as an image (XLA's CPU backend).
    rows, labels = jnp.asarray(x).reshape(size, -1), jnp.asarray(y, jnp.int32)
    advance = partial(_advance, game, batch_size, x.shape[1:])
    advance = jax.jit(advance, donate_argnums=0, compiler_options=compiled_briefly() if brief else _without_ynn())
    compiled = partial(jax.jit, compiler_options=compiled_briefly() if brief else None)
    init = jax.jit(partial(_init, game), compiler_options=once())

    def compile_both(keys: Array) -> None:
        init.lower(keys).compile()
        advance.lower(jax.eval_shape(init, keys), rows, labels, jnp.int32(0)).compile()

    return LanguageTraining(
        init=init,
        advance=lambda state, steps: advance(state, rows, labels, jnp.int32(steps)),
        evaluate=partial(_evaluate, compiled(partial(_evaluate_chunk, game)), chunk),
        information=compiled(partial(_information, game)),
        compile=compile_both,
    )


def _init(game: LanguageGame, keys: Array) -> LanguageState:
    keys = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
    order = jax.vmap(lambda k: jax.random.bits(k, (2,)))(keys[:, 1])
    return LanguageState(jax.vmap(game.init)(keys[:, 0]), order, keys[:, 2])


def _advance(
    game: LanguageGame, batch_size: int, shape: tuple[int, ...], state: LanguageState, x: Array, y: Array, steps: Array
) -> tuple[LanguageState, TrainMeans]:
    """So many steps of all games on the training set ``x [M, …]`` (rows of numbers), ``y [M]``."""

    def one(own: GameState, order: Array, key: Array) -> tuple[GameState, TrainMeans]:
        rows = shuffled(order, own.step * batch_size + jnp.arange(batch_size), jnp.int32(len(y)))
        batch = to_float(x[rows]).reshape(-1, *shape)
        own, terms = game.step(jax.random.fold_in(key, own.step), own, batch, y[rows])
        return own, TrainMeans(terms.information, terms.message_nll)

    def step(_: Array, carry: tuple[LanguageState, TrainMeans]) -> tuple[LanguageState, TrainMeans]:
        state, total = carry
        games, means = jax.vmap(one)(state.games, state.order, state.key)
        return state._replace(games=games), jax.tree.map(jnp.add, total, means)

    zeros = jnp.zeros(state.games.memory.shape)
    state, total = jax.lax.fori_loop(0, steps, step, (state, TrainMeans(zeros, zeros)))
    return state, jax.tree.map(lambda leaf: leaf / steps, total)


def _evaluate_chunk(
    game: LanguageGame, games: GameState, x: Array, y: Array, index: Array, weight: Array
) -> tuple[Array, Array, Array]:
    def one(own: GameState) -> tuple[Array, Array, Array]:
        messages = game.messages(own, game.observe(own, to_float(x), index))
        features, symbols = (((logits.argmax(-1) == y) & (weight > 0)).sum(-1) for logits in game.probe(own, messages))
        return messages.symbols.astype(jnp.uint16), features, symbols

    return jax.vmap(one)(games)


def _evaluate(
    evaluate_chunk: Callable[..., tuple[Array, ...]], chunk: int, games: GameState, x: np.ndarray, y: np.ndarray
) -> MessageScores:
    found = []
    for place, (inputs, labels, weight) in enumerate(chunks(x, y, chunk)):
        index = place * len(labels) + np.arange(len(labels))
        found.append(jax.tree.map(np.asarray, evaluate_chunk(games, inputs, labels, index, weight)))
    symbols, features, messages = zip(*found, strict=True)
    symbols = np.concatenate(symbols, axis=2)[:, :, : len(y)]
    return MessageScores(symbols, np.sum(features, axis=0), np.sum(messages, axis=0))


def _information(game: LanguageGame, games: GameState, x: Array) -> Array:
    def one(own: GameState) -> Array:
        seen = game.observe(own, to_float(x), jnp.arange(x.shape[0]))
        return game.information(own, seen, game.messages(own, seen))

    return jax.vmap(one)(games)
