"""The collective's decision: many nodes' distributions over the classes become one (thesis §2.2.2.4, Algorithm 3).

A rule takes logits ``[N, B, C]`` and a mask ``[N, B]`` of the nodes that gave an output and returns a distribution
``[B, C]``. A node whose logits are not finite counts as one that gave no output. Where no node gave an output the
decision is uniform.
"""

import jax
import jax.numpy as jnp

from palaver.arguments import count
from palaver.types import Array, DecisionRule


def _valid(logits: Array, answered: Array) -> tuple[Array, Array]:
    """Log-probabilities ``[N, B, C]``, uniform where a node gave no finite logits, and the mask of those that did."""
    answered = answered & jnp.isfinite(logits).all(-1)
    log_p = jax.nn.log_softmax(jnp.where(answered[..., None], logits, 0.0))
    # Finite logits may lie further apart than the type reaches; -inf would turn into NaN where it meets a factor of 0.
    return jnp.maximum(log_p, -1e30), answered


def _normalised(weights: Array) -> Array:
    """``[B, C]`` non-negative scores as distributions; all zero becomes uniform."""
    total = weights.sum(-1, keepdims=True)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 1.0 / weights.shape[-1])


def _weighted(log_p: Array, weights: Array, answered: Array) -> Array:
    """``Σ w_i y_i``, weights normalised over the nodes; where all are zero, nodes with an output weigh the same."""
    weights = jnp.where(answered, weights, 0.0)
    weights = jnp.where(weights.sum(0) > 0, weights, answered.astype(log_p.dtype))
    return _normalised(jnp.einsum("nb,nbc->bc", weights, jnp.exp(log_p)))


def _entropy(log_p: Array) -> Array:
    return -(jnp.exp(log_p) * log_p).sum(-1)


def mean(logits: Array, answered: Array) -> Array:
    """The mean of the nodes' distributions.

    >>> logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]]))
    >>> (100 * mean(logits, jnp.ones((3, 1), bool))).round().astype(int).tolist()
    [[50, 50]]

    Args:
        logits: ``[N, B, C]`` of each node.
        answered: ``[N, B]`` bool: which nodes gave an output.

    Returns:
        ``[B, C]`` probabilities.

    """
    log_p, answered = _valid(logits, answered)
    return _weighted(log_p, jnp.ones(answered.shape, log_p.dtype), answered)


def majority(logits: Array, answered: Array) -> Array:
    """The distribution of votes: each node votes for its most probable class; ties go to the lowest class id.

    >>> logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]]))
    >>> (100 * majority(logits, jnp.ones((3, 1), bool))).round().astype(int).tolist()
    [[33, 67]]

    Args:
        logits: ``[N, B, C]`` of each node.
        answered: ``[N, B]`` bool: which nodes gave an output.

    Returns:
        ``[B, C]`` each class's share of the votes.

    """
    log_p, answered = _valid(logits, answered)
    votes = jax.nn.one_hot(log_p.argmax(-1), log_p.shape[-1]) * answered[..., None]
    return _normalised(votes.sum(0))


def product(logits: Array, answered: Array) -> Array:
    """Product of experts (Hinton 2002): the normalised product of the nodes' distributions.

    >>> logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]]))
    >>> (100 * product(logits, jnp.ones((3, 1), bool))).round().astype(int).tolist()
    [[62, 38]]

    Args:
        logits: ``[N, B, C]`` of each node.
        answered: ``[N, B]`` bool: which nodes gave an output.

    Returns:
        ``[B, C]`` probabilities.

    """
    log_p, answered = _valid(logits, answered)
    return jax.nn.softmax((log_p * answered[..., None]).sum(0))


def confidence(logits: Array, answered: Array) -> Array:
    """Nodes of low entropy h_i weigh more: ``Σ w_i y_i`` with ``w_i ∝ log C − h_i``.

    This is what the thesis says of Algorithm 3 in words (§2.2.2.4): weights by negative entropy, as a confidence. Where
    every distribution is uniform, all nodes weigh the same.

    >>> logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]]))
    >>> (100 * confidence(logits, jnp.ones((3, 1), bool))).round().astype(int).tolist()
    [[71, 29]]

    Args:
        logits: ``[N, B, C]`` of each node.
        answered: ``[N, B]`` bool: which nodes gave an output.

    Returns:
        ``[B, C]`` probabilities.

    """
    log_p, answered = _valid(logits, answered)
    return _weighted(log_p, jnp.maximum(jnp.log(log_p.shape[-1]) - _entropy(log_p), 0.0), answered)


def entropy_as_printed(logits: Array, answered: Array) -> Array:
    """Algorithm 3 as the thesis prints it: ``Σ w_i y_i``, ``w_i = h_i / Σ h``: nodes of *high* entropy weigh more.

    >>> logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]]))
    >>> (100 * entropy_as_printed(logits, jnp.ones((3, 1), bool))).round().astype(int).tolist()
    [[43, 57]]

    Args:
        logits: ``[N, B, C]`` of each node.
        answered: ``[N, B]`` bool: which nodes gave an output.

    Returns:
        ``[B, C]`` probabilities.

    """
    log_p, answered = _valid(logits, answered)
    return _weighted(log_p, _entropy(log_p), answered)


RULES: dict[str, DecisionRule] = {
    rule.__name__: rule for rule in (confidence, entropy_as_printed, majority, mean, product)
}
"""Every rule by its name. A rule that is added here is evaluated and reported everywhere."""

DEFAULT_RULE = "confidence"
"""The rule whose accuracy is *the* collective accuracy where a single number is given."""


def fit_temperature(logits: Array, labels: Array, *, steps: int = 40) -> Array:
    """The temperature that makes one node's validation likelihood highest (Guo et al. 2017), in [0.05, 20].

    The negative log-likelihood is convex in ``1/T``; its derivative is bisected on a logarithmic scale.

    Args:
        logits: ``[B, C]`` on validation examples.
        labels: ``[B]`` class ids.
        steps: bisections.

    Returns:
        Scalar temperature; dividing the logits by it calibrates the node.

    """
    steps = count("steps", steps)
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def grad(log_beta: Array) -> Array:
        p = jax.nn.softmax(logits * jnp.exp(log_beta))
        return ((p * logits).sum(-1) - picked).mean()

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        too_sharp = grad(middle) > 0
        return jnp.where(too_sharp, low, middle), jnp.where(too_sharp, middle, high)

    widest = jnp.log(jnp.asarray(20.0, logits.dtype))
    low, high = jax.lax.fori_loop(0, steps, halve, (-widest, widest))
    return jnp.exp(-(low + high) / 2)
