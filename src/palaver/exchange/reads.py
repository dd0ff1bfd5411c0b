"""Which settings of a collective something reads: one that nothing does would be given in vain."""

from collections.abc import Callable
from typing import NamedTuple

from palaver.baselines import PERIODS
from palaver.exchange.settings import CollectiveSettings
from palaver.models import AUTOENCODERS, MODELS


class _Reader(NamedTuple):
    """What reads a setting."""

    who: str
    """In words."""
    reads: Callable[[CollectiveSettings], bool]


def _of(who: str, **choices: tuple[str, ...]) -> _Reader:
    """Settings with one of these choices each."""
    return _Reader(who, lambda settings: all(getattr(settings, name) in some for name, some in choices.items()))


_EXCHANGE = "nodes that exchange packets"
_SENDS = _Reader(_EXCHANGE, lambda settings: not settings.silent)
_INBOX = _Reader(f"{_EXCHANGE}, combine latest", lambda settings: not settings.silent and settings.combine == "latest")
_SCORES = _of("channel logits or labels+logits", channel=("logits", "labels+logits"), method=("exchange",))
_FEATURES = _of("channel features or gaussian", channel=("features", "gaussian"), method=("exchange",))
_GRAPH = _Reader(f"{_EXCHANGE}, and method gossip", lambda settings: not settings.silent or settings.method == "gossip")
_LEARNS = "codistillation", "codistillation-stale"

READERS: dict[str, _Reader] = {
    "skew": _of("split dirichlet", split=("dirichlet",)),
    "decay": _of("combine mean", combine=("mean",)),
    "momentum": _of("optimizer sgd", optimizer=("sgd",)),
    "adam_beta1": _of("optimizer adam", optimizer=("adam",)),
    "latent": _of("objective vae or bigan", objective=tuple(AUTOENCODERS)),
    "norm": _Reader("model cnn", lambda settings: any(_convolves(kind.model) for kind in settings.kinds)),
    "period": _of(f"method {', '.join(PERIODS)}", method=tuple(PERIODS)),
    "digest": _of("method fedmd, ds-fl or scarlet", method=("fedmd", "ds-fl", "scarlet")),
    "cache": _of("method scarlet", method=("scarlet",)),
    "keep_moments": _of("method fedavg", method=("fedavg",)),
    "peer_weight": _of(f"method {', '.join(_LEARNS)} or fd", method=(*_LEARNS, "fd")),
    "outer_rate": _of("method diloco", method=("diloco",)),
    "outer_momentum": _of("method diloco", method=("diloco",)),
    "temperature": _SCORES,
    "payload_bits": _SCORES,
    "top": _SCORES,
    "corrected": _Reader(
        f"{_SCORES.who}, of own examples", lambda settings: _SCORES.reads(settings) and not settings.refers
    ),
    "mix": _of("channel labels+logits", channel=("labels+logits",), method=("exchange",)),
    "feature_weight": _FEATURES,
    "projection": _FEATURES,
    "p_consume": _SENDS,
    "p_broadcast": _SENDS,
    "half_life": _SENDS,
    "combine": _SENDS,
    "weighted": _SENDS,
    "least_change": _SENDS,
    "gate": _SENDS,
    "liars": _SENDS,
    "lie": _Reader("liars of at least 1", lambda settings: settings.liars > 0),
    "inbox": _INBOX,
    "overflow": _INBOX,
    "rebroadcast": _Reader(f"{_EXCHANGE}, of own examples", lambda s: not s.silent and not s.refers),
    "burn_in": _Reader(
        f"{_EXCHANGE}, probes, and codistillation",
        lambda s: not s.silent or s.objective in AUTOENCODERS or s.method in _LEARNS,
    ),
    "asleep_rounds": _Reader("asleep above 0", lambda settings: settings.asleep > 0),
    "slow_every": _Reader("slow of at least 1", lambda settings: settings.slow > 0),
    "topology": _GRAPH,
    "neighbours": _GRAPH,
    "graph_seed": _of("topology random or random-changing", topology=("random", "random-changing")),
    "redraw_every": _of("topology random-changing", topology=("random-changing",)),
}
"""By setting; others are always read."""


def unread(settings: CollectiveSettings, name: str) -> str:
    """Who reads a setting, in words, where with these settings nobody does; empty: it is read.

    >>> unread(CollectiveSettings(), "mix"), unread(CollectiveSettings(), "rounds")
    ('channel labels+logits', '')

    Args:
        settings: of a collective.
        name: of one of them.

    """
    reader = READERS.get(name)
    return reader.who if reader and not reader.reads(settings) else ""


def _convolves(model: str) -> bool:
    """Whether the model has convolutions, or may have: ``auto`` depends on the data."""
    return model == "auto" or MODELS[model].convolutional
