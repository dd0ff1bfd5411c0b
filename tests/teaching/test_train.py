"""The compiled students: they choose the same examples as the teacher's stack, and train on the same targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from palaver.data import load
from palaver.data.inputs import to_float
from palaver.data.order import shuffled
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.studies.seeds import seed_keys
from palaver.teaching import TeacherStack, difficulty, selection, targets
from palaver.teaching.train import SelectionConfig, TeachingData, selection_noise, student_training
from palaver.types import PalaverError

DIGITS = load("digits")
RNG = np.random.default_rng(0)
TEACHER = np.asarray(jax.nn.softmax(RNG.normal(0, 3, (len(DIGITS.y_train), 10)).astype(np.float32)))
DATA = TeachingData(jnp.asarray(DIGITS.x_train), jnp.asarray(DIGITS.y_train, jnp.int32), jnp.asarray(TEACHER))
NODE = learner(lambda rngs: MLP(DIGITS.shape, 10, hidden=(16,), rngs=rngs), distributions(), optimizer=optax.sgd(0.5))
PREDICT = jax.jit(lambda state, x: jax.nn.softmax(NODE.predict(state, x).logits))
RULES = {
    "top": selection.top(),
    "proportional": selection.proportional(temperature=0.5),
    "a quarter random": selection.top_and_random(share=0.25),
    "hardest": selection.from_hardest(share=0.3),
    "uniform": selection.uniform(),
}


def batches(students, seed, count, size):
    """The minibatches that a student is shown next, with their rows in the training set."""
    places = students.examples + jnp.arange(count * size)
    index = np.asarray(shuffled(students.order[seed], places, jnp.int32(len(DIGITS.y_train))))
    for rows in index.reshape(size, count):
        yield to_float(jnp.asarray(DIGITS.x_train[rows])), jnp.asarray(DIGITS.y_train[rows]), rows


@pytest.fixture(scope="module")
def students():
    """Two students after five updates, each from a stack of four minibatches of eight."""
    config = SelectionConfig(8, difficulty.cross_entropy, selection.top(), targets.soft())
    training = student_training(NODE, config, DATA)
    state = training.advance(training.init(seed_keys([3, 4])), 5, 4)
    assert (int(state.updates), int(state.examples)) == (5, 5 * 4 * 8)
    return state


class SameNoise:
    """In place of a stack's random generator: the random numbers of a compiled student."""

    def __init__(self, key, updates):
        self._key, self._updates = key, updates

    def random(self, count, _dtype):
        return np.asarray(selection_noise(self._key, self._updates, count))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("measure", ["cross-entropy", "kl", "student-loss", "reducible-loss"])
def test_the_compiled_students_choose_what_the_stack_chooses(students, rule, measure):
    config = SelectionConfig(8, difficulty.MEASURES[measure], RULES[rule], targets.soft())
    chosen = np.asarray(student_training(NODE, config, DATA).chosen(students, 4))
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], students.nodes)
        stack = TeacherStack(
            [((x, rows), labels) for x, labels, rows in batches(students, seed, 8, 4)],
            lambda x, own=own: PREDICT(own, x[0]),
            lambda x: jnp.asarray(TEACHER[x[1]]),
            size=4,
            difficulty=config.difficulty,
            select=config.select,
        )
        stack._random = SameNoise(students.key[seed], students.updates)
        ((x, target),) = stack
        assert np.asarray(x[1]).tolist() == chosen[seed].tolist()
        np.testing.assert_allclose(target, TEACHER[chosen[seed]], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_an_update_is_a_step_on_the_chosen_examples_and_their_targets(students, rule):
    config = SelectionConfig(8, difficulty.cross_entropy, RULES[rule], targets.mixed(weight=0.25, temperature=2.0))
    training = student_training(NODE, config, DATA)
    rows = np.asarray(training.chosen(students, 4))[0]
    params = jax.tree.map(lambda leaf: leaf[0], students.nodes.params)
    softened = np.sqrt(TEACHER[rows]) / np.sqrt(TEACHER[rows]).sum(1, keepdims=True)
    target = 0.25 * np.eye(10)[DIGITS.y_train[rows]] + 0.75 * softened

    def loss(params):
        state = jax.tree.map(lambda leaf: leaf[0], students.nodes)._replace(params=params)
        logits = NODE.predict(state, to_float(jnp.asarray(DIGITS.x_train[rows]))).logits
        return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
    after = training.advance(jax.tree.map(jnp.copy, students), 1, 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), after.nodes.params, expected)


def test_no_stack_is_a_shuffled_pass():
    training = student_training(
        NODE, SelectionConfig(32, difficulty.cross_entropy, selection.top(), targets.true()), DATA
    )
    students, seen = training.init(seed_keys([0, 1])), []
    for _ in range(len(DIGITS.y_train) // 32):
        seen.append(np.asarray(training.chosen(students, 1)))
        students = training.advance(students, 1, 1)
    rows = np.concatenate(seen, axis=1)
    assert all(len(set(own)) == rows.shape[1] for own in rows)
    assert (rows[0] != rows[1]).mean() > 0.95
    before = training.correct(students.nodes, DIGITS.x_validation, DIGITS.y_validation)
    students = training.advance(students, 600, 1)
    after = training.correct(students.nodes, DIGITS.x_validation, DIGITS.y_validation)
    assert (after > before).all() and (after / len(DIGITS.y_validation) > 0.9).all()


def test_updates_may_be_made_in_parts():
    training = student_training(NODE, SelectionConfig(8, difficulty.kl, selection.top(), targets.soft()), DATA)
    whole = training.advance(training.init(seed_keys([0])), 6, 3)
    parts = training.advance(training.advance(training.init(seed_keys([0])), 2, 3), 4, 3)
    jax.tree.map(np.testing.assert_array_equal, whole.nodes.params, parts.nodes.params)


def test_more_than_there_are_is_refused():
    few = jax.tree.map(lambda leaf: leaf[:20], DATA)
    with pytest.raises(PalaverError, match="minibatches of 32 for 20 training examples"):
        student_training(NODE, SelectionConfig(32, difficulty.kl, selection.top(), targets.soft()), few)
