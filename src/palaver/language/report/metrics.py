"""Every metric of a language, and how it is shown."""

from functools import partial

from palaver.studies.findings import Metric
from palaver.studies.formats import count, decimals, percent, points

_accuracy = partial(Metric, unit="accuracy, %", better="higher", form=percent, support="fraction")
_positive = partial(Metric, support="positive")

PROBES = (
    _accuracy("probe_accuracy", "features %", compare=True),
    _positive("best_step", "best step", "steps", "", count),
    Metric("points_by_the_end", "last minus best", "points", "higher", points),
    _accuracy("message_probe_accuracy", "messages %", compare=True),
    _accuracy("message_probe_accuracy.end", "messages at the end %"),
)
MESSAGES = (
    _positive("message_entropy.end", "entropy, bits", "bits", "", decimals(1)),
    _positive("symbol_entropy.end", "summed over positions", "bits", "", decimals(1)),
    Metric("mutual_information.end", "I(X; S) ≥, nats", "nats", "higher", decimals(2)),
    Metric("agreement.end", "agreement %", "%", "", percent, support="fraction"),
    Metric(
        *("topographic_similarity.end", "topographic similarity", "", "higher", decimals(2)),
        support="correlation",
    ),
    _positive("reconstruction_error.end", "reconstruction error", "squared error a pixel", "lower", decimals(4)),
    _positive("length.end", "length", "symbols", "", decimals(1)),
)
CURVES = (
    Metric(
        *("validation_probe_accuracy", "features, validation %", "probe of features, validation %", "higher", percent),
        *("", "probe of features", 100, "features {} %"),
        support="fraction",
    ),
    Metric(
        *("validation_message_probe_accuracy", "messages, validation %", "probe of messages, validation %", "higher"),
        *(percent, "", "probe of messages", 100, "messages {} %"),
        support="fraction",
    ),
    _positive("message_entropy", "entropy, bits", "bits", form=decimals(1), panel="entropy of hard messages"),
    Metric(
        *("agreement", "agreement %", "%"),
        form=percent,
        panel="agreement between agents",
        factor=100,
        support="fraction",
    ),
)
STORED = (
    _positive("temperature", "temperature"),
    _positive("message_nll", "negative log-likelihood of received messages, nats"),
)
"""In the files alone."""
METRICS = (*PROBES, *MESSAGES, *CURVES, *STORED)
