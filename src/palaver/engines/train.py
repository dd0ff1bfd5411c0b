"""The engine from Python: shards for every seed, training with evaluations between, the history as arrays."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data import Dataset, pad, split
from palaver.decision import RULES
from palaver.engines.description import Collective
from palaver.engines.evaluate import Scores, evaluate, score
from palaver.engines.mesh import across
from palaver.engines.probing import probing
from palaver.engines.simulate import Simulation, as_input, simulation
from palaver.engines.state import Shards, State
from palaver.types import DecisionRule, PalaverError


class History(NamedTuple):
    """What ``train`` returns; ``E`` evaluations, ``S`` seeds, ``N`` nodes. Accuracies are fractions in [0, 1]."""

    rounds: np.ndarray
    """``[E]`` the rounds after which was evaluated."""
    nodes: np.ndarray
    """``[E, S, N]`` validation accuracy of each node; NaN once its seed has diverged."""
    rules: dict[str, np.ndarray]
    """``[E, S]`` validation accuracy of the collective, by decision rule; NaN once the seed has diverged."""
    simulation: Simulation
    """For more: ``simulation.logits(state, x)``."""
    state: State
    """After the last round."""


def shards(
    x: np.ndarray,
    y: np.ndarray,
    nodes: int,
    seeds: Sequence[int],
    *,
    kind: str = "iid",
    alpha: float = 0.5,
    fraction: float = 1.0,
) -> Shards:
    """The training set and, for each seed, who owns what: exclusive, and exhaustive over ``fraction`` of it.

    Args:
        x: ``[M, ...]`` inputs.
        y: ``[M]`` class ids.
        nodes: N.
        seeds: a seed a split.
        kind: ``iid``, ``dirichlet`` (label skew) or ``class``.
        alpha: Dirichlet concentration.
        fraction: share of the examples, drawn by each seed, that the collective owns.

    Raises:
        PalaverError: more nodes than examples, an unknown kind, or an alpha that is not above 0.

    """
    owned = max(1, round(fraction * len(y)))
    per_seed = []
    for seed in seeds:
        rows = np.random.default_rng([seed, 1]).permutation(len(y))[:owned] if owned < len(y) else np.arange(len(y))
        per_seed.append(pad([rows[part] for part in split(kind, y[rows], nodes, seed, alpha=alpha)]))
    longest = max(index.shape[1] for index, _ in per_seed)
    index = np.stack([np.pad(index, ((0, 0), (0, longest - index.shape[1]))) for index, _ in per_seed])
    return Shards(
        x=jnp.asarray(x),
        y=jnp.asarray(y, jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.asarray(np.stack([size for _, size in per_seed]), jnp.int32),
    )


def learns_labels(group: Collective, data: Dataset) -> bool:
    """Whether the nodes say classes; otherwise they say nothing but features.

    Raises:
        PalaverError: unless every node gives one logit per class of the data, or every node none.

    """
    x = jax.eval_shape(as_input, jax.ShapeDtypeStruct((1, *data.shape), data.x_train.dtype))
    kinds = set()
    for node, _ in group.groups:
        said = jax.eval_shape(lambda x, node=node: node.predict(node.init(jax.random.key(0)), x).logits, x)
        kinds.add(said.shape)
        if said.shape not in ((1, data.classes), (1, 0)):
            raise PalaverError(
                f"the model's logits for one example have shape {said.shape}, {data.name} has {data.classes} classes: "
                f"give [batch, {data.classes}], or [batch, 0] from nodes that learn without labels"
            )
    if len(kinds) > 1:
        raise PalaverError("some nodes give logits and some give none: all must learn labels, or none")
    return kinds == {(1, data.classes)}


def seed_keys(seeds: Sequence[int]) -> jax.Array:
    """``[S]`` random keys, one a seed."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def stretches(sim: Simulation, state: State, rounds: int, every: int, also: Collection[int] = ()) -> Iterator[State]:
    """Trains from where ``state`` stands until ``rounds``; yields at every multiple of ``every``, ``also``, the end.

    A state yielded is used up when the next one is asked for. For 0 rounds the state itself comes once.
    """
    if rounds == 0:
        yield state
    for stop in sorted({*range(every, rounds, every), *also, rounds}):
        if (done := int(state.round)) < stop <= rounds:
            state = sim.advance(state, stop - done)
            yield state


def train(
    group: Collective,
    data: Dataset,
    *,
    rounds: int,
    seeds: int | Sequence[int] = 5,
    eval_every: int = 100,
    kind: str = "iid",
    alpha: float = 0.5,
    rules: Mapping[str, DecisionRule] = RULES,
    devices: int | None = None,
) -> History:
    """Trains a collective on a data set, all seeds at once, and evaluates it on the validation examples.

    Nodes that learn without labels are evaluated by a linear probe each, fitted on the whole training set at every
    evaluation (``palaver.probe``); the rules then combine what the probes say.

    Args:
        group: from ``collective``.
        data: from ``palaver.data``.
        rounds: in each, every node takes one step.
        seeds: a count, or the seeds themselves; each has its own split, initial parameters and coins.
        eval_every: rounds between evaluations.
        kind: how the training set is split, see ``shards``.
        alpha: Dirichlet concentration of the split.
        rules: decision rules by name; your own beside the built-in ones, if you like.
        devices: spread the nodes over at most so many devices; ``None``: all.

    Raises:
        PalaverError: rounds, seeds or eval_every below 1, or data that do not fit the collective.

    """
    seeds = list(seeds) if isinstance(seeds, Sequence) else list(range(operator.index(seeds)))
    if rounds < 1 or eval_every < 1 or not seeds:
        raise PalaverError(f"rounds {rounds}, eval_every {eval_every}, seeds {len(seeds)}: give at least 1 of each")
    labels = learns_labels(group, data)
    parts = shards(data.x_train, data.y_train, group.nodes, seeds, kind=kind, alpha=alpha)
    sim = simulation(group, parts, spread=across([count for _, count in group.groups], devices))
    probes = None if labels else probing(sim, data)

    def look(state: State) -> Scores:
        if probes is not None:
            return score(probes(state).validation, data.y_validation, rules=rules)
        return evaluate(sim, state, data.x_validation, data.y_validation, rules=rules)

    state, at, nodes, decided = sim.init(seed_keys(seeds)), [], [], []
    for state in stretches(sim, state, rounds, eval_every):  # noqa: B020
        scores = look(state)
        lost = np.asarray(state.diverged) >= 0
        at.append(int(state.round))
        nodes.append(np.where(lost[:, None], np.nan, scores.nodes))
        decided.append({name: np.where(lost, np.nan, value) for name, value in scores.rules.items()})
    by_rule = {name: np.stack([values[name] for values in decided]) for name in rules}
    return History(np.array(at), np.stack(nodes), by_rule, sim, state)
