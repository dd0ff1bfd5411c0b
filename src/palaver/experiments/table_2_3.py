"""Table 2.3 of the thesis: nodes that learn without labels, communicating or not, and remedies where that hurts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Row
from palaver.studies.settings import following

_THESIS = CollectiveSettings(
    data="cifar10", objective="vae", latent=64, batch_size=64, rounds=13_000, eval_every=1_000, channel="none"
)
SCALES = {
    "tiny": replace(_THESIS, widths=(8, 16), latent=8, batch_size=16, rounds=8, eval_every=4, examples=400),
    "cpu": replace(_THESIS, widths=(16, 32, 64), latent=32, rounds=400, eval_every=200),
    "thesis": _THESIS,
}
"""``cpu`` is a narrower network and fewer rounds; the widths are for CIFAR-10, other data take the model's own."""

REFERENCE = 0.1
"""Share of the training set that is the reference set where nodes talk about one."""

_FAMILIES = {
    # DCGAN's advice for adversarial training: a smaller step, and less of a running mean.
    "VAE": ({"objective": "vae"}, "gaussian"),
    "BiGAN": ({"objective": "bigan", "learning_rate": 0.0002, "adam_beta1": 0.5}, "features"),
}


def _thesis(average: float, collective: float | None = None) -> dict[str, float]:
    both = {"average_accuracy": average, "collective_accuracy": collective}
    return {name: accuracy for name, accuracy in both.items() if accuracy is not None}


_NUMBERS = {
    "VAE": (_thesis(0.418), _thesis(0.416, 0.452), _thesis(0.415, 0.427)),
    "BiGAN": (_thesis(0.469), _thesis(0.445, 0.499), _thesis(0.443, 0.462)),
}
"""Test accuracies of the thesis: one node, ten silent and ten communicating nodes."""


def rows(scale: str, overrides: Mapping[str, Any]) -> list[Row]:
    """The six rows of Table 2.3, and for each model the nodes before training, other ways to talk, and remedies.

    The accuracy of a probe on an untrained encoder shows what the training is worth. In the thesis VAEs match
    distributions of codes by their KL divergence and BiGANs codes by their squared distance; VAEs that match means and
    log-variances by the squared distance tell the model from the way it talks. Each remedy is against one way in which
    communication could hurt. Nodes know nothing at first: none sends anything during the first third of the rounds.
    Nodes pull each other to their mean: a learned projection is put between a node's code and those it receives. A
    packet takes the place of an own batch, and its sender's examples are others': nodes talk about a reference set that
    all of them have, beside silent ones with as few examples of their own. On other data the thesis's numbers do not
    apply.
    """
    base = following(SCALES[scale], overrides, "data", "rounds")
    if base.data != _THESIS.data:
        base = replace(base, widths=())
    found = []
    for family, (how, channel) in _FAMILIES.items():
        silent = how | {"nodes": 10, "channel": "none", "burn_in": 0, "projection": False}
        sending = silent | {"channel": channel}
        refers = {} if base.refers else {"reference": REFERENCE}
        fewer = {} if base.refers else {"fraction": base.fraction * (1 - REFERENCE)}
        of_one, of_silent, of_sending = _NUMBERS[family] if base.data == _THESIS.data else ({}, {}, {})
        made: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
            f"{family}, 10 nodes, untrained": (silent | {"rounds": 0}, {}),
            f"{family}, 1 node": (silent | {"nodes": 1}, of_one),
            f"{family}, 10 nodes, silent": (silent, of_silent),
            f"{family}, 10 nodes, {channel}": (sending, of_sending),
            **(
                {f"{family}, 10 nodes, features": (silent | {"channel": "features"}, {})}
                if channel != "features"
                else {}
            ),
            f"{family}, {channel} after burn-in": (sending | {"burn_in": base.rounds // 3}, {}),
            f"{family}, {channel}, projected": (sending | {"projection": True}, {}),
            f"{family}, {channel}, reference set": (sending | refers, {}),
            f"{family}, silent, fewer examples": (silent | fewer, {}),
        }
        found += [Row(name, base, own, thesis, family) for name, (own, thesis) in made.items()]
    return found
