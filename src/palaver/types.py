"""The types that everything else uses: outputs, batches, packets, channels, nodes.

Everything here is written for **one node and one batch**; the simulation adds the node and the seed axis.
Axis names used throughout the docstrings: ``S`` seeds, ``N`` nodes, ``P`` neighbours (padded), ``B`` examples
in a batch, ``C`` classes, ``D`` features, ``K`` inbox capacity, ``M`` packet slots.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

from palaver.errors import PalaverError as PalaverError

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any

NO_PEER = -1
"""Pads a row of neighbour ids that has fewer than P neighbours."""

NO_LABEL = -1
"""An unknown label, such as of a received example, unless the payload gives it."""

NO_PACKET = -1
"""The slot id of a pop that found the inbox empty."""


class Outputs(NamedTuple):
    """A model's outputs on a batch."""

    logits: Array
    """``[B, C]`` class scores before the softmax; C is 0 for a model that learns without labels."""
    features: Array
    """``[B, D]`` the top hidden layer, or the code: of a VAE μ and log σ², one after the other."""


class Gaussian(NamedTuple):
    """A normal distribution with a diagonal covariance for each example."""

    mean: Array
    """``[B, Z]`` μ."""
    log_variance: Array
    """``[B, Z]`` log σ²."""


class Batch(NamedTuple):
    """The examples a node trains on in one round."""

    x: Array
    """``[B, ...]`` inputs, float32 (images scaled to [0, 1])."""
    labels: Array
    """``[B]`` class ids, int32; ``NO_LABEL`` where they are not known. A received batch has those of its payload."""


class Channel(NamedTuple):
    """What nodes send each other, and how a receiver learns from it, as pure functions.

    ``encode(outputs, labels) -> payload`` turns a sender's outputs on a batch into what is sent: a pytree whose
    leaves have the batch as leading axis. ``labels`` are ``NO_LABEL`` where the sender itself does not know them; that
    is no class id, and is never sent.
    ``loss(outputs, received) -> scalar`` is the receiver's objective, a mean over the batch (nats, or squared units);
    its gradient must be finite also against the receiver's own payload, which takes the place of a received one in
    rounds in which nothing was received. ``received`` is the payload, or where the channel has ``decode`` what that
    makes of it.
    ``bits(payload_shapes) -> int`` is the size on the wire of one example's payload, in bits.
    """

    encode: Callable[[Outputs, Array], PyTree]
    loss: Callable[[Outputs, PyTree], Array]
    bits: Callable[[PyTree], int]
    labels_of: Callable[[PyTree], Array] | None = None
    """``labels_of(payload) -> [B]``: the labels that the payload carries; ``None``: it carries none."""
    decode: Callable[[PyTree], PyTree] | None = None
    """``decode(payload) -> received``: what a receiver learns, floats with the batch as leading axis whose mean over
    several senders says what these say together, such as the distribution over classes; ``None``: the payload itself.
    """


class Packet(NamedTuple):
    """One broadcast. In the simulation it holds indices into the training set, not the examples themselves."""

    index: Array
    """``[B]`` int32, rows of the training set."""
    payload: PyTree
    """The channel's payload for these examples, leading axis ``B``."""
    sender: Array
    """Scalar int32: the node that broadcast it."""
    step: Array
    """Scalar int32: the round in which it was broadcast (counted from 0)."""


class NodeState(NamedTuple):
    """What one node carries from round to round."""

    params: PyTree
    """Trained variables."""
    model_state: PyTree
    """The model's variables that are not trained: batch statistics, random streams."""
    opt_state: PyTree
    """The optimiser's state."""


class StepInfo(NamedTuple):
    """What one training step returns besides the new state."""

    payload: PyTree
    """What the node would broadcast about the batch, leading axis ``B``; from the same forward pass as the loss."""
    loss: Array
    """Scalar: the loss before the step, a mean over the batch."""


class Gradients(NamedTuple):
    """The first half of a step: everything that the optimiser then applies."""

    grads: Sequence[PyTree]
    """For each loss of the objective a tree as ``NodeState.params``."""
    model_state: PyTree
    """``NodeState.model_state`` as the forward pass left it."""


class Node(NamedTuple):
    """One learner, as pure functions: a model, an objective, a channel and an optimiser.

    ``init(key) -> NodeState``;
    ``step(key, state, batch, received, consume) -> (state, StepInfo)``: one optimiser step on the local objective, or
    where the scalar bool ``consume`` is true on the channel's objective against ``received``, a decoded payload;
    ``predict(state, x) -> Outputs`` in evaluation mode;
    ``payload(x, labels) -> pytree of ShapeDtypeStruct``: the shapes of what ``step`` would send about such a batch;
    ``bits(payload_shapes) -> int``: the channel's declared size of one example's payload;
    ``parameters() -> int``: how many numbers gradient exchange would have to send.
    Nodes of ``palaver.learner`` also give:
    ``encode(state, x) -> payload``: what it sends about inputs without labels, from a pass in evaluation mode;
    ``decode`` and ``labels_of``, the channel's;
    ``gradients(key, state, batch, received, consume) -> (Gradients, StepInfo)`` and
    ``update(state, gradients, consume) -> state``, the two halves of ``step``.
    Nodes that learn without labels also give, in evaluation mode:
    ``metrics(key, state, x) -> {name: scalar}``: the objective's terms and statistics of the code on a batch;
    ``pictures(key, state, x) -> {name: [rows, columns, *shape]}``: reconstructions, samples, interpolations, in [0, 1].
    """

    init: Callable[[Array], NodeState]
    step: Callable[[Array, NodeState, Batch, PyTree, Array], tuple[NodeState, StepInfo]]
    predict: Callable[[NodeState, Array], Outputs]
    payload: Callable[[PyTree, PyTree], PyTree]
    bits: Callable[[PyTree], int]
    parameters: Callable[[], int]
    encode: Callable[[NodeState, Array], PyTree] | None = None
    decode: Callable[[PyTree], PyTree] | None = None
    labels_of: Callable[[PyTree], Array] | None = None
    gradients: Callable[[Array, NodeState, Batch, PyTree, Array], tuple[Gradients, StepInfo]] | None = None
    update: Callable[[NodeState, Gradients, Array], NodeState] | None = None
    metrics: Callable[[Array, NodeState, Array], dict[str, Array]] | None = None
    pictures: Callable[[Array, NodeState, Array], dict[str, Array]] | None = None


Topology: TypeAlias = Callable[[Array], Array]
"""``topology(round) -> Int[N, P]``: the ids each node broadcasts to in that round, padded with ``NO_PEER``."""

DecisionRule: TypeAlias = Callable[[Array, Array], Array]
"""``rule(logits [N, B, C], answered [N, B]) -> [B, C]``: the collective's distribution over the classes."""
