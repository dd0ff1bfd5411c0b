"""What a collective takes: parameters, bits and memory, from shapes alone."""

import jax
import jax.numpy as jnp

from palaver.data import Dataset
from palaver.data.inputs import CHUNK, to_float
from palaver.exchange.description import Collective
from palaver.exchange.mapping import node_loop, received_shapes
from palaver.exchange.settings import CollectiveSettings, make_collective
from palaver.models import AUTOENCODERS
from palaver.studies.memory import WORD, Footprint, abstract, nbytes, peak
from palaver.topology import mean_degree
from palaver.types import Batch, Node


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
    node, state = group.groups[0][0], jax.eval_shape(group.groups[0][0].init, jax.random.key(0))
    protocol, learners = group.protocol, seeds * group.nodes
    x = abstract(protocol.batch_size, *data.shape)
    labels = abstract(protocol.batch_size, dtype=jnp.int32)
    payload = node.payload(x, labels)
    packet = nbytes(payload) + (protocol.batch_size + 2) * WORD
    consume = abstract(dtype=jnp.bool_)
    # The state before the step is given up for the one after it.
    received = received_shapes(node, payload)
    step = peak(node.step, jax.random.key(0), state, Batch(x, labels), received, consume) - nbytes(state)
    at_once = learners if node_loop(node) == "vmap" else min(devices, group.nodes)
    memory = {
        "learners": learners * nbytes(state),
        "packets": learners * (group.capacity + 2) * packet,
        "data": data.x_train.nbytes,
        "working memory": max(at_once * step, _evaluation(settings, data, node, seeds, group.nodes)),
    }
    example = node.bits(payload) + data.bits_per_example
    return Footprint(
        parameters=sum(count * each.parameters() for each, count in group.groups),
        bits=None if settings.silent else _deliveries(group, settings.rounds) * protocol.batch_size * example,
        memory=memory,
    )


def _evaluation(settings: CollectiveSettings, data: Dataset, node: Node, seeds: int, nodes: int) -> int:
    """Bytes of the largest arrays of an evaluation."""
    x = abstract(1, *data.shape, dtype=data.x_train.dtype)
    outputs = jax.eval_shape(lambda x: node.predict(node.init(jax.random.key(0)), to_float(x)), x)
    if settings.objective in AUTOENCODERS:
        examples, width = sum(map(len, (data.y_train, data.y_validation, data.y_test))), outputs.features.shape[1]
        # The features of all nodes, one seed's again on the device, and the probes' logits of the test set.
        features = examples * width * WORD * nodes * (seeds + 1)
        return features + seeds * nodes * len(data.y_test) * data.classes * WORD
    judged = len(data.y_validation) if settings.calibrate else CHUNK
    return seeds * nodes * min(judged, len(data.y_validation)) * data.classes * WORD


def _deliveries(group: Collective, rounds: int) -> float:
    """Packets times receivers that are expected of all nodes: without re-broadcast, of own batches alone."""
    protocol = group.protocol
    share = 1.0 if protocol.rebroadcast else 1 - protocol.p_consume
    sends = protocol.p_broadcast * share * max(0, rounds - protocol.burn_in)
    return group.nodes * mean_degree(group.topology) * sends
