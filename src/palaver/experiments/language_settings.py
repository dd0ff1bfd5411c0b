"""The settings of one language, and how they become a conversation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import optax
from flax import nnx

from palaver.data import Dataset
from palaver.experiments.settings import named_topology
from palaver.language import Language, conversation, estimators, generators, information, observation
from palaver.types import PalaverError


@dataclass(frozen=True)
class LanguageSettings:
    """Agents that make up a language. Defaults are the thesis's where it has one."""

    data: str = "mnist"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    examples: int = 0
    """Use only so many training examples, and a quarter as many to validate and to test; 0: all."""
    agents: int = 2
    """Number of agents N; agent 0 is the teacher, the others are its students."""
    view: Literal["inversion", "halves", "crops", "additive"] = "inversion"
    """How agents see an input: own inverted pixels, left or right half, a random window, additive noise."""
    noise: float = 0.1
    """Inversion's share of inverted pixels, in [0, 1]; additive's standard deviation, 0 or more."""
    crop: float = 0.75
    """Crops' window as a share of height and width, in (0, 1]."""
    generator: Literal["all-at-once", "recurrent"] = "all-at-once"
    """Who writes: an MLP with a head a position, or a GRU symbol by symbol."""
    length: int = 32
    """Symbols in a message L, at most."""
    vocabulary: int = 2
    """Symbols to choose from V."""
    variable_length: bool = False
    """Symbol 0 ends a message (recurrent)."""
    length_cost: float = 0.0
    """Nats for every symbol until the end of a message of variable length, 0 or more."""
    clip: float = 0.0
    """Bound C of the logits, C tanh(z / C), so that no symbol becomes certain; 0: none."""
    hidden: tuple[int, ...] = (64,)
    """Generator's hidden widths; the last are its features."""
    estimator: Literal["gumbel-softmax", "straight-through", "reinforce"] = "gumbel-softmax"
    """How gradients get through symbols."""
    temperature: float = 4.0
    """Temperature at the start (gumbel-softmax, straight-through), above 0."""
    decay: float = 0.9
    """Its factor, in (0, 1]."""
    decay_every: int = 100
    """Steps between two such decays."""
    lowest: float = 0.5
    """Lowest temperature, above 0."""
    samples: int = 4
    """Messages drawn for each input (reinforce)."""
    entropy: float = 0.01
    """Weight of the entropy bonus (reinforce), 0 or more."""
    information: Literal["jensen-shannon", "donsker-varadhan", "info-nce", "barber-agakov"] = "jensen-shannon"
    """Objective of mutual information: a GAN's discriminator, MINE, InfoNCE, or likelihood of the input."""
    all_pairs: bool = False
    """Score each message with all other inputs of the batch, not with one (jensen-shannon, donsker-varadhan)."""
    critic: Literal["joint", "separable", "likelihood"] = "joint"
    """A network of input and message, inner product of a code of each, or a decoder's log q(x|s)."""
    critic_hidden: int = 256
    """The critic's hidden units."""
    level: Literal["none", "receiving", "feedback", "both"] = "none"
    """Who hears whom, and whether the loss of hearing trains the sender too."""
    weight: float = 0.005
    """Weight lambda of the likelihood term, 0 or more."""
    foresee: Literal["sample", "distribution"] = "sample"
    """What the likelihood is of: the listener's own soft sample (gumbel-softmax), or its distribution."""
    topology: Literal["ring", "full", "random", "random-changing"] = "full"
    """Who is whose neighbour."""
    neighbours: int = 0
    """Neighbours P of each agent; 0: all for full, 2 for ring, 4 (at most N - 1) for random."""
    graph_seed: int = 0
    """Seed of random graphs; the seeds of a run share its graphs."""
    batch_size: int = 64
    """Examples in a batch B."""
    learning_rate: float = 0.001
    """Adam's learning rate; 0: agents as they were made, of whom only the readers learn."""
    reader_rate: float = 0.001
    """Adam's learning rate of the linear readers, above 0."""
    steps: int = 4000
    """Steps of training."""
    eval_every: int = 200
    """Steps between evaluations."""

    def check(self) -> None:
        """Raises ``PalaverError`` for a value out of range; what other parts check themselves is left to them."""
        bounds: list[tuple[str, bool, str]] = [
            ("examples", self.examples >= 0, "0 or more"),
            ("agents", self.agents >= 1, "at least 1"),
            ("hidden", bool(self.hidden) and all(w >= 1 for w in self.hidden), "one width or more, each at least 1"),
            ("length", self.length >= 1, "at least 1"),
            ("vocabulary", 2 <= self.vocabulary <= 2**16, "2 to 65536"),
            (
                "variable_length",
                self.generator == "recurrent" or not self.variable_length,
                "False, for all-at-once always writes the whole length",
            ),
            (
                "length_cost",
                self.variable_length or self.length_cost == 0,
                "0, for only variable_length makes a message shorter",
            ),
            ("length_cost", 0 <= self.length_cost < math.inf, "0 or more"),
            (
                "critic",
                (self.critic == "likelihood") == (self.information == "barber-agakov"),
                "likelihood with information barber-agakov, and with no other",
            ),
            (
                "view",
                self.view != "additive" or self.critic != "likelihood",
                "another with critic likelihood, which is of numbers in [0, 1]",
            ),
            ("critic_hidden", self.critic_hidden >= 1, "at least 1"),
            ("weight", 0 <= self.weight < math.inf, "0 or more"),
            ("neighbours", 0 <= self.neighbours < max(self.agents, 1), f"0 to {self.agents - 1}"),
            ("graph_seed", 0 <= self.graph_seed < 2**32, "0 to 2**32 - 1"),
            ("batch_size", self.batch_size >= 2, "at least 2, for a message is told apart from another's"),
            ("learning_rate", 0 <= self.learning_rate < math.inf, "0 or more"),
            ("reader_rate", 0 < self.reader_rate < math.inf, "above 0"),
            ("steps", self.steps >= 1, "at least 1"),
            ("eval_every", self.eval_every >= 1, "at least 1"),
        ]
        for name, fine, allowed in bounds:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        if self.level != "none" and self.agents < 2:
            raise PalaverError(f"level is {self.level} with {self.agents} agent: give at least 2 agents, or level none")
        if self.topology == "full" and self.neighbours not in (0, self.agents - 1):
            raise PalaverError(
                f"neighbours is {self.neighbours} with topology full: leave it out, or choose ring or random"
            )
        make_view(self)
        make_estimator(self)


def make_view(settings: LanguageSettings) -> observation.View:
    """How the agents see."""
    match settings.view:
        case "inversion":
            return observation.inversion(noise=settings.noise)
        case "halves":
            return observation.halves()
        case "crops":
            return observation.crops(size=settings.crop)
        case "additive":
            return observation.additive(deviation=settings.noise)


def make_estimator(settings: LanguageSettings) -> estimators.Estimator:
    """How gradients get through symbols."""
    if settings.estimator == "reinforce":
        return estimators.reinforce(entropy=settings.entropy, samples=settings.samples)
    schedule = estimators.annealed(
        start=settings.temperature, decay=settings.decay, every=settings.decay_every, floor=settings.lowest
    )
    soft = settings.estimator == "gumbel-softmax"
    return estimators.gumbel_softmax(schedule) if soft else estimators.straight_through(schedule)


def make_language(settings: LanguageSettings, data: Dataset) -> Language:
    """The language that the settings describe, for inputs of this data set's shape.

    Raises:
        PalaverError: settings out of range, inputs outside [0, 1], or too few examples.

    """
    settings.check()
    if data.x_train.dtype != np.uint8:
        low, high = float(data.x_train.min()), float(data.x_train.max())
        if low < 0 or high > 1:
            raise PalaverError(
                f"{data.name} has inputs from {low:g} to {high:g}: a language needs uint8 pixels or numbers in [0, 1]"
            )
    if settings.batch_size > len(data.y_train):
        raise PalaverError(
            f"batch_size is {settings.batch_size} for {len(data.y_train)} training examples of {data.name}: "
            f"give at most {len(data.y_train)}"
        )
    if min(len(data.y_validation), len(data.y_test)) < 3:
        raise PalaverError(f"{data.name} has fewer than 3 examples to validate or to test: give more examples")

    how: dict[str, Any] = {name: getattr(settings, name) for name in ("length", "vocabulary", "hidden", "clip")}
    kind: Any = generators.AllAtOnce
    if settings.generator == "recurrent":
        kind = partial(generators.Recurrent, variable=settings.variable_length)

    def critic(rngs: nnx.Rngs) -> nnx.Module:
        message = (settings.length, settings.vocabulary)
        return information.Critic(data.shape, message, hidden=settings.critic_hidden, kind=settings.critic, rngs=rngs)

    objective = {
        "jensen-shannon": information.jensen_shannon(all_pairs=settings.all_pairs),
        "donsker-varadhan": information.donsker_varadhan(all_pairs=settings.all_pairs),
        "info-nce": information.info_nce(),
        "barber-agakov": information.barber_agakov(),
    }
    return conversation(
        data.shape,
        data.classes,
        agents=settings.agents,
        view=make_view(settings),
        generator=lambda rngs: kind(data.shape, **how, rngs=rngs),
        estimator=make_estimator(settings),
        objective=objective[settings.information],
        critic=critic,
        level=settings.level,
        weight=settings.weight,
        sampled=settings.foresee == "sample",
        length_cost=settings.length_cost,
        topology=named_topology(
            settings.topology,
            settings.agents,
            settings.neighbours,
            seed=settings.graph_seed,
            every=100,
            rounds=settings.steps,
        ),
        optimizer=optax.adam(settings.learning_rate),
        reader_optimizer=optax.adam(settings.reader_rate),
    )
