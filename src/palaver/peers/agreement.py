"""What all peers of a collective agree on, and the digest by which they know that they do."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from palaver.exchange.description import Talk
from palaver.exchange.protocol import Protocol
from palaver.peers.wire import DIGEST
from palaver.types import Array, Channel, Outputs, PyTree, Topology


class Agreement(NamedTuple):
    """A collective as each of its peers knows it."""

    names: tuple[str, ...]
    """Of all peers; a peer's id is its place."""
    key: Array
    """Random key of the collective, from which coins and orders are drawn, as in the simulation."""
    topology: Topology
    """Which peers each peer sends to, by its own round."""
    protocol: Protocol
    """When a peer reads and when it broadcasts."""
    talk: Talk
    """What packets are about."""
    capacity: int
    """K, packets an inbox holds."""
    overflow: str
    """What a full inbox does with another packet, see ``palaver.exchange.inbox``."""
    channel: Channel
    """What packets hold."""
    classes: int
    """C."""
    features: int
    """D, the width of a model's features, where the channel sends them."""
    shape: tuple[int, ...]
    """Of one input."""
    dtype: np.dtype[Any]
    """Of inputs."""
    reference: np.ndarray | None = None
    """``[R, ...]`` inputs of the reference set, in the order in which packets name them; ``None``: there is none."""
    largest: float = math.inf
    """Magnitude of numbers in inputs of others that this peer learns from."""

    def payload(self) -> PyTree:
        """Shapes of a packet's payload, leading axis B."""
        batch = self.protocol.batch_size
        outputs = Outputs(jnp.zeros((batch, self.classes)), jnp.zeros((batch, self.features)))
        return jax.eval_shape(self.channel.encode, outputs, jnp.zeros(batch, jnp.int32))

    def decode(self) -> Callable[[PyTree], PyTree]:
        """The function from payloads to what a receiver learns, NumPy in and out."""
        if self.channel.decode is None:
            return lambda payload: payload
        compiled = jax.jit(self.channel.decode)
        return lambda payload: jax.tree.map(np.asarray, compiled(payload))


def digest(description: Mapping[str, Any], *arrays: np.ndarray | None) -> bytes:
    """The digest of a description and arrays. Peers are not heard by those whose collective has another digest.

    Args:
        description: what was agreed on, as JSON has it.
        *arrays: such as the reference set, ``[R, ...]`` inputs; ``None`` counts for nothing.

    Returns:
        The first ``wire.DIGEST`` bytes of a SHA-256.

    """
    found = hashlib.sha256(msgspec.json.encode(description, order="deterministic"))
    for array in arrays:
        if array is not None:
            found.update(f"{array.shape} {array.dtype.str}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.digest()[:DIGEST]
