"""Accuracies of the nodes and of the collective, under every decision rule."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from palaver import decision
from palaver.arguments import count, failure_of
from palaver.data.dataset import check_examples
from palaver.data.inputs import CHUNK, chunks
from palaver.decision import DEFAULT_RULE
from palaver.exchange.checks import check_rules
from palaver.exchange.simulate import Simulation
from palaver.exchange.state import State
from palaver.types import Array, DecisionRule, PalaverError

_SUBSETS = 2**32 - 3
"""Folded into a seed's key for who decides in a subset."""


class Scores(NamedTuple):
    """Accuracies as fractions in [0, 1]."""

    nodes: np.ndarray
    """``[S, N]`` each node alone."""
    by_class: np.ndarray
    """``[S, N, C]`` each node alone, on the examples of each class; NaN for a class without examples."""
    rules: dict[str, np.ndarray]
    """``[S]`` the collective, by decision rule."""
    subsets: dict[tuple[int, str], np.ndarray]
    """``[S]`` the collective with so many percent of the nodes that answer, drawn anew for each example, by rule."""


_Hits: TypeAlias = tuple[Array, dict[str, Array]]
"""Right predictions: of every node by class ``[S, N, C]``, and ``[S]`` by rule."""


@partial(jax.jit, static_argnames="rules")
def _hits(
    logits: Array, y: Array, weight: Array, answered: Array, rules: tuple[tuple[str, DecisionRule], ...]
) -> _Hits:
    """Weighted numbers of right predictions.

    Args:
        logits: ``[S, N, B, C]``.
        y: ``[B]`` class ids.
        weight: ``[B]``.
        answered: ``[S, N]`` bool: who takes part in decisions.
        rules: by name.

    """
    right = (logits.argmax(-1) == y) * weight
    by_class = jnp.einsum("snb,bc->snc", right, jax.nn.one_hot(y, logits.shape[-1]))
    everyone = jnp.broadcast_to(answered[..., None], logits.shape[:3])
    return by_class, {name: _decided(rule, logits, y, weight, everyone) for name, rule in rules}


@partial(jax.jit, static_argnames="rule")
def _subset_hits(
    logits: Array, y: Array, weight: Array, answered: Array, keys: Array, percents: Array, rule: DecisionRule
) -> Array:
    """``[P, S]``: as ``_hits``, of one rule with the keys' ``[S]`` draws of so many percent ``[P]`` of the nodes.

    A smaller subset is a part of a larger one.
    """
    drawn = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:3]))(keys)
    drawn = jnp.where(answered[..., None], drawn, jnp.inf)
    first, there = drawn.sort(1), answered.sum(1)[:, None, None]

    def hits(percent: Array) -> Array:
        last = jnp.maximum(1, (percent * there + 50) // 100) - 1
        asked = answered[..., None] & (drawn <= jnp.take_along_axis(first, last, axis=1))
        return _decided(rule, logits, y, weight, asked)

    return jax.vmap(hits)(percents)


def _decided(rule: DecisionRule, logits: Array, y: Array, weight: Array, asked: Array) -> Array:
    """``[S]``: weighted number of right decisions by those who are asked ``[S, N, B]``."""
    return ((jax.vmap(rule)(logits, asked).argmax(-1) == y) * weight).sum(-1)


def _scores(hits: Sequence[_Hits], y: np.ndarray) -> Scores:
    """The accuracies, without subsets, from the hits in every chunk of the examples with these labels."""
    exact = [jax.tree.map(lambda part: np.asarray(part, np.float64), found) for found in hits]
    by_class, by_rule = jax.tree.map(lambda *parts: np.sum(parts, 0), *exact)
    with np.errstate(invalid="ignore"):
        of_class = by_class / np.bincount(y, minlength=by_class.shape[-1])
    rules = {name: total / len(y) for name, total in by_rule.items()}
    return Scores(by_class.sum(-1) / len(y), of_class, rules, {})


def evaluate(
    simulation: Simulation,
    state: State,
    x: np.ndarray,
    y: np.ndarray,
    *,
    rules: Mapping[str, DecisionRule] | None = None,
    temperatures: Array | None = None,
    answered: np.ndarray | None = None,
    subsets: Sequence[int] = (),
    subset_rules: Sequence[str] = (DEFAULT_RULE,),
) -> Scores:
    """Accuracy of every node and of every rule on the same examples (thesis §2.2.3.1).

    Args:
        simulation: the compiled collective.
        state: of its nodes.
        x: ``[B, ...]`` inputs as in the data set.
        y: ``[B]`` class ids.
        rules: decision rules by name; ``None``: ``palaver.decision.RULES``, with all that has been added to it.
        temperatures: ``[S, N]``: divide each node's logits by its own, from ``calibrate``; ``None``: 1.
        answered: ``[S, N]`` bool: the nodes that take part in decisions; ``None``: all.
        subsets: also decide with so many percent of these nodes, rounded and at least one. Which ones is drawn for
            every seed and example: whoever answers in time.
        subset_rules: by which of the rules these decide; one that is not among them is left out.

    Returns:
        The accuracies.

    Raises:
        PalaverError: inputs that the model does not take, labels that are not theirs, a rule that does not give what it
            should (``palaver.exchange.checks``), a mask of another shape, or a percentage outside 1 to 100.

    """
    with failure_of("the model on x", "give inputs [examples, ...] of the shape that it was made for"):
        shape = jax.eval_shape(simulation.logits, state, np.asarray(x)[:CHUNK]).shape
    x, y = check_examples("x", x, "y", y, classes=shape[-1])
    rules = check_rules(rules, shape[1], shape[-1])
    answered = np.ones(shape[:2], bool) if answered is None else np.asarray(answered, bool)
    if answered.shape != shape[:2]:
        raise PalaverError(f"answered has shape {answered.shape}: give [seeds, nodes], {shape[:2]}")
    subsets = tuple(count("subsets", percent, most=100, unit="percent") for percent in subsets)
    of_subsets = [name for name in subset_rules if name in rules] if subsets else []
    hits, by_subset = list[_Hits](), np.zeros((len(of_subsets), len(subsets), shape[0]))
    for number, (inputs, labels, weight) in enumerate(chunks(x, y)):
        logits = simulation.logits(state, inputs)
        if temperatures is not None:
            logits = logits / temperatures[..., None, None]
        given = logits, labels, weight, answered
        hits.append(_hits(*given, tuple(rules.items())))
        for total, name in zip(by_subset, of_subsets, strict=True):
            drawn = _chunk_keys(state.key, number), np.array(subsets)
            total += np.asarray(_subset_hits(*given, *drawn, rules[name]), np.float64)
    found = {
        (percent, name): right / len(y)
        for name, of_rule in zip(of_subsets, by_subset, strict=True)
        for percent, right in zip(subsets, of_rule, strict=True)
    }
    return _scores(hits, y)._replace(subsets=found)


@jax.jit
def _chunk_keys(keys: Array, number: Array) -> Array:
    """The keys ``[S]`` by which the subsets of a chunk's examples are drawn."""
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, _SUBSETS), number))(keys)


def score(
    logits: np.ndarray,
    y: np.ndarray,
    *,
    rules: Mapping[str, DecisionRule] | None = None,
    answered: np.ndarray | None = None,
) -> Scores:
    """Accuracies of nodes and rules, as ``evaluate``, from logits that are already computed.

    Args:
        logits: ``[S, N, B, C]``.
        y: ``[B]`` class ids.
        rules: as for ``evaluate``.
        answered: as for ``evaluate``.

    Returns:
        The accuracies.

    """
    rules = decision.RULES if rules is None else rules
    answered = np.ones(logits.shape[:2], bool) if answered is None else answered
    weight = np.ones(len(y), np.float32)
    return _scores([_hits(logits, np.asarray(y, np.int32), weight, answered, tuple(rules.items()))], y)


def calibrate(simulation: Simulation, state: State, x: np.ndarray, y: np.ndarray) -> Array:
    """Fits one temperature per node and seed on validation examples (Guo et al. 2017; ``decision.fit_temperature``).

    All logits are held at once: S·N·B·C numbers.

    Args:
        simulation: the compiled collective.
        state: of its nodes.
        x: ``[B, ...]`` inputs as in the data set.
        y: ``[B]`` class ids.

    Returns:
        ``[S, N]`` temperatures, in [0.05, 20].

    """
    parts = [(simulation.logits(state, inputs), labels, weight) for inputs, labels, weight in chunks(x, y)]
    logits = jnp.concatenate([part[0] for part in parts], axis=2)[:, :, : len(y)]
    fit = jax.vmap(jax.vmap(decision.fit_temperature, (0, None)), (0, None))
    return jax.jit(fit)(logits, jnp.asarray(y, jnp.int32))
