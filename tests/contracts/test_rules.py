"""What every decision rule must keep to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.decision import RULES

NODES, BATCH, CLASSES = 5, 3, 4
_rng = np.random.default_rng(0)
LOGITS = jnp.asarray(_rng.normal(scale=2, size=(NODES, BATCH, CLASSES)), jnp.float32)
OTHERS = jnp.asarray(_rng.normal(scale=2, size=(NODES, BATCH, CLASSES)), jnp.float32)
ANSWERED = jnp.asarray(_rng.random((NODES, BATCH)) < 0.6).at[:, 0].set(True).at[:, 1].set(False)

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@every_rule
def test_it_is_a_distribution_over_the_classes(rule):
    found = np.asarray(rule(LOGITS, ANSWERED))
    assert found.shape == (BATCH, CLASSES)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


@every_rule
def test_the_order_of_the_nodes_does_not_matter(rule):
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(NODES)
        np.testing.assert_allclose(rule(LOGITS[order], ANSWERED[order]), rule(LOGITS, ANSWERED), rtol=1e-5, atol=1e-7)


@every_rule
def test_the_names_of_the_classes_do_not_matter(rule):
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        rule(LOGITS[..., order], ANSWERED), rule(LOGITS, ANSWERED)[..., order], rtol=1e-5, atol=1e-7
    )


@every_rule
def test_each_example_is_decided_on_its_own(rule):
    alone = jnp.concatenate([rule(LOGITS[:, i : i + 1], ANSWERED[:, i : i + 1]) for i in range(BATCH)])
    np.testing.assert_allclose(rule(LOGITS, ANSWERED), alone, rtol=1e-5, atol=1e-7)


@every_rule
def test_jit_and_vmap_change_nothing_and_compile_once(rule):
    traced = []

    @jax.jit
    def compiled(logits, answered):
        traced.append(1)
        return jax.vmap(rule)(logits, answered)

    for pair in ((LOGITS, OTHERS), (OTHERS, LOGITS)):
        both = compiled(jnp.stack(pair), jnp.stack([ANSWERED, ~ANSWERED]))
        plain = jnp.stack([rule(pair[0], ANSWERED), rule(pair[1], ~ANSWERED)])
        np.testing.assert_allclose(both, plain, rtol=1e-5, atol=1e-7)
    assert traced == [1]
