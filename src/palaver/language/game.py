"""Agents that develop a discrete language, as pure functions for one group and one batch (thesis ch. 4).

Each agent has its own view of the same inputs, sends a message about each, and maximises the mutual information of its
views and its messages; depending on the level of communication, it also learns to predict other agents' messages.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from palaver import topology as topologies
from palaver.arguments import choice, count, flag, instance, number, sizes
from palaver.language import estimators, information, levels, observation
from palaver.language.agent import Agent, agent, agent_parts
from palaver.language.estimators import Estimator, advantage
from palaver.language.generators import MakeGenerator, Message
from palaver.language.information import Information, MakeCritic
from palaver.language.levels import Level
from palaver.language.observation import View
from palaver.node import check_optimizer
from palaver.types import Array, PyTree, Topology


class GameState(NamedTuple):
    """State of a game of ``N`` agents."""

    params: PyTree
    """Leaves ``[N, ...]``, by part: ``generator``, ``critic``, and the linear online probes ``probe`` (of features) and
    ``message_probe``.
    """
    opt_state: PyTree
    """Of the optimiser, over all of them."""
    view: PyTree
    """What stays fixed of each agent's view, leaves ``[N, ...]``."""
    memory: Array
    """``[N]`` of the information objective."""
    step: Array
    """Scalar int32: steps of training so far."""


class LossTerms(NamedTuple):
    """The losses of a batch, each a mean over it."""

    loss: Array
    """Scalar: the sum of all of them over the agents, to be minimised."""
    information: Array
    """``[N]`` I(X; S) in nats as the objective estimates it, of messages as drawn in training."""
    message_nll: Array
    """``[N]`` nats a message: negative log-likelihood of the messages that an agent receives under its own
    distribution; 0 for an agent that receives none.
    """
    memory: Array
    """``[N]`` the information objective's memory, after this batch."""


class Messages(NamedTuple):
    """The agents' hard messages in evaluation."""

    features: Array
    """``[N, B, D]``."""
    symbols: Array
    """``[N, B, L]`` int32 ids."""
    logits: Array
    """``[N, B, L, V]``."""


class LanguageGame(NamedTuple):
    """The functions of one description; made by ``language_game``. ``vmap`` them over seeds."""

    init: Callable[[Array], GameState]
    """``init(key)``: the state before training."""
    step: Callable[[Array, GameState, Array, Array], tuple[GameState, LossTerms]]
    """``step(key, state, x [B, ...], labels [B])``: one step of all agents."""
    terms: Callable[[Array, GameState, PyTree, Array, Array], LossTerms]
    """``terms(key, state, params, x, labels)``: the losses at ``params``, to be differentiated by them."""
    observe: Callable[[GameState, Array, Array], Array]
    """``observe(state, x [B, ...], index [B]) -> [N, B, ...]``: the agents' views in evaluation; a random view depends
    on the example's index alone, so that it is the same every time.
    """
    messages: Callable[[GameState, Array], Messages]
    """``messages(state, seen [N, B, ...])``: features and hard messages."""
    probe: Callable[[GameState, Messages], tuple[Array, Array]]
    """``probe(state, messages)``: class logits ``[N, B, C]`` of the online probes of features and of messages."""
    information: Callable[[GameState, Array, Messages], Array]
    """``information(state, seen, messages) -> [N]``: InfoNCE's lower bound on I(X; S) in nats of hard messages, with
    each agent's own critic over all pairs of the batch; at most ``log B``.
    """


class _Description(NamedTuple):
    """The arguments of ``language_game``, with defaults filled in."""

    agent: Agent
    shape: tuple[int, ...]
    agents: int
    view: View
    estimator: Estimator
    level: Level
    weight: float
    length_cost: float
    topology: Topology
    in_degree: int
    """The largest number of an agent's senders."""
    optimizer: optax.GradientTransformation


class _Draw(NamedTuple):
    """A message of every agent about every example, and what it gives."""

    message: Message
    """Leaves ``[N, B, ...]``."""
    objective: Array
    """``[N, B]`` the information objective."""
    message_nll: Array
    """``[N, B]`` nats of received messages under the agent's distribution."""
    receivers_nll: Array
    """``[N, B]`` nats of the agent's message under its receivers' distributions; 0 where they do not report them."""
    memory: Array
    """``[N]`` of the information objective."""
    nats: Array
    """``[N]`` I(X; S)."""


_OPTIMIZERS = {"generator": "agent", "critic": "agent", "probe": "probe", "message_probe": "probe"}
"""Which of the two optimisers trains each part of the parameters."""

_EVALUATION = 20_220_511
"""Key of random views in evaluation."""


def language_game(
    shape: Sequence[int],
    classes: int,
    *,
    agents: int = 2,
    view: View | None = None,
    generator: MakeGenerator | None = None,
    estimator: Estimator | None = None,
    objective: Information | None = None,
    critic: MakeCritic | None = None,
    level: Level = "none",
    weight: float = 0.005,
    sampled: bool | None = None,
    length_cost: float = 0.0,
    topology: Topology | None = None,
    optimizer: optax.GradientTransformation | None = None,
    probe_optimizer: optax.GradientTransformation | None = None,
) -> LanguageGame:
    """Describes a language game (thesis §4.2); every choice is an argument, and the defaults are the thesis's.

    Args:
        shape: of one input, values in [0, 1].
        classes: C, of the labels that only the online probes learn; their gradients reach no agent.
        agents: N.
        view: what each agent sees; None: ``inversion()``.
        generator: makes the module that generates messages; None: ``AllAtOnce``.
        estimator: of gradients through symbols; None: ``gumbel_softmax()``.
        objective: of mutual information; None: ``jensen_shannon()``.
        critic: makes the critic of inputs and messages; None: ``Critic``, of likelihoods if the objective needs them.
        level: of communication.
        weight: λ ≥ 0 of the message NLL (eq. 4.2.5 with a weight); the thesis: 0.01 receiving, 0.005 with feedback.
        sampled: whether the receiver's soft sample s_B predicts messages (eq. 4.2.6), or its distribution (eq. 4.2.4);
            None: the sample, if symbols are soft and the generator's positions independent, else the distribution.
        length_cost: nats for every symbol before the end of a message of variable length, 0 or more.
        topology: to whom each agent sends, in every step to as many; None: to all others.
        optimizer: of generators and critics; None: Adam with its default learning rate 0.001.
        probe_optimizer: of the online probes; None: the same.

    Returns:
        The game's functions: of a state, a batch and random keys, without side effects.

    Raises:
        PalaverError: an argument of another kind or out of range, an unknown level, a topology of another number of
            agents or whose ids are not theirs, a generator that does not take the inputs, a critic without likelihoods
            where the objective needs them, ``sampled`` where there is no soft sample, or an optimiser that cannot
            update the parameters or multiplies by NaN.

    """
    shape, classes, agents = sizes("shape", shape), count("classes", classes), count("agents", agents)
    choice("level", level, levels.LEVELS)
    weight, length_cost = number("weight", weight, "[0, inf)"), number("length_cost", length_cost, "[0, inf)")
    sampled = None if sampled is None else flag("sampled", sampled)
    topology = topologies.full(agents) if topology is None else topology
    senders = levels.in_degree(topologies.check_topology(topology, agents))
    view, estimator, objective = _choices(view, estimator, objective)
    parts = agent_parts(shape, classes, generator, critic, objective.of_likelihoods)
    one = agent(parts, estimator, objective, sampled=sampled)
    trained = _optimizer(one, optimizer, probe_optimizer)
    made = _Description(one, shape, agents, view, estimator, level, weight, length_cost, topology, senders, trained)
    return _functions(made)


def _choices(view: Any, estimator: Any, objective: Any) -> tuple[View, Estimator, Information]:
    """What was given, checked, and the thesis's choices where nothing was."""
    view = observation.inversion() if view is None else view
    estimator = estimators.gumbel_softmax() if estimator is None else estimator
    objective = information.jensen_shannon() if objective is None else objective
    instance("view", view, View, "what a function of palaver.language.observation returns, such as halves()")
    instance("estimator", estimator, Estimator, "what one of palaver.language.estimators returns, such as reinforce()")
    instance(
        "objective", objective, Information, "what one of palaver.language.information returns, such as info_nce()"
    )
    return view, estimator, objective


def _optimizer(agent: Agent, optimizer: Any, probe_optimizer: Any) -> optax.GradientTransformation:
    """Both optimisers as one, after checks."""
    params = jax.eval_shape(agent.init, jax.random.key(0))
    found: dict[Hashable, optax.GradientTransformation] = {}
    for name, group, given in (("optimizer", "agent", optimizer), ("probe_optimizer", "probe", probe_optimizer)):
        own = {part: tree for part, tree in params.items() if _OPTIMIZERS[part] == group}
        found[group] = check_optimizer(name, optax.adam(1e-3) if given is None else given, [own])
    return optax.multi_transform(found, _OPTIMIZERS)


def _functions(game: _Description) -> LanguageGame:
    return LanguageGame(
        init=partial(_init, game),
        step=partial(_step, game),
        terms=partial(_terms, game),
        observe=partial(_observe, game),
        messages=partial(_messages, game),
        probe=partial(_probe, game),
        information=partial(_information, game),
    )


def _init(game: _Description, key: Array) -> GameState:
    made, seen = jax.random.split(key)
    params = jax.vmap(game.agent.init)(jax.random.split(made, game.agents))
    view = game.view.init(seen, game.agents, game.shape)
    memory = jnp.full(game.agents, jnp.inf, jnp.float32)
    return GameState(params, game.optimizer.init(params), view, memory, jnp.int32(0))


def _draw(game: _Description, key: Array, state: GameState, params: PyTree, seen: Array, features: Array) -> _Draw:
    keys = jax.random.split(key, game.agents)
    message = jax.vmap(game.agent.sample, in_axes=(0, 0, 0, None))(params, features, keys, state.step)
    values, memory, nats = jax.vmap(game.agent.information)(params, seen, message.symbols, state.memory)
    nothing = jnp.zeros_like(values)
    if game.level == "none" or game.agents == 1:
        return _Draw(message, values, nothing, nothing, memory, nats)
    reception = levels.reception(game.level, game.topology(state.step), game.in_degree)
    feedback = levels.reaches_sender(game.level)
    sent = message if feedback else jax.lax.stop_gradient(message)
    received = sent.symbols[reception.senders], sent.mask[reception.senders]
    of_senders = jax.vmap(game.agent.message_nll, in_axes=(None, None, None, 0, 0))
    nll = reception.weights[..., None] * jax.vmap(of_senders)(params, features, message.symbols, *received)
    reported = nothing.at[reception.senders].add(nll) if feedback else nothing
    return _Draw(message, values, nll.sum(1), reported, memory, nats)


def _terms(game: _Description, key: Array, state: GameState, params: PyTree, x: Array, labels: Array) -> LossTerms:
    agent, estimator = game.agent, game.estimator
    view_key, *keys = jax.random.split(key, 1 + estimator.samples)
    seen = jax.vmap(game.view.see, in_axes=(0, 0, None))(jax.random.split(view_key, game.agents), state.view, x)
    features = jax.vmap(agent.features)(params, seen)
    # [K, N, B, ...]: K messages about each example.
    drawn = jax.vmap(lambda key: _draw(game, key, state, params, seen, features))(jnp.stack(keys))
    lengths = drawn.message.mask.sum(-1)
    loss = game.weight * drawn.message_nll - drawn.objective + game.length_cost * lengths
    if estimator.crosses_wire:
        logs = jax.nn.log_softmax(drawn.message.logits)
        chosen = -levels.message_nll(logs, drawn.message.symbols, drawn.message.mask)
        entropy = -(jnp.exp(logs) * logs).sum(-1) * drawn.message.mask
        bonus = estimator.entropy * entropy.sum(-1)
        # The symbols drawn so far decide the entropy of those that follow, so the bonus is part of the reward too.
        reward = drawn.objective - game.weight * drawn.receivers_nll - game.length_cost * lengths + bonus
        loss -= jax.lax.stop_gradient(advantage(reward)) * chosen + bonus
    total = loss.mean((0, 2)).sum()
    # The online probes learn from the features and from the messages as in evaluation, not from those drawn.
    features = jax.lax.stop_gradient(features)
    for logits in jax.vmap(agent.probe)(params, features, jax.vmap(agent.greedy)(params, features).symbols):
        total += optax.softmax_cross_entropy_with_integer_labels(logits, labels[None]).mean(1).sum()
    memory = jax.nn.logsumexp(drawn.memory, axis=0) - jnp.log(estimator.samples)
    return LossTerms(total, drawn.nats.mean(0), drawn.message_nll.mean((0, 2)), memory)


def _step(game: _Description, key: Array, state: GameState, x: Array, labels: Array) -> tuple[GameState, LossTerms]:
    def loss(params: PyTree) -> tuple[Array, LossTerms]:
        terms = _terms(game, key, state, params, x, labels)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = game.optimizer.update(grads, state.opt_state, state.params)
    params: PyTree = optax.apply_updates(state.params, updates)
    return GameState(params, opt_state, state.view, terms.memory, state.step + 1), terms


def _observe(game: _Description, state: GameState, x: Array, index: Array) -> Array:
    def one(fixed: PyTree, number: Array, x: Array, index: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(_EVALUATION), index), number)
        return game.view.see(key, fixed, x[None])[0]

    examples = jax.vmap(one, in_axes=(None, None, 0, 0))
    return jax.vmap(examples, in_axes=(0, 0, None, None))(state.view, jnp.arange(game.agents), x, index)


def _messages(game: _Description, state: GameState, seen: Array) -> Messages:
    features = jax.vmap(game.agent.features)(state.params, seen)
    message = jax.vmap(game.agent.greedy)(state.params, features)
    return Messages(features, message.symbols.argmax(-1).astype(jnp.int32), message.logits)


def _probe(game: _Description, state: GameState, messages: Messages) -> tuple[Array, Array]:
    symbols = jax.nn.one_hot(messages.symbols, messages.logits.shape[-1])
    return jax.vmap(game.agent.probe)(state.params, messages.features, symbols)


def _information(game: _Description, state: GameState, seen: Array, messages: Messages) -> Array:
    symbols = jax.nn.one_hot(messages.symbols, messages.logits.shape[-1])
    return jax.vmap(game.agent.bound)(state.params, seen, symbols)
