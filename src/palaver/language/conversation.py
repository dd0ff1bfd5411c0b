"""Agents that make up a discrete language, as pure functions for one group and one batch (thesis ch. 4).

Each agent sees the same inputs its own way, writes a message about each, and climbs the mutual information between what
it sees and what it says; as far as the level of communication goes, it also learns to foresee what others say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from palaver import topology as topologies
from palaver.language import estimators, information, levels, observation
from palaver.language.agent import agent
from palaver.language.estimators import Estimator, advantage
from palaver.language.generators import AllAtOnce, Said
from palaver.language.information import Critic, Information
from palaver.language.levels import Level
from palaver.language.observation import View
from palaver.types import Array, PalaverError, PyTree, Topology


class Group(NamedTuple):
    """Where a group of ``N`` agents stands."""

    params: PyTree
    """Leaves ``[N, ...]``, by part: ``generator``, ``critic``, and the linear ``reader``s of features and messages."""
    opt_state: PyTree
    """Of the optimiser, over all of them."""
    view: PyTree
    """What stays of each agent's view, leaves ``[N, ...]``."""
    memory: Array
    """``[N]`` of the information objective."""
    step: Array
    """Scalar int32: steps of training so far."""


class Terms(NamedTuple):
    """What agents gain and lose on a batch, each a mean over it."""

    loss: Array
    """Scalar: all of it together, what is descended."""
    information: Array
    """``[N]`` I(X; S) in nats as the objective estimates it, of messages as drawn."""
    likelihood: Array
    """``[N]`` nats a message: how surprised an agent is by those it hears; 0 where it hears nobody."""
    memory: Array
    """``[N]`` the information objective's memory, after this batch."""


class Spoken(NamedTuple):
    """What agents say in evaluation: hard messages."""

    features: Array
    """``[N, B, D]``."""
    symbols: Array
    """``[N, B, L]`` int32 ids."""
    logits: Array
    """``[N, B, L, V]``."""


class Language(NamedTuple):
    """The functions of one description; made by ``conversation``. ``vmap`` them over seeds."""

    init: Callable[[Array], Group]
    """``init(key)``."""
    step: Callable[[Array, Group, Array, Array], tuple[Group, Terms]]
    """``step(key, group, x [B, ...], labels [B])``: one step of all agents."""
    terms: Callable[[Array, Group, PyTree, Array, Array], Terms]
    """``terms(key, group, params, x, labels)``: the losses at ``params``, to be differentiated by them."""
    look: Callable[[Group, Array, Array], Array]
    """``look(group, x [B, ...], index [B]) -> [N, B, ...]``: what each sees in evaluation; a random view looks at the
    example of an index the same way every time.
    """
    speak: Callable[[Group, Array], Spoken]
    """``speak(group, seen [N, B, ...])``: features and hard messages."""
    read: Callable[[Group, Spoken], tuple[Array, Array]]
    """``read(group, spoken)``: class logits ``[N, B, C]`` of the linear readers of features and of messages."""
    nats: Callable[[Group, Array, Spoken], Array]
    """``nats(group, seen, spoken) -> [N]``: I(X; S) of hard messages as InfoNCE with the agent's own critic bounds it,
    over all pairs of the batch; at most ``log B``.
    """


class _Draw(NamedTuple):
    """A message of every agent about every example."""

    said: Said
    """Leaves ``[N, B, ...]``."""
    gain: Array
    """``[N, B]`` the information objective."""
    surprise: Array
    """``[N, B]`` of the agent by those it hears."""
    caused: Array
    """``[N, B]`` of others by the agent; 0 where they do not tell."""
    memory: Array
    """``[N]``."""
    nats: Array
    """``[N]``."""


_KINDS = {"generator": "agent", "critic": "agent", "reader": "reader", "message_reader": "reader"}
"""Whose optimiser moves each part of the parameters."""

_EVALUATION = 20_220_511
"""Key of random views in evaluation."""


def conversation(
    shape: Sequence[int],
    classes: int,
    *,
    agents: int = 2,
    view: View | None = None,
    generator: Callable[[nnx.Rngs], Any] | None = None,
    estimator: Estimator | None = None,
    objective: Information | None = None,
    critic: Callable[[nnx.Rngs], Any] | None = None,
    level: Level = "none",
    weight: float = 0.005,
    sampled: bool = True,
    length_cost: float = 0.0,
    topology: Topology | None = None,
    optimizer: optax.GradientTransformation | None = None,
    reader_optimizer: optax.GradientTransformation | None = None,
) -> Language:
    """Describes a language; every choice is an argument, and the defaults are the thesis's.

    Args:
        shape: of one input, values in [0, 1].
        classes: C, of the labels that only the linear readers are trained on; no gradient of theirs reaches an agent.
        agents: N.
        view: what each sees; None: ``inversion()``.
        generator: makes the module that writes messages (``palaver.language.generators``); None: ``AllAtOnce``.
        estimator: how gradients get through symbols; None: ``gumbel_softmax()``.
        objective: of mutual information; None: ``jensen_shannon()``.
        critic: makes the critic of inputs and messages; None: ``Critic``, of likelihoods if the objective needs them.
        level: of communication.
        weight: λ of the likelihood term (eq. 4.2.5 with a weight); the thesis: 0.01 receiving, 0.005 with feedback.
        sampled: whether a listener foresees with its own soft sample s_B, as under eq. 4.2.6; otherwise, and always
            with hard symbols or a recurrent generator, with its distribution: ``E[−log p(s_A | x_B)]`` (eq. 4.2.4).
        length_cost: nats for every symbol before the end of a message of variable length.
        topology: to whom each speaks, in every round to as many; None: to everybody.
        optimizer: of generators and critics, an optax transformation; None: Adam with its default learning rate 0.001.
        reader_optimizer: of the linear readers; None: the same.

    Raises:
        PalaverError: an unknown level, no agent, a negative weight, a topology of other agents, or a critic without
            likelihoods where the objective needs them.

    """
    levels.check(level)
    if agents < 1:
        raise PalaverError(f"agents is {agents}: give at least 1")
    if not weight >= 0 or not length_cost >= 0:
        raise PalaverError(f"weight {weight}, length_cost {length_cost}: give 0 or more")
    view = observation.inversion() if view is None else view
    estimator = estimators.gumbel_softmax() if estimator is None else estimator
    objective = information.jensen_shannon() if objective is None else objective
    topology = topologies.full(agents) if topology is None else topology
    adam = optax.adam(1e-3)
    kinds: dict[Any, optax.GradientTransformation] = {"agent": optimizer or adam, "reader": reader_optimizer or adam}
    optimizer = optax.multi_transform(kinds, _KINDS)
    neighbours = topology(jnp.int32(0))
    if neighbours.shape[0] != agents:
        raise PalaverError(f"a topology of {neighbours.shape[0]} for {agents} agents: give one of as many")
    most = levels.in_degree(neighbours)
    writes = (lambda rngs: AllAtOnce(shape, rngs=rngs)) if generator is None else generator
    plain = nnx.eval_shape(lambda: writes(nnx.Rngs(0)))
    message = (plain.length, plain.vocabulary)
    kind = "likelihood" if objective.of_likelihoods else "joint"
    judges = (lambda rngs: Critic(shape, message, kind=kind, rngs=rngs)) if critic is None else critic
    if objective.of_likelihoods and getattr(nnx.eval_shape(lambda: judges(nnx.Rngs(0))), "kind", "") != "likelihood":
        raise PalaverError("the critic's scores are no likelihoods: give one of kind likelihood, or another objective")
    one = agent(shape, classes, writes, judges, estimator=estimator, objective=objective, sampled=sampled)
    each = jax.vmap

    def init(key: Array) -> Group:
        made, seen = jax.random.split(key)
        params = each(one.init)(jax.random.split(made, agents))
        begun = jnp.full(agents, jnp.inf, jnp.float32)
        return Group(params, optimizer.init(params), view.init(seen, agents, shape), begun, jnp.int32(0))

    def see(key: Array, fixed: PyTree, x: Array) -> Array:
        """``[N, B, ...]``: each agent's view of the batch."""
        return each(view.see, in_axes=(0, 0, None))(jax.random.split(key, agents), fixed, x)

    def draw(key: Array, group: Group, params: PyTree, seen: Array, features: Array) -> _Draw:
        keys = jax.random.split(key, agents)
        said = each(one.write, in_axes=(0, 0, 0, None))(params, features, keys, group.step)
        gains, memory, nats = each(one.gain)(params, seen, said.symbols, group.memory)
        if level == "none" or agents == 1:
            return _Draw(said, gains, jnp.zeros_like(gains), jnp.zeros_like(gains), memory, nats)
        heard = levels.heard(level, topology(group.step), most)
        sent = [levels.as_sent(part, level)[heard.sender] for part in (said.symbols, said.alive)]
        of_each = jax.vmap(one.surprise, in_axes=(None, None, None, 0, 0))
        told = heard.weight[..., None] * each(of_each)(params, features, said.symbols, *sent)
        caused = jnp.zeros_like(gains)
        if levels.reaches_sender(level):
            caused = caused.at[heard.sender].add(told)
        return _Draw(said, gains, told.sum(1), caused, memory, nats)

    def terms(key: Array, group: Group, params: PyTree, x: Array, labels: Array) -> Terms:
        looked, *keys = jax.random.split(key, 1 + estimator.samples)
        seen = see(looked, group.view, x)
        features = each(one.features)(params, seen)
        # [K, N, B, ...]: K messages about each example.
        drawn = jax.vmap(lambda key: draw(key, group, params, seen, features))(jnp.stack(keys))
        lengths = drawn.said.alive.sum(-1)
        loss = weight * drawn.surprise - drawn.gain + length_cost * lengths
        if estimator.crosses_wire:
            logs = jax.nn.log_softmax(drawn.said.logits)
            chosen = -levels.likelihood(logs, drawn.said.symbols, drawn.said.alive)
            entropy = -(jnp.exp(logs) * logs).sum(-1) * drawn.said.alive
            bonus = estimator.entropy * entropy.sum(-1)
            # What was said decides how much entropy is left to come, so the bonus is part of the reward too.
            reward = drawn.gain - weight * drawn.caused - length_cost * lengths + bonus
            loss -= jax.lax.stop_gradient(advantage(reward)) * chosen + bonus
        total = loss.mean((0, 2)).sum()
        # Whatever was drawn, the readers learn from the features and from what would be said in evaluation.
        features = jax.lax.stop_gradient(features)
        for logits in each(one.read)(params, features, each(one.plainly)(params, features).symbols):
            total += optax.softmax_cross_entropy_with_integer_labels(logits, labels[None]).mean(1).sum()
        memory = jax.nn.logsumexp(drawn.memory, axis=0) - jnp.log(estimator.samples)
        return Terms(total, drawn.nats.mean(0), drawn.surprise.mean((0, 2)), memory)

    def step(key: Array, group: Group, x: Array, labels: Array) -> tuple[Group, Terms]:
        def loss(params: PyTree) -> tuple[Array, Terms]:
            found = terms(key, group, params, x, labels)
            return found.loss, found

        slope, found = jax.grad(loss, has_aux=True)(group.params)
        updates, opt_state = optimizer.update(slope, group.opt_state, group.params)
        params: PyTree = optax.apply_updates(group.params, updates)
        return Group(params, opt_state, group.view, found.memory, group.step + 1), found

    def look(group: Group, x: Array, index: Array) -> Array:
        def one(fixed: PyTree, number: Array) -> Array:
            def alone(x: Array, index: Array) -> Array:
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(_EVALUATION), index), number)
                return view.see(key, fixed, x[None])[0]

            return jax.vmap(alone)(x, index)

        return each(one)(group.view, jnp.arange(agents))

    def speak(group: Group, seen: Array) -> Spoken:
        features = each(one.features)(group.params, seen)
        said = each(one.plainly)(group.params, features)
        return Spoken(features, said.symbols.argmax(-1).astype(jnp.int32), said.logits)

    def words(spoken: Spoken) -> Array:
        return jax.nn.one_hot(spoken.symbols, one.vocabulary)

    def nats(group: Group, seen: Array, spoken: Spoken) -> Array:
        return each(one.bound)(group.params, seen, words(spoken))

    def read(group: Group, spoken: Spoken) -> tuple[Array, Array]:
        return each(one.read)(group.params, spoken.features, words(spoken))

    return Language(init, step, terms, look, speak, read, nats)
