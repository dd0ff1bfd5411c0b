"""The settings of one language, and how they become a game between agents."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Literal, NamedTuple

import optax
from pydantic import Field

from palaver.data import Dataset
from palaver.data.inputs import check_unit_inputs
from palaver.language import LanguageGame, language_game
from palaver.language.estimators import ESTIMATORS, Estimator
from palaver.language.generators import GENERATORS, Generator, MakeGenerator
from palaver.language.information import CRITICS, OBJECTIVES, CriticLike, MakeCritic
from palaver.language.levels import Level
from palaver.language.observation import VIEWS
from palaver.studies import fields
from palaver.studies.settings import GraphSettings, StudySettings, settings
from palaver.types import PalaverError


@settings
class LanguageSettings(StudySettings, GraphSettings):
    """Agents that develop a language. Defaults are the thesis's where it has one."""

    data: str = "mnist"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Batch size B, at least 2: a message is contrasted with other examples."""
    learning_rate: fields.NotNegative = 0.001
    """Adam's learning rate; 0: untrained agents, of whom only the online probes learn."""
    agents: fields.Count = 2
    """Number of agents N; agent 0 is the teacher, the others are its students."""
    view: Annotated[str, fields.OneOf(VIEWS)] = "inversion"
    """How agents see an input: own inverted pixels, left or right half, a random window, additive noise."""
    noise: fields.NotNegative = 0.1
    """Inversion's share of inverted pixels, in [0, 1]; additive's standard deviation, 0 or more."""
    crop: fields.PositiveFraction = 0.75
    """Crops' window as a share of height and width, in (0, 1]."""
    generator: Annotated[str, fields.OneOf(GENERATORS)] = "all-at-once"
    """What generates messages: an MLP with a head per position, or a GRU symbol by symbol."""
    length: fields.Count = 32
    """Maximum message length L, in symbols."""
    vocabulary: Annotated[int, Field(ge=2, le=2**16)] = 2
    """Vocabulary size V."""
    variable_length: bool = False
    """Symbol 0 ends a message (recurrent)."""
    length_cost: fields.NotNegative = 0.0
    """Penalty in nats per symbol sent (variable_length), 0 or more."""
    clip: fields.NotNegative = 0.0
    """Bound C of the logits, C tanh(z / C), so that no symbol becomes certain; 0: none."""
    hidden: Annotated[fields.Widths, Field(min_length=1)] = (64,)
    """Generator's hidden widths; the last are its features."""
    estimator: Annotated[str, fields.OneOf(ESTIMATORS)] = "gumbel-softmax"
    """Gradient estimator for symbols."""
    temperature: fields.Positive = 4.0
    """Temperature at the start (gumbel-softmax, straight-through), above 0."""
    decay: fields.PositiveFraction = 0.9
    """Factor of each temperature decay, in (0, 1]."""
    decay_every: fields.Count = 100
    """Steps between two temperature decays."""
    lowest: fields.Positive = 0.5
    """Lowest temperature, above 0."""
    samples: fields.Count = 4
    """Messages drawn for each input (reinforce)."""
    entropy: fields.NotNegative = 0.01
    """Weight of the entropy bonus (reinforce), 0 or more."""
    information: Annotated[str, fields.OneOf(OBJECTIVES)] = "jensen-shannon"
    """Mutual information by: a GAN's discriminator, MINE (donsker-varadhan), InfoNCE, or a decoder (barber-agakov)."""
    all_pairs: bool = False
    """Score each message with all other inputs of the batch, not with one (jensen-shannon, donsker-varadhan)."""
    critic: Annotated[str, fields.OneOf(CRITICS)] = "joint"
    """Joint network, inner product of embeddings (separable), or a decoder's log q(x|s) (likelihood)."""
    critic_hidden: fields.Count = 256
    """The critic's hidden units."""
    level: Level = "none"
    """Who receives whose messages, and whether the receiver's loss trains the sender too."""
    weight: fields.NotNegative = 0.005
    """Weight lambda of the likelihood term, 0 or more."""
    predict: Literal["auto", "sample", "distribution"] = "auto"
    """What predicts a message: soft sample (gumbel-softmax, all-at-once) or distribution; auto: sample if possible."""
    probe_learning_rate: fields.Positive = 0.001
    """Adam's learning rate of the online probes, above 0."""
    steps: fields.Count = 4000
    """Steps of training."""
    eval_every: fields.Count = 200
    """Steps between evaluations."""

    def __post_init__(self) -> None:
        """Raises ``PalaverError`` for values that do not go together."""
        likelihood, own = self.critic == "likelihood", "barber-agakov"
        another = "another view: critic likelihood needs numbers in [0, 1]"
        soft = self.estimator not in ("straight-through", "reinforce") and self.generator != "recurrent"
        automatic = "auto or distribution: sample needs estimator gumbel-softmax and generator all-at-once"
        rules: list[tuple[str, bool, str]] = [
            ("noise", self.view != "inversion" or self.noise <= 1, "a share in [0, 1] with view inversion"),
            ("variable_length", self.generator == "recurrent" or not self.variable_length, "False: all-at-once"),
            ("length_cost", self.variable_length or self.length_cost == 0, "0: only variable_length shortens messages"),
            (
                "critic",
                likelihood == (self.information == own),
                f"likelihood if and only if information is {own}",
            ),
            ("view", not likelihood or self.view != "additive", another),
            ("predict", soft or self.predict != "sample", automatic),
            ("lowest", self.lowest <= self.temperature, f"at most temperature ({self.temperature})"),
        ]
        for name, fine, allowed in rules:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        if self.level != "none" and self.agents < 2:
            raise PalaverError(f"level is {self.level} with {self.agents} agent: give at least 2 agents, or level none")
        self.check_graph(self.agents)


def make_estimator(settings: LanguageSettings) -> Estimator:
    """The estimator that the settings name."""
    return ESTIMATORS[settings.estimator](settings)


def make_language(settings: LanguageSettings, data: Dataset) -> LanguageGame:
    """The game that the settings describe, for inputs of this data set's shape.

    Args:
        settings: of the language.
        data: whose inputs the agents see and whose classes the probes learn.

    Raises:
        PalaverError: inputs outside [0, 1], or too few examples.

    """
    _check_data(settings, data)
    message = (settings.length, settings.vocabulary)
    return language_game(
        data.shape,
        data.classes,
        agents=settings.agents,
        view=VIEWS[settings.view](settings),
        generator=_generator(GENERATORS[settings.generator], data.shape, _sizes(settings)),
        estimator=make_estimator(settings),
        objective=OBJECTIVES[settings.information](settings),
        critic=_critic(CRITICS[settings.critic], data.shape, message, settings.critic_hidden),
        level=settings.level,
        weight=settings.weight,
        sampled={"sample": True, "distribution": False}.get(settings.predict),
        length_cost=settings.length_cost,
        topology=settings.make_topology(settings.agents, settings.steps),
        optimizer=optax.adam(settings.learning_rate),
        probe_optimizer=optax.adam(settings.probe_learning_rate),
    )


class _Sizes(NamedTuple):
    """What a generator reads of the settings (``GENERATORS``)."""

    length: int
    vocabulary: int
    hidden: tuple[int, ...]
    clip: float
    variable_length: bool


def _sizes(settings: LanguageSettings) -> _Sizes:
    return _Sizes._make(getattr(settings, name) for name in _Sizes._fields)


@cache  # rows of a table that have the same network get the same function, so that it is traced once
def _generator(make: Callable[..., Generator], shape: tuple[int, ...], sizes: _Sizes) -> MakeGenerator:
    return lambda rngs: make(shape, sizes, rngs)


@cache
def _critic(
    make: Callable[..., CriticLike], shape: tuple[int, ...], message: tuple[int, int], hidden: int
) -> MakeCritic:
    return lambda rngs: make(shape, message, hidden, rngs)


def _check_data(settings: LanguageSettings, data: Dataset) -> None:
    """Raises ``PalaverError`` for data that agents cannot learn from."""
    check_unit_inputs(data, "a language")
    examples = len(data.y_train)
    if settings.batch_size > examples:
        raise PalaverError(
            f"batch_size is {settings.batch_size} for {examples} training examples of {data.name}: "
            f"give at most {examples}"
        )
    if min(len(data.y_validation), len(data.y_test)) < 3:
        raise PalaverError(f"{data.name} has fewer than 3 examples to validate or to test: give more examples")
