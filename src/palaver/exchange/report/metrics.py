"""Every metric of a collective, and how it is shown."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from palaver.studies.findings import Metric
from palaver.studies.formats import count, decimals, human_bits, percent
from palaver.studies.results import metric_of

_accuracy = partial(Metric, unit="accuracy, %", better="higher", form=percent, support="fraction")
_positive = partial(Metric, support="positive")
_rounds = partial(_positive, unit="rounds", better="lower", form=count, reached=True)
_bits = partial(_positive, unit="bits", form=human_bits)

SENT = ("bits.examples", "bits.indices", "bits.payload")
"""The parts of what a node sent; their sum is what it cost to talk."""

RULES = _accuracy("collective_accuracy.*", "{} %")
"""The collective's accuracy under each decision rule that the run was evaluated with."""

ACCURACY = (
    _accuracy(
        *("average_accuracy", "average %"),
        note="The average node alone.",
        factor=100,
        headline="average {} %",
        compare=True,
    ),
    _accuracy(
        *("collective_accuracy", "collective %"),
        note="The nodes' decision together under the default rule.",
        factor=100,
        headline="collective {} %",
        compare=True,
    ),
)
_to_target = partial(_bits, better="lower", reached=True, spent=SENT)
REACHED = (
    _rounds("rounds_to_target.average", "average: rounds to target"),
    _rounds("rounds_to_target", "collective: rounds to target", compare=True),
)
SPENT = (
    _to_target("bits_to_target.average", "average: bits to target"),
    _to_target("bits_to_target", "collective: bits to target"),
)
NODES = (
    _accuracy("own_accuracy", "own distribution %", note="On its own distribution: a node on labels such as it has."),
    _accuracy("worst_accuracy", "worst node %", note="Worst: the least accurate node on all classes."),
    Metric(
        *("spread_accuracy", "spread, points", "points", "lower", percent),
        note="Spread: the standard deviation of the nodes' accuracies, all of them, so divided by their number.",
        support="fraction",
    ),
)
LOCAL = (
    _positive(
        "local_loss",
        *("loss on own examples", "nats"),
        better="",
        form=decimals(3),
        note="On own examples: of the average node, on at most 512 labelled examples of its own shard.",
    ),
    _accuracy("local_accuracy", "accuracy on own examples %"),
    Metric(
        "own_share",
        *("own share %", "% of the examples"),
        form=percent,
        note="Own share: of the examples that a node trained on, those of its own shard, also if they came back.",
        support="fraction",
    ),
)
ANSWERS = (
    Metric(
        *("awake", "awake %", "% of the nodes", "", percent),
        note="Awake: the share of nodes that are there to decide; if none is, the decision is the first class. "
        "Accuracies of single nodes, in other tables, are of all: one that is gone counts as it was when it left.",
        support="fraction",
    ),
    _accuracy(
        "subset_accuracy.*",
        "{} % of them",
        note="Of them only some are asked, drawn for every example, at least one: whoever answers in time.",
    ),
)
TEST = (
    _accuracy("test_average_accuracy", "average %"),
    _accuracy("test_collective_accuracy", "collective %"),
    *(metric._replace(name=f"test_{metric.name}") for metric in NODES),
    _accuracy("test_calibrated_collective_accuracy", "collective, calibrated %"),
)
ASKED = (
    _accuracy(
        *("test_subset_accuracy.*", "{} %"),
        note="The headings of the second table say how many percent are asked, and by which rule they decide if it is "
        "not the default one; calibrated: each node's logits are first divided by a temperature of its own.",
    ),
    _accuracy("test_calibrated_subset_accuracy.*", "{}, calibrated %"),
)
"""Of the test examples, by the percent of the nodes that are asked, and by the rule where it is not the default one."""
BITS = (
    _bits("bits.examples", "examples", better="lower"),
    _bits("bits.indices", "indices", better="lower"),
    _bits("bits.payload", "payload", better="lower"),
    _bits("bits.gradient_exchange", "gradient exchange"),
    _positive("bits.ratio", "gradients / sent, ×", better="higher"),
    Metric("dropped_share", "dropped %", "%", "lower", percent, support="fraction"),
)
_TENTHS = decimals(1)
LATENT = (
    Metric(
        *("probe_accuracy", "linear probe, validation %", "validation accuracy, %", "higher", percent),
        "The linear probe is fitted anew at every evaluation; this is its validation accuracy there.",
        *("linear probe", 100),
        support="fraction",
    ),
    Metric(
        *("elbo", "ELBO, nats", "nats an example", "higher", _TENTHS),
        *("The ELBO (evidence lower bound) is what a VAE maximises: higher is better.", "ELBO"),
    ),
    Metric(
        *("reconstruction", "reconstruction, nats", "nats an example", "lower", _TENTHS),
        "Reconstruction is the negative log likelihood of an example given its code: lower is better.",
        "reconstruction",
        support="positive",
    ),
    Metric(
        *("kl", "KL, nats", "nats an example", "", _TENTHS),
        *("The KL divergence is how far codes are from the prior: at 0 they hold no information.", "KL divergence"),
        support="positive",
    ),
    Metric(
        *("active_units", "active units", "units", "higher", _TENTHS),
        *("Active units are the latent units in use.", "active latent units"),
        support="positive",
    ),
    Metric(
        "feature_variance",
        "feature variance",
        "squared feature units",
        note="Features without variance are the same for every example and of no use.",
        panel="feature variance",
        support="positive",
    ),
    Metric(
        *("discriminator_accuracy", "discriminator %", "accuracy, %", "", percent),
        "A discriminator at 50 % cannot tell real from generated pairs; at 100 % it is certain, and the generator and "
        "the encoder learn little from it.",
        *("discriminator", 100),
        support="fraction",
    ),
    Metric(
        "reconstruction_error",
        *("squared error a pixel", "squared error a pixel", "lower"),
        note="The reconstruction error is the mean squared error a pixel: lower is better.",
        panel="reconstruction error",
        support="positive",
    ),
    Metric(
        "sample_variance",
        *("samples' variance, × data's", "times the data's"),
        note="The variance of samples is in multiples of the data's: 1 is as varied as the data, 0 all alike.",
        panel="variance of samples",
        support="positive",
    ),
)
STORED = (
    _accuracy("validation_average_accuracy", "average, validation %"),
    _positive("consumed", "rounds with a packet read"),
    _positive("broadcast", "packets broadcast"),
    _positive("sent", "deliveries"),
    _positive("dropped", "deliveries dropped"),
)
"""In the files alone: what a configuration is chosen by, and counts per node."""
METRICS = (
    *(*ACCURACY, RULES._replace(label="by {}", compare=True), *REACHED, *SPENT),
    *(*NODES, *LOCAL, *ANSWERS, *TEST, *ASKED, *BITS, *LATENT, *STORED),
)


def is_probe(summary: Mapping[str, Any]) -> bool:
    """Whether the nodes learnt without labels, so that accuracies are those of a linear probe on their features.

    Such accuracies are taken on the test set, every node at its best evaluation on validation examples so far, and
    there are no rounds to a target.
    """
    return summary.get("measure") == "probe"


def accuracy_name(summary: Mapping[str, Any]) -> str:
    """The accuracy's name in titles and on axes."""
    return "test accuracy of the linear probe" if is_probe(summary) else "validation accuracy"


def sent_bits(row: Mapping[str, Any]) -> float | None:
    """Bits that a node sent, mean over seeds; None where the row does not say."""
    parts = [metric_of(row, name) for name in SENT]
    means = [part["mean"] for part in parts if part is not None and part["mean"] is not None]
    return sum(means) if means else None
