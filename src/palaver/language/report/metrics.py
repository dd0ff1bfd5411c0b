"""Every metric of a language, and how it is shown."""

from palaver.studies.findings import Metric
from palaver.studies.formats import count, decimals, percent, points

PROBES = (
    Metric("probe_accuracy", "features %", "accuracy, %", "higher", percent, compare=True),
    Metric("best_step", "best step", "steps", "", count),
    Metric("points_by_the_end", "last minus best", "points", "higher", points),
    Metric("message_probe_accuracy", "messages %", "accuracy, %", "higher", percent, compare=True),
    Metric("message_probe_accuracy.end", "messages at the end %", "accuracy, %", "higher", percent),
)
MESSAGES = (
    Metric("message_entropy.end", "entropy, bits", "bits", "", decimals(1)),
    Metric("symbol_entropy.end", "summed over positions", "bits", "", decimals(1)),
    Metric("mutual_information.end", "I(X; S) ≥, nats", "nats", "higher", decimals(2)),
    Metric("agreement.end", "agreement %", "%", "", percent),
    Metric("topographic_similarity.end", "topographic similarity", "", "higher", decimals(2)),
    Metric("reconstruction_error.end", "reconstruction error", "squared error a pixel", "lower", decimals(4)),
    Metric("length.end", "length", "symbols", "", decimals(1)),
)
CURVES = (
    Metric(
        *("validation_probe_accuracy", "features, validation %", "probe of features, validation %", "higher", percent),
        *("", "probe of features", 100, "features {} %"),
    ),
    Metric(
        *("validation_message_probe_accuracy", "messages, validation %", "probe of messages, validation %", "higher"),
        *(percent, "", "probe of messages", 100, "messages {} %"),
    ),
    Metric("message_entropy", "entropy, bits", "bits", form=decimals(1), panel="entropy of hard messages"),
    Metric("agreement", "agreement %", "%", form=percent, panel="agreement between agents", factor=100),
)
METRICS = (*PROBES, *MESSAGES, *CURVES)
