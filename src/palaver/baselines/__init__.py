"""What else a user could run on the same nodes, data, batches, budget, seeds and evaluation.

Each baseline is a ``palaver.baselines.method.Method`` made by a factory; ``palaver.exchange.rivals`` runs it.
"""

from collections.abc import Callable
from typing import Any

from palaver.baselines.codistillation import codistillation, stale_codistillation
from palaver.baselines.diloco import diloco
from palaver.baselines.dsfl import dsfl, scarlet
from palaver.baselines.fd import fd
from palaver.baselines.fedavg import fedavg
from palaver.baselines.fedmd import fedmd
from palaver.baselines.gossip import gossip
from palaver.baselines.gradients import asynchronous, synchronous
from palaver.baselines.method import Method
from palaver.baselines.pooled import bagging, ensemble, ship, silent

__all__ = [
    "METHODS",
    "Method",
    "asynchronous",
    "bagging",
    "codistillation",
    "diloco",
    "dsfl",
    "ensemble",
    "fd",
    "fedavg",
    "fedmd",
    "gossip",
    "scarlet",
    "ship",
    "silent",
    "stale_codistillation",
    "synchronous",
]


PERIODS = {
    "fedavg": 10,
    "diloco": 500,
    "codistillation-stale": 50,
    "fedmd": 20,
    "fd": 16,
    "ds-fl": 50,
    "scarlet": 50,
}
"""Rounds between two averages, or in a cycle, of the methods that have such, unless settings give others."""


def period_of(settings: Any) -> int:
    """The period of the settings' method; 0 for one that has none."""
    return settings.period or PERIODS.get(settings.method, 0)


def _cycle(settings: Any, share: float) -> dict[str, int]:
    """A cycle's length, and how much of it trains on the consensus: as settings say, or this share."""
    period = period_of(settings)
    return {"period": period, "rounds": settings.digest or max(1, round(period * share))}


def _learning(settings: Any) -> dict[str, Any]:
    """The weight of peers, and a burn-in of a third of the rounds unless another is given."""
    return {"weight": settings.peer_weight, "burn_in": settings.burn_in or settings.rounds // 3}


METHODS: dict[str, Callable[[Any], Method]] = {
    "sync-sgd": lambda _: synchronous(),
    "async-sgd": lambda _: asynchronous(),
    "fedavg": lambda settings: fedavg(period=period_of(settings), reset=not settings.keep_moments),
    "diloco": lambda settings: diloco(
        period=period_of(settings), outer_rate=settings.outer_rate, momentum=settings.outer_momentum
    ),
    "gossip": lambda _: gossip(),
    "codistillation": lambda settings: codistillation(**_learning(settings)),
    "codistillation-stale": lambda settings: stale_codistillation(**_learning(settings), period=period_of(settings)),
    "fedmd": lambda settings: fedmd(**_cycle(settings, 0.5)),
    "fd": lambda settings: fd(period=period_of(settings), weight=settings.peer_weight),
    "ds-fl": lambda settings: dsfl(**_cycle(settings, 0.2)),
    "scarlet": lambda settings: scarlet(**_cycle(settings, 0.2), cache=settings.cache),
    "bagging": lambda _: bagging(),
    "ensemble": lambda _: ensemble(),
    "ship": lambda _: ship(),
}
"""Every baseline by the name that settings give it; an entry that is added here is accepted wherever names are.

The argument is a settings object with ``method``, ``rounds``, ``burn_in``, ``period`` and ``digest`` (0: the method's
own), ``cache``, ``keep_moments``, ``peer_weight``, ``outer_rate`` and ``outer_momentum``.
"""
