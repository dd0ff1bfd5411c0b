"""The settings of one collective, and how they become nodes, a topology and shards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optax
from flax import nnx

from palaver import channels, topology
from palaver.data import Dataset, subset
from palaver.engines.description import Collective, collective
from palaver.engines.state import Shards
from palaver.engines.train import shards
from palaver.models import CNN, MLP, VAE, BiGAN
from palaver.node import learner
from palaver.objectives import adversarial, cross_entropy, elbo
from palaver.types import Channel, PalaverError, Topology


@dataclass(frozen=True)
class CollectiveSettings:
    """One collective: its data, nodes, topology, channel and training. Defaults are the thesis's where it has one."""

    data: str = "digits"
    """Data set: digits, mnist, fashion-mnist, cifar10, idx:DIR (IDX files) or npz:FILE (arrays x, y)."""
    fraction: float = 1.0
    """Share of the training set that the collective owns, in (0, 1]."""
    examples: int = 0
    """Use only so many training examples, and a quarter as many to validate and to test; 0: all."""
    split: Literal["iid", "dirichlet", "class"] = "iid"
    """How the training set is divided among the nodes: at random, with label skew, or sorted by class."""
    skew: float = 0.5
    """Dirichlet concentration alpha of the label skew, above 0; smaller is more skewed."""
    nodes: int = 10
    """Number of nodes N."""
    objective: Literal["labels", "vae", "bigan"] = "labels"
    """What a node learns on its own data: labels, or without them a VAE or a BiGAN, evaluated by a linear probe."""
    model: Literal["auto", "mlp", "cnn"] = "auto"
    """Network of every node (its encoder, mirrored); auto: cnn for images of 32 x 32 and more, mlp otherwise."""
    widths: tuple[int, ...] = ()
    """Hidden widths (mlp) or output channels (cnn); empty: 32 32 for mlp, 256 128 without labels; 32 64 128 for cnn."""
    latent: int = 32
    """Numbers in a VAE's or BiGAN's code."""
    beta: float = 1.0
    """Weight of a VAE's divergence from the prior, 0 or more."""
    dropout: float = 0.0
    """Share of hidden units dropped in training (mlp), in [0, 1)."""
    topology: Literal["ring", "full", "random", "random-changing"] = "full"
    """Who speaks to whom."""
    neighbours: int = 0
    """Neighbours P of each node; 0: all for full, 2 for ring, 4 (at most N - 1) for random."""
    graph_seed: int = 0
    """Seed of random graphs; the seeds of a run share its graphs, so intervals are for these graphs."""
    redraw_every: int = 100
    """Rounds after which random-changing draws a new graph."""
    channel: Literal["none", "labels", "logits", "labels+logits", "features", "gaussian"] = "labels"
    """What nodes send each other; without labels: features (codes) or gaussian (a VAE's code distributions)."""
    temperature: float = 1.0
    """Temperature tau of received logits, above 0; below 1 hardens them."""
    mix: float = 0.5
    """Weight alpha of the true label in labels+logits, in [0, 1]."""
    feature_weight: float = 1.0
    """Scaling factor of the features and gaussian objectives, above 0."""
    projection: bool = False
    """Put a learned linear map between a node's features and those it hears."""
    p_consume: float = 0.5
    """Probability per round that a node reads its inbox."""
    p_broadcast: float = -1.0
    """Probability per round that a node speaks; -1: the equilibrium p_consume / P."""
    inbox: int = 16
    """Packets an inbox holds."""
    overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """What a full inbox does with one packet more."""
    rebroadcast: bool = True
    """Whether a consumed batch may be broadcast again."""
    burn_in: int = 0
    """Rounds before anyone speaks; probes of that time do not count as a stage."""
    batch_size: int = 32
    """Examples in a batch B."""
    learning_rate: float = 0.001
    """Adam's learning rate."""
    adam_beta1: float = 0.9
    """Adam's decay of the mean gradient, in [0, 1); DCGAN's advice for adversarial nodes is 0.5."""
    rounds: int = 1000
    """Rounds; in each, every node takes one training step. 0, without labels: a look at untrained nodes."""
    eval_every: int = 50
    """Rounds between evaluations."""
    eval_examples: int = 0
    """Validation examples used at each evaluation but the last; 0: all."""
    report_round: int = 0
    """Round whose accuracies the summary gives, while training goes on to the last; 0: the last."""
    target: float = 0.85
    """Accuracy whose first round is reported, a fraction in (0, 1)."""
    calibrate: bool = False
    """Fit one temperature per node on validation data before the nodes decide together (last evaluation)."""

    def check(self) -> None:
        """Raises ``PalaverError`` for a value out of range; what other parts check themselves is left to them."""
        reported, labels = self.report_round or self.rounds, self.objective == "labels"
        bounds: list[tuple[str, bool, str]] = [
            ("dropout", labels or self.dropout == 0, f"0, for objective {self.objective} has no dropout"),
            (
                "eval_examples",
                labels or self.eval_examples == 0,
                f"0 with objective {self.objective}, whose probes want all",
            ),
            ("beta", self.objective == "vae" or self.beta == 1, f"1, for objective {self.objective} has no beta"),
            ("fraction", 0 < self.fraction <= 1, "in (0, 1]"),
            ("examples", self.examples >= 0, "0 or more"),
            ("nodes", self.nodes >= 1, "at least 1"),
            ("widths", all(w >= 1 for w in self.widths), "each at least 1"),
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            ("neighbours", 0 <= self.neighbours < max(self.nodes, 1), f"0 to {self.nodes - 1} for {self.nodes} nodes"),
            ("graph_seed", 0 <= self.graph_seed < 2**32, "0 to 2**32 - 1"),
            ("redraw_every", self.redraw_every >= 1, "at least 1"),
            ("p_consume", 0 <= self.p_consume <= 1, "a probability in [0, 1]"),
            ("p_broadcast", self.p_broadcast == -1 or 0 <= self.p_broadcast <= 1, "-1 or a probability in [0, 1]"),
            ("latent", self.latent >= 1, "at least 1"),
            ("beta", 0 <= self.beta < math.inf, "0 or more"),
            ("burn_in", 0 <= self.burn_in < max(reported, 1), f"0 to {max(reported, 1) - 1}, before round {reported}"),
            ("adam_beta1", 0 <= self.adam_beta1 < 1, "in [0, 1)"),
            ("inbox", self.inbox >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("rounds", self.rounds >= labels, "at least 1" if labels else "0 or more"),
            ("eval_every", self.eval_every >= 1, "at least 1"),
            ("eval_examples", self.eval_examples >= 0, "0 or more"),
            ("report_round", 0 <= self.report_round <= self.rounds, f"0 to rounds ({self.rounds})"),
            ("target", 0 < self.target < 1, "a fraction in (0, 1)"),
        ]
        for name, fine, allowed in bounds:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        make_channel(self)
        said = {"labels": ("labels", "logits", "labels+logits", "features"), "vae": ("features", "gaussian")}
        allowed = ("none", *said.get(self.objective, ("features",)))
        if self.channel not in allowed:
            raise PalaverError(
                f"channel is {self.channel} with objective {self.objective}: choose one of {', '.join(allowed)}"
            )
        if self.projection and (self.channel == "none" or self.objective == "labels"):
            raise PalaverError("projection needs a vae or bigan whose channel is features or gaussian: leave it out")
        if self.calibrate and self.objective != "labels":
            raise PalaverError("calibrate needs objective labels: probes are fitted on validation already")
        if self.topology == "full" and self.neighbours not in (0, self.nodes - 1):
            raise PalaverError(
                f"neighbours is {self.neighbours} with topology full: leave it out, or choose ring or random"
            )


def cut(data: Dataset, examples: int) -> Dataset:
    """So many training examples of the data set, and a quarter as many to validate and to test; 0: all."""
    if not examples:
        return data
    few = max(1, examples // 4)
    sizes = zip((examples, few, few), (data.y_train, data.y_validation, data.y_test), strict=True)
    return subset(data, *(min(size, len(labels)) for size, labels in sizes))


def make_channel(settings: CollectiveSettings) -> Channel | None:
    """The channel that the settings name; ``None`` for silence."""
    match settings.channel:
        case "none":
            return None
        case "labels":
            return channels.labels()
        case "logits":
            return channels.logits(temperature=settings.temperature)
        case "labels+logits":
            return channels.labels_logits(mix=settings.mix, temperature=settings.temperature)
        case "features":
            return channels.features(weight=settings.feature_weight)
        case "gaussian":
            return channels.gaussian(weight=settings.feature_weight)


def make_topology(settings: CollectiveSettings) -> Topology:
    """The topology that the settings name."""
    return named_topology(
        settings.topology,
        settings.nodes,
        settings.neighbours,
        seed=settings.graph_seed,
        every=settings.redraw_every,
        rounds=settings.rounds,
    )


def named_topology(name: str, nodes: int, neighbours: int, *, seed: int, every: int, rounds: int) -> Topology:
    """A topology of so many nodes by its name; 0 neighbours: its own number."""
    if nodes == 1:
        return topology.ring(1, 0)
    match name:
        case "full":
            return topology.full(nodes)
        case "ring":
            return topology.ring(nodes, neighbours or min(2, nodes - 1))
        case "random":
            return topology.random_regular(nodes, neighbours or min(4, nodes - 1), seed=seed)
        case _:
            most = neighbours or min(4, nodes - 1)
            return topology.random_changing(nodes, most, every=every, rounds=rounds, seed=seed)


def make_collective(settings: CollectiveSettings, data: Dataset) -> Collective:
    """The collective that the settings describe, for inputs of this data set's shape.

    Raises:
        PalaverError: settings out of range, or images too small for the network.

    """
    settings.check()
    owned = round(settings.fraction * len(data.y_train))
    if settings.nodes > owned:
        raise PalaverError(
            f"nodes is {settings.nodes} for {owned} training examples of {data.name}: give at most {owned}"
        )
    is_image = len(data.shape) in (2, 3)
    convolutional = settings.model == "cnn" or (settings.model == "auto" and is_image and min(data.shape[:2]) >= 32)
    dense = (32, 32) if settings.objective == "labels" else (256, 128)
    widths = settings.widths or ((32, 64, 128) if convolutional else dense)
    if convolutional and (not is_image or any(side % 2 ** len(widths) for side in data.shape[:2])):
        raise PalaverError(
            f"a cnn with {len(widths)} layers needs images with sides divisible by {2 ** len(widths)}, "
            f"{data.name} has inputs of shape {data.shape}: use fewer widths or model mlp"
        )

    if settings.objective != "labels" and len(data.y_validation) < 2:
        raise PalaverError(
            f"{data.name} has {len(data.y_validation)} validation examples here: objective {settings.objective} needs "
            "2 or more, so give more examples"
        )
    if settings.objective != "labels" and data.x_train.dtype != np.uint8:
        low, high = float(data.x_train.min()), float(data.x_train.max())
        if low < 0 or high > 1:
            raise PalaverError(
                f"{data.name} has inputs from {low:g} to {high:g}: objective {settings.objective} "
                "needs uint8 pixels or numbers in [0, 1]"
            )

    def model(rngs: nnx.Rngs) -> nnx.Module:
        if settings.objective != "labels":
            kind = VAE if settings.objective == "vae" else BiGAN
            return kind(data.shape, latent=settings.latent, widths=widths, convolutional=convolutional, rngs=rngs)
        if convolutional:
            return CNN(data.shape, data.classes, channels=widths, rngs=rngs)
        return MLP(data.shape, data.classes, hidden=widths, dropout=settings.dropout, rngs=rngs)

    objective = {"labels": cross_entropy(), "vae": elbo(beta=settings.beta), "bigan": adversarial()}
    code = 2 * settings.latent if settings.objective == "vae" else settings.latent
    silent = settings.channel == "none" or settings.nodes == 1
    node = learner(
        model,
        objective[settings.objective],
        make_channel(settings),
        optimizer=optax.adam(settings.learning_rate, b1=settings.adam_beta1),
        projection=code if settings.projection else 0,
    )
    return collective(
        node,
        make_topology(settings),
        p_consume=0.0 if silent else settings.p_consume,
        p_broadcast=0.0 if silent else None if settings.p_broadcast == -1 else settings.p_broadcast,
        capacity=1 if silent else settings.inbox,
        overflow=settings.overflow,
        rebroadcast=settings.rebroadcast,
        burn_in=settings.burn_in,
        batch_size=settings.batch_size,
    )


def make_shards(settings: CollectiveSettings, data: Dataset, seeds: list[int]) -> Shards:
    """The training set and who owns what, for each seed.

    Raises:
        PalaverError: more nodes than examples, or an alpha that is not above 0.

    """
    return shards(
        data.x_train,
        data.y_train,
        settings.nodes,
        seeds,
        kind=settings.split,
        alpha=settings.skew,
        fraction=settings.fraction,
    )
