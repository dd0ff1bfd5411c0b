"""A site that learns with scikit-learn: any classifier that learns minibatch by minibatch."""

import copy
from collections.abc import Mapping
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone

from palaver.arguments import failure_of
from palaver.peers.learners.payload import alike, as_seed, check_of_classes, encoded, scaled
from palaver.types import NO_LABEL, Channel, Outputs, PalaverError, PyTree

_SMALLEST = 0.01
"""Classes of a received distribution less likely than so many times 1 / C are left out: each costs a row."""


class SklearnLearner:
    """A classifier with ``partial_fit``, as a ``palaver.peers.learners.Learner``.

    A received distribution is learnt as one row for each class, weighted by its probability. Inputs are flattened. An
    estimator whose ``random_state`` is no number gets each step's seed as ``random_state``; one with a ``batch_size``
    takes each batch whole. A batch of which nothing is known is no step at all. Note that schedules such as
    ``learning_rate="optimal"`` of ``SGDClassifier`` count rows.

    Args:
        estimator: for example ``SGDClassifier(loss="log_loss")``, ``MLPClassifier()`` or ``GaussianNB()``.
        channel: of classes: ``labels``, ``logits`` or ``labels_logits`` of ``palaver.channels``.
        classes: C; labels are 0 to C − 1.

    Raises:
        PalaverError: another channel, or an estimator without ``predict_proba``, without a ``partial_fit`` that takes
            ``classes`` and ``sample_weight``, or with a state that cannot be saved as arrays.

    """

    def __init__(self, estimator: Any, channel: Channel, *, classes: int) -> None:
        self.estimator, self._channel, self._classes = estimator, channel, check_of_classes(channel, classes)
        name = type(estimator).__name__
        if not (hasattr(estimator, "partial_fit") and hasattr(estimator, "predict_proba")):
            raise PalaverError(
                f"{name} has no partial_fit or no predict_proba: give a classifier with both, such as "
                'SGDClassifier(loss="log_loss")'
            )
        if not {"classes", "sample_weight"} <= signature(estimator.partial_fit).parameters.keys():
            raise PalaverError(f"partial_fit of {name} takes no classes or no sample_weight: give another classifier")
        self._seeded = hasattr(estimator, "random_state") and not isinstance(estimator.random_state, Integral)
        with failure_of(f"partial_fit of {name}", "give a classifier that learns some rows at a time"):
            _state(self._blank(1))

    def learn(
        self, x: np.ndarray, labels: np.ndarray, received: PyTree | None, *, seed: np.ndarray, say: bool = False
    ) -> PyTree | None:
        """See ``Learner.learn``."""
        payload = encoded(self._channel, self.predict(x), labels) if say else None
        if received is None:
            rows = np.flatnonzero(labels != NO_LABEL)
            classes, weight = labels[rows], np.ones(len(rows))
        else:
            rows, classes = np.nonzero(received > _SMALLEST / self._classes)
            weight = received[rows, classes].astype(float)
        if len(rows):
            before = None if received is None else copy.deepcopy(vars(self.estimator))
            try:
                self._fit(self.estimator, _flat(x)[rows], classes, weight, as_seed(seed))
            except Exception:
                if before is not None:
                    vars(self.estimator).clear()
                    vars(self.estimator).update(before)
                raise
        return payload

    def _fit(self, estimator: Any, x: np.ndarray, classes: np.ndarray, weight: np.ndarray, seed: int) -> None:
        """One step."""
        if self._seeded:
            estimator.random_state = seed
        if hasattr(estimator, "batch_size"):
            estimator.batch_size = len(x)
        estimator.partial_fit(x, classes, classes=np.arange(self._classes), sample_weight=weight)
        if hasattr(estimator, "loss_curve_"):
            del estimator.loss_curve_[:-1]  # it would grow for ever, and only its last entry is read

    def encode(self, x: np.ndarray) -> PyTree:
        """See ``Learner.encode``."""
        return encoded(self._channel, self.predict(x), np.full(len(x), NO_LABEL, np.int32))

    def predict(self, x: np.ndarray) -> Outputs:
        """See ``Learner.predict``; logits are logarithms of probabilities, uniform before the first step."""
        p = np.full((len(x), self._classes), 1 / self._classes)
        if self._fitted():
            with np.errstate(divide="ignore"):  # naive Bayes takes the logarithm of a class's share, which may be 0
                p = self.estimator.predict_proba(_flat(x))
        parts: Any = np.log(np.maximum(p, np.finfo(np.float32).tiny)).astype(np.float32), np.zeros((len(x), 0), "f4")
        return Outputs(*parts)

    def arrays(self) -> dict[str, np.ndarray]:
        """See ``Learner.arrays``; none before the first step."""
        return _state(self.estimator) if self._fitted() else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See ``Learner.restore``."""
        estimator = clone(self.estimator)
        if arrays:
            try:
                estimator = self._blank(int(arrays["n_features_in_"]))
            except (KeyError, TypeError, ValueError):
                raise ValueError("these are not the arrays of a scikit-learn estimator") from None
            width = getattr(self.estimator, "n_features_in_", estimator.n_features_in_)
            if width != estimator.n_features_in_ or not alike(arrays, _state(estimator)):
                raise ValueError("these are the arrays of another model")
            _filled(estimator, arrays)
        settings = self.estimator.get_params(deep=False)
        vars(self.estimator).clear()
        vars(self.estimator).update(vars(estimator) | settings)

    def _fitted(self) -> bool:
        return hasattr(self.estimator, "classes_")

    def _blank(self, width: int) -> Any:
        """Such an estimator after a step on nothing: its state has the right names, shapes and types."""
        estimator = clone(self.estimator)
        classes = np.arange(self._classes)
        self._fit(estimator, np.zeros((self._classes, width), np.float32), classes, np.ones(self._classes), 0)
        return estimator


def _flat(x: np.ndarray) -> np.ndarray:
    """``[B, D]`` float32."""
    return scaled(x).reshape(len(x), -1)


def _parts(value: Any) -> Mapping[str, Any]:
    """What the state of a list, dictionary or object consists of, by name; settings are none of it."""
    match value:
        case list() | tuple():
            return {str(place): part for place, part in enumerate(value)}
        case dict():
            return value
        case np.random.RandomState():
            return value.get_state(legacy=False)
        case None | str():
            return {}
        case _ if hasattr(value, "__dict__"):
            settings = value.get_params(deep=False) if hasattr(value, "get_params") else {}
            return {name: part for name, part in vars(value).items() if name not in settings}
        case _ if value.__reduce__()[1:] == ((),):  # a loss, made without arguments
            return {}
        case _:
            raise TypeError(f"its state holds a {type(value).__name__}, which is no array")


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.generic | np.ndarray) and np.asarray(value).dtype != object


def _state(value: Any, path: str = "") -> dict[str, np.ndarray]:
    """Every number and array of an estimator's state, by its path."""
    if _is_number(value):
        return {path: np.array(value)}
    found = dict[str, np.ndarray]()
    for name, part in _parts(value).items():
        found |= _state(part, f"{path}/{name}" if path else name)
    return found


def _filled(value: Any, arrays: dict[str, np.ndarray], path: str = "") -> Any:
    """The value with the numbers and arrays of its paths; objects are changed in place."""
    if isinstance(value, np.ndarray):
        return arrays[path].copy()
    if _is_number(value):
        return type(value)(arrays[path].item())
    parts = {name: _filled(part, arrays, f"{path}/{name}" if path else name) for name, part in _parts(value).items()}
    match value:
        case list() | tuple():
            return type(value)(parts.values())
        case dict():
            return parts
        case np.random.RandomState():
            value.set_state(parts)
        case _ if parts:
            vars(value).update(parts)
        case _:
            pass
    return value
