"""The settings of one collective, and how they become nodes, a topology and shards."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import jax.numpy as jnp
import optax
from pydantic import Field

from palaver.channels import CHANNELS, OF_CLASSES
from palaver.data import SPLITS, Dataset
from palaver.data.inputs import check_unit_inputs
from palaver.exchange.description import Collective, collective
from palaver.exchange.inbox import OVERFLOW
from palaver.exchange.shards import shards
from palaver.exchange.state import Shards
from palaver.models import AUTOENCODERS, MODELS, Architecture
from palaver.node import learner
from palaver.objectives import OBJECTIVES
from palaver.studies import fields
from palaver.studies.settings import GraphSettings, StudySettings, settings
from palaver.types import PalaverError

"""Channels that only nodes with class scores can use."""


@settings
class CollectiveSettings(StudySettings, GraphSettings):
    """One collective: its data, nodes, topology, channel and training. Defaults are the thesis's where it has one."""

    fraction: fields.PositiveFraction = 1.0
    """Share of the training set that the collective owns, in (0, 1]."""
    split: Annotated[str, fields.OneOf(SPLITS)] = "iid"
    """How the training set is divided among the nodes: at random, with label skew, or sorted by class."""
    skew: fields.PositiveDouble = 0.5
    """Dirichlet concentration alpha of the label skew, above 0; smaller is more skewed."""
    nodes: fields.Count = 10
    """Number of nodes N."""
    objective: Annotated[str, fields.OneOf(OBJECTIVES)] = "labels"
    """A node's local objective: labels (supervised), or without labels vae or bigan (evaluated by a linear probe)."""
    model: Annotated[str, fields.OneOf(MODELS, "auto")] = "auto"
    """Network of every node (vae, bigan: of the encoder); auto: cnn for images of 32 x 32 and more, mlp otherwise."""
    widths: fields.Widths = ()
    """Hidden widths (mlp) or channels (cnn); empty: mlp 32 32 (vae, bigan: 256 128), cnn 32 64 128."""
    latent: fields.Count = 32
    """Latent dimension (vae, bigan)."""
    beta: fields.NotNegative = 1.0
    """Weight of a VAE's KL term, 0 or more."""
    dropout: fields.FractionBelowOne = 0.0
    """Dropout rate after every hidden layer, in [0, 1)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of the networks' products; bfloat16: mixed precision, all other numbers are float32."""
    channel: Annotated[str, fields.OneOf(CHANNELS)] = "labels"
    """What nodes send each other; without labels: features (codes) or gaussian (a VAE's code distributions)."""
    temperature: fields.Positive = 1.0
    """Temperature tau of received logits, above 0; below 1 sharpens them."""
    payload_bits: Literal[32, 16, 8, 7, 6, 5, 4, 3, 2, 1, 0] = 32
    """Bits of every class score that is sent: 32, 16, or 8 to 1 for probabilities; with top also 0, class ids alone."""
    top: fields.CountOrZero = 0
    """How many class scores are sent, the largest, fewer than there are classes; 0: all."""
    mix: fields.Fraction = 0.5
    """Weight alpha of the true label in labels+logits, in [0, 1]."""
    feature_weight: fields.Positive = 1.0
    """Scaling factor of the features and gaussian objectives, above 0."""
    projection: bool = False
    """Put a learned linear map between a node's features and those it receives."""
    p_consume: fields.Fraction = 0.5
    """Probability per round that a node reads its inbox."""
    p_broadcast: Annotated[float, Field(ge=-1, le=1)] = -1.0
    """Probability per round that a node broadcasts; -1: as many packets arrive as are read."""
    inbox: fields.Count = 16
    """Packets an inbox holds."""
    overflow: Annotated[str, fields.OneOf(OVERFLOW)] = "drop_oldest"
    """Which packet a full inbox drops."""
    rebroadcast: bool = True
    """Whether a consumed batch may be broadcast again."""
    burn_in: fields.CountOrZero = 0
    """Rounds before any node broadcasts; a probe's best evaluation comes after them."""
    adam_beta1: fields.FractionBelowOne = 0.9
    """Adam's beta1, in [0, 1); DCGAN recommends 0.5 for adversarial training."""
    rounds: fields.CountOrZero = 1000
    """Rounds; in each, every node takes one training step. 0, without labels: untrained nodes are evaluated."""
    eval_every: fields.Count = 50
    """Rounds between evaluations."""
    eval_examples: fields.CountOrZero = 0
    """Validation examples used before the reported round; 0: all."""
    report_round: fields.CountOrZero = 0
    """Round whose accuracies the summary gives, while training goes on to the last; 0: the last."""
    target: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """Accuracy, in (0, 1); the first round that reaches it is reported."""
    calibrate: bool = False
    """Also report test accuracies with one temperature per node, fitted on validation data."""

    def __post_init__(self) -> None:
        """Raises ``PalaverError`` for values that do not go together."""
        reported, labels = self.report_round or self.rounds, self.objective not in AUTOENCODERS
        of_objective = f"for objective {self.objective}"
        codes = not labels and self.channel != "none"
        channels = [name for name in CHANNELS if self._fits(name)]
        built = ["auto", *(name for name, network in MODELS.items() if network.autoencoders)]
        rules: list[tuple[str, bool, str]] = [
            ("dropout", labels or self.dropout == 0, f"0 {of_objective}, which has no dropout"),
            ("eval_examples", labels or self.eval_examples == 0, f"0 {of_objective}, whose probes need all"),
            ("beta", self.objective == "vae" or self.beta == 1, f"1 {of_objective}, which has no beta"),
            ("calibrate", labels or not self.calibrate, f"False {of_objective}: probes are not calibrated"),
            ("p_broadcast", self.p_broadcast == -1 or self.p_broadcast >= 0, "-1 or a probability in [0, 1]"),
            ("burn_in", self.burn_in < max(reported, 1), f"0 to {max(reported, 1) - 1}, before round {reported}"),
            ("inbox", self.nodes * (self.inbox + 1) <= fields.MOST, f"at most {fields.MOST // self.nodes - 1}"),
            ("rounds", self.rounds >= labels, f"at least 1 {of_objective}"),
            ("report_round", self.report_round <= self.rounds, f"0 to rounds ({self.rounds})"),
            ("model", labels or self.model in built, f"one of {', '.join(built)} {of_objective}"),
            ("channel", self.channel in channels, f"one of {', '.join(channels)} {of_objective}"),
            ("payload_bits", self.payload_bits > 0 or self.top > 0, "32, 16, or 8 to 1, or top of at least 1 too"),
            ("projection", codes or not self.projection, "False, or a vae or bigan that sends features or gaussian"),
        ]
        for name, fine, allowed in rules:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        self.check_graph(self.nodes)

    def _fits(self, channel: str) -> bool:
        """Whether nodes with this objective have what the channel sends."""
        if channel == "gaussian":
            return self.objective == "vae"
        return self.objective not in AUTOENCODERS or channel not in OF_CLASSES

    @property
    def silent(self) -> bool:
        """Whether nothing is ever sent."""
        return self.channel == "none" or self.nodes == 1


def make_collective(settings: CollectiveSettings, data: Dataset) -> Collective:
    """The collective that the settings describe, for inputs of this data set's shape.

    Raises:
        PalaverError: more nodes than examples, images too small for the network, or inputs outside [0, 1] for nodes
            that learn without labels.

    """
    owned = round(settings.fraction * len(data.y_train))
    if settings.nodes > owned:
        share, advice = "", f"give at most {owned}"
        if settings.fraction < 1:
            share, advice = f" (fraction {settings.fraction:g} of them)", "give fewer nodes or a larger fraction"
        raise PalaverError(f"nodes is {settings.nodes} for {owned} training examples of {data.name}{share}: {advice}")
    network, widths = _network(settings, data)
    if settings.objective in AUTOENCODERS:
        _check_unlabelled(settings, data)
        how = {"latent": settings.latent, "convolutional": network.convolutional}
        model = partial(AUTOENCODERS[settings.objective], data.shape, widths=widths, **how)
    else:
        model = partial(network.classifier, data.shape, data.classes, widths=widths, dropout=settings.dropout)
    if settings.precision != "float32":  # a network of your own need not know the argument otherwise
        model = partial(model, dtype=jnp.dtype(settings.precision))
    code = 2 * settings.latent if settings.objective == "vae" else settings.latent
    node = learner(
        lambda rngs: model(rngs=rngs),
        OBJECTIVES[settings.objective](settings),
        CHANNELS[settings.channel](settings),
        optimizer=optax.adam(settings.learning_rate, b1=settings.adam_beta1),
        projection=code if settings.projection else 0,
    )
    silent = settings.silent
    return collective(
        node,
        settings.make_topology(settings.nodes, settings.rounds),
        p_consume=0.0 if silent else settings.p_consume,
        p_broadcast=0.0 if silent else None if settings.p_broadcast == -1 else settings.p_broadcast,
        capacity=1 if silent else settings.inbox,
        overflow=settings.overflow,
        rebroadcast=settings.rebroadcast,
        burn_in=settings.burn_in,
        batch_size=settings.batch_size,
    )


def _network(settings: CollectiveSettings, data: Dataset) -> tuple[Architecture, tuple[int, ...]]:
    """The kind of network and the widths of its layers."""
    image = len(data.shape) in (2, 3)
    auto = "cnn" if image and min(data.shape[:2]) >= 32 else "mlp"
    network = MODELS[auto if settings.model == "auto" else settings.model]
    dense = (256, 128) if settings.objective in AUTOENCODERS else (32, 32)
    widths = settings.widths or ((32, 64, 128) if network.convolutional else dense)
    if network.convolutional and (not image or any(side % 2 ** len(widths) for side in data.shape[:2])):
        raise PalaverError(
            f"a cnn with {len(widths)} layers needs images with sides divisible by {2 ** len(widths)}, "
            f"{data.name} has inputs of shape {data.shape}: use fewer widths or model mlp"
        )
    return network, widths


def _check_unlabelled(settings: CollectiveSettings, data: Dataset) -> None:
    """Raises ``PalaverError`` for data that nodes without labels cannot learn from."""
    if len(data.y_validation) < 2:
        raise PalaverError(
            f"{data.name} has {len(data.y_validation)} validation examples here: objective {settings.objective} needs "
            "2 or more, so give more examples"
        )
    check_unit_inputs(data, f"objective {settings.objective}")


def make_shards(settings: CollectiveSettings, data: Dataset, seeds: Sequence[int]) -> Shards:
    """The training set and who owns what, for each seed."""
    return shards(
        data.x_train,
        data.y_train,
        settings.nodes,
        seeds,
        split=settings.split,
        alpha=settings.skew,
        fraction=settings.fraction,
    )
