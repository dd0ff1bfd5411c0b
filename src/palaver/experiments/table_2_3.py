"""Table 2.3 of the thesis: nodes that learn without labels, communicating or not, and two remedies where that hurts."""

from dataclasses import replace

from palaver.exchange.settings import CollectiveSettings
from palaver.studies.chapter import Configuration

_THESIS = CollectiveSettings(
    data="cifar10", model="auto", latent=64, batch_size=64, rounds=13_000, eval_every=1_000, channel="none"
)
SCALES = {
    "tiny": replace(_THESIS, widths=(8, 16), latent=8, batch_size=16, rounds=8, eval_every=4, examples=400),
    "cpu": replace(_THESIS, widths=(16, 32, 64), latent=32, rounds=400, eval_every=200),
    "thesis": _THESIS,
}
"""``cpu`` is a narrower network and fewer rounds; the widths are for CIFAR-10, other data take the model's own."""

_FAMILIES = {
    # DCGAN's advice for adversarial training: a smaller step, and less of a running mean.
    "VAE": ({"objective": "vae"}, "gaussian"),
    "BiGAN": ({"objective": "bigan", "learning_rate": 0.0002, "adam_beta1": 0.5}, "features"),
}
_NUMBERS = {
    "VAE": (0.418, (0.416, 0.452), (0.415, 0.427)),
    "BiGAN": (0.469, (0.445, 0.499), (0.443, 0.462)),
}
"""Test accuracies of the thesis: one node; average and collective of ten silent and of ten communicating nodes."""


def rows(scale: str, data: str | None = None) -> list[Configuration]:
    """The six rows of Table 2.3, and for each model the nodes before training and two remedies.

    The accuracy of a probe on an untrained encoder shows what the training is worth.
    Each remedy is against one way in which communication could hurt. Nodes know nothing at first: none sends anything
    during the first third of the rounds. Nodes pull each other to their mean: a learned projection is put between a
    node's code and those it receives. On other ``data`` the thesis's numbers do not apply.
    """
    base = SCALES[scale]
    if data is not None and data != base.data:
        base = replace(base, data=data, widths=())
    found = []
    for family, (how, channel) in _FAMILIES.items():
        own = replace(base, **how)
        sending = replace(own, channel=channel)
        alone, silent, communicating = _NUMBERS[family] if base.data == _THESIS.data else (None, None, None)
        found += [
            Configuration(f"{family}, 10 nodes, untrained", replace(own, rounds=0), {}),
            Configuration(f"{family}, 1 node", replace(own, nodes=1), {"average_accuracy": alone} if alone else {}),
            Configuration(f"{family}, 10 nodes, silent", own, _both(silent)),
            Configuration(f"{family}, 10 nodes, {channel}", sending, _both(communicating)),
            Configuration(f"{family}, {channel} after burn-in", replace(sending, burn_in=base.rounds // 3), {}),
            Configuration(f"{family}, {channel}, projected", replace(sending, projection=True), {}),
        ]
    return found


def _both(pair: tuple[float, float] | None) -> dict[str, float]:
    return {} if pair is None else {"average_accuracy": pair[0], "collective_accuracy": pair[1]}
