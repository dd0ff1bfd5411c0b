"""What a baseline is: how all nodes of a run spend one round, and what it costs them to talk.

A method is written for all nodes at once, since it is about what they do with each other's parameters, gradients or
predictions. Arrays ``[S, N, ...]`` are of all nodes of all seeds. The nodes' states, and everything as large as a
model, may be divided over devices: they are ``[S, n, ...]``, of this device's nodes, in a tuple with one entry for each
group of nodes of the same kind. A round is one minibatch of every node, as in a collective.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from palaver.types import Array, Batch, Gradients, Node, NodeState, PalaverError, PyTree, StepInfo

States: TypeAlias = tuple[NodeState, ...]
"""The states of this device's nodes, a group each, leaves ``[S, n, ...]``."""


class Sizes(NamedTuple):
    """What the cost of a message and the size of a method's memory depend on."""

    nodes: int
    """N."""
    batch_size: int
    """B, examples in a minibatch."""
    classes: int
    """C."""
    parameters: int
    """P, numbers that a node trains."""
    reference: int
    """R, examples of the reference set; 0: there is none."""
    examples: int
    """n, examples of all nodes together."""
    degree: float
    """Neighbours of a node, mean over the nodes."""


class Memory(NamedTuple):
    """What a method carries from round to round beside the nodes."""

    shared: PyTree = ()
    """Leaves ``[S, ...]``: the same on every device."""
    own: PyTree = ()
    """Leaves ``[S, n, ...]``: of this device's nodes."""


class Sent(NamedTuple):
    """How much every node has sent; whole numbers that broadcast to ``[S, N]``."""

    messages: ArrayLike = 0
    """Of ``Method.bits`` bits each."""
    examples: ArrayLike = 0
    """Raw inputs."""
    indices: ArrayLike = 0
    """Numbers of 32 bits that name examples which all nodes have."""


class Trained(NamedTuple):
    """What a step of every node says besides the new states."""

    loss: Array
    """``[S, N]`` before the step, a mean over the minibatch."""
    payload: PyTree
    """``[S, N, B, ...]`` what each node's channel makes of its minibatch: with ``channels.logits`` the logits."""


class Cohort(NamedTuple):
    """All nodes in one round, as a method sees them."""

    round: Array
    """Scalar int32, counted from 0."""
    key: Array
    """``[S]`` random keys for draws that all nodes share; the same in every round."""
    rows: Array
    """``[S, N, B]`` int32: each node's next own minibatch, as rows of the training set."""
    labels: Array
    """``[S, N, B]`` int32: its labels."""
    weight: Array
    """``[S, N]``: each node's share n_i / n of the examples; sums to 1."""
    neighbours: Array
    """``[N, P]`` int32: the topology's table in this round."""
    reference: Array
    """``[S, R]`` int32: rows of the training set that all nodes share, without labels."""
    step: Callable[..., tuple[States, Trained]]
    """``step(nodes, rows, target=None, consume=True, scale=None)``: one step of every node.

    On the labels of these rows ``[S, N, B]``; or, where the scalar ``consume`` is true, on the cross-entropy with
    ``exp(target)``, for log-probabilities ``[S, N, B, C]``. The gradients are multiplied by ``scale``.
    """
    gradients: Callable[[States, Array], tuple[tuple[Gradients, ...], Trained]]
    """``gradients(nodes, rows)``: the first half of a step on the labels."""
    update: Callable[[States, tuple[Gradients, ...]], States]
    """``update(nodes, gradients)``: the second half."""
    predict: Callable[[States, Array], Array]
    """``predict(nodes, rows [S, K, B]) -> [S, N, K, B, C]``: every node's logits of the same rows, in evaluation."""
    gather: Callable[[Array], Array]
    """``[S, n, ...]`` of this device to ``[S, N, ...]`` of all, where the nodes are one group."""
    local: Callable[[Array], Array]
    """The other way round."""
    node: Node
    """The nodes' functions, where they are one group."""


class Played(NamedTuple):
    """What a round leaves behind."""

    nodes: States
    memory: Memory
    loss: Array
    """``[S, N]``."""
    sent: Sent = Sent()
    """In this round."""
    read: Array | bool = True
    """Whether the nodes have read their own minibatch; otherwise it is still their next one."""


class Pool(NamedTuple):
    """Shards that a method gives the nodes in place of their own, before training."""

    index: np.ndarray
    """``[S, N, L]`` int32: rows of the training set, padded."""
    size: np.ndarray
    """``[S, N]`` int32: how many of them are the shard."""
    sent: Sent
    """What that took."""


class Method(NamedTuple):
    """One baseline, as pure functions; made by a factory that closes over its hyper-parameters."""

    name: str
    """For messages."""
    play: Callable[[Cohort, States, Memory], Played]
    """One round of all nodes."""
    bits: Callable[[Sizes], float]
    """Bits of one message."""
    expected: Callable[[Sizes, int], Sent]
    """``expected(sizes, rounds)``: what a node is expected to send in so many rounds, mean over the nodes."""
    start: Callable[[Sizes, States], Memory] = lambda _sizes, _nodes: Memory()
    """The memory before the first round; the states are those of all nodes, ``[S, N, ...]``."""
    period: int = 1
    """Rounds after whose multiples its nodes are evaluated: within a period they are not yet what the method makes."""
    averages: bool = False
    """Whether it combines parameters or gradients: the nodes are then of one kind and begin with the same ones."""
    soft: bool = False
    """Whether nodes learn from predictions: their channel is then ``channels.logits()``."""
    public: bool = False
    """Whether it needs a reference set."""
    check: Callable[[Sizes, np.ndarray], None] = lambda _sizes, _neighbours: None
    """``check(sizes, neighbours [N, P])`` raises ``PalaverError`` for what the method cannot do."""
    pool: Callable[[np.ndarray, np.ndarray, list[int]], Pool] | None = None
    """``pool(index, size, seeds)``: other shards, from everybody's; ``None``: each node keeps its own."""


def due(cohort: Cohort, period: int) -> Array:
    """Whether this is the last round of a period, so that an evaluation after a whole number of them comes after it."""
    return (cohort.round + 1) % period == 0


def halves(
    node: Node,
) -> tuple[
    Callable[[Array, NodeState, Batch, PyTree, Array], tuple[Gradients, StepInfo]],
    Callable[[NodeState, Gradients, Array], NodeState],
]:
    """A node's ``gradients`` and ``update``; raises ``PalaverError`` where a node of one's own lacks them."""
    if node.gradients is None or node.update is None:
        raise PalaverError(
            "the node has no gradients and update, the two halves of a step, which this method needs: make it with "
            "palaver.supervised or palaver.learner"
        )
    return node.gradients, node.update


def seeds_of(nodes: States) -> int:
    """S."""
    return jax.tree.leaves(nodes)[0].shape[0]


def floats(function: Callable[..., Array], tree: PyTree, *others: PyTree) -> PyTree:
    """``function`` of every leaf of floats; other leaves, such as random streams and counters, stay as they are."""

    def of_floats(leaf: Array, *rest: Array) -> Array:
        return function(leaf, *rest) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(of_floats, tree, *others)


def mean(cohort: Cohort, tree: PyTree, weight: Array | None = None) -> PyTree:
    """The mean over all nodes, ``Σ_i w_i x_i``.

    Args:
        cohort: of one group.
        tree: leaves ``[S, n, ...]``; those that are no floats stay as they are.
        weight: ``[S, N]``, which sum to 1; ``None``: all the same.

    Returns:
        Leaves ``[S, n, ...]``, the same for every node.

    """

    def of_leaf(leaf: Array) -> Array:
        every = cohort.gather(leaf)
        found = every.mean(1) if weight is None else jnp.einsum("sn,sn...->s...", weight, every)
        return jnp.broadcast_to(found[:, None], leaf.shape)

    return floats(of_leaf, tree)


def shared_model(cohort: Cohort, state: NodeState, weight: Array | None = None) -> NodeState:
    """Nodes with the mean of all parameters and of all batch statistics; each keeps its optimiser's state."""
    average = partial(mean, cohort, weight=weight)
    return state._replace(params=average(state.params), model_state=average(state.model_state))


def with_peers(cohort: Cohort, peers: Array, weight: Array) -> Array:
    """The label and what peers say as one target, since a cross-entropy is linear in its target.

    ``CE(y) + w · CE(q) = (1 + w) · CE((y + w q) / (1 + w))``: one forward and one backward pass for both.

    Args:
        cohort: with the labels y of the nodes' own minibatches.
        peers: ``[S, N, B, C]`` probabilities q.
        weight: w, broadcasts to ``[S, N, B, 1]``.

    Returns:
        ``[S, N, B, C]`` log-probabilities.

    """
    own = jax.nn.one_hot(cohort.labels, peers.shape[-1])
    return log((own + weight * peers) / (1 + weight))


def log(probability: Array) -> Array:
    """Its logarithm, finite where it is 0."""
    return jnp.log(jnp.maximum(probability, jnp.finfo(jnp.float32).tiny))
