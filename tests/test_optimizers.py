"""Optimisers of nodes against optax's own, and against the gradient of what a penalty adds to the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from palaver.optimizers import make_optimizer

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 0.25]]), "bias": jnp.array([3.0, -1.0])}
TARGET = jnp.array([0.3, -0.7])


def loss(params):
    return jnp.sum((jnp.tanh(params["kernel"].sum(0)) + params["bias"] - TARGET) ** 2)


def descend(optimizer, of=loss, steps=5):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(jax.grad(of)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_without_penalties_it_is_adam_to_the_bit():
    jax.tree.map(
        np.testing.assert_array_equal,
        descend(make_optimizer("adam", 0.1, beta1=0.5)),
        descend(optax.adam(0.1, b1=0.5)),
    )


def test_with_weight_decay_it_is_adamw():
    mask = {"kernel": True, "bias": False}
    same(descend(make_optimizer("adam", 0.1, weight_decay=0.2)), descend(optax.adamw(0.1, weight_decay=0.2, mask=mask)))


def test_momentum_is_optax_sgds():
    same(descend(make_optimizer("sgd", 0.1, momentum=0.9)), descend(optax.sgd(0.1, momentum=0.9)))


@pytest.mark.parametrize(
    ("given", "penalty"),
    [
        ({"weight_decay": 0.2}, lambda kernel: 0.1 * jnp.sum(kernel**2)),
        ({"l1": 0.05}, lambda kernel: 0.05 * jnp.sum(jnp.abs(kernel))),
    ],
)
def test_plain_descent_with_a_penalty_descends_the_penalised_loss(given, penalty):
    ours = descend(make_optimizer("sgd", 0.1, **given))
    same(ours, descend(optax.sgd(0.1), lambda params: loss(params) + penalty(params["kernel"])))


def test_penalties_make_weights_smaller_and_leave_biases_alone():
    free = descend(make_optimizer("adam", 0.01), lambda params: 0.0 * params["bias"].sum(), steps=3)
    shrunk = descend(make_optimizer("adam", 0.01, l1=1.0), lambda params: 0.0 * params["bias"].sum(), steps=3)
    same(free, PARAMS)
    same(shrunk["kernel"], PARAMS["kernel"] - 0.03 * jnp.sign(PARAMS["kernel"]))
    same(shrunk["bias"], PARAMS["bias"])
