"""A language as a study (thesis ch. 4): training, what is measured at an evaluation, and the summary."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import sub
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.data.inputs import to_float
from palaver.devices import brief
from palaver.language import GameState, LanguageGame, measures
from palaver.language.generators import bits_available
from palaver.language.information import estimate, info_nce
from palaver.language.reconstruction import reconstruct
from palaver.language.report.metrics import METRICS
from palaver.language.settings import LanguageSettings, make_estimator, make_language
from palaver.language.train import LanguageState, LanguageTraining, MessageScores, language_training
from palaver.studies.chapter import Configuration, Evaluation, Study
from palaver.studies.findings import support_of
from palaver.studies.record import latest, tidy
from palaver.studies.seeds import seed_keys
from palaver.studies.statistics import interval, paired
from palaver.types import Array, PyTree

Arrays: TypeAlias = dict[str, np.ndarray]
"""By name."""

_JUDGED = 500
"""Held-out examples whose messages the agents' own critics contrast; the estimate is at most the number's logarithm."""

_COMPARED = 300
"""Held-out examples whose distances are compared with their messages'."""

_SHOWN, _DRAWN = 10, 4
"""Examples shown in the report, one of each class, and agents: the first."""


_DECODER, _CRITIC = 3, 4
"""Parts of a seed's key, for what is trained after the agents; their own training uses parts 0 to 2."""


_BRIEF = 200
"""Steps of training that take less time than it takes to compile them well."""


class _Prepared(NamedTuple):
    """A configuration made ready to train."""

    settings: LanguageSettings
    game: LanguageGame
    training: LanguageTraining
    data: Dataset
    seeds: Sequence[int]

    @property
    def brief(self) -> bool:
        """Whether it trains so little that compiling takes longer."""
        return self.settings.steps <= _BRIEF


def prepare(row: Configuration, data: Dataset, seeds: Sequence[int], devices: int) -> Study:
    """The study of a configuration.

    Its state is ``(language, diverged)``: the games, and ``[S]`` the step after which a loss was no longer finite; -1:
    none.
    """
    settings: LanguageSettings = row.settings
    game = make_language(settings, data)
    training = language_training(
        game, data.x_train, data.y_train, batch_size=settings.batch_size, brief=settings.steps <= _BRIEF
    )
    of = _Prepared(settings, game, training, data, seeds)

    def advance(state: PyTree) -> tuple[PyTree, Evaluation]:
        language, diverged = state
        left = settings.steps - int(language.games.step[0])
        language, means = jax.block_until_ready(training.advance(language, min(settings.eval_every, left)))
        done = int(language.games.step[0])
        trained = {name: np.asarray(value) for name, value in means._asdict().items()}
        broken = ~np.isfinite(np.stack(list(trained.values()))).all((0, 2))
        diverged = np.where(broken & (diverged < 0), done, diverged)
        finished = done >= settings.steps or bool((diverged >= 0).all())
        agents, group, pictures = _measured(of, language, done, finished)
        agents |= trained
        first = min(1, settings.agents - 1)  # agent 0 is the teacher, if there are others
        group |= {name: values[:, first:].mean(1) for name, values in agents.items()}
        frame = tidy(row.name, seeds, done, keep=diverged < 0, node=agents, collective=group)
        headlines = latest(frame, ["validation_probe_accuracy", "validation_message_probe_accuracy"])
        return (language, diverged), Evaluation(done, frame, headlines, finished, pictures)

    return Study(
        begin=lambda: (training.init(seed_keys(seeds)), np.full(len(seeds), -1)),
        advance=advance,
        summarise=lambda state, history: _summary(row, seeds, history, state[1]),
        compile=lambda: training.compile(seed_keys(seeds)),
    )


def _measured(of: _Prepared, language: LanguageState, step: int, finished: bool) -> tuple[Arrays, Arrays, Arrays]:
    """Metrics of every agent ``[S, N]``, of the whole group ``[S]``, and pictures."""
    scores = {part: _score(of, language, part) for part in ("validation", "test")}
    agents = _of_agents(of, language, scores)
    symbols, variable = scores["test"].symbols, of.settings.variable_length
    temperature = make_estimator(of.settings).temperature(jnp.int32(step))
    group = {"temperature": np.full(len(symbols), float(temperature))}
    if of.settings.agents > 1:
        group["agreement"] = np.array([measures.agreement(own, variable=variable) for own in symbols])
    if not finished:
        return agents, group, {}
    last, decoded = _decoded(of, language, scores["test"])
    return agents, group | last, _pictures(of, language, scores["test"], decoded)


def _score(of: _Prepared, language: LanguageState, part: str) -> MessageScores:
    return of.training.evaluate(language.games, getattr(of.data, f"x_{part}"), getattr(of.data, f"y_{part}"))


def _of_agents(of: _Prepared, language: LanguageState, scores: dict[str, MessageScores]) -> Arrays:
    """Every agent's metrics ``[S, N]``; of the test set, unless their name says validation."""
    found: Arrays = {}
    for part, prefix in (("validation", "validation_"), ("test", "")):
        count = scores[part].symbols.shape[2]
        found[f"{prefix}probe_accuracy"] = scores[part].features / count
        found[f"{prefix}message_probe_accuracy"] = scores[part].messages / count
    messages = scores["test"].symbols
    few = np.random.default_rng(0).permutation(messages.shape[2])[:_COMPARED]
    compared = of.data.x_test[few]

    def of_each(measure: Callable[[np.ndarray], float]) -> np.ndarray:
        return np.array([[measure(own) for own in group] for group in messages])

    found["message_entropy"] = of_each(measures.message_entropy)
    found["symbol_entropy"] = of_each(lambda own: measures.symbol_entropy(own, of.settings.vocabulary))
    found["topographic_similarity"] = of_each(lambda own: measures.topographic_similarity(compared, own[few]))
    if of.settings.variable_length:
        found["length"] = of_each(lambda own: float(measures.lengths(own).mean()))
    found["critics_information"] = np.asarray(of.training.information(language.games, of.data.x_test[:_JUDGED]))
    return found


def _game_of(games: GameState, place: Array | int) -> GameState:
    """The game of one seed, inside of a compiled program: outside, each array would be a program of its own."""
    return jax.tree.map(lambda leaf: leaf[place], games)


def _decoded(of: _Prepared, language: LanguageState, test: MessageScores) -> tuple[Arrays, np.ndarray]:
    """How much a critic and a decoder that are trained afterwards find in the last agent's hard messages.

    Returns:
        ``mutual_information`` and ``reconstruction_error``, ``[S]`` on the test set; and of the first seed the test
        inputs as they are decoded from their messages ``[T, *shape]``.

    """
    train = _score(of, language, "train")
    inputs = [jnp.asarray(x) for x in (of.data.x_train, of.data.x_test)]

    @partial(jax.jit, compiler_options=brief() if of.brief else None)
    def view(games: GameState, place: Array, x: Array) -> Array:
        return of.game.observe(_game_of(games, place), to_float(x), jnp.arange(len(x)))[-1]

    measured, parts = _compiled(of.brief), zip(seed_keys(of.seeds), train.symbols, test.symbols, strict=True)
    found = [
        measured(
            *(key, seen[-1], held_out[-1], inputs, [view(language.games, place, x) for x in inputs]),
            vocabulary=of.settings.vocabulary,
            most=of.settings.steps,
        )
        for place, (key, seen, held_out) in enumerate(parts)
    ]
    nats, error = (np.array([float(each[part]) for each in found]) for part in (0, 1))
    return {"mutual_information": nats, "reconstruction_error": error}, np.asarray(found[0][2])


@cache
def _compiled(short: bool) -> Callable[..., tuple[Array, Array, Array]]:
    """``_of_messages``, compiled once for all games of a table whose messages have the same shape."""
    return jax.jit(_of_messages, static_argnames=("vocabulary", "most"), compiler_options=brief() if short else None)


def _of_messages(
    key: Array, seen: Array, held_out: Array, inputs: list[Array], views: list[Array], *, vocabulary: int, most: int
) -> tuple[Array, Array, Array]:
    """One seed's part of ``_decoded``; nothing in it is a game's own.

    Args:
        key: of the seed.
        seen: ``[M, L]`` messages about the training set.
        held_out: ``[T, L]`` messages about the test set.
        inputs: both sets, which are arguments since a closure would make them constants of the program.
        views: of both that the messages are about.
        vocabulary: V.
        most: steps of training, of decoder and critic each: no more than the agents had.

    Returns:
        The information in nats, the reconstructions' squared error, and the reconstructions of the test set.

    """
    decoder, critic = (jax.random.fold_in(key, part) for part in (_DECODER, _CRITIC))
    decoded = reconstruct(decoder, seen, inputs[0], held_out, vocabulary=vocabulary, steps=min(1000, most))
    words = [jax.nn.one_hot(symbols, vocabulary) for symbols in (seen, held_out)]
    how = {"batch_size": 256, "judged": min(512, len(held_out)), "steps": min(1500, most)}
    nats = estimate(info_nce(), views[0], words[0], (views[1], words[1]), key=critic, kind="separable", **how)
    return nats, ((decoded - to_float(inputs[1])) ** 2).mean(), decoded


def _pictures(of: _Prepared, language: LanguageState, test: MessageScores, decoded: np.ndarray) -> Arrays:
    """Of the first seed: inputs, views and decoded messages of an example of each class, and the symbols by class."""
    data, vocabulary = of.data, of.settings.vocabulary
    shown = [np.flatnonzero(data.y_test == c)[:1] for c in range(data.classes)]
    rows = np.concatenate(shown)[:_SHOWN]
    messages = test.symbols[0][:_DRAWN]
    classes = np.stack([measures.by_class(own, data.y_test, data.classes, vocabulary) for own in messages])
    found = {"messages": messages[:, rows], "classes": classes.astype(np.float32)}
    if len(data.shape) < 2:
        return found
    x = to_float(jnp.asarray(data.x_test[rows]))
    seen = jax.jit(
        lambda games: of.game.observe(_game_of(games, 0), x, jnp.asarray(rows)),
        compiler_options=brief() if of.brief else None,
    )
    views = np.asarray(seen(language.games))[:_DRAWN]
    tiles = np.concatenate([np.asarray(x)[None], views, decoded[rows][None]])
    return found | {"views": np.round(255 * np.clip(tiles, 0, 1)).astype(np.uint8)}


_CHOSEN_BY = "validation_probe_accuracy"
"""Decides which evaluation of a seed is reported."""


def _summary(row: Configuration, seeds: Sequence[int], history: pl.DataFrame, diverged: np.ndarray) -> dict[str, Any]:
    """Every metric at the students' best validation accuracy, and (``.end``) at the last step, by seed.

    What is measured at the last step alone is the same in both.
    """
    settings: LanguageSettings = row.settings
    shared = history.filter(pl.col("node").is_null())
    wide = shared.pivot("metric", index=["seed", "round"], values="value").sort("round")
    names = [name for name in wide.columns if name not in ("seed", "round")]
    by_seed: list[dict[str, float]] = []
    for seed, at in zip(seeds, diverged, strict=True):
        own = wide.filter(pl.col("seed") == seed)
        if own.is_empty() or at >= 0:
            by_seed.append({})
            continue
        best = own.row(int(own[_CHOSEN_BY].arg_max() or 0), named=True)
        last = own.row(-1, named=True)
        at_best = {name: last[name] if best[name] is None else best[name] for name in names}
        by_seed.append(at_best | {f"{name}.end": last[name] for name in names} | {"best_step": float(best["round"])})
    shown = (*names, *(f"{name}.end" for name in names), "best_step")
    found = {name: interval([own.get(name) for own in by_seed], support_of(METRICS, name)) for name in shown}
    points = paired(found.get(f"{_CHOSEN_BY}.end"), found.get(_CHOSEN_BY), sub)
    found["points_by_the_end"] = points or interval([None] * len(seeds))
    return {
        "configuration": row.name,
        "metrics": found,
        "thesis": row.thesis,
        "bits_available": bits_available(settings.length, settings.vocabulary, variable=settings.variable_length),
        "crosses_wire": make_estimator(settings).crosses_wire,
        "diverged": {str(seed): int(at) for seed, at in zip(seeds, diverged, strict=True) if at >= 0},
    }
