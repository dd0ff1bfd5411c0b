"""Languages as studies (thesis ch. 4): training, what is measured at an evaluation, and the summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from palaver.data import Dataset
from palaver.engines.simulate import as_input
from palaver.engines.talk import Heard, Talkers, Talking, talking
from palaver.engines.train import seed_keys
from palaver.experiments import record
from palaver.experiments.language_settings import LanguageSettings, make_estimator, make_language, make_view
from palaver.experiments.settings import cut
from palaver.experiments.study import Kind, Row, Seen, Study
from palaver.language import Group, Language, metrics
from palaver.language.generators import bits_available
from palaver.language.information import estimate, info_nce
from palaver.language.reconstruction import reconstruct
from palaver.report.interval import interval
from palaver.types import PyTree

_JUDGED = 500
"""Held-out examples that the agents' own critics tell apart; its logarithm is the most that can show."""

_COMPARED = 300
"""Held-out examples whose distances are compared with their messages'."""

_SHOWN, _DRAWN = 10, 4
"""Examples shown in the report, a class each, and agents: the first."""


class _Class(NamedTuple):
    """Where a configuration's groups stand."""

    talkers: Talkers
    diverged: np.ndarray
    """``[S]`` the step after which a loss was no longer finite; -1: none."""


def _prepare(row: Row, data: Dataset, seeds: list[int], devices: int) -> Study:
    settings: LanguageSettings = row.settings
    language = make_language(settings, data)
    engine = talking(language, data.x_train, data.y_train, batch_size=settings.batch_size)
    talkers = engine.init(seed_keys(seeds))
    temperature = make_estimator(settings).temperature

    def advance(state: PyTree) -> tuple[PyTree, Seen]:
        at = _Class(*state)
        before = int(at.talkers.groups.step[0])
        talkers, learned = engine.advance(at.talkers, min(settings.eval_every, settings.steps - before))
        done = int(talkers.groups.step[0])
        trained = {name: np.asarray(value) for name, value in learned._asdict().items()}
        broken = ~np.isfinite(np.stack(list(trained.values()))).all((0, 2))
        diverged = np.where(broken & (at.diverged < 0), done, at.diverged)
        finished = done >= settings.steps or bool((diverged >= 0).all())
        heard = {part: _hear(engine, talkers, data, part) for part in ("validation", "test")}
        agents = _of_agents(settings, engine, talkers, data, heard) | trained
        group = {"temperature": np.full(len(seeds), float(temperature(jnp.int32(done))))}
        if settings.agents > 1:
            variable = settings.variable_length
            group["agreement"] = np.array([metrics.agreement(own, variable=variable) for own in heard["test"].symbols])
        pictures = {}
        if finished:
            last, decoded = _understood(settings, language, engine, talkers, data, heard["test"])
            group |= last
            pictures = _pictures(settings, language, talkers, data, heard["test"], decoded)
        group |= {name: values[:, _students(settings)].mean(1) for name, values in agents.items()}
        frame = record.rows(row.configuration, seeds, done, alive=diverged < 0, node=agents, collective=group)
        latest = {
            "features": float(group["validation_probe_accuracy"].mean()),
            "messages": float(group["validation_message_probe_accuracy"].mean()),
        }
        return (talkers, diverged), Seen(done, frame, latest, finished, pictures)

    def summarise(state: PyTree, history: pl.DataFrame) -> dict[str, Any]:
        return _summary(row, seeds, history, _Class(*state).diverged)

    return Study((talkers, np.full(len(seeds), -1)), advance, summarise)


def _students(settings: LanguageSettings) -> slice:
    """All agents but the teacher, if there are others."""
    return slice(1 if settings.agents > 1 else 0, None)


def _hear(engine: Talking, talkers: Talkers, data: Dataset, part: str) -> Heard:
    return engine.hear(talkers.groups, getattr(data, f"x_{part}"), getattr(data, f"y_{part}"))


def _of_agents(
    settings: LanguageSettings, engine: Talking, talkers: Talkers, data: Dataset, heard: dict[str, Heard]
) -> dict[str, np.ndarray]:
    """Every agent's metrics ``[S, N]``; of the test set, unless their name says validation."""
    found: dict[str, np.ndarray] = {}
    for part, prefix in (("validation", "validation_"), ("test", "")):
        count = heard[part].symbols.shape[2]
        found[f"{prefix}probe_accuracy"] = heard[part].features / count
        found[f"{prefix}message_probe_accuracy"] = heard[part].messages / count
    said = heard["test"].symbols
    few = np.random.default_rng(0).permutation(said.shape[2])[:_COMPARED]
    x = np.asarray(data.x_test[few], np.float32)

    def each(measure: Callable[[np.ndarray], float]) -> np.ndarray:
        return np.array([[measure(own) for own in group] for group in said])

    found["message_entropy"] = each(metrics.message_entropy)
    found["symbol_entropy"] = each(lambda own: metrics.symbol_entropy(own, settings.vocabulary))
    found["topographic_similarity"] = each(lambda own: metrics.topographic_similarity(x, own[few]))
    if settings.variable_length:
        found["length"] = each(lambda own: float(metrics.lengths(own).mean()))
    found["critics_information"] = np.asarray(engine.nats(talkers.groups, data.x_test[:_JUDGED]))
    return found


def _understood(
    settings: LanguageSettings, language: Language, engine: Talking, talkers: Talkers, data: Dataset, test: Heard
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What can be made of the last agent's hard messages by whoever is trained on them afterwards.

    Returns:
        ``mutual_information`` and ``reconstruction_error``, ``[S]`` on the test set; and of the first seed the test
        inputs as they come back ``[T, *shape]``.

    """
    train, vocabulary = _hear(engine, talkers, data, "train"), settings.vocabulary
    inputs = [jnp.asarray(x) for x in (data.x_train, data.x_test)]
    judged = min(512, len(data.y_test))

    @jax.jit  # the data set is an argument: a closure would make it a constant of the program
    def one(
        key: jax.Array, group: Group, told: jax.Array, asked: jax.Array, inputs: list[jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        decoded = reconstruct(key, told, inputs[0], asked, vocabulary=vocabulary)
        seen = [language.look(group, as_input(x), jnp.arange(len(x)))[-1] for x in inputs]
        words = [jax.nn.one_hot(symbols, vocabulary) for symbols in (told, asked)]
        held_out = seen[1], words[1]
        how: dict[str, Any] = {"kind": "separable", "batch_size": 256, "judged": judged, "steps": 1500}
        nats = estimate(info_nce(), seen[0], words[0], held_out, key=key, **how)
        return nats, ((decoded - as_input(inputs[1])) ** 2).mean(), decoded

    keys = jax.random.split(jax.random.key(0), len(test.symbols))
    found = [
        one(key, jax.tree.map(lambda leaf: leaf[place], talkers.groups), told[-1], asked[-1], inputs)  # noqa: B023
        for place, (key, told, asked) in enumerate(zip(keys, train.symbols, test.symbols, strict=True))
    ]
    nats, error = (np.array([float(each[part]) for each in found]) for part in (0, 1))
    return {"mutual_information": nats, "reconstruction_error": error}, np.asarray(found[0][2])


def _pictures(
    settings: LanguageSettings, language: Language, talkers: Talkers, data: Dataset, test: Heard, decoded: np.ndarray
) -> dict[str, np.ndarray]:
    """Of the first seed: what is seen, said and understood of an example a class, and what is said of each class."""
    shown = [np.flatnonzero(data.y_test == c)[:1] for c in range(data.classes)]
    rows = np.concatenate(shown)[:_SHOWN]
    said = test.symbols[0][:_DRAWN]
    classes = np.stack([metrics.by_class(own, data.y_test, data.classes, settings.vocabulary) for own in said])
    found = {"messages": said[:, rows], "classes": classes.astype(np.float32)}
    if len(data.shape) < 2:
        return found
    x = as_input(jnp.asarray(data.x_test[rows]))
    group = jax.tree.map(lambda leaf: leaf[0], talkers.groups)
    seen = np.asarray(language.look(group, x, jnp.asarray(rows)))[:_DRAWN]
    tiles = np.concatenate([np.asarray(x)[None], seen, decoded[rows][None]])
    return found | {"views": np.round(255 * np.clip(tiles, 0, 1)).astype(np.uint8)}


_EVERY = "validation_probe_accuracy"
"""Decides which evaluation of a seed is reported."""


def _summary(row: Row, seeds: list[int], history: pl.DataFrame, diverged: np.ndarray) -> dict[str, Any]:
    """Every metric at the students' best validation accuracy, and (``.end``) at the last step, by seed.

    What is measured at the last step alone is the same in both.
    """
    settings: LanguageSettings = row.settings
    whole = history.filter(pl.col("node").is_null())
    wide = whole.pivot("metric", index=["seed", "round"], values="value").sort("round")
    names = [name for name in wide.columns if name not in ("seed", "round")]
    values: dict[str, list[float | None]] = {name: [] for name in (*names, *(f"{n}.end" for n in names), "best_step")}
    for place, seed in enumerate(seeds):
        own = wide.filter(pl.col("seed") == seed)
        if own.is_empty() or diverged[place] >= 0:
            for found in values.values():
                found.append(None)
            continue
        best = own.row(int(own[_EVERY].arg_max() or 0), named=True)
        last = own.row(-1, named=True)
        for name in names:
            values[name].append(last[name] if best[name] is None else best[name])
            values[f"{name}.end"].append(last[name])
        values["best_step"].append(float(best["round"]))
    return {
        "configuration": row.configuration,
        "metrics": {name: interval(each) for name, each in values.items()},
        "thesis": row.thesis,
        "bits_available": bits_available(settings.length, settings.vocabulary, variable=settings.variable_length),
        "crosses_wire": make_estimator(settings).crosses_wire,
        "diverged": {str(seed): int(at) for seed, at in zip(seeds, diverged, strict=True) if at >= 0},
    }


def _load(settings: LanguageSettings, by_name: Callable[[str], Dataset]) -> Dataset:
    return cut(by_name(settings.data), settings.examples)


def _check(settings: LanguageSettings, data: Dataset, seeds: list[int], devices: int | None) -> None:
    make_view(settings).init(jax.random.key(0), settings.agents, data.shape)
    make_language(settings, data)


KIND = Kind(LanguageSettings, _load, _check, _prepare, lambda rows: {}, lambda rows: {})
