"""One agent: what it writes, what that says about what it saw, and how it foresees what others write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.language import levels
from palaver.language.estimators import Estimator, hard
from palaver.language.generators import Said
from palaver.language.information import Information, scores
from palaver.types import Array, PyTree


class Agent(NamedTuple):
    """The functions of one agent and one batch; made by ``agent``."""

    init: Callable[[Array], PyTree]
    """``init(key)``: parameters by part: ``generator``, ``critic``, ``reader`` (of features), ``message_reader``."""
    features: Callable[[PyTree, Array], Array]
    """``features(params, seen [B, ...]) -> [B, D]``."""
    write: Callable[[PyTree, Array, Array, Array], Said]
    """``write(params, features, key, step)``: messages as drawn in training."""
    plainly: Callable[[PyTree, Array], Said]
    """``plainly(params, features)``: hard messages, the likeliest symbol at each position; nothing to differentiate."""
    gain: Callable[[PyTree, Array, Array, Array], tuple[Array, Array, Array]]
    """``gain(params, seen, symbols, memory)``: the objective by message ``[B]``, its memory, and I(X; S) in nats."""
    surprise: Callable[[PyTree, Array, Array, Array, Array], Array]
    """``surprise(params, features, own, symbols, alive) -> [B]``: nats, by another's messages; ``own`` are its own."""
    read: Callable[[PyTree, Array, Array], tuple[Array, Array]]
    """``read(params, features, symbols)``: class logits ``[B, C]`` of both linear readers."""
    bound: Callable[[PyTree, Array, Array], Array]
    """``bound(params, seen, symbols)``: I(X; S) in nats as InfoNCE with the agent's critic bounds it, over all pairs
    of the batch; at most ``log B``.
    """
    vocabulary: int
    """V."""


def agent(
    shape: Sequence[int],
    classes: int,
    generator: Callable[[nnx.Rngs], Any],
    critic: Callable[[nnx.Rngs], Any],
    *,
    estimator: Estimator,
    objective: Information,
    sampled: bool,
) -> Agent:
    """Describes an agent; arguments as ``conversation``."""
    plain = nnx.eval_shape(lambda: generator(nnx.Rngs(0)))
    seen = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    width = jax.eval_shape(lambda x: generator(nnx.Rngs(0)).features(x), seen).shape[-1]
    parts: dict[str, Callable[[nnx.Rngs], Any]] = {
        "generator": generator,
        "critic": critic,
        "reader": lambda rngs: nnx.Linear(width, classes, rngs=rngs),
        "message_reader": lambda rngs: nnx.Linear(plain.length * plain.vocabulary, classes, rngs=rngs),
    }
    structure = {name: nnx.split(nnx.eval_shape(partial(_made, make)))[0] for name, make in parts.items()}

    def module(name: str, params: PyTree) -> Any:
        return nnx.merge(structure[name], params[name])

    def init(key: Array) -> PyTree:
        keys = jax.random.split(key, len(parts))
        made = {name: make(nnx.Rngs(own)) for own, (name, make) in zip(keys, parts.items(), strict=True)}
        return {name: nnx.to_pure_dict(nnx.split(part)[1]) for name, part in made.items()}

    def write(params: PyTree, features: Array, key: Array, step: Array) -> Said:
        return module("generator", params).say(features, lambda key, logits: estimator.draw(key, logits, step), key)

    def plainly(params: PyTree, features: Array) -> Said:
        said = module("generator", params).say(features, lambda _, logits: hard(logits), jax.random.key(0))
        return jax.lax.stop_gradient(said)

    def gain(params: PyTree, seen: Array, symbols: Array, memory: Array) -> tuple[Array, Array, Array]:
        how = {"all_pairs": objective.all_pairs, "of_likelihoods": objective.of_likelihoods}
        found = scores(module("critic", params), seen, symbols, **how)
        return *objective.climb(*found, memory), objective.nats(*found)

    def surprise(params: PyTree, features: Array, own: Array, symbols: Array, alive: Array) -> Array:
        if sampled and estimator.soft and plain.independent:
            logs = jnp.log(jnp.maximum(own, jnp.finfo(own.dtype).tiny))
        else:
            logs = jax.nn.log_softmax(module("generator", params).read(features, symbols))
        return levels.likelihood(logs, symbols, alive)

    def read(params: PyTree, features: Array, symbols: Array) -> tuple[Array, Array]:
        flat = symbols.reshape(symbols.shape[0], -1)
        return module("reader", params)(features), module("message_reader", params)(flat)

    def bound(params: PyTree, seen: Array, symbols: Array) -> Array:
        judge = module("critic", params)
        inputs, messages = judge.codes(seen, symbols)
        table = jax.lax.map(lambda s: judge.table(inputs, s[None])[:, 0], messages, batch_size=64)
        others = 0 if objective.of_likelihoods else 1  # messages or inputs
        return (jnp.diagonal(table) - jax.nn.logsumexp(table, axis=others)).mean() + jnp.log(len(table))

    return Agent(
        init=init,
        features=lambda params, seen: module("generator", params).features(seen),
        write=write,
        plainly=plainly,
        gain=gain,
        surprise=surprise,
        read=read,
        bound=bound,
        vocabulary=plain.vocabulary,
    )


def _made(make: Callable[[nnx.Rngs], Any]) -> Any:
    return make(nnx.Rngs(0))
