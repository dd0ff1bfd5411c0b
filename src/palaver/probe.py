"""The linear probe: what a linear classifier can read from frozen features (thesis §2.2.4.1)."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from palaver.arguments import count, number
from palaver.types import Array, PyTree

_Params: TypeAlias = tuple[Array, Array]
"""Weight and bias."""
_Scalar: TypeAlias = Callable[[_Params], Array]


class Probe(NamedTuple):
    """Multinomial logistic regression on standardised features."""

    weight: Array
    """``[D, C]``."""
    bias: Array
    """``[C]``."""
    center: Array
    """``[D]`` mean of each training feature."""
    scale: Array
    """``[D]`` its standard deviation; 1 for a feature that changes by no more than rounding."""
    accuracy: Array
    """Scalar: validation accuracy, a fraction in [0, 1]; NaN where a feature is NaN or infinite."""

    def logits(self, features: Array) -> Array:
        """``[B, D]`` to ``[B, C]``."""
        return (features - self.center) / self.scale @ self.weight + self.bias


class _Search(NamedTuple):
    """The fit between two evaluations."""

    params: _Params
    solver: PyTree
    best: _Params
    """The parameters of the evaluation with the highest validation accuracy."""
    accuracy: Array
    """Of ``best``."""
    stale: Array
    """Evaluations since ``best``."""
    evaluations: Array


def fit(
    features: Array,
    labels: Array,
    validation: Array,
    validation_labels: Array,
    *,
    classes: int,
    penalty: float = 1.0,
    steps: int = 200,
    eval_every: int = 5,
    patience: int = 4,
) -> Probe:
    """Fits a probe by L-BFGS on all examples at once; early stopping on validation (thesis §2.2.4.1, §2.3.3).

    The objective is scikit-learn's: ``Σ_i H(y_i) + ½ · penalty · ‖W‖²`` (its ``C`` is ``1 / penalty``). ``vmap`` the
    function over nodes.

    Args:
        features: ``[M, D]`` training features; standardised here.
        labels: ``[M]`` class ids.
        validation: ``[V, D]`` features on which the best step is chosen.
        validation_labels: ``[V]`` their class ids.
        classes: C.
        penalty: weight of the squared norm.
        steps: of L-BFGS at most, rounded up to a multiple of ``eval_every``; at least 1.
        eval_every: steps between two evaluations of the validation accuracy.
        patience: evaluations without a new highest accuracy after which the fit stops.

    Returns:
        The probe of the evaluation with the highest validation accuracy; of several, the earliest.

    Raises:
        PalaverError: a count below 1, or a penalty that is negative or infinite.

    """
    classes, steps, penalty = count("classes", classes), count("steps", steps), number("penalty", penalty, "[0, inf)")
    eval_every, patience = count("eval_every", eval_every), count("patience", patience)
    center, scale = features.mean(0), features.std(0)
    scale = jnp.where(scale > 10 * jnp.finfo(features.dtype).eps * jnp.abs(center), scale, 1.0)
    x, x_validation = (features - center) / scale, (validation - center) / scale
    examples = x.shape[0]

    def loss(params: _Params) -> Array:
        weight, bias = params
        entropy = optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, labels).mean()
        return entropy + 0.5 * penalty / examples * (weight**2).sum()

    def accuracy(params: _Params) -> Array:
        return ((x_validation @ params[0] + params[1]).argmax(-1) == validation_labels).mean()

    start = (jnp.zeros((x.shape[1], classes)), jnp.zeros(classes))
    found = _search(loss, accuracy, start, steps, eval_every, patience)
    weight, bias = found.best
    finite = jnp.isfinite(features).all() & jnp.isfinite(validation).all()
    return Probe(weight, bias, center, scale, jnp.where(finite, found.accuracy, jnp.nan))


def _search(loss: _Scalar, accuracy: _Scalar, start: _Params, steps: int, eval_every: int, patience: int) -> _Search:
    """L-BFGS on ``loss`` until ``accuracy`` has not improved in ``patience`` evaluations, or for all ``steps``."""
    solver = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=15))
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(_: Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state

    def evaluate(search: _Search) -> _Search:
        params, state = jax.lax.fori_loop(0, eval_every, step, (search.params, search.solver))
        now = accuracy(params)
        better = now > search.accuracy
        return _Search(
            params=params,
            solver=state,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), params, search.best),
            accuracy=jnp.maximum(now, search.accuracy),
            stale=jnp.where(better, 0, search.stale + 1),
            evaluations=search.evaluations + 1,
        )

    def going(search: _Search) -> Array:
        return (search.stale < patience) & (search.evaluations * eval_every < steps)

    begin = _Search(start, solver.init(start), start, jnp.float32(-1), jnp.int32(0), jnp.int32(0))
    return jax.lax.while_loop(going, evaluate, begin)
