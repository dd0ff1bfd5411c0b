"""Which parameters receive which gradient: equations 4.2.6 to 4.2.8, and exactly zero where none may flow."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver import topology
from palaver.language import estimators, generators, information, language_game, levels, observation
from palaver.language.information import Critic
from palaver.types import PalaverError

X = jax.random.uniform(jax.random.key(0), (9, 4, 4))
Y = jnp.arange(9) % 3
STILL = estimators.Estimator(
    lambda key, logits, step: jax.nn.softmax(logits), lambda step: jnp.ones(()), crosses_wire=False, soft=True
)
"""Draws without noise: the messages can be computed by hand."""


def made(level, agents=2, estimator=STILL, recurrent=False, **how):
    kind = generators.Recurrent if recurrent else generators.AllAtOnce
    return language_game(
        (4, 4),
        3,
        agents=agents,
        view=observation.inversion(noise=0.3),
        generator=lambda rngs: kind((4, 4), length=5, vocabulary=3, hidden=(12,), rngs=rngs),
        estimator=estimator,
        level=level,
        **how,
    )


def run(function, *arguments):
    """Compiled without optimisation, which takes longer than what each of these programs computes, once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*arguments)


@cache
def started(agents=2, recurrent=False):
    """The state that every game of so many agents starts in, whatever its level."""
    return run(made("none", agents, recurrent=recurrent).init, jax.random.key(1))


def messages(game, state):
    return run(lambda: game.messages(state, game.observe(state, X, jnp.arange(len(X)))))


def losses(game, state, labels=Y):
    """The loss terms as a function of the parameters."""
    return lambda params: game.terms(jax.random.key(2), state, params, X, labels)


def gradients(game, state):
    """Each agent's gradient of its message NLL by all parameters, leaves ``[N, ...]``."""
    found = run(jax.jacrev(lambda params: losses(game, state)(params).message_nll), state.params)
    return [jax.tree.map(lambda leaf: leaf[agent], found) for agent in (0, 1)]  # noqa: B023


def size(tree, agent):
    return max(float(jnp.abs(leaf[agent]).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("estimator", [STILL, estimators.gumbel_softmax(), estimators.straight_through()])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(
    ("level", "trained", "reached"),
    [("receiving", {1: [1]}, False), ("feedback", {1: [0, 1]}, True), ("both", {0: [0, 1], 1: [0, 1]}, True)],
)
def test_which_agents_receive_a_gradient(level, trained, reached, recurrent, estimator):
    game = made(level, estimator=estimator, recurrent=recurrent)
    for receiver, grad in enumerate(gradients(game, started(recurrent=recurrent))):
        for agent in (0, 1):
            moves = agent in trained.get(receiver, [])
            assert (size(grad["generator"], agent) > 1e-5) == moves, (receiver, agent)
            if not moves:
                assert size(grad, agent) == 0
        for part in ("critic", "probe", "message_probe"):
            assert size(grad[part], 0) == size(grad[part], 1) == 0
    assert levels.reaches_sender(level) == reached


@pytest.mark.parametrize("level", ["receiving", "feedback", "both"])
def test_gradients_by_hand(level):
    """Of the heads' biases; with s = softmax(z): ∂(−Σ a log b)/∂z_b = b − a and ∂/∂z_a = a (−log b + Σ a log b)."""
    game, state = made(level), started()
    of_a, of_b = gradients(game, state)
    a, b = jax.nn.softmax(messages(game, state).logits)
    by_receiver = (b - a).mean(0).reshape(-1)
    logs = jnp.log(b)
    by_sender = (a * (-logs + (a * logs).sum(-1, keepdims=True))).mean(0).reshape(-1)
    bias = of_b["generator"]["heads"]["bias"]
    np.testing.assert_allclose(bias[1], by_receiver, atol=1e-6)
    np.testing.assert_allclose(bias[0], 0 * by_sender if level == "receiving" else by_sender, atol=1e-6)
    other = of_a["generator"]["heads"]["bias"]
    if level != "both":
        assert size(of_a, 0) == size(of_a, 1) == 0
        return
    logs = jnp.log(a)
    np.testing.assert_allclose(other[0], (a - b).mean(0).reshape(-1), atol=1e-6)
    np.testing.assert_allclose(
        other[1], (b * (-logs + (b * logs).sum(-1, keepdims=True))).mean(0).reshape(-1), atol=1e-6
    )


def test_the_loss_weighs_the_terms():
    state = started()
    alone, weighed = (run(losses(made("both", weight=weight), state), state.params) for weight in (0.0, 0.5))
    np.testing.assert_allclose(weighed.loss - alone.loss, 0.5 * alone.message_nll.sum(), rtol=1e-4)


def test_probes_do_not_train_agents():
    game, state = made("both"), started()
    grads = jax.grad(lambda params, labels: losses(game, state, labels)(params).loss)
    one, other = (run(grads, state.params, labels) for labels in (Y, (Y + 1) % 3))
    for part in ("generator", "critic"):
        jax.tree.map(np.testing.assert_array_equal, one[part], other[part])
    for part in ("probe", "message_probe"):
        assert size(jax.tree.map(jnp.subtract, one[part], other[part]), 0) > 1e-3


def test_reinforced_receivers_report_a_number_and_learn_themselves():
    """No gradient through a symbol, yet the gradient of the sender's loss depends on what its receiver reports."""
    estimator = estimators.reinforce(entropy=0.0, samples=2)
    state = started()
    for level, moves in (("receiving", False), ("feedback", True)):
        by_weight = []
        for weight in (0.0, 1.0):
            terms = losses(made(level, estimator=estimator, weight=weight), state)
            by_weight.append(run(jax.grad(lambda params: terms(params).loss), state.params)["generator"])  # noqa: B023
        apart = jax.tree.map(jnp.subtract, *by_weight)
        assert (size(apart, 0) > 1e-4) == moves
        assert size(apart, 1) > 1e-4


def senders(level, neighbours):
    """The senders of each agent."""
    table = jnp.asarray(neighbours)
    found = levels.reception(level, table, levels.in_degree(table))
    np.testing.assert_allclose(found.weights.sum(1), (found.weights > 0).any(1))
    pairs = zip(found.senders.tolist(), found.weights.tolist(), strict=True)
    return [{s for s, w in zip(*row, strict=True) if w} for row in pairs]


def test_an_agents_senders():
    ring = topology.ring(4, 2)(0)
    assert senders("both", ring) == [{1, 3}, {0, 2}, {1, 3}, {0, 2}]
    assert senders("feedback", ring) == senders("receiving", ring) == [set(), {0}, {1}, {0, 2}]
    assert senders("none", ring) == [set()] * 4


def test_messages_go_in_the_direction_of_the_graph():
    star = topology.from_graph([[0, 1, 1], [0, 0, 0], [0, 1, 0]])(0)  # 0 sends to 1 and 2, 2 to 1
    assert levels.in_degree(star) == 2
    assert senders("both", star) == [set(), {0, 2}, {0}]
    assert senders("receiving", star) == [set(), {0}, {0}]
    onward = topology.ring(3, 1)(0)  # each sends to the next
    assert senders("both", onward) == [{2}, {0}, {1}]


def test_with_many_agents_the_nll_is_the_mean_over_an_agents_senders():
    game = made("both", agents=4, topology=topology.ring(4, 2))
    state = started(agents=4)
    found = run(losses(game, state), state.params).message_nll
    s = jax.nn.softmax(messages(game, state).logits)
    nll = -(s[:, None] * jnp.log(s)[None]).sum((-2, -1)).mean(-1)  # [sender, receiver]
    expected = [(nll[(j - 1) % 4, j] + nll[(j + 1) % 4, j]) / 2 for j in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_unknown_level():
    with pytest.raises(PalaverError, match="level is 'shouting': choose one of none, receiving, feedback, both"):
        made("shouting")
    with pytest.raises(PalaverError, match="agents is 0"):
        made("none", agents=0)
    with pytest.raises(PalaverError, match="weight is -1"):
        made("both", weight=-1.0)
    with pytest.raises(PalaverError, match="the objective needs log-likelihoods: give a critic of kind likelihood"):
        made("none", objective=information.barber_agakov(), critic=lambda rngs: Critic((4, 4), (5, 3), rngs=rngs))
    with pytest.raises(PalaverError, match="topology is of 3 nodes: give one of 2"):
        made("both", topology=topology.full(3))


def test_what_predicts_a_received_message():
    """Soft samples where there are any, unless the distribution is asked for; nothing else is called a sample."""
    soft, hard = estimators.gumbel_softmax(), estimators.straight_through()
    for how, sample in (({"estimator": soft}, True), ({"estimator": hard}, False), ({"recurrent": True}, False)):
        state = started(recurrent=how.get("recurrent", False))
        own, distribution = (
            run(losses(made("both", **how, sampled=sampled), state), state.params).message_nll
            for sampled in (None, False)
        )
        assert (own != distribution).all() == sample and (own == distribution).all() != sample
        if sample:
            given = run(losses(made("both", **how, sampled=True), state), state.params).message_nll
            np.testing.assert_array_equal(own, given)
        else:
            with pytest.raises(PalaverError, match="sampled is True: give None"):
                made("both", **how, sampled=True)


def test_without_senders_the_nll_is_0():
    game = made("both", topology=topology.ring(2, 0))
    state = started()
    assert not run(losses(game, state), state.params).message_nll.any()
