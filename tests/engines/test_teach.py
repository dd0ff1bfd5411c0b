"""The compiled students: they choose what the teacher's stack would, and learn from what it says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from palaver.data import load
from palaver.data.order import shuffled
from palaver.engines import seed_keys
from palaver.engines.simulate import as_input
from palaver.engines.teach import Lesson, Material, coins, teaching
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.teaching import TeacherStack, difficulty, selection, targets
from palaver.types import PalaverError

DIGITS = load("digits")
RNG = np.random.default_rng(0)
TEACHER = np.asarray(jax.nn.softmax(RNG.normal(0, 3, (len(DIGITS.y_train), 10)).astype(np.float32)))
MATERIAL = Material(jnp.asarray(DIGITS.x_train), jnp.asarray(DIGITS.y_train, jnp.int32), jnp.asarray(TEACHER))
NODE = learner(lambda rngs: MLP(DIGITS.shape, 10, hidden=(16,), rngs=rngs), distributions(), optimizer=optax.sgd(0.5))
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
        yield as_input(jnp.asarray(DIGITS.x_train[rows])), jnp.asarray(DIGITS.y_train[rows]), rows


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("measure", ["cross-entropy", "kl", "student-loss", "reducible-loss"])
def test_the_compiled_students_choose_what_the_stack_chooses(rule, measure):
    lesson = Lesson(8, difficulty.MEASURES[measure], RULES[rule], targets.soft())
    engine = teaching(NODE, lesson, MATERIAL)
    students = engine.advance(engine.init(seed_keys([3, 4])), 5, 4)
    assert (int(students.updates), int(students.examples)) == (5, 5 * 4 * 8)
    chosen = np.asarray(engine.chosen(students, 4))
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], students.nodes)
        given = list(batches(students, seed, 8, 4))
        stack = TeacherStack(
            [((x, rows), labels) for x, labels, rows in given],
            lambda x, own=own: jax.nn.softmax(NODE.predict(own, x[0]).logits),
            lambda x: jnp.asarray(TEACHER[x[1]]),
            size=4,
            difficulty=lesson.difficulty,
            select=lesson.select,
        )
        key = students.key[seed]

        class Same:
            """The engine's own coins."""

            def random(self, count, _dtype, key=key):
                return np.asarray(coins(key, students.updates, count))

        stack._random = Same()
        ((x, target),) = stack
        assert np.asarray(x[1]).tolist() == chosen[seed].tolist()
        np.testing.assert_allclose(target, TEACHER[chosen[seed]], rtol=1e-6)


def test_an_update_is_a_step_on_the_chosen_with_the_teachers_words():
    lesson = Lesson(8, difficulty.cross_entropy, selection.top(), targets.mixed(weight=0.25, temperature=2.0))
    engine = teaching(NODE, lesson, MATERIAL)
    before = engine.init(seed_keys([0]))
    rows = np.asarray(engine.chosen(before, 3))[0]
    params = jax.tree.map(lambda leaf: leaf[0].copy(), before.nodes.params)
    told = 0.25 * np.eye(10)[DIGITS.y_train[rows]] + 0.75 * np.sqrt(TEACHER[rows]) / np.sqrt(TEACHER[rows]).sum(
        1, keepdims=True
    )

    def loss(params):
        state = jax.tree.map(lambda leaf: leaf[0], before.nodes)._replace(params=params)
        logits = NODE.predict(state, as_input(jnp.asarray(DIGITS.x_train[rows]))).logits
        return -(told * jax.nn.log_softmax(logits)).sum(-1).mean()

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
    after = engine.advance(before, 1, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), after.nodes.params, expected)


def test_no_stack_is_a_shuffled_pass():
    engine = teaching(NODE, Lesson(32, difficulty.cross_entropy, selection.top(), targets.true()), MATERIAL)
    students, seen = engine.init(seed_keys([0, 1])), []
    for _ in range(len(DIGITS.y_train) // 32):
        seen.append(np.asarray(engine.chosen(students, 1)))
        students = engine.advance(students, 1, 1)
    rows = np.concatenate(seen, axis=1)
    assert all(len(set(own)) == rows.shape[1] for own in rows)
    assert (rows[0] != rows[1]).mean() > 0.95
    before = engine.hits(students.nodes, DIGITS.x_validation, DIGITS.y_validation)
    students = engine.advance(students, 600, 1)
    after = engine.hits(students.nodes, DIGITS.x_validation, DIGITS.y_validation)
    assert (after > before).all() and (after / len(DIGITS.y_validation) > 0.9).all()


def test_stretches_do_not_matter():
    engine = teaching(NODE, Lesson(8, difficulty.kl, selection.top(), targets.soft()), MATERIAL)
    whole = engine.advance(engine.init(seed_keys([0])), 6, 3)
    parts = engine.advance(engine.advance(engine.init(seed_keys([0])), 2, 3), 4, 3)
    jax.tree.map(np.testing.assert_array_equal, whole.nodes.params, parts.nodes.params)


def test_more_than_there_are_is_refused():
    few = jax.tree.map(lambda leaf: leaf[:20], MATERIAL)
    with pytest.raises(PalaverError, match="minibatches of 32 for 20 training examples"):
        teaching(NODE, Lesson(32, difficulty.kl, selection.top(), targets.soft()), few)
