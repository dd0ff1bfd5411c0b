"""What an evaluation measures: accuracies of classifiers, or of linear probes on features learnt without labels."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax

from palaver import decision
from palaver.data import Dataset
from palaver.data.inputs import to_float
from palaver.decision import DEFAULT_RULE
from palaver.exchange.description import Collective
from palaver.exchange.evaluate import Scores, calibrate, evaluate, score
from palaver.exchange.probing import probing
from palaver.exchange.round import who_is_there, who_lies
from palaver.exchange.simulate import Simulation
from palaver.exchange.state import Shards, State
from palaver.types import NO_LABEL, Array, DecisionRule, Node, NodeState, PalaverError, PyTree

PICTURED = 8
"""Examples in a row of pictures."""

SUBSETS = (10, 25, 50)
"""Percent of the nodes that decide where not all of them answer in time."""

_OWN, _CHUNK, _AT_ONCE = 512, 64, 2**16
"""How many of its own examples a node is measured on at most, how many of these at once, and of all nodes together."""

_STATISTICS = 512
"""Validation examples for the objective's terms and the statistics of codes."""


class Measurement(NamedTuple):
    """One evaluation."""

    memory: PyTree
    """What the next one needs to know, arrays."""
    node: dict[str, np.ndarray]
    """``[S, N]`` by metric."""
    collective: dict[str, np.ndarray]
    """``[S]`` by metric."""
    pictures: dict[str, np.ndarray]
    """By kind, uint8 ``[rows, columns, H, W]`` or ``[rows, columns, H, W, 3]``, of the first seed's first node."""


class Measure(NamedTuple):
    """How a collective is evaluated."""

    memory: PyTree
    """Before the first evaluation."""
    take: Callable[[State, PyTree, bool], Measurement]
    """``take(state, memory, full)``; ``full`` at the rounds that are reported."""
    labels: bool
    """Whether accuracies are the nodes' own; otherwise those of linear probes."""


def learns_labels(group: Collective, data: Dataset) -> bool:
    """Whether the nodes give class scores; otherwise they give features only.

    Args:
        group: the collective.
        data: its data set.

    Returns:
        True for logits ``[B, C]`` of every node, False for ``[B, 0]`` of every node.

    Raises:
        PalaverError: unless every node gives one logit per class of the data, or every node none.

    """
    x = jax.eval_shape(to_float, jax.ShapeDtypeStruct((1, *data.shape), data.x_train.dtype))
    kinds = set()
    for node, _ in group.groups:
        logits = jax.eval_shape(lambda x, node=node: node.predict(node.init(jax.random.key(0)), x).logits, x)
        kinds.add(logits.shape)
        if logits.shape not in ((1, data.classes), (1, 0)):
            raise PalaverError(
                f"the model's logits for one example have shape {logits.shape}, {data.name} has {data.classes} "
                f"classes: give [batch, {data.classes}], or [batch, 0] from nodes that learn without labels"
            )
    if len(kinds) > 1:
        raise PalaverError("some nodes give logits and some give none: all must learn labels, or none")
    return kinds == {(1, data.classes)}


def measure(
    group: Collective,
    data: Dataset,
    sim: Simulation,
    shards: Shards,
    *,
    rules: Mapping[str, DecisionRule] | None = None,
    eval_examples: int = 0,
    calibrated: bool = False,
) -> Measure:
    """The measure for what these nodes learn (thesis §2.2.3.1; without labels §2.2.4.1 and §2.3.3).

    Args:
        group: the collective.
        data: its data set.
        sim: its simulation.
        shards: each node's part of the data, for S seeds.
        rules: decision rules by name; None: ``decision.RULES``.
        eval_examples: validation examples used where an evaluation is not ``full``; 0: all.
        calibrated: whether a full evaluation also measures, on the test set, decisions of subsets by every rule, and
            all decisions of nodes with calibrated temperatures.

    Returns:
        The measure: of the nodes' own accuracies where they learn labels, otherwise of linear probes; the latter uses
        neither ``eval_examples`` nor ``calibrated``.

    Raises:
        PalaverError: as ``learns_labels``.

    """
    if not learns_labels(group, data):
        return _of_probes(group, data, sim, shards, rules)

    own, awake, honest = label_shares(shards, data.classes), _awake(group), _honest(group)
    local = _of_own(sim, shards)

    def take(state: State, _memory: PyTree, full: bool) -> Measurement:
        """Validation accuracies; where ``full``, of all validation examples, of subsets and of the test set too.

        Liars are not asked, and count in no mean.
        """
        x, y = data.x_validation, data.y_validation
        if eval_examples and not full:
            some = np.random.default_rng(0).permutation(len(y))[:eval_examples]
            x, y = x[some], y[some]
        there, speaks_truth = awake(state), honest(state)
        asked = speaks_truth if there is None else there if speaks_truth is None else there & speaks_truth
        scored = partial(evaluate, sim, state, rules=rules, answered=asked)
        scores = scored(x, y, subsets=SUBSETS if full and group.nodes > 1 else ())
        collective = of_nodes(*_only(speaks_truth, scores, own)) | of_rules(scores) | _share(there)
        every = SUBSETS if calibrated and group.nodes > 1 else ()
        tested = partial(scored, data.x_test, data.y_test, subsets=every, subset_rules=list(rules or decision.RULES))
        if full:
            test = tested()
            collective |= of_nodes(*_only(speaks_truth, test, own), "test_") | of_rules(test, "test_")
            collective |= local(state, speaks_truth)
        if full and calibrated:
            # Fitted on validation, so only the test examples can say what it is worth.
            temperatures = calibrate(sim, state, x, y)
            collective |= of_rules(tested(temperatures=temperatures), "test_calibrated_")
        return Measurement((), {"accuracy": scores.nodes}, collective | _sent(group, sim, state), {})

    return Measure((), take, labels=True)


def _of_own(sim: Simulation, shards: Shards) -> Callable[[State, np.ndarray | None], dict[str, np.ndarray]]:
    """Makes ``own(state, who [S, N])``: how well nodes know labelled examples of their own shards, ``_OWN`` at most.

    Means ``[S]`` over these nodes (None: all), by metric; none where a node knows no label.
    """
    known = np.asarray(shards.size if shards.labelled is None else shards.labelled)
    size, chunk = np.minimum(known, _OWN), max(1, min(_CHUNK, _AT_ONCE // known.size))
    rows, index = np.zeros((*known.shape, -(-int(size.max()) // chunk) * chunk), np.int32), np.asarray(shards.index)
    rng = np.random.default_rng(0)
    for place, number in np.ndenumerate(size):  # drawn: a shard may have its classes one after the other
        rows[place][:number] = index[place][rng.permutation(known[place])[:number]]
    weight = np.arange(rows.shape[-1]) < size[..., None]

    def one(node: Node, state: NodeState, own: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        x, y, weight = own
        logits = node.predict(state, to_float(x)).logits
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return (losses * weight).sum(), ((logits.argmax(-1) == y) * weight).sum()

    ask, x, y = sim.map_own(one), np.asarray(shards.x), np.asarray(shards.y)

    def measured(state: State, who: np.ndarray | None) -> dict[str, np.ndarray]:
        if not known.all():
            return {}
        total = np.zeros((2, *known.shape))
        for first in range(0, rows.shape[-1], chunk):
            now = slice(first, first + chunk)
            some = rows[..., now]
            total += np.asarray(ask(state, (x[some], y[some], weight[..., now])), np.float64)
        of_nodes = total / size
        loss, right = of_nodes if who is None else np.where(who, of_nodes, np.nan)
        return {"local_loss": np.nanmean(loss, -1), "local_accuracy": np.nanmean(right, -1)}

    return measured


def _of_probes(
    group: Collective, data: Dataset, sim: Simulation, shards: Shards, rules: Mapping[str, DecisionRule] | None
) -> Measure:
    """One probe per node, trained on the whole training set: test accuracy at the node's best evaluation by validation.

    The memory is each node's best validation accuracy so far, and its probe's test logits at that evaluation. An
    evaluation no later than the last round of the burn-in is not remembered: nothing had been sent yet.
    """
    own, awake = label_shares(shards, data.classes), _awake(group)
    best = np.full(own.shape[:2], -1.0, np.float32)
    logits = np.zeros((*own.shape[:2], len(data.y_test), data.classes), np.float32)
    probe = probing(sim, data)

    def of_each(name: str, key: int, x: np.ndarray) -> Callable[[State], dict[str, np.ndarray]]:
        """One of the nodes' own functions; all nodes are given the same key, so that only nodes make a difference."""
        if not all(getattr(node, name) for node, _ in group.groups):
            return lambda state: {}
        ask = sim.map_nodes(lambda node, state, x: getattr(node, name)(jax.random.key(key), state, to_float(x)))
        return lambda state: {kind: np.asarray(value) for kind, value in ask(state, x).items()}

    metrics = of_each("metrics", 1, data.x_validation[:_STATISTICS])
    pictures = of_each("pictures", 2, data.x_validation[:PICTURED])

    def take(state: State, memory: tuple[np.ndarray, np.ndarray], _full: bool) -> Measurement:
        best, kept = memory
        found = probe(state)
        better = found.accuracy > best
        kept = np.where(better[..., None, None], found.test, kept)
        best = np.where(better, found.accuracy, best)
        there = awake(state)
        scores = score(kept, data.y_test, rules=rules, answered=there)
        node = {"accuracy": scores.nodes, "probe_accuracy": found.accuracy} | metrics(state)
        means = {"validation_average_accuracy": best.mean(1)}
        means |= {name: value.mean(1) for name, value in node.items() if name != "accuracy"}
        return Measurement(
            memory if int(state.round) <= group.protocol.burn_in else (best, kept),
            node,
            of_nodes(scores, own) | of_rules(scores) | _share(there) | means | _sent(group, sim, state),
            _images({kind: value[0, 0] for kind, value in pictures(state).items()}),
        )

    return Measure((best, logits), take, labels=False)


def label_shares(shards: Shards, classes: int) -> np.ndarray:
    """How the labels that each node knows are distributed over the classes.

    Args:
        shards: each node's part of the data, for S seeds.
        classes: C.

    Returns:
        ``[S, N, C]`` shares, which sum to 1; NaN for a node that knows no label.

    """
    index, known = np.asarray(shards.index), np.asarray(shards.size if shards.labelled is None else shards.labelled)
    labels = np.where(np.arange(index.shape[2]) < known[..., None], np.asarray(shards.y)[index], NO_LABEL)
    seed, node, _ = np.nonzero(labels >= 0)
    counts = np.zeros((*known.shape, classes))
    np.add.at(counts, (seed, node, labels[labels >= 0]), 1)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(-1, keepdims=True)


def own_accuracy(by_class: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Accuracy of every node on examples with its own distribution of labels.

    >>> own_accuracy(np.array([[[1.0, 0.5, np.nan]]]), np.array([[[0.75, 0.25, 0.0]]])).tolist()
    [[0.875]]

    Args:
        by_class: ``[S, N, C]`` accuracy by class; NaN for a class without examples, which is left out.
        own: ``[S, N, C]`` the shares of the classes, from ``label_shares``.

    Returns:
        ``[S, N]``; NaN where no example is left.

    """
    weight = np.where(np.isnan(by_class), 0, own)
    total = weight.sum(-1)
    return (weight * np.nan_to_num(by_class)).sum(-1) / np.where(total > 0, total, np.nan)


def of_nodes(scores: Scores, own: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """What the accuracies of the nodes alone are over a collective, by metric.

    >>> scores = Scores(np.array([[0.5, 1.0]]), np.array([[[0.0, 1.0], [1.0, 1.0]]]), {}, {})
    >>> {name: value.tolist() for name, value in of_nodes(scores, np.array([[[0.0, 1.0], [1.0, 0.0]]])).items()}
    {'average_accuracy': [0.75], 'own_accuracy': [1.0], 'worst_accuracy': [0.5], 'spread_accuracy': [0.25]}

    Args:
        scores: of the nodes.
        own: ``[S, N, C]`` each node's distribution of labels, from ``label_shares``.
        prefix: put before every metric's name.

    Returns:
        ``[S]`` by name: the mean, the mean on the nodes' own distributions, the least, and the standard deviation. The
        nodes are all that there are, no sample of others, so it divides by their number.

    """
    return {
        f"{prefix}average_accuracy": scores.nodes.mean(1),
        f"{prefix}own_accuracy": own_accuracy(scores.by_class, own).mean(1),
        f"{prefix}worst_accuracy": scores.nodes.min(1),
        f"{prefix}spread_accuracy": scores.nodes.std(1),
    }


def of_rules(scores: Scores, prefix: str = "") -> dict[str, np.ndarray]:
    """Accuracies of decisions, by metric.

    >>> subsets = {(10, DEFAULT_RULE): np.array([0.5]), (10, "mean"): np.array([0.25])}
    >>> scores = Scores(np.zeros((1, 2)), np.zeros((1, 2, 3)), {"mean": np.array([1.0])}, subsets)
    >>> {name: value.tolist() for name, value in of_rules(scores).items()}
    {'collective_accuracy.mean': [1.0], 'subset_accuracy.10': [0.5], 'subset_accuracy.10.mean': [0.25]}

    Args:
        scores: of the rules.
        prefix: put before every metric's name.

    Returns:
        ``[S]`` values in [0, 1] by name: the default rule where it is among the rules, every rule, every subset.

    """
    named = {f"{prefix}collective_accuracy.{rule}": value for rule, value in scores.rules.items()}
    if DEFAULT_RULE in scores.rules:
        named = {f"{prefix}collective_accuracy": scores.rules[DEFAULT_RULE]} | named
    for (percent, rule), value in scores.subsets.items():
        named[f"{prefix}subset_accuracy.{percent}{'' if rule == DEFAULT_RULE else f'.{rule}'}"] = value
    return named


def _awake(group: Collective) -> Callable[[State], np.ndarray | None]:
    """Who is there when a decision is asked for, before the state's next round, ``[S, N]`` bool; None: always all."""
    if group.presence.whole:
        return lambda state: None
    there = jax.jit(lambda state: who_is_there(state, group).awake)
    return lambda state: np.asarray(there(state))


def _honest(group: Collective) -> Callable[[State], np.ndarray | None]:
    """Who does not lie, ``[S, N]`` bool; None: nobody lies."""
    if not group.liars.count:
        return lambda state: None
    lie = jax.jit(lambda key: who_lies(key, group))
    return lambda state: ~np.asarray(lie(state.key))


def _only(who: np.ndarray | None, scores: Scores, own: np.ndarray) -> tuple[Scores, np.ndarray]:
    """The scores and shares of these nodes, as many of each seed."""
    if who is None:
        return scores, own
    nodes, by_class, own = (part[who].reshape(len(who), -1, *part.shape[2:]) for part in (*scores[:2], own))
    return scores._replace(nodes=nodes, by_class=by_class), own


def _share(there: np.ndarray | None) -> dict[str, np.ndarray]:
    """The share of the nodes that are there, where that is not always 1."""
    return {} if there is None else {"awake": there.mean(1)}


def _sent(group: Collective, sim: Simulation, state: State) -> dict[str, np.ndarray]:
    """What was sent so far, means over nodes ``[S]``, and what a ring all-reduce of gradients would have sent.

    Gradients are 2 · 32 · parameters per node and step; none for a node alone.
    """
    sent = {name: value.mean(1) for name, value in sim.sent(state).items()}
    bits = sum(value for name, value in sent.items() if name.startswith("bits."))
    parameters = round(sum(count * node.parameters() for node, count in group.groups) / group.nodes)
    gradients = np.full_like(bits, float(state.round) * (2 * 32 * parameters if group.nodes > 1 else 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        derived = {"bits.ratio": gradients / bits}
        if "dropped" in sent:
            derived["dropped_share"] = sent["dropped"] / sent["sent"]
    return sent | {"bits.gradient_exchange": gradients} | derived


def _images(drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[0, 1] to uint8, whatever is beyond clipped; nothing of inputs that are neither grey nor colour images."""
    squeezed = {kind: grid[..., 0] if grid.ndim == 5 and grid.shape[-1] == 1 else grid for kind, grid in drawn.items()}
    return {
        kind: np.round(255 * np.clip(np.nan_to_num(grid), 0, 1)).astype(np.uint8)
        for kind, grid in squeezed.items()
        if grid.ndim == 4 or (grid.ndim == 5 and grid.shape[-1] == 3)
    }
