"""Students whose training examples a teacher chooses (thesis ch. 3): all seeds in one compiled program.

The teacher is frozen, so its predictions for the training set are a table, and an update never returns to Python.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from palaver.data.inputs import to_float
from palaver.data.order import shuffled
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.teaching.difficulty import Difficulty
from palaver.teaching.selection import Selection
from palaver.teaching.targets import Target
from palaver.types import Array, Batch, Node, NodeState, PalaverError


class SelectionConfig(NamedTuple):
    """How n minibatches become the one that the student trains on."""

    batch_size: int
    """m, examples in a minibatch."""
    difficulty: Difficulty
    """From ``palaver.teaching.difficulty``."""
    select: Selection
    """From ``palaver.teaching.selection``."""
    target: Target
    """From ``palaver.teaching.targets``."""


class TeachingData(NamedTuple):
    """The training set with the teacher's predictions; ``M`` examples."""

    x: Array
    """``[M, ...]`` inputs; uint8 pixels or float32."""
    labels: Array
    """``[M]`` int32 class ids."""
    teacher: Array
    """``[M, C]`` float32: the teacher's distributions."""


class StudentsState(NamedTuple):
    """``S`` students of one configuration, one for each seed."""

    nodes: NodeState
    """Leaves ``[S, ...]``."""
    order: Array
    """``[S, 2]`` uint32: keys of the order in which each student goes through the training set."""
    key: Array
    """``[S]`` random keys."""
    examples: Array
    """Scalar int32: examples taken from the training set so far, chosen or not; the same for each student."""
    updates: Array
    """Scalar int32: updates made so far; the same for each student."""


_SEED_AXIS = StudentsState._make((0, 0, 0, None, None))
"""The axis of each field over which students are mapped."""


class StudentTraining(NamedTuple):
    """The compiled functions of one configuration; made by ``student_training``."""

    init: Callable[[Array], StudentsState]
    """``init(keys [S]) -> StudentsState``."""
    advance: Callable[[StudentsState, int, int], StudentsState]
    """``advance(state, updates, size) -> StudentsState``: so many more updates, with n = ``size`` minibatches each. The
    given state is used up.
    """
    chosen: Callable[[StudentsState, int], Array]
    """``chosen(state, size) -> [S, m]``: rows of the training set that the next update would train on."""
    logits: Callable[[NodeState, ArrayLike], Array]
    """``logits(nodes, x [B, ...]) -> [S, B, C]`` of a ``NodeState`` ``[S, ...]``, in evaluation mode."""
    correct: Callable[[NodeState, ArrayLike, ArrayLike], Array]
    """``correct(nodes, x [B, ...], y [B]) -> [S]`` int32: how many of these examples each student classifies right."""


def selection_noise(key: Array, update: Array, count: int) -> Array:
    """The uniform random numbers that the selection rule is given at one update of one student.

    Args:
        key: the student's random key.
        update: scalar int32: updates made before it.
        count: examples to choose from, n · m.

    Returns:
        ``[count]`` float32 in (0, 1).

    """
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 2**31 - 1), update), (count,), minval=2.0**-25)


def dense_node(
    shape: tuple[int, ...],
    classes: int,
    hidden: Sequence[int],
    dropout: float = 0.0,
    *,
    learning_rate: float = 1e-3,
) -> Node:
    """A dense network; Adam trains it on distributions over the classes.

    Args:
        shape: of one input; its size is the width of the first layer.
        classes: C, the width of the last layer.
        hidden: widths of the layers between.
        dropout: rate after each of them, in [0, 1).
        learning_rate: of Adam.

    Returns:
        A node for ``student_training``.

    """
    return learner(
        lambda rngs: MLP(shape, classes, hidden=hidden, dropout=dropout, rngs=rngs),
        distributions(),
        optimizer=optax.adam(learning_rate),
    )


def student_training(node: Node, config: SelectionConfig, data: TeachingData) -> StudentTraining:
    """Compiles the training of one configuration's students.

    Args:
        node: from ``learner`` with the objective ``distributions``.
        config: how examples are chosen and what their targets are.
        data: the training set.

    Returns:
        Functions of all seeds' students at once.

    Raises:
        PalaverError: a minibatch has more examples than the training set.

    """
    examples = data.labels.shape[0]
    if config.batch_size > examples:
        raise PalaverError(f"minibatches of {config.batch_size} for {examples} training examples: give at most so many")
    choose = partial(_choose, node, config, data.x.shape[1:])
    # A row of numbers is gathered twice as fast as an image (XLA's CPU backend).
    data = data._replace(x=data.x.reshape(examples, -1))

    def init(keys: Array) -> StudentsState:
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
        order = jax.vmap(lambda k: jax.random.bits(k, (2,)))(keys[:, 1])
        return StudentsState(jax.vmap(node.init)(keys[:, 0]), order, keys[:, 2], jnp.int32(0), jnp.int32(0))

    def update(student: StudentsState, data: TeachingData, size: int) -> NodeState:
        index, x = choose(student, data, size)
        batch = Batch(x, config.target(data.teacher[index], data.labels[index]))
        key = jax.random.fold_in(student.key, student.updates)
        return node.step(key, student.nodes, batch, (), jnp.bool_(False))[0]

    @partial(jax.jit, static_argnums=3, donate_argnums=0)
    def advance(state: StudentsState, data: TeachingData, updates: Array, size: int) -> StudentsState:
        def update_all(_: Array, state: StudentsState) -> StudentsState:
            nodes = jax.vmap(partial(update, data=data, size=size), in_axes=(_SEED_AXIS,))(state)
            read = state.examples + size * config.batch_size
            return state._replace(nodes=nodes, examples=read, updates=state.updates + 1)

        return jax.lax.fori_loop(0, updates, update_all, state)

    @partial(jax.jit, static_argnums=2)
    def chosen(state: StudentsState, data: TeachingData, size: int) -> Array:
        return jax.vmap(partial(choose, data=data, size=size), in_axes=(_SEED_AXIS,))(state)[0]

    def logits(nodes: NodeState, x: Array) -> Array:
        return jax.vmap(lambda own: node.predict(own, to_float(x)).logits)(nodes)

    return StudentTraining(
        init=jax.jit(init),
        advance=lambda state, updates, size: advance(state, data, jnp.int32(updates), size),
        chosen=lambda state, size: chosen(state, data, size),
        logits=jax.jit(logits),
        correct=jax.jit(lambda nodes, x, y: (logits(nodes, x).argmax(-1) == y).sum(-1)),
    )


def _choose(
    node: Node, config: SelectionConfig, shape: tuple[int, ...], student: StudentsState, data: TeachingData, size: int
) -> tuple[Array, Array]:
    """The examples of one student's next update.

    Args:
        node: the student's.
        config: how they are chosen.
        shape: of one input.
        student: without the seed axis.
        data: the training set, inputs as rows ``[M, D]``.
        size: n minibatches to choose from; 1: all of the one minibatch.

    Returns:
        Rows ``[m]`` of the training set and their inputs ``[m, *shape]``.

    """
    positions = student.examples + jnp.arange(size * config.batch_size, dtype=jnp.int32)
    index = shuffled(student.order, positions, jnp.int32(data.labels.shape[0]))
    x = to_float(data.x[index]).reshape(-1, *shape)
    if size == 1:
        return index, x
    predictions = jax.nn.softmax(node.predict(student.nodes, x).logits)
    scores = config.difficulty(data.teacher[index], predictions, data.labels[index])
    noise = selection_noise(student.key, student.updates, index.shape[0])
    picked = config.select(scores, noise, config.batch_size)
    return index[picked], x[picked]
