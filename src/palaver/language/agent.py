"""One agent: its messages, the information in them about its view, and how well it predicts other agents' messages."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.arguments import failure_of, function
from palaver.language import levels
from palaver.language.estimators import Estimator, hard
from palaver.language.generators import AllAtOnce, Generator, MakeGenerator, Message
from palaver.language.information import Critic, CriticLike, Information, MakeCritic, scores
from palaver.types import Array, PalaverError, PyTree

Make: TypeAlias = Callable[[nnx.Rngs], Any]
"""``make(rngs)``: a flax module with its initial parameters."""


class Agent(NamedTuple):
    """The functions of one agent and one batch; made by ``agent``."""

    init: Callable[[Array], PyTree]
    """``init(key)``: parameters by part: ``generator``, ``critic``, and the linear online probes ``probe`` (of
    features) and ``message_probe``.
    """
    features: Callable[[PyTree, Array], Array]
    """``features(params, seen [B, ...]) -> [B, D]``."""
    sample: Callable[[PyTree, Array, Array, Array], Message]
    """``sample(params, features, key, step)``: messages as drawn in training."""
    greedy: Callable[[PyTree, Array], Message]
    """``greedy(params, features)``: hard messages, the likeliest symbol at each position; without gradient."""
    information: Callable[[PyTree, Array, Array, Array], tuple[Array, Array, Array]]
    """``information(params, seen, symbols, memory)``: the objective by message ``[B]``, its memory, and I(X; S) in
    nats, a scalar.
    """
    message_nll: Callable[[PyTree, Array, Array, Array, Array], Array]
    """``message_nll(params, features, own, symbols, mask) -> [B]``: nats of another agent's message ``symbols`` under
    this agent's distribution; ``own`` are the symbols that it drew itself.
    """
    probe: Callable[[PyTree, Array, Array], tuple[Array, Array]]
    """``probe(params, features, symbols)``: class logits ``[B, C]`` of both online probes."""
    bound: Callable[[PyTree, Array, Array], Array]
    """``bound(params, seen, symbols)``: InfoNCE's lower bound on I(X; S) in nats with the agent's critic, over all
    pairs of the batch; at most ``log B``.
    """


def agent(parts: dict[str, Make], estimator: Estimator, objective: Information, *, sampled: bool | None) -> Agent:
    """Describes an agent.

    Args:
        parts: from ``agent_parts``.
        estimator: of gradients through symbols.
        objective: of mutual information.
        sampled: as in ``language_game``.

    Returns:
        The agent's functions.

    Raises:
        PalaverError: ``sampled`` where symbols are hard or the generator's positions depend on each other.

    """
    structure = {name: nnx.split(_abstract(make))[0] for name, make in parts.items()}
    by_sample = _by_sample(_abstract(parts["generator"]), estimator, sampled)

    def module(name: str, params: PyTree) -> Any:
        return nnx.merge(structure[name], params[name])

    def features(params: PyTree, seen: Array) -> Array:
        return module("generator", params).features(seen)

    def sample(params: PyTree, features: Array, key: Array, step: Array) -> Message:
        return module("generator", params).generate(
            features, lambda key, logits: estimator.draw(key, logits, step), key
        )

    def greedy(params: PyTree, features: Array) -> Message:
        message = module("generator", params).generate(features, lambda _, logits: hard(logits), jax.random.key(0))
        return jax.lax.stop_gradient(message)

    def information(params: PyTree, seen: Array, symbols: Array, memory: Array) -> tuple[Array, Array, Array]:
        how = {"all_pairs": objective.all_pairs, "of_likelihoods": objective.of_likelihoods}
        pairs = scores(module("critic", params), seen, symbols, **how)
        return *objective.objective(*pairs, memory), objective.nats(*pairs)

    def message_nll(params: PyTree, features: Array, own: Array, symbols: Array, mask: Array) -> Array:
        if by_sample:
            logs = jnp.log(jnp.maximum(own, jnp.finfo(own.dtype).tiny))
        else:
            logs = jax.nn.log_softmax(module("generator", params).logits(features, symbols))
        return levels.message_nll(logs, symbols, mask)

    def probe(params: PyTree, features: Array, symbols: Array) -> tuple[Array, Array]:
        flat = symbols.reshape(symbols.shape[0], -1)
        return module("probe", params)(features), module("message_probe", params)(flat)

    def bound(params: PyTree, seen: Array, symbols: Array) -> Array:
        return _bound(module("critic", params), seen, symbols, objective.of_likelihoods)

    return Agent(_init(tuple(parts.items())), features, sample, greedy, information, message_nll, probe, bound)


def _by_sample(generator: Generator, estimator: Estimator, sampled: bool | None) -> bool:
    """Whether the receiver's own sample predicts messages; see ``language_game``."""
    soft = estimator.soft and generator.independent
    if sampled and not soft:
        raise PalaverError("sampled is True: give None, or soft symbols and a generator of independent positions")
    return soft and sampled is not False


def _bound(critic: CriticLike, seen: Array, symbols: Array, of_likelihoods: bool) -> Array:
    """See ``Agent.bound``."""
    inputs, messages = critic.codes(seen, symbols)
    table = jax.lax.map(lambda s: critic.table(inputs, s[None])[:, 0], messages, batch_size=64)
    negatives = 0 if of_likelihoods else 1  # other messages, or other inputs
    return (jnp.diagonal(table) - jax.nn.logsumexp(table, axis=negatives)).mean() + jnp.log(len(table))


def _check_make(name: str, make: Any) -> None:
    """Raises ``PalaverError`` unless it is a function; a module can be called too, but makes none."""
    remedy = f"a function of random streams that makes the {name}: lambda rngs: ..."
    function(name, None if isinstance(make, nnx.Module) else make, remedy)


# Several ask for the modules of one agent, rows of a table have the same ones, and planning them takes their tracing.
_traced_once = lru_cache(maxsize=64)


@_traced_once
def _init(parts: tuple[tuple[str, Make], ...]) -> Callable[[Array], PyTree]:
    """See ``Agent.init``; inlined, so that programs are as if it were traced anew."""

    def init(key: Array) -> PyTree:
        keys = jax.random.split(key, len(parts))
        made = {name: make(nnx.Rngs(own)) for own, (name, make) in zip(keys, parts, strict=True)}
        return {name: nnx.to_pure_dict(nnx.split(part)[1]) for name, part in made.items()}

    return jax.jit(init, inline=True)


@_traced_once
def _abstract(make: Make) -> Any:
    """The module with shapes in place of arrays."""
    return nnx.eval_shape(lambda: make(nnx.Rngs(0)))


@_traced_once
def _width(make: MakeGenerator, shape: tuple[int, ...]) -> int:
    """Of a generator's features."""
    seen = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(lambda x: make(nnx.Rngs(0)).features(x), seen).shape[-1]


@_traced_once
def _linear(inputs: int, outputs: int) -> Make:
    """Makes an online probe."""
    return lambda rngs: nnx.Linear(inputs, outputs, rngs=rngs)


def agent_parts(
    shape: Sequence[int], classes: int, generator: MakeGenerator | None, critic: MakeCritic | None, likelihoods: bool
) -> dict[str, Make]:
    """What makes each part of an agent; random keys are split in this order.

    Args:
        shape: of one input.
        classes: C, of the probes' labels.
        generator: as in ``language_game``.
        critic: as in ``language_game``.
        likelihoods: whether the objective needs the critic's scores to be log-likelihoods.

    Returns:
        ``make(rngs)`` of ``generator``, ``critic``, ``probe`` and ``message_probe``.

    Raises:
        PalaverError: a generator or critic that cannot be made, or does not take such inputs; or the critic's scores
            are not log-likelihoods where they have to be.

    """
    make: MakeGenerator = (lambda rngs: AllAtOnce(shape, rngs=rngs)) if generator is None else generator
    _check_make("generator", make)
    with failure_of("generator", f"give a function of random streams that makes one for inputs of shape {shape}"):
        plain: Generator = _abstract(make)
        message = plain.length, plain.vocabulary
        width = _width(make, tuple(shape))
    kind = "likelihood" if likelihoods else "joint"
    critic = (lambda rngs: Critic(shape, message, kind=kind, rngs=rngs)) if critic is None else critic
    _check_make("critic", critic)
    with failure_of("critic", "give a function of random streams that makes one, such as a Critic"):
        made = _abstract(critic)
        suits = not likelihoods or made.of_likelihoods
    if not suits:
        raise PalaverError("the objective needs log-likelihoods: give a critic of kind likelihood")
    return {
        "generator": make,
        "critic": critic,
        "probe": _linear(width, classes),
        "message_probe": _linear(math.prod(message), classes),
    }
