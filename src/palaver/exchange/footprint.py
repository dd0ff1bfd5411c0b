"""What a collective takes: parameters, bits and memory, from shapes alone."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from palaver.data import Dataset
from palaver.data.inputs import CHUNK, to_float
from palaver.exchange.build import make_collective
from palaver.exchange.description import Collective
from palaver.exchange.mapping import node_loop, received_shapes
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.shards import portions
from palaver.exchange.simulate import INDEX_BITS
from palaver.models import AUTOENCODERS
from palaver.studies.memory import WORD, Footprint, abstract, nbytes, peak
from palaver.topology import mean_degree
from palaver.types import Batch, Node, Outputs, PyTree


def footprint(settings: CollectiveSettings, data: Dataset, seeds: int, devices: int) -> Footprint:
    """What a collective takes (``Chapter.footprint``).

    Args:
        settings: of the collective.
        data: the data set.
        seeds: S.
        devices: over which the nodes are distributed.

    Returns:
        Parameters of all nodes of a seed, the bits that they are expected to send, and the memory.

    Raises:
        PalaverError: settings that this data set does not allow.

    """
    group = make_collective(settings, data)
    protocol, learners = group.protocol, seeds * group.nodes
    kinds = [_kind(node, protocol.batch_size, data.shape, data.x_train.dtype) for node, _ in group.groups]
    payload, received = kinds[0].payload, kinds[0].received
    packet = nbytes(payload) + (protocol.batch_size + 2) * WORD
    # A convolution's nodes take their steps one after the other.
    steps = [
        kind.step * (seeds * many if node_loop(node) == "vmap" else min(devices, many))
        for kind, (node, many) in zip(kinds, group.groups, strict=True)
    ]
    evaluated = [
        _evaluation(settings, data, kind.outputs, seeds, many)
        for kind, (_, many) in zip(kinds, group.groups, strict=True)
    ]
    memory = {
        "learners": seeds * sum(many * kind.state for kind, (_, many) in zip(kinds, group.groups, strict=True)),
        "packets": learners * (group.capacity + 2) * packet,
        "data": data.x_train.nbytes + (0 if data.reference is None else data.reference.nbytes),
        "working memory": max(*steps, sum(evaluated)),
    }
    talk, (_, apart) = group.talk, portions(len(data.y_train), settings.fraction, settings.reference)
    rows = apart if data.reference is None else len(data.reference)
    row = nbytes(received) // protocol.batch_size
    if talk.combine == "mean":
        memory |= {"packets": learners * packet, "heard": learners * rows * (row + WORD)}
    if talk.least_change:
        memory["said"] = learners * rows * row
    batch = protocol.batch_size * kinds[0].bits
    batch += INDEX_BITS if talk.examples == "reference" else protocol.batch_size * data.bits_per_example
    return Footprint(
        parameters=sum(count * each.parameters() for each, count in group.groups),
        bits=None if settings.silent else _deliveries(group, settings.rounds) * batch,
        memory=memory,
    )


class _Kind(NamedTuple):
    """Shapes and sizes of one kind of node, in bytes."""

    outputs: Outputs
    """Of one example."""
    payload: PyTree
    received: PyTree
    bits: int
    """Of one example's payload."""
    state: int
    step: int
    """Arrays that are alive at once during a step, beside the state."""


@lru_cache(maxsize=128)
def _kind(node: Node, batch: int, shape: tuple[int, ...], dtype: Any) -> _Kind:
    x, labels = abstract(batch, *shape), abstract(batch, dtype=jnp.int32)
    one = abstract(1, *shape, dtype=dtype)
    outputs = jax.eval_shape(lambda x: node.predict(node.init(jax.random.key(0)), to_float(x)), one)
    state, payload = jax.eval_shape(node.init, jax.random.key(0)), node.payload(x, labels)
    received = received_shapes(node, payload)
    # The state before the step is given up for the one after it.
    taken = jax.random.key(0), state, Batch(x, labels), received, abstract(dtype=jnp.bool_)
    return _Kind(outputs, payload, received, node.bits(payload), nbytes(state), peak(node.step, *taken) - nbytes(state))


def _evaluation(settings: CollectiveSettings, data: Dataset, outputs: Outputs, seeds: int, nodes: int) -> int:
    """Bytes of the largest arrays of an evaluation; the outputs' shapes are those of one example."""
    if settings.objective in AUTOENCODERS:
        examples, width = sum(map(len, (data.y_train, data.y_validation, data.y_test))), outputs.features.shape[1]
        # The features of all nodes, one seed's again on the device, and the probes' logits of the test set.
        features = examples * width * WORD * nodes * (seeds + 1)
        return features + seeds * nodes * len(data.y_test) * data.classes * WORD
    judged = len(data.y_validation) if settings.calibrate else CHUNK
    return seeds * nodes * min(judged, len(data.y_validation)) * data.classes * WORD


def _deliveries(group: Collective, rounds: int) -> float:
    """Packets times receivers that are expected of all nodes, at most: all are there and have something new to say.

    Without re-broadcast they are of own batches alone.
    """
    protocol = group.protocol
    share = 1.0 if protocol.rebroadcast else 1 - protocol.p_consume
    talking = max(0, rounds - protocol.burn_in)
    if protocol.half_life < math.inf:  # the sum of the falling probabilities
        rate = math.log(2) / protocol.half_life
        talking = math.exp(-rate * protocol.burn_in) * math.expm1(-rate * talking) / math.expm1(-rate)
    sends = protocol.p_broadcast * share * talking
    return group.nodes * mean_degree(group.topology) * sends
