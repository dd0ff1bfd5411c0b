"""From a site's settings to what it runs: what was agreed on, its examples, its model, and the model's silent twin."""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from palaver.channels import CHANNELS, encoded_bits
from palaver.data import Dataset, load
from palaver.data.dataset import check_examples, check_finite
from palaver.data.inputs import to_float
from palaver.exchange.build import make_collective, make_shards
from palaver.exchange.description import Talk
from palaver.npz import read_npz
from palaver.peers.agreement import Agreement, digest
from palaver.peers.core import Peer, magnitude
from palaver.peers.judge import Judge
from palaver.peers.learners import Learner
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.settings import SiteSettings
from palaver.peers.wire import ROOM
from palaver.types import Node, PalaverError

_FAR = 16
"""Inputs of others may be so many times as large as the largest of the data set and of the site's own examples."""


class Material(NamedTuple):
    """What a site is made of."""

    peer: Peer
    twin: Peer
    """The same model in silence: what the site would have learnt alone."""
    digest: bytes
    """Of what was agreed on, with the reference set."""
    validation: tuple[np.ndarray, np.ndarray]
    """Inputs and labels, of the collective's data set."""
    test: tuple[np.ndarray, np.ndarray]


def make_material(settings: SiteSettings, data_root: Path | None = None) -> Material:
    """What a site is made of.

    In all that the seed decides (shards, reference set, coins, first parameters of JAX models) it is the node of the
    same place in ``palaver run collective`` with these settings and this seed.

    Args:
        settings: of the site.
        data_root: where data sets lie.

    Returns:
        Its parts.

    Raises:
        PalaverError: data or a model that cannot be read or does not fit what was agreed on.

    """
    agreed, names = settings.agreed(), tuple(settings.peers)
    data = agreed.settings.load(lambda name: load(name, data_root))
    group, me = make_collective(agreed.settings, data), names.index(settings.name)
    _check_reference(settings, refers=agreed.settings.refers, speaks=group.protocol.p_broadcast > 0)
    rows, reference = _shard(settings, data, me)
    key, first = jax.random.split(jax.random.key(agreed.seed))
    node = group.groups[0][0]
    x, y = _examples(settings, data) if settings.examples else (data.x_train[rows], data.y_train[rows])
    agreement = Agreement(
        names=names,
        key=key,
        topology=group.topology,
        protocol=group.protocol,
        talk=group.talk,
        capacity=group.capacity,
        overflow=group.overflow,
        channel=CHANNELS[agreed.settings.channel](agreed.settings),
        classes=data.classes,
        features=_features(node, data),
        shape=data.shape,
        dtype=data.x_train.dtype,
        reference=reference,
        largest=_FAR * max(magnitude(data.x_train), magnitude(x)),
    )
    _check_size(agreement)
    never = agreement.protocol._replace(p_consume=0.0, p_broadcast=0.0)
    silent = agreement._replace(protocol=never, talk=Talk(), reference=None)
    make = _learner(settings, node, agreement, jax.random.fold_in(first, me))
    known = max(1, round(agreed.settings.labelled * len(y)))
    own = x, y.astype(np.int32), known
    judge = Judge(make(), len(names)) if agreement.talk.gate == "twin" else None
    return Material(
        Peer(agreement, me, make(), *own, judge),
        Peer(silent, me, make(), *own),
        digest(agreed.description(names), reference),
        (data.x_validation, data.y_validation),
        (data.x_test, data.y_test),
    )


def _check_reference(settings: SiteSettings, *, refers: bool, speaks: bool) -> None:
    """Checks that a reference set that was given is used; says aloud where own examples leave the site."""
    if refers:
        return
    if settings.reference:
        raise PalaverError(
            f"reference is {settings.reference}, and collective.reference is 0, with which sites send examples of "
            "their own: give collective.reference above 0, or leave reference out"
        )
    if speaks:
        print(f"palaver: {settings.name} sends its own examples, raw: collective.reference is 0", file=sys.stderr)


def _check_size(deal: Agreement) -> None:
    """Checks that packets fit into a message."""
    example = encoded_bits(deal.payload())
    if deal.talk.examples == "own":
        example += 8 * math.prod(deal.shape) * deal.dtype.itemsize
    batch, most = deal.protocol.batch_size, 8 * ROOM // max(1, example)
    if deal.protocol.p_broadcast == 0 or batch <= most:
        return
    size = f"batch_size is {batch}: a packet would have {-(-batch * example // 8)} bytes, and at most {ROOM} are sent"
    if deal.talk.examples == "own":
        other = "or a reference set (reference above 0), of which packets name the rows alone"
    else:
        other = "or payloads of fewer bits"
    raise PalaverError(f"{size}: give {f'at most {most}, ' if most else ''}{other.removeprefix('' if most else 'or ')}")


def _shard(settings: SiteSettings, data: Dataset, me: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of the training set that are this site's, and the inputs of the reference set."""
    agreed = settings.agreed()
    parts = make_shards(agreed.settings, data, [agreed.seed])
    rows = np.asarray(parts.index[0, me, : int(parts.size[0, me])])
    if settings.reference:
        return rows, _inputs(settings, data)
    if parts.reference is None:
        return rows, None
    return rows, np.asarray(parts.x)[np.asarray(parts.reference[0])]


def _inputs(settings: SiteSettings, data: Dataset) -> np.ndarray:
    """The inputs of a file of one's own, which are the reference set."""
    path = Path(settings.reference)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PalaverError(f"reference {path} cannot be read: {error}: give an .npy file of inputs") from None
    if not isinstance(found, np.ndarray):
        raise PalaverError(f"reference {path} holds several arrays: give an .npy file of inputs")
    least, inputs = settings.agreed().settings.batch_size, _fitting(f"reference {path}", found, data)
    if len(inputs) < least:
        raise PalaverError(
            f"reference {path} has {len(inputs)} rows: give at least {least}, the collective's batch_size"
        )
    return inputs


def _fitting(what: str, x: np.ndarray, data: Dataset) -> np.ndarray:
    if x.shape[1:] != data.shape or x.dtype != data.x_train.dtype:
        raise PalaverError(
            f"{what} holds {x.shape} of {x.dtype}: give inputs [rows, {', '.join(map(str, data.shape))}] of "
            f"{data.x_train.dtype}, as the collective's data set {data.name} has them"
        )
    check_finite(what, x)
    return x


def _examples(settings: SiteSettings, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The site's own examples from its file."""
    path = Path(settings.examples)
    try:
        found = read_npz(path, lambda names: [name for name in names if name in ("x", "y")])
        x, y = check_examples("x", found["x"], "y", found["y"])
    except KeyError as error:
        raise PalaverError(f"examples {path} has no array {error}: give x and y") from None
    except PalaverError:
        raise
    except Exception as error:  # the file may be anything
        raise PalaverError(f"examples {path} cannot be read: {error}: give an .npz file of x and y") from None
    if not len(y) or y.min() < 0 or y.max() >= data.classes:
        raise PalaverError(f"examples {path} has labels outside 0 to {data.classes - 1}: give class ids")
    return _fitting(f"examples {path}", x, data), y


def _features(node: Node, data: Dataset) -> int:
    """D, the width of a model's features."""

    def outputs() -> jax.Array:
        x = to_float(jnp.zeros((1, *data.shape), data.x_train.dtype))
        return node.predict(node.init(jax.random.key(0)), x).features

    return jax.eval_shape(outputs).shape[-1]


def _learner(settings: SiteSettings, node: Node, agreement: Agreement, key: jax.Array) -> Callable[[], Learner]:
    """A function that makes the site's model, the same whenever it is called."""
    if settings.learner == "flax":
        return lambda: FlaxLearner(node, node.init(key))
    function = _function(settings.make)
    if settings.learner == "torch":
        from palaver.peers.learners.torch import TorchLearner  # an extra

        def made() -> Learner:
            found = function()
            if not (isinstance(found, tuple) and len(found) == 2):
                raise PalaverError(f"make {settings.make} gives a {type(found).__name__}: give (module, optimizer)")
            module, optimizer = found
            return TorchLearner(module, optimizer, agreement.channel, classes=agreement.classes)

        return made
    from palaver.peers.learners.sklearn import SklearnLearner

    return lambda: SklearnLearner(function(), agreement.channel, classes=agreement.classes)


def _function(make: str) -> Callable[[], Any]:
    """A function of a file of one's own."""
    path, _, name = make.rpartition(":")
    spec = importlib.util.spec_from_file_location("palaver_site", path) if path else None
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise PalaverError(f"make is {make!r}: give FILE.py:FUNCTION, a file that is there")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    _run(make, lambda: loader.exec_module(module))
    function = getattr(module, name, None)
    if not callable(function):
        raise PalaverError(f"make is {make!r}: {path} has no function {name}")
    return lambda: _run(make, function)


def _run(make: str, function: Callable[[], Any]) -> Any:
    """What a function of somebody else's gives; whatever it raises is told in one line."""
    try:
        return function()
    except Exception as error:  # the file may be anything
        said = next(iter(str(error).splitlines()), "")
        raise PalaverError(f"make {make} fails ({type(error).__name__}: {said}): mend the file") from None
