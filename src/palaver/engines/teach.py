"""Students whose teacher picks the examples (thesis ch. 3), all seeds as one compiled program.

The teacher is frozen, so what it says about the training set is a table; an update never returns to Python.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from palaver.data.order import shuffled
from palaver.engines.simulate import as_input
from palaver.teaching.difficulty import Difficulty
from palaver.teaching.selection import Selection
from palaver.teaching.targets import Target
from palaver.types import Array, Batch, Node, NodeState, PalaverError


class Lesson(NamedTuple):
    """How n minibatches become one."""

    count: int
    """m, examples in a minibatch."""
    difficulty: Difficulty
    """From ``palaver.teaching.difficulty``."""
    select: Selection
    """From ``palaver.teaching.selection``."""
    target: Target
    """From ``palaver.teaching.targets``."""


class Material(NamedTuple):
    """The training set as students and teacher see it; ``M`` examples."""

    x: Array
    """``[M, ...]`` inputs; uint8 pixels or float32."""
    labels: Array
    """``[M]`` int32 class ids."""
    teacher: Array
    """``[M, C]`` float32: the teacher's distributions."""


class Students(NamedTuple):
    """``S`` students of one configuration, a seed each."""

    nodes: NodeState
    """Leaves ``[S, ...]``."""
    order: Array
    """``[S, 2]`` uint32: keys of the order in which each goes through the training set."""
    key: Array
    """``[S]`` random keys."""
    examples: Array
    """Scalar int32: examples each has been shown so far."""
    updates: Array
    """Scalar int32: updates each has made."""


class Teaching(NamedTuple):
    """The compiled functions of one configuration; made by ``teaching``."""

    init: Any
    """``init(keys [S]) -> Students``."""
    advance: Any
    """``advance(students, updates, size) -> Students``: so many more updates, with n = ``size`` minibatches each."""
    chosen: Any
    """``chosen(students, size) -> [S, m]``: rows of the training set that the next update would train on."""
    logits: Any
    """``logits(nodes, x) -> [S, B, C]`` of a ``NodeState`` ``[S, ...]``, in evaluation mode."""
    hits: Any
    """``hits(nodes, x, y) -> [S]``: how many of these examples each gets right."""


def coins(key: Array, update: Array, count: int) -> Array:
    """The random numbers in (0, 1) that the selection rule is given at an update, ``[count]``."""
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 2**31 - 1), update), (count,), minval=2.0**-25)


def teaching(node: Node, lesson: Lesson, material: Material) -> Teaching:
    """Compiles a configuration.

    Args:
        node: from ``learner`` with the objective ``distributions``.
        lesson: how examples are chosen and what is said about them.
        material: the training set.

    Raises:
        PalaverError: more examples in a minibatch than there are.

    """
    size_of_set = material.labels.shape[0]
    if lesson.count > size_of_set:
        raise PalaverError(f"minibatches of {lesson.count} for {size_of_set} training examples: give at most so many")
    shape = material.x.shape[1:]
    # A row of numbers is gathered twice as fast as an image (XLA's CPU backend).
    material = material._replace(x=material.x.reshape(size_of_set, -1))

    def choose(
        nodes: NodeState, order: Array, key: Array, at: Students, material: Material, size: int
    ) -> tuple[Array, Array]:
        """Rows ``[m]`` of the training set and their inputs."""
        places = at.examples + jnp.arange(size * lesson.count, dtype=jnp.int32)
        index = shuffled(order, places, jnp.int32(size_of_set))
        x = as_input(material.x[index]).reshape(-1, *shape)
        if size == 1:
            return index, x
        said = jax.nn.softmax(node.predict(nodes, x).logits)
        scores = lesson.difficulty(material.teacher[index], said, material.labels[index])
        picked = lesson.select(scores, coins(key, at.updates, index.shape[0]), lesson.count)
        return index[picked], x[picked]

    def update(at: Students, material: Material, size: int) -> Students:
        def one(nodes: NodeState, order: Array, key: Array) -> NodeState:
            index, x = choose(nodes, order, key, at, material, size)
            target = lesson.target(material.teacher[index], material.labels[index])
            return node.step(jax.random.fold_in(key, at.updates), nodes, Batch(x, target), (), jnp.bool_(False))[0]

        nodes = jax.vmap(one)(at.nodes, at.order, at.key)
        return at._replace(nodes=nodes, examples=at.examples + size * lesson.count, updates=at.updates + 1)

    def init(keys: Array) -> Students:
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
        order = jax.vmap(lambda k: jax.random.bits(k, (2,)))(keys[:, 1])
        return Students(jax.vmap(node.init)(keys[:, 0]), order, keys[:, 2], jnp.int32(0), jnp.int32(0))

    @partial(jax.jit, static_argnums=3, donate_argnums=0)
    def advance(at: Students, material: Material, updates: Array, size: int) -> Students:
        return jax.lax.fori_loop(0, updates, lambda _, now: update(now, material, size), at)

    @partial(jax.jit, static_argnums=2)
    def chosen(at: Students, material: Material, size: int) -> Array:
        return jax.vmap(partial(choose, at=at, material=material, size=size))(at.nodes, at.order, at.key)[0]

    def logits(nodes: NodeState, x: Array) -> Array:
        return jax.vmap(lambda own: node.predict(own, as_input(x)).logits)(nodes)

    return Teaching(
        init=jax.jit(init),
        advance=lambda at, updates, size: advance(at, material, jnp.int32(updates), size),
        chosen=lambda at, size: chosen(at, material, size),
        logits=jax.jit(logits),
        hits=jax.jit(lambda nodes, x, y: (logits(nodes, x).argmax(-1) == y).sum(-1)),
    )
