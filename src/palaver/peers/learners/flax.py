"""A site that learns with JAX: a ``palaver.types.Node``, which the simulation trains too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data.inputs import to_float
from palaver.types import Array, Batch, Node, NodeState, Outputs, PyTree


class FlaxLearner:
    """A node and its state, as a ``palaver.peers.learners.Learner``.

    Args:
        node: from ``palaver.node.supervised`` or ``learner``.
        state: before training, from ``node.init``.

    """

    def __init__(self, node: Node, state: NodeState) -> None:
        self._node, self.state, self._blank = node, state, None

    def learn(
        self, x: np.ndarray, labels: np.ndarray, received: PyTree | None, *, seed: np.ndarray, say: bool = False
    ) -> PyTree | None:
        """See ``Learner.learn``."""
        consume = received is not None
        if not consume:
            received = self._nothing(x, labels)
        self.state, payload = _step(self._node, seed, self.state, x, labels, received, np.bool_(consume))
        if say:  # the step's own loss needs it in any case
            return jax.tree.map(np.asarray, payload)
        jax.block_until_ready(self.state)  # or questions would wait for all steps that are under way
        return None

    def _nothing(self, x: np.ndarray, labels: np.ndarray) -> PyTree:
        """In place of what was received: zeros, so that one program serves both kinds of step."""
        if self._blank is None:
            shapes = self._node.payload(jax.eval_shape(to_float, x), labels)
            received = shapes if self._node.decode is None else jax.eval_shape(self._node.decode, shapes)
            self._blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), received)
        return self._blank

    def encode(self, x: np.ndarray) -> PyTree:
        """See ``Learner.encode``."""
        return jax.tree.map(np.asarray, _encode(self._node, self.state, x))

    def predict(self, x: np.ndarray) -> Outputs:
        """See ``Learner.predict``; as many rows as a power of two, so that whoever asks compiles few programs."""
        rows = 1 << (len(x) - 1).bit_length()
        found = _predict(self._node, self.state, np.resize(x, (rows, *x.shape[1:])))
        return jax.tree.map(lambda a: np.asarray(a)[: len(x)], found)

    def arrays(self) -> dict[str, np.ndarray]:
        """See ``Learner.arrays``."""
        return {str(place): np.asarray(_bare(leaf)) for place, leaf in enumerate(jax.tree.leaves(self.state))}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See ``Learner.restore``."""
        leaves, tree = jax.tree.flatten(self.state)
        fits = len(arrays) == len(leaves) and all(
            str(place) in arrays and _alike(arrays[str(place)], _bare(leaf)) for place, leaf in enumerate(leaves)
        )
        if not fits:
            raise ValueError("these are the arrays of another model or optimiser")
        found = [_as(arrays[str(place)], leaf) for place, leaf in enumerate(leaves)]
        self.state = jax.tree.unflatten(tree, found)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(node: Node, seed: Array, state: NodeState, x: Array, labels: Array, received: PyTree, consume: Array):
    key = jax.random.wrap_key_data(seed)
    after, info = node.step(key, state, Batch(to_float(x), labels), received, consume)
    return after, info.payload


@partial(jax.jit, static_argnums=0)
def _encode(node: Node, state: NodeState, x: Array) -> PyTree:
    assert node.encode is not None
    return node.encode(state, to_float(x))


@partial(jax.jit, static_argnums=0)
def _predict(node: Node, state: NodeState, x: Array) -> Outputs:
    return node.predict(state, to_float(x))


def _is_key(leaf: Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _bare(leaf: Array) -> Array:
    """A random key as its words."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _alike(stored: np.ndarray, leaf: Array) -> bool:
    return stored.shape == leaf.shape and stored.dtype == leaf.dtype


def _as(stored: np.ndarray, like: Array) -> Array:
    found = jnp.asarray(stored)
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like)) if _is_key(like) else found
