"""The linear probe: what a linear classifier can read from frozen features (thesis §2.2.4.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from palaver.types import Array


class Probe(NamedTuple):
    """Multinomial logistic regression on standardised features."""

    weight: Array
    """``[D, C]``."""
    bias: Array
    """``[C]``."""
    center: Array
    """``[D]`` mean of each training feature."""
    spread: Array
    """``[D]`` its standard deviation; 1 for a feature that changes by no more than rounding."""
    accuracy: Array
    """Scalar: validation accuracy, a fraction in [0, 1]; NaN where a feature is NaN or infinite."""

    def logits(self, features: Array) -> Array:
        """``[B, D]`` to ``[B, C]``."""
        return (features - self.center) / self.spread @ self.weight + self.bias


class _Search(NamedTuple):
    """Where the fit stands: the current and the best parameters, and for how many looks it has not got better."""

    params: Any
    state: Any
    best: Any
    accuracy: Array
    stale: Array
    looks: Array


def fit(
    features: Array,
    labels: Array,
    validation: Array,
    validation_labels: Array,
    *,
    classes: int,
    penalty: float = 1.0,
    steps: int = 200,
    look_every: int = 5,
    patience: int = 4,
) -> Probe:
    """Fits a probe by L-BFGS on all examples at once; early stopping on validation. ``vmap`` it over nodes.

    The objective is scikit-learn's: ``Σ_i H(y_i) + ½ · penalty · ‖W‖²`` (its ``C`` is ``1 / penalty``).

    Args:
        features: ``[M, D]`` training features; standardised here.
        labels: ``[M]`` class ids.
        validation: ``[V, D]`` features on which the best step is chosen.
        validation_labels: ``[V]``.
        classes: C.
        penalty: weight of the squared norm.
        steps: of L-BFGS at most, rounded up to whole looks; at least 1.
        look_every: steps between two looks at the validation accuracy.
        patience: looks without a better one before it stops.

    Returns:
        The probe of the look with the highest validation accuracy, the first of equals.

    """
    center, spread = features.mean(0), features.std(0)
    spread = jnp.where(spread > 10 * jnp.finfo(features.dtype).eps * jnp.abs(center), spread, 1.0)
    x, seen = (features - center) / spread, (validation - center) / spread
    count = x.shape[0]

    def loss(params: tuple[Array, Array]) -> Array:
        weight, bias = params
        entropy = optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, labels).mean()
        return entropy + 0.5 * penalty / count * (weight**2).sum()

    solver = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=15))
    slope = optax.value_and_grad_from_state(loss)

    def step(_: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = carry
        value, grad = slope(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state

    def look(search: _Search) -> _Search:
        params, state = jax.lax.fori_loop(0, look_every, step, (search.params, search.state))
        accuracy = ((seen @ params[0] + params[1]).argmax(-1) == validation_labels).mean()
        better = accuracy > search.accuracy
        return _Search(
            params=params,
            state=state,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), params, search.best),
            accuracy=jnp.maximum(accuracy, search.accuracy),
            stale=jnp.where(better, 0, search.stale + 1),
            looks=search.looks + 1,
        )

    def going(search: _Search) -> Array:
        return (search.stale < patience) & (search.looks * look_every < steps)

    start = (jnp.zeros((x.shape[1], classes)), jnp.zeros(classes))
    begun = _Search(start, solver.init(start), start, jnp.float32(-1), jnp.int32(0), jnp.int32(0))
    found = jax.lax.while_loop(going, look, begun)
    weight, bias = found.best
    finite = jnp.isfinite(features).all() & jnp.isfinite(validation).all()
    return Probe(weight, bias, center, spread, jnp.where(finite, found.accuracy, jnp.nan))
