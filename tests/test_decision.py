"""The decision rules on numbers worked out by hand or in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.decision import RULES, confidence, entropy_as_printed, fit_temperature, majority, mean, product

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
"""Three nodes' distributions over three classes, for one example."""


def logits_of(*distributions):
    """``[N, 1, C]`` logits whose softmax is these distributions."""
    return jnp.log(jnp.asarray(distributions))[:, None, :]


def decide(rule, logits, answered=None):
    """The rule's distribution ``[C]`` for one example."""
    answered = jnp.ones(logits.shape[:2], bool) if answered is None else jnp.asarray(answered)[:, None]
    return np.asarray(rule(logits, answered))[0]


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def test_mean_by_hand():
    np.testing.assert_allclose(decide(mean, logits_of(*P)), [1.1 / 3, 1.1 / 3, 0.8 / 3], rtol=1e-6)


def test_majority_by_hand():
    # Votes: class 0, class 1, class 2.
    np.testing.assert_allclose(decide(majority, logits_of(*P)), [1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(decide(majority, logits_of(P[0], P[1], P[1])), [1 / 3, 2 / 3, 0], rtol=1e-6)
    # A node whose classes 1 and 2 are equally probable votes for the lower.
    np.testing.assert_allclose(decide(majority, jnp.array([[[0.0, 5.0, 5.0]]])), [0, 1, 0])


def test_product_by_hand():
    # 0.7·0.1·0.3 : 0.2·0.6·0.3 : 0.1·0.3·0.4 = 21 : 36 : 12.
    np.testing.assert_allclose(decide(product, logits_of(*P)), np.array([21, 36, 12]) / 69, rtol=1e-5)


def test_confidence_and_entropy_as_printed_weigh_the_opposite_way():
    h = entropy(P)
    certain = np.log(3) - h
    np.testing.assert_allclose(decide(confidence, logits_of(*P)), certain @ P / certain.sum(), rtol=1e-5)
    np.testing.assert_allclose(decide(entropy_as_printed, logits_of(*P)), h @ P / h.sum(), rtol=1e-5)
    # Two nodes: one certain of class 0, one almost uniform.
    two = np.array([[0.98, 0.01, 0.01], [0.33, 0.34, 0.33]])
    h = entropy(two)
    np.testing.assert_allclose(
        decide(confidence, logits_of(*two))[0], (np.log(3) - h) @ two[:, 0] / (2 * np.log(3) - h.sum()), rtol=1e-5
    )
    assert decide(confidence, logits_of(*two))[0] > 0.97
    assert decide(entropy_as_printed, logits_of(*two))[0] < 0.40


@pytest.mark.parametrize("name", RULES)
def test_nodes_that_agree_keep_their_distribution(name):
    same = logits_of(P[0], P[0], P[0])
    expected = {"majority": [1, 0, 0], "product": P[0] ** 3 / (P[0] ** 3).sum()}.get(name, P[0])
    np.testing.assert_allclose(decide(RULES[name], same), expected, rtol=1e-5)


def test_without_entropy_all_nodes_weigh_the_same():
    # Every h is 0: printed Algorithm 3 divides 0 by 0; all nodes then weigh the same, as they do under confidence.
    certain = 1000 * jnp.eye(3)[jnp.array([0, 0, 2])][:, None, :]
    for name in ("mean", "majority", "confidence", "entropy_as_printed"):
        np.testing.assert_allclose(decide(RULES[name], certain), [2 / 3, 0, 1 / 3], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(decide(product, certain), [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_all_uniform_is_uniform(name):
    # log C − h is 0 (or a rounding error) for all: no node may be preferred. A vote for a tie goes to class 0.
    expected = [1, 0, 0, 0] if name == "majority" else [0.25] * 4
    np.testing.assert_allclose(decide(RULES[name], jnp.zeros((3, 1, 4))), expected, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_masked_node_does_not_exist(name):
    rule = RULES[name]
    np.testing.assert_allclose(
        decide(rule, logits_of(*P), [True, False, True]), decide(rule, logits_of(P[0], P[2])), rtol=1e-5
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_node_that_is_not_finite_does_not_exist(name, poison):
    broken = logits_of(*P).at[1, 0, 2].set(poison)
    np.testing.assert_allclose(decide(RULES[name], broken), decide(RULES[name], logits_of(P[0], P[2])), rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_without_answers_it_is_uniform(name):
    np.testing.assert_allclose(decide(RULES[name], logits_of(*P), [False] * 3), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(decide(RULES[name], jnp.full((2, 1, 3), jnp.nan)), [1 / 3] * 3, rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_the_mask_is_by_example(name):
    # Example 0 is answered by node 0 alone, example 1 by node 1 alone.
    logits = jnp.broadcast_to(jnp.log(P[:2])[:, None, :], (2, 2, 3))
    out = np.asarray(RULES[name](logits, jnp.array([[True, False], [False, True]])))
    expected = np.eye(3)[[0, 1]] if name == "majority" else P[:2]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_huge_logits_stay_finite(name):
    out = decide(RULES[name], jnp.array([[[3e38, -3e38, 0.0]], [[-3e38, 3e38, 0.0]], [[3e38, -3e38, 0.0]]]))
    expected = {"product": [1, 0, 0]}.get(name, [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["confidence", "product"])
def test_a_node_with_huge_logits_is_certain_not_broken(name):
    # Its distances overflow float32. Certain of class 0, it outweighs a node that knows nothing.
    np.testing.assert_allclose(decide(RULES[name], jnp.array([[[3e38, -3e38, 0.0]], [[0.0, 0.0, 0.0]]])), [1, 0, 0])


@pytest.mark.parametrize("name", RULES)
def test_it_does_not_matter_what_is_added_to_the_logits(name):
    shifted = logits_of(*P) + jnp.array([5.0, -30.0, 100.0])[:, None, None]
    np.testing.assert_allclose(decide(RULES[name], shifted), decide(RULES[name], logits_of(*P)), rtol=2e-4)


@pytest.fixture(scope="module")
def calibrated():
    """Logits of a calibrated model: 20,000 examples whose labels are drawn from softmax(z)."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=2.0, size=(20000, 5)).astype(np.float32)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    labels = (rng.random((len(z), 1)) > p.cumsum(-1)).sum(-1).clip(0, 4)
    return jnp.asarray(z), jnp.asarray(labels, jnp.int32)


fit = jax.jit(fit_temperature)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_fit_temperature_finds_the_scale(calibrated, temperature):
    # The standard error of 1/T is 1/sqrt(n E Var_p(z)) (Fisher's information of a scale); 5 of them are allowed.
    z, labels = calibrated
    p = np.asarray(jax.nn.softmax(z))
    information = ((p * np.asarray(z) ** 2).sum(-1) - (p * np.asarray(z)).sum(-1) ** 2).sum()
    error = 5 / np.sqrt(information)
    assert error < 0.06
    assert abs(float(fit(temperature * z, labels)) / temperature - 1) < error


def test_fit_temperature_is_the_minimum(calibrated):
    # Against a brute search of the likelihood over a grid of 0.1 %, in NumPy.
    z, labels = np.asarray(calibrated[0][:500], np.float64), np.asarray(calibrated[1][:500])
    grid = np.exp(np.arange(np.log(0.6), np.log(1.6), 0.001))

    def nll(t):
        scaled = z / t
        return (np.log(np.exp(scaled).sum(-1)) - scaled[np.arange(len(z)), labels]).mean()

    best = grid[np.argmin([nll(t) for t in grid])]
    assert float(fit(jnp.asarray(z, jnp.float32), jnp.asarray(labels))) == pytest.approx(best, rel=2e-3)


def test_fit_temperature_stays_within_its_bounds():
    z = jnp.array([[4.0, 0.0], [0.0, 4.0]] * 4)
    always_right, always_wrong = jnp.array([0, 1] * 4), jnp.array([1, 0] * 4)
    assert float(fit(z, always_right)) == pytest.approx(0.05, rel=1e-4)
    assert float(fit(z, always_wrong)) == pytest.approx(20.0, rel=1e-4)
