"""One seed's nodes as a list, one after the other in Python: what the compiled baselines are compared with."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import quick
from palaver import channels, topology
from palaver.exchange import protocol
from palaver.exchange.description import collective
from palaver.exchange.rivals import rival
from palaver.exchange.state import Shards
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import Batch, Gradients, Node, NodeState, Outputs, StepInfo

NODES, BATCH, CLASSES, EXAMPLES, SEEDS = 4, 8, 3, 90, [3, 7]
RATE = 0.1


def shards(equal: bool = False) -> Shards:
    """Sizes differ, and some nodes have only one or two of the classes; of a public set the last 30 rows are left."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(EXAMPLES, 5)).astype(np.float32), np.arange(EXAMPLES) % CLASSES
    owned = np.arange(60).reshape(NODES, -1)
    index = np.stack([owned[:, rng.permutation(owned.shape[1])] for _ in SEEDS])
    size = np.full(index.shape[:2], index.shape[2]) if equal else np.array([[15, 9, 4, 2], [3, 15, 2, 8]])
    return Shards(jnp.asarray(x), *(jnp.asarray(a, jnp.int32) for a in (y, index, size)))


REFERENCE = jnp.asarray(np.stack([np.arange(60, 90), np.arange(89, 59, -1)]), jnp.int32)
SHARDS = shards()


def keys(seeds=SEEDS):
    return jnp.stack([jax.random.key(seed) for seed in seeds])


@cache
def mlp(optimizer=None, hidden=(6,), dropout=0.0) -> Node:
    def model(rngs):
        return MLP((5,), CLASSES, hidden=hidden, dropout=dropout, rngs=rngs)

    return supervised(model, channels.logits(), optimizer=optimizer or optax.adam(0.01))


def group_of(node, graph=None):
    graph = topology.ring(NODES, 2) if graph is None else graph
    return collective(node, graph, p_consume=0.0, p_broadcast=0.0, batch_size=BATCH)


def trained(method, rounds, node=None, data=SHARDS, graph=None, reference=REFERENCE):
    """The compiled baseline after so many rounds, and its simulation."""
    sim = rival(method, group_of(node or mlp(), graph), data, SEEDS, reference=reference)
    return sim.advance(sim.init(keys()), rounds), sim


def quadratic() -> Node:
    """``½ |θ − x̄|²`` with gradient descent: its step towards the minibatch's mean is known in closed form."""

    def init(key):
        return NodeState({"at": jax.random.normal(key, (5,))}, {}, ())

    def gradients(_key, state, batch, _received, _consume):
        away = state.params["at"] - batch.x.mean(0)
        return Gradients([{"at": away}], {}), StepInfo(jnp.zeros((BATCH, CLASSES)), 0.5 * (away**2).sum())

    def update(state, gradients, _consume):
        return state._replace(params={"at": state.params["at"] - RATE * gradients.grads[0]["at"]})

    def step(*args):
        found, info = gradients(*args)
        return update(args[1], found, args[4]), info

    return Node(
        init=init,
        step=step,
        predict=lambda state, x: Outputs(x[:, :CLASSES] * state.params["at"][:CLASSES], x),
        payload=lambda x, _labels: jax.ShapeDtypeStruct((x.shape[0], CLASSES), jnp.float32),
        bits=lambda _: 0,
        parameters=lambda: 5,
        gradients=gradients,
        update=update,
    )


SILENT = protocol.Protocol(0.0, 0.0, BATCH)
order = quick.jit(partial(protocol.local_batch, SILENT))


class Compiled(NamedTuple):
    """A node's functions, compiled once for all runs."""

    gradients: Callable
    update: Callable
    predict: Callable


@cache
def compiled(node: Node) -> Compiled:
    def gradients(key, step, *args):
        return node.gradients(protocol.toss(SILENT, key, step).key, *args)

    return Compiled(*map(quick.jit, (gradients, node.update, lambda state, x: node.predict(state, x).logits)))


class Run:
    """The nodes of one seed, with the functions that a literal loop needs."""

    def __init__(self, place: int, node: Node, *, alike: bool, data: Shards = SHARDS):
        key, self.init_key = jax.random.split(jax.random.key(SEEDS[place]))
        self.keys = [protocol.node_key(key, i) for i in range(NODES)]
        self.key = jax.random.fold_in(key, 2**31 - 1)
        self.node, self.data, self.place = node, data, place
        self.states = [node.init(jax.random.fold_in(self.init_key, 0 if alike else i)) for i in range(NODES)]
        self.position, self.round = [0] * NODES, 0
        self.weight = np.asarray(data.size[place] / data.size[place].sum())
        self._compiled = compiled(node)

    def batch(self, i: int) -> Batch:
        """A node's next own minibatch."""
        at = order(self.keys[i], self.position[i], self.data.size[self.place, i])
        self.position[i] += BATCH
        return self.of(np.asarray(self.data.index)[self.place, i][at])

    def of(self, rows) -> Batch:
        return Batch(np.asarray(self.data.x)[rows], np.asarray(self.data.y)[rows])

    def predict(self, i: int, x) -> np.ndarray:
        return np.asarray(self._compiled.predict(self.states[i], x))

    def gradients(self, i: int, batch: Batch, target=None):
        """Of the labels, or of the cross-entropy with these probabilities."""
        received = np.zeros((BATCH, CLASSES), np.float32) if target is None else target
        found = self._compiled.gradients(self.keys[i], self.round, self.states[i], batch, received, target is not None)
        return found[0]

    def update(self, i: int, gradients) -> None:
        self.states[i] = self._compiled.update(self.states[i], gradients, False)

    def step(self, i: int, batch: Batch, target=None) -> None:
        self.update(i, self.gradients(i, batch, target))

    def params(self) -> list:
        """Every node's parameters as one vector."""
        return [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(s.params)]) for s in self.states]

    def set_params(self, i: int, vector: np.ndarray) -> None:
        leaves, tree = jax.tree.flatten(self.states[i].params)
        cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = [
            jnp.asarray(part.reshape(leaf.shape), leaf.dtype)
            for part, leaf in zip(np.split(vector, cuts), leaves, strict=True)
        ]
        self.states[i] = self.states[i]._replace(params=jax.tree.unflatten(tree, parts))


def params(state) -> np.ndarray:
    """``[S, N, D]`` of a compiled run."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.nodes[0].params)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], -1)


def assert_same(state, runs) -> None:
    """The compiled run's parameters are those of the literal ones, seed by seed."""
    np.testing.assert_allclose(params(state), np.stack([run.params() for run in runs]), rtol=2e-4, atol=2e-5)
