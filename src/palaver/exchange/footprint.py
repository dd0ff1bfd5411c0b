"""What a collective takes: parameters, bits and memory, from shapes alone."""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from palaver.baselines import METHODS
from palaver.baselines.method import Method, Sizes
from palaver.data import Dataset
from palaver.data.inputs import CHUNK, to_float
from palaver.exchange.build import make_collective
from palaver.exchange.description import Collective
from palaver.exchange.mapping import node_loop, received_shapes
from palaver.exchange.rivals import in_bits, sizes_of
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.shards import portions
from palaver.exchange.simulate import INDEX_BITS
from palaver.gate import Trust
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
    protocol = group.protocol
    kinds = [_kind(node, protocol.batch_size, data.shape, data.x_train.dtype) for node, _ in group.groups]
    # A convolution's nodes take their steps one after the other.
    steps = [
        kind.step * (seeds * many if node_loop(node) == "vmap" else min(devices, many))
        for kind, (node, many) in zip(kinds, group.groups, strict=True)
    ]
    evaluated = [
        _evaluation(settings, data, kind.outputs, seeds, many)
        for kind, (_, many) in zip(kinds, group.groups, strict=True)
    ]
    models = 1 + (group.talk.gate == "twin") + (group.patience > 0)  # a node, its twin, and it at its best
    of_learners = models * seeds * sum(many * kind.state for kind, (_, many) in zip(kinds, group.groups, strict=True))
    owned, apart = portions(len(data.y_train), settings.fraction, settings.reference)
    rows = apart if data.reference is None else len(data.reference)
    if settings.method == "exchange":
        of_exchange = _packets(group, kinds[0], seeds * group.nodes, rows)
        bits = None if settings.silent else _deliveries(group, settings.rounds) * _message(group, kinds[0], data)
    else:
        sizes = sizes_of(group, data.shape, data.x_train.dtype, owned, rows)
        of_exchange, bits = _rival(METHODS[settings.method](settings), sizes, group, seeds, settings.rounds, data)
    return Footprint(
        parameters=sum(count * each.parameters() for each, count in group.groups),
        bits=bits,
        memory={
            "learners": of_learners,
            "data": data.x_train.nbytes + (0 if data.reference is None else data.reference.nbytes),
            "working memory": max(*steps, sum(evaluated)),
        }
        | of_exchange,
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


def _packets(group: Collective, kind: _Kind, learners: int, rows: int) -> dict[str, int]:
    """Bytes that an exchange of packets takes, for a reference set of so many rows."""
    talk, batch = group.talk, group.protocol.batch_size
    payload, head, row = nbytes(kind.payload), (batch + 2) * WORD, nbytes(kind.received) // batch
    found = {"packets": learners * (group.capacity + 2) * (payload + head)}
    if talk.combine == "mean":  # of a packet only what it is about goes into the next round
        found = {"packets": learners * (payload + 3 * head), "heard": learners * rows * (row + WORD)}
    found |= {"said": learners * rows * row} if talk.least_change else {}
    trust = len(Trust._fields) * WORD * learners * group.nodes
    return found | ({"trust": trust} if talk.gate == "twin" else {})


def _message(group: Collective, kind: _Kind, data: Dataset) -> int:
    """Bits of a packet."""
    batch = group.protocol.batch_size
    about = INDEX_BITS if group.talk.examples == "reference" else batch * data.bits_per_example
    return batch * kind.bits + about


def _rival(
    method: Method, sizes: Sizes, group: Collective, seeds: int, rounds: int, data: Dataset
) -> tuple[dict[str, int], float]:
    """Bytes that a baseline takes beside its nodes, and the bits that its nodes send in so many rounds."""
    states = tuple(
        jax.tree.map(
            lambda leaf, many=many: jax.ShapeDtypeStruct((seeds, many, *leaf.shape), leaf.dtype),
            jax.eval_shape(node.init, jax.random.key(0)),
        )
        for node, many in group.groups
    )
    held = nbytes(jax.eval_shape(partial(method.start, sizes), states))
    averaged = nbytes([state.params for state in states]) if method.averages else 0  # all nodes' parameters once more
    rows = 0 if method.pool is None else seeds * sizes.nodes * sizes.examples * WORD  # every node has those of all
    sent = in_bits(method.expected(sizes, rounds), method.bits(sizes), data.bits_per_example)
    return {"method": held + averaged + rows}, sizes.nodes * float(sum(sent.values()))


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
