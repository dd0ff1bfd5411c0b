"""Talking against everything else a user could run: every channel and every rival, on more and more skewed shards."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from palaver.baselines import PERIODS
from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Row
from palaver.studies.settings import following

_DENSE = CollectiveSettings(reference=0.03, eval_examples=2000, target=0.85)
_CONVOLUTIONAL = replace(
    _DENSE, data="cifar10", model="cnn", widths=(16, 32, 64), batch_size=64, eval_examples=1000, target=0.4
)
SCALES = {
    "tiny": {"rounds": 80, "eval_every": 40, "target": 0.5},
    "cpu": {"rounds": 2000, "eval_every": 100},
    "thesis": {"rounds": 4000, "eval_every": 500},
}
"""Numbers of rounds that every period divides (``tiny``: those up to 20; configurations with longer ones are left out).
With other numbers of rounds a configuration whose period does not divide them is refused."""

SPLITS: dict[str, dict[str, Any]] = {
    "i.i.d.": {"split": "iid"},
    "Dirichlet 0.5": {"split": "dirichlet", "skew": 0.5},
    "Dirichlet 0.1": {"split": "dirichlet", "skew": 0.1},
    "by class": {"split": "class"},
}
RATES = 0.001, 0.003, 0.01
"""Each configuration is run at all of them, and shown at its best."""

_LOGITS = {"channel": "logits"}
_MEAN = _LOGITS | {"combine": "mean", "weighted": True}
_TERSE = _MEAN | {"payload_bits": 4, "top": 2}
_FEW = {"topology": "random-changing", "neighbours": 3, "redraw_every": 10}
_LEAN = _MEAN | _FEW | {"payload_bits": 4, "top": 2, "p_broadcast": 0.3, "least_change": 0.1}
_GROUPED = {"norm": "group"}
_NO_REFERENCE = {"reference": 0.0, "reference_data": ""}


OWN: dict[str, dict[str, Any]] = {
    f"own examples, {channel}": {"channel": channel} | _NO_REFERENCE
    for channel in ("labels", "logits", "labels+logits", "features")
}
"""The thesis's packets."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "outputs, plainest form": _LOGITS | {"combine": "mean", "decay": 0.0, "payload_bits": 16, "p_broadcast": 0.5},
    "outputs, as read": _LOGITS,
    "outputs, remembered": _MEAN | {"payload_bits": 16},
    "outputs, 4 bits": _MEAN | {"payload_bits": 4},
    "outputs, 4 bits of 2 classes": _TERSE,
    "outputs, 4 bits of 2 classes, 3 listeners": _LEAN | {"least_change": 0.0, "p_broadcast": 0.1},
    "outputs, lean": _LEAN,
    "outputs, lean, speaking less and less": _LEAN | {"half_life": 500.0},
    "outputs, labels": {"channel": "labels", "combine": "mean"},
    "outputs, features": {"channel": "features"},
}
"""What nodes say on a reference set: from the plainest form, 16-bit probabilities to everybody in every other round, to
the two largest in 4 bits to three nodes, and only where they changed (lean)."""

_FEDAVG = {
    f"FedAvg, every {period}": _GROUPED | {"method": "fedavg", "period": period, "eval_every": eval_every}
    for period, eval_every in ((1, 100), (16, 80), (100, 100), (500, 500))
}
AVERAGING: dict[str, dict[str, Any]] = {
    "synchronous SGD": _GROUPED | {"method": "sync-sgd"},
    "asynchronous SGD": _GROUPED | {"method": "async-sgd"},
    **_FEDAVG,
    **{f"{name}, moments kept": own | {"keep_moments": True} for name, own in _FEDAVG.items()},
    "DiLoCo, every 100": _GROUPED | {"method": "diloco", "period": 100, "eval_every": 100},
    "DiLoCo, every 500": _GROUPED | {"method": "diloco", "period": 500, "eval_every": 500},
    "gossip": _GROUPED | {"method": "gossip", "topology": "ring"},
}
"""Methods that average weights or gradients, which batch norm breaks; they are evaluated after an average."""

PREDICTIONS: dict[str, dict[str, Any]] = {
    "codistillation": {"method": "codistillation"},
    "codistillation, stale": {"method": "codistillation-stale"},
    "FedMD": {"method": "fedmd"},
    "FD": {"method": "fd"},
    "DS-FL": {"method": "ds-fl"},
    "SCARLET": {"method": "scarlet"},
}
DATA: dict[str, dict[str, Any]] = {
    "ship the shard": {"method": "ship"},
    "bagging": {"method": "bagging"},
    "deep ensemble": {"method": "ensemble"},
}
"""Methods that give nodes more than their own shard."""


SKEWED = SPLITS["Dirichlet 0.1"]
_GATES = {"": {}, ", gate": {"gate": "twin"}}
_LIES = {
    "nobody lies": {},
    "all say one class": {"liars": 3, "lie": "constant"},
    "all say the unlikeliest": {"liars": 3, "lie": "flipped"},
    "all say anything": {"liars": 3, "lie": "random"},
    "all err alike": {"liars": 3, "lie": "mimicry"},
}
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "Kinds of models (Dirichlet 0.1)": {
        "10 linear": SKEWED | _LEAN | {"group": ("linear:10",)},
        "10 mlp": SKEWED | _LEAN | {"group": ("mlp:10",)},
        "10 cnn": SKEWED | _LEAN | {"group": ("cnn:16-32:10",)},
        "4 mlp, 3 cnn, 3 linear": SKEWED | _LEAN | {"group": ("mlp:4", "cnn:16-32:3", "linear:3")},
    },
    "Nodes that are away (Dirichlet 0.1)": {
        "silent": SKEWED | {"channel": "none"},
        "all are there": SKEWED | _LEAN,
        "3 in 10 rounds asleep": SKEWED | _LEAN | {"asleep": 0.3, "asleep_rounds": 20},
        "3 of 10 slow, a quarter of the rounds": SKEWED | _LEAN | {"slow": 3, "slow_every": 4},
        "3 of 10 vanish": SKEWED | _LEAN | {"vanish": 3},
        "half of the rounds asleep": SKEWED | _LEAN | {"asleep": 0.5, "asleep_rounds": 20},
    },
    **{
        f"3 of 10 lie ({split})": {
            "silent": SPLITS[split] | {"channel": "none"},
            **{
                f"{name}{gated}": SPLITS[split] | _TERSE | lie | gate
                for name, lie in _LIES.items()
                for gated, gate in _GATES.items()
            },
        }
        for split in ("i.i.d.", "Dirichlet 0.5")
    },
    "A tenth of the labels (i.i.d.)": {
        "silent": {"labelled": 0.1, "channel": "none"},
        "own examples, labels": {"labelled": 0.1, "channel": "labels"} | _NO_REFERENCE,
        "own examples, logits": {"labelled": 0.1, "channel": "logits"} | _NO_REFERENCE,
        "outputs, lean": {"labelled": 0.1} | _LEAN,
    },
    "One large node with half of the data": {
        name: of_name | {"split": "one-large", "group": ("mlp:128-128:1", "mlp:9")}
        for name, of_name in {
            "silent": {"channel": "none"},
            "own examples, labels": {"channel": "labels"} | _NO_REFERENCE,
            "own examples, logits": {"channel": "logits"} | _NO_REFERENCE,
            "outputs, lean": _LEAN,
        }.items()
    },
}
"""What talking about a reference set does where sites differ in other ways than their labels."""


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """Every way of training together, at three learning rates, on four splits.

    Images of 32 × 32 and more are learnt by a narrow CNN, with fewer configurations; their averaging methods have group
    norm, and ours is there with both.
    """
    dense = overrides.get("data", "digits") != "cifar10"
    base = following(_DENSE if dense else _CONVOLUTIONAL, overrides, "data", "reference", "fraction")
    if base.data == "digits" and "reference" not in overrides:
        base = replace(base, reference=0.25)
    base = replace(base, **SCALES[scale], **({"target": 0.4} if not dense and scale != "tiny" else {}))
    base = following(base, overrides, "rounds")
    ways = _dense() if dense else _convolutional()
    families = {split: {name: own | of_split for name, own in ways.items()} for split, of_split in SPLITS.items()}
    return [
        Row(f"{family}: {name}, lr {rate:g}", base, {"channel": "logits"} | own | {"learning_rate": rate}, {}, family)
        for family, configurations in (families | (OTHERS if dense else {})).items()
        for name, own in _completed(configurations, base).items()
        if SCALES[scale]["rounds"] % (own.get("period") or PERIODS.get(own.get("method", ""), 1)) == 0
        for rate in RATES
    ]


def _completed(of: Mapping[str, dict[str, Any]], base: CollectiveSettings) -> dict[str, dict[str, Any]]:
    """Without a reference set the collective has as many examples as the others, so that all have the same shards.

    Nodes vanish after a quarter of the rounds.
    """
    same, early = {"fraction": base.fraction * (1 - base.reference)}, {"vanish_at": base.rounds // 4}
    return {
        name: own | (same if own.get("reference") == 0 else {}) | (early if "vanish" in own else {})
        for name, own in of.items()
    }


def _dense() -> dict[str, dict[str, Any]]:
    return {"silent": {"channel": "none"}} | OWN | OUTPUTS | AVERAGING | PREDICTIONS | DATA


def _convolutional() -> dict[str, dict[str, Any]]:
    """The forms and rivals that the claim is about; a configuration takes a quarter of an hour on two cores."""

    def pick(of: Mapping[str, dict[str, Any]], *names: str, **also: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        end = ", group norm" if also else ""
        return ((f"{name}{end}", of[name] | also) for name in names)

    ours = "outputs, remembered", "outputs, lean"
    return {"silent": {"channel": "none"}} | dict(
        [
            *pick(OUTPUTS, *ours),
            *pick(OUTPUTS, *ours, **_GROUPED),
            *pick(
                AVERAGING,
                "FedAvg, every 16",
                "FedAvg, every 100",
                "FedAvg, every 500",
                "DiLoCo, every 100",
                "DiLoCo, every 500",
            ),
            *pick(PREDICTIONS, "DS-FL", "FedMD"),
            *pick(DATA, "ship the shard"),
        ]
    )
