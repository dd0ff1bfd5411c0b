"""Which parameters receive which gradient: equations 4.2.6 to 4.2.8, and exactly zero where none may flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver import topology
from palaver.language import conversation, estimators, generators, information, levels, observation
from palaver.language.information import Critic
from palaver.types import PalaverError

X = jax.random.uniform(jax.random.key(0), (9, 4, 4))
Y = jnp.arange(9) % 3
STILL = estimators.Estimator(
    lambda key, logits, step: jax.nn.softmax(logits), lambda step: jnp.ones(()), crosses_wire=False, soft=True
)
"""Draws without noise: what is said can be computed by hand."""


def made(level, agents=2, estimator=STILL, recurrent=False, **how):
    kind = generators.Recurrent if recurrent else generators.AllAtOnce
    return conversation(
        (4, 4),
        3,
        agents=agents,
        view=observation.inversion(noise=0.3),
        generator=lambda rngs: kind((4, 4), length=5, vocabulary=3, hidden=(12,), rngs=rngs),
        estimator=estimator,
        level=level,
        **how,
    )


def spoken(language, group):
    return language.speak(group, language.look(group, X, jnp.arange(len(X))))


def slopes(language, of):
    """Gradient of an agent's likelihood term by all parameters, leaves ``[N, ...]``."""
    group = language.init(jax.random.key(1))

    def term(params):
        return language.terms(jax.random.key(2), group, params, X, Y).likelihood[of]

    return group, jax.grad(term)(group.params)


def size(tree, agent):
    return max(float(jnp.abs(leaf[agent]).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("estimator", [STILL, estimators.gumbel_softmax(), estimators.straight_through()])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(
    ("level", "heard", "reached"),
    [("receiving", {1: [1]}, False), ("feedback", {1: [0, 1]}, True), ("both", {0: [0, 1], 1: [0, 1]}, True)],
)
def test_who_receives_a_gradient(level, heard, reached, recurrent, estimator):
    language = made(level, estimator=estimator, recurrent=recurrent)
    for listener in (0, 1):
        _, slope = slopes(language, listener)
        for agent in (0, 1):
            moves = agent in heard.get(listener, [])
            assert (size(slope["generator"], agent) > 1e-5) == moves, (listener, agent)
            if not moves:
                assert size(slope, agent) == 0
        for part in ("critic", "reader", "message_reader"):
            assert size(slope[part], 0) == size(slope[part], 1) == 0
    assert levels.reaches_sender(level) == reached


@pytest.mark.parametrize("level", ["receiving", "feedback", "both"])
def test_gradients_by_hand(level):
    """Of the heads' biases; with s = softmax(z): ∂(−Σ a log b)/∂z_b = b − a and ∂/∂z_a = a (−log b + Σ a log b)."""
    language = made(level)
    group, of_b = slopes(language, 1)
    _, of_a = slopes(language, 0)
    a, b = jax.nn.softmax(spoken(language, group).logits)
    by_listener = (b - a).mean(0).reshape(-1)
    logs = jnp.log(b)
    by_sender = (a * (-logs + (a * logs).sum(-1, keepdims=True))).mean(0).reshape(-1)
    bias = of_b["generator"]["heads"]["bias"]
    np.testing.assert_allclose(bias[1], by_listener, atol=1e-6)
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
    found = {}
    for weight in (0.0, 0.5):
        language = made("both", weight=weight)
        group = language.init(jax.random.key(1))
        found[weight] = language.terms(jax.random.key(2), group, group.params, X, Y)
    np.testing.assert_allclose(found[0.5].loss - found[0.0].loss, 0.5 * found[0.0].likelihood.sum(), rtol=1e-4)


def test_classifiers_leave_agents_alone():
    language = made("both")
    group = language.init(jax.random.key(1))

    def loss(params, labels):
        return language.terms(jax.random.key(2), group, params, X, labels).loss

    one, other = (jax.grad(loss)(group.params, labels) for labels in (Y, (Y + 1) % 3))
    for part in ("generator", "critic"):
        jax.tree.map(np.testing.assert_array_equal, one[part], other[part])
    for part in ("reader", "message_reader"):
        assert size(jax.tree.map(jnp.subtract, one[part], other[part]), 0) > 1e-3


def test_reinforced_listeners_report_a_number_and_learn_themselves():
    """No gradient through a symbol, yet the sender's surrogate moves with what its listener reports."""
    estimator = estimators.reinforce(entropy=0.0, samples=2)
    for level, moves in (("receiving", False), ("feedback", True)):
        by_weight = []
        for weight in (0.0, 1.0):
            language = made(level, estimator=estimator, weight=weight)
            group = language.init(jax.random.key(1))
            by_weight.append(
                jax.grad(lambda p: language.terms(jax.random.key(2), group, p, X, Y).loss)(group.params)["generator"]  # noqa: B023
            )
        apart = jax.tree.map(jnp.subtract, *by_weight)
        assert (size(apart, 0) > 1e-4) == moves
        assert size(apart, 1) > 1e-4


def whom(level, neighbours):
    """The senders each agent hears."""
    table = jnp.asarray(neighbours)
    found = levels.heard(level, table, levels.in_degree(table))
    np.testing.assert_allclose(found.weight.sum(1), (found.weight > 0).any(1))
    pairs = zip(found.sender.tolist(), found.weight.tolist(), strict=True)
    return [{s for s, w in zip(senders, weights, strict=True) if w} for senders, weights in pairs]


def test_whom_agents_hear():
    ring = topology.ring(4, 2)(0)
    assert whom("both", ring) == [{1, 3}, {0, 2}, {1, 3}, {0, 2}]
    assert whom("feedback", ring) == whom("receiving", ring) == [set(), {0}, {1}, {0, 2}]
    assert whom("none", ring) == [set()] * 4


def test_who_is_spoken_to_hears():
    star = topology.from_graph([[0, 1, 1], [0, 0, 0], [0, 1, 0]])(0)  # 0 speaks to 1 and 2, 2 to 1
    assert levels.in_degree(star) == 2
    assert whom("both", star) == [set(), {0, 2}, {0}]
    assert whom("receiving", star) == [set(), {0}, {0}]
    onward = topology.ring(3, 1)(0)  # each speaks to the next
    assert whom("both", onward) == [{2}, {0}, {1}]


def test_of_many_agents_each_hears_the_mean_of_its_neighbours():
    language = made("both", agents=4, topology=topology.ring(4, 2))
    group = language.init(jax.random.key(1))
    told = language.terms(jax.random.key(2), group, group.params, X, Y).likelihood
    s = jax.nn.softmax(spoken(language, group).logits)
    surprise = -(s[:, None] * jnp.log(s)[None]).sum((-2, -1)).mean(-1)  # [sender, listener]
    expected = [(surprise[(j - 1) % 4, j] + surprise[(j + 1) % 4, j]) / 2 for j in range(4)]
    np.testing.assert_allclose(told, expected, rtol=1e-5)


def test_an_unknown_level():
    with pytest.raises(PalaverError, match="level is 'shouting': choose one of none, receiving, feedback, both"):
        made("shouting")
    with pytest.raises(PalaverError, match="agents is 0"):
        made("none", agents=0)
    with pytest.raises(PalaverError, match="weight -1"):
        made("both", weight=-1.0)
    with pytest.raises(PalaverError, match="scores are no likelihoods"):
        made("none", objective=information.barber_agakov(), critic=lambda rngs: Critic((4, 4), (5, 3), rngs=rngs))
    with pytest.raises(PalaverError, match="a topology of 3 for 2 agents"):
        made("both", topology=topology.full(3))


def test_where_nobody_speaks_nobody_is_surprised():
    language = made("both", topology=topology.ring(2, 0))
    group = language.init(jax.random.key(1))
    assert not language.terms(jax.random.key(2), group, group.params, X, Y).likelihood.any()
