"""From settings to nodes, a topology and shards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax.numpy as jnp
from flax import nnx

from palaver.baselines import METHODS
from palaver.channels import CHANNELS
from palaver.data import Dataset
from palaver.data.inputs import check_unit_inputs
from palaver.exchange.description import Collective, collective
from palaver.exchange.liars import liars
from palaver.exchange.presence import presence
from palaver.exchange.rivals import rival
from palaver.exchange.settings import CollectiveSettings, Kind
from palaver.exchange.sharding import NodeSharding
from palaver.exchange.shards import portions, shards
from palaver.exchange.simulate import Simulation, simulation
from palaver.exchange.state import Shards
from palaver.models import AUTOENCODERS, MODELS, Architecture
from palaver.node import learner
from palaver.objectives import OBJECTIVES, Objective
from palaver.optimizers import make_optimizer
from palaver.types import Channel, Node, PalaverError


def make_collective(settings: CollectiveSettings, data: Dataset) -> Collective:
    """The collective that the settings describe, for inputs of this data set's shape.

    Raises:
        PalaverError: more nodes than examples, a reference set smaller than a minibatch, images too small for the
            network, or inputs outside [0, 1] for nodes that learn without labels.

    """
    _check_sizes(settings, data)
    groups = [(_node(settings, kind, data), kind.count) for kind in settings.kinds]
    silent = settings.silent
    return collective(
        groups,
        settings.make_topology(settings.nodes, settings.rounds),
        p_consume=0.0 if silent else settings.p_consume,
        p_broadcast=0.0 if silent else None if settings.p_broadcast == -1 else settings.p_broadcast,
        capacity=1 if silent else settings.inbox,
        overflow=settings.overflow,
        rebroadcast=settings.rebroadcast,
        burn_in=settings.burn_in,
        half_life=settings.half_life or math.inf,
        batch_size=settings.batch_size,
        patience=settings.patience,
        presence=presence(
            settings.nodes,
            asleep=settings.asleep,
            asleep_rounds=settings.asleep_rounds,
            slow=settings.slow,
            slow_every=settings.slow_every,
            vanish=settings.vanish,
            vanish_at=settings.vanish_at,
        ),
        **_talk(settings),
    )


def _check_sizes(settings: CollectiveSettings, data: Dataset) -> None:
    """Raises ``PalaverError`` for more nodes than examples, and for a reference set smaller than a minibatch."""
    fraction, reference, examples = settings.fraction, settings.reference, len(data.y_train)
    owned, apart = portions(examples, fraction, reference)
    if settings.nodes > owned:
        cuts = [
            (f"fraction {fraction:g}", "a larger fraction", fraction < 1),
            (f"reference {reference:g}", "a smaller reference", reference > 0),
        ]
        share = ", ".join(cut for cut, _, given in cuts if given)
        advice = " or ".join(["fewer nodes", *(other for _, other, given in cuts if given)])
        raise PalaverError(
            f"nodes is {settings.nodes} for {owned} training examples of {data.name}"
            + (f" ({share} of them): give {advice}" if share else f": give at most {owned}")
        )
    rows, batch = apart if data.reference is None else len(data.reference), settings.batch_size
    if settings.refers and rows < batch:
        what = f"reference is {reference:g}, " if reference else f"reference_data {settings.reference_data} has "
        raise PalaverError(f"{what}{rows} rows, for a batch_size of {batch}: give at least {batch} rows")


def _talk(settings: CollectiveSettings) -> dict[str, Any]:
    """What packets are about, as arguments of ``collective``."""
    if not settings.refers or settings.silent:
        return {}
    remembers = {}
    if settings.combine == "mean":
        remembers = {
            "decay": settings.decay,
            "weighted": settings.weighted,
            "gate": settings.gate,
            "liars": liars(settings.nodes, number=settings.liars, lie=settings.lie),
        }
    return {
        "examples": "reference",
        "combine": settings.combine,
        "least_change": settings.least_change,
    } | remembers


_ELSEWHERE = (
    *("fraction", "labelled", "reference", "reference_data", "split", "skew", "nodes", "group", "model", "widths"),
    *("method", "period", "digest", "cache", "keep_moments", "peer_weight", "outer_rate", "outer_momentum"),
    *("combine", "decay", "weighted", "least_change", "p_consume", "p_broadcast", "half_life"),
    *("asleep", "asleep_rounds", "slow", "slow_every", "vanish", "vanish_at", "patience"),
    *("liars", "lie", "gate"),
    *("topology", "neighbours", "graph_seed", "redraw_every", "inbox", "overflow", "rebroadcast", "burn_in"),
    *("rounds", "eval_every", "eval_examples", "report_round", "target", "calibrate", "data", "examples"),
)
"""Settings that say nothing about a single node: configurations that differ in them alone have the same nodes."""


def _node(settings: CollectiveSettings, kind: Kind, data: Dataset) -> Node:
    """A node of one kind."""
    network, widths = _network(settings, kind, data)
    model = network.classifier
    if settings.objective in AUTOENCODERS:
        _check_unlabelled(settings, data)
        model = AUTOENCODERS[settings.objective]
    makers = model, OBJECTIVES[settings.objective], CHANNELS[settings.channel]
    defaults = {name: type(settings).__dataclass_fields__[name].default for name in _ELSEWHERE}
    of_node = replace(settings, **defaults)
    return _made(of_node, *makers, network.convolutional, widths, data.shape, data.classes)


@lru_cache(maxsize=128)
def _made(
    settings: CollectiveSettings,
    model: Callable[..., nnx.Module],
    objective: Callable[[Any], Objective],
    channel: Callable[[Any], Channel],
    convolutional: bool,
    widths: tuple[int, ...],
    shape: tuple[int, ...],
    classes: int,
) -> Node:
    """See ``_node``; a long table has many rows with the same nodes, which are traced once."""
    how: dict[str, Any]
    if settings.objective in AUTOENCODERS:
        how = {"widths": widths, "latent": settings.latent, "convolutional": convolutional}
        module = partial(model, shape, **how)
    else:
        module = partial(model, shape, classes, widths=widths, dropout=settings.dropout)
        if convolutional and settings.norm != "batch":
            module = partial(module, norm=settings.norm)
    if settings.precision != "float32":  # a network of your own need not know the argument otherwise
        module = partial(module, dtype=jnp.dtype(settings.precision))
    code = 2 * settings.latent if settings.objective == "vae" else settings.latent
    return learner(
        lambda rngs: module(rngs=rngs),
        objective(settings),
        channel(settings),
        optimizer=make_optimizer(
            settings.optimizer,
            settings.learning_rate,
            beta1=settings.adam_beta1,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            l1=settings.l1,
        ),
        projection=code if settings.projection else 0,
    )


def _network(settings: CollectiveSettings, kind: Kind, data: Dataset) -> tuple[Architecture, tuple[int, ...]]:
    """The kind of network and the widths of its layers."""
    image = len(data.shape) in (2, 3)
    auto = "cnn" if image and min(data.shape[:2]) >= 32 else "mlp"
    network = MODELS[auto if kind.model == "auto" else kind.model]
    dense = (256, 128) if settings.objective in AUTOENCODERS else (32, 32)
    widths = kind.widths or ((32, 64, 128) if network.convolutional else dense)
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
        labelled=settings.labelled,
        reference=settings.reference if data.reference is None else data.reference,
    )


def make_simulation(
    settings: CollectiveSettings, group: Collective, parts: Shards, seeds: Sequence[int], sharding: NodeSharding
) -> Simulation:
    """The compiled program of the settings' method, for the collective and the shards that they describe."""
    if settings.method == "exchange":
        return simulation(group, parts, sharding=sharding)
    method = METHODS[settings.method](settings)
    return rival(method, group, parts, seeds, reference=parts.reference, sharding=sharding)
