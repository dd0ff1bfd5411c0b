"""A site's figures for Prometheus."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_LINKS = {
    "sent": "Packets sent to a peer since this site started",
    "lost": "Packets to a peer that are taken for lost",
    "overflown": "Packets to a peer that never left, since newer ones took their place",
    "arrived": "Packets that arrived from a peer since that one started",
}


@dataclass(eq=False)  # the registry tells collectors apart by identity
class _Collected:
    found: list[Metric]

    def collect(self) -> list[Metric]:
        return self.found


def exposition(found: dict[str, Any]) -> bytes:
    """A snapshot in Prometheus's text format.

    Args:
        found: of ``palaver.peers.snapshot.snapshot``.

    Returns:
        The text.

    """
    registry = CollectorRegistry()
    registry.register(_Collected(list(_metrics(found))))
    return generate_latest(registry)


def _metrics(found: dict[str, Any]) -> Iterable[Metric]:
    (own,) = (row for row in found["sites"] if row["name"] == found["name"])
    about = GaugeMetricFamily("palaver_site", "Always 1", labels=["name", "digest"])
    about.add_metric([found["name"], found["digest"]], 1)
    yield about
    state = GaugeMetricFamily("palaver_site_state", "1 for the state of each site", labels=["site", "state"])
    for row in found["sites"]:
        state.add_metric([row["name"], row["state"]], 1)
    yield state
    yield GaugeMetricFamily("palaver_round", "Rounds of training done", own["round"])
    yield GaugeMetricFamily("palaver_rounds", "Rounds after which the site only answers", found["rounds"])
    accuracy = GaugeMetricFamily("palaver_accuracy", "Share of validation examples, by model", labels=["model"])
    for model, key in (("alone", "accuracy"), ("silent", "silent")):
        if own[key] is not None:
            accuracy.add_metric([model], own[key])
    yield accuracy
    if own["agrees"] is not None:
        said = "Share of inputs of the reference set whose class is what others say"
        yield GaugeMetricFamily("palaver_agreement", said, own["agrees"])
    yield GaugeMetricFamily("palaver_inbox_packets", "Packets that wait to be learned from", own["inbox"])
    yield CounterMetricFamily("palaver_received_bytes", "Bytes of all that came in", own["bytes_in"])
    sent = CounterMetricFamily("palaver_sent_bytes", "Bytes of all that left, by kind of message", labels=["kind"])
    for kind, size in found["left"].items():
        sent.add_metric([kind], size)
    yield sent
    for key, said in _LINKS.items():
        packets = CounterMetricFamily(f"palaver_packets_{key}", said, labels=["peer"])
        for link in found["links"]:
            packets.add_metric([link["peer"]], link[key])
        yield packets
    present = GaugeMetricFamily("palaver_peer_present", "Whether a peer can be reached", labels=["peer"])
    for link in found["links"]:
        present.add_metric([link["peer"]], link["present"])
    yield present
    refused = CounterMetricFamily("palaver_refused", "What was refused; ? is no peer", labels=["peer", "reason"])
    for row in found["refused"]:
        refused.add_metric([row["peer"], row["reason"]], row["packets"])
    yield refused
    checkpoint = found["checkpoint"]
    trouble = float(checkpoint["trouble"] is not None)
    yield GaugeMetricFamily("palaver_checkpoint_trouble", "Whether the latest checkpoint failed", trouble)
    if checkpoint["seconds"] is not None:
        yield GaugeMetricFamily("palaver_checkpoint_age_seconds", "Since the latest one", checkpoint["seconds"])
    certificate = found["certificate"]
    if certificate["days_left"] is not None:
        yield GaugeMetricFamily("palaver_certificate_days_left", "Until it ends", certificate["days_left"])
    yield CounterMetricFamily(
        "palaver_renewals", "How often new credentials or refusals were taken up", certificate["renewals"]
    )
    unused = float(certificate["trouble"] is not None)
    yield GaugeMetricFamily("palaver_renewal_trouble", "Whether the newest of these files are not used", unused)
