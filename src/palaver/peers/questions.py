"""Questions to a collective: the decision of whoever answers in time."""

import math
import queue
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import zenoh

from palaver.arguments import choice, number
from palaver.decision import DEFAULT_RULE, RULES
from palaver.peers.names import check_name, is_operator
from palaver.peers.settings import SiteSettings, read_site
from palaver.peers.wire import LARGEST, REASON, Answer, RefusedError, array, decode, digest_of, encode, question
from palaver.peers.zenoh import Links, opened
from palaver.types import PalaverError

_HELLO = 5.0
"""Seconds to wait for a first beacon at least: links are tried again after up to four."""
_LINKS = 0.5
"""Seconds to wait for links to all sites once there is one; those that are up link in a few milliseconds."""
_FLOAT = np.dtype(np.float32)
_ROOM = LARGEST - 64
"""Bytes of inputs in a question at most."""


class Voice(NamedTuple):
    """What became of one peer's answer."""

    status: str
    """``answered``, ``late`` (it answered a part of the questions in time) or ``absent``."""
    milliseconds: float | None
    """Until its last answer that came in time."""
    weight: float
    """Its share in the decision, mean over the inputs; 0 of those that were not in time."""


class Decided(NamedTuple):
    """A collective's decision about B inputs."""

    distribution: np.ndarray
    """``[B, C]``; uniform where nobody answered, with C = 1 where nobody answered at all."""
    entropy: np.ndarray
    """``[B]``, nats."""
    voices: dict[str, Voice]
    """By the peer's name."""
    logits: np.ndarray
    """``[N, B, C]`` of the peers in this order, divided by their temperatures if so asked, 0 without an answer."""

    @property
    def nobody(self) -> bool:
        """Whether no peer answered in time."""
        return all(voice.status == "absent" for voice in self.voices.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "classes": self.distribution.argmax(-1).tolist(),
            "distribution": self.distribution.tolist(),
            "entropy": self.entropy.tolist(),
            "peers": {name: voice._asdict() for name, voice in self.voices.items()},
        }


def ask(
    x: np.ndarray,
    site: str | Path,
    *,
    timeout: float = 2.0,
    rule: str = DEFAULT_RULE,
    calibrated: bool = False,
    operator: str = "operator.demo",
    credentials: str | Path | None = None,
) -> Decided:
    """Asks a running collective from anywhere.

    Args:
        x: ``[B, ...]`` inputs, of the shape and type that the collective agreed on.
        site: TOML file of any of its sites, which says where all are.
        timeout: seconds to wait at most, first for a link and then for answers.
        rule: of ``palaver.decision.RULES``.
        calibrated: whether each peer's logits are divided by its own temperature, which it fits on validation examples
            (Guo et al. 2017; ``palaver.decision.fit_temperature``), so that what it is as sure of as others weighs the
            same.
        operator: name in the operator's certificate, where sites have certificates.
        credentials: folder with its key and certificate.

    Returns:
        The decision, and what became of each peer's answer.

    Raises:
        PalaverError: as ``put``; the file or the certificate cannot be read; or no site is reached.

    """
    choice("rule", rule, RULES)
    timeout = number("timeout", timeout, "(0, inf)")
    with looking(Path(site), operator, credentials) as (session, settings):
        at = f"palaver/{settings.agreed().name}"
        digest, peers = introduced(session, at, timeout), tuple(settings.peers)
        return put(session, at, digest, x, peers, timeout=timeout, rule=rule, calibrated=calibrated)


@contextmanager
def looking(site: Path, operator: str, credentials: str | Path | None) -> Generator[tuple[zenoh.Session, SiteSettings]]:
    """A session of an operator, who takes part in nothing.

    Args:
        site: TOML file of any site.
        operator: its name.
        credentials: folder with its key and certificate.

    Yields:
        The session, and the settings of the file.

    Raises:
        PalaverError: the file or the certificate cannot be read, or the name is no operator's.

    """
    settings = read_site(site)
    if not is_operator(check_name(operator)):
        raise PalaverError(f"operator is {operator!r}: give a name that begins with operator.")
    if bool(settings.credentials) != bool(credentials):
        said = "have certificates: give an operator's" if settings.credentials else "have no certificates: leave out"
        raise PalaverError(f"the sites of {site} {said} credentials")
    folder = None if credentials is None else Path(credentials)
    session = opened(Links(settings.agreed().name, operator, "", settings.peers, folder))
    try:
        yield session, settings
    finally:
        session.close()


def introduced(session: zenoh.Session, at: str, timeout: float) -> bytes:
    """The digest of what a collective agreed on, from the first beacon that is heard.

    Raises:
        PalaverError: no beacon is heard in time.

    """
    heard = queue.Queue[bytes]()
    with session.declare_subscriber(f"{at}/state/*", lambda sample: heard.put(bytes(sample.payload))):
        until = time.monotonic() + max(timeout, _HELLO)
        while True:
            try:
                return digest_of(heard.get(timeout=max(0.0, until - time.monotonic())))
            except RefusedError:
                continue
            except queue.Empty:
                raise PalaverError(
                    f"no site is heard within {max(timeout, _HELLO):g} s: start one, or give another site or time-out"
                ) from None


def put(
    session: zenoh.Session,
    at: str,
    collective: bytes,
    x: np.ndarray,
    peers: Sequence[str],
    *,
    timeout: float = 2.0,
    rule: str = DEFAULT_RULE,
    calibrated: bool = False,
    silent: bool = False,
) -> Decided:
    """Asks all peers, waits for the answers, and decides.

    Args:
        session: that has links to the peers.
        at: beginning of the collective's keys, ``palaver/NAME``.
        collective: digest of what was agreed on.
        x: ``[B, ...]`` inputs, as the collective agreed on.
        peers: names of those who are asked.
        timeout: seconds to wait for answers at most.
        rule: of ``palaver.decision.RULES``.
        calibrated: as for ``ask``.
        silent: whether the peers' silent twins are asked: what they would say had each learnt alone.

    Returns:
        The decision, and what became of each peer's answer.

    Raises:
        PalaverError: an unknown rule, no input, a time-out that is not above 0, or an input that alone is too large; or
            nobody answers, and whoever is there refuses the question, such as for inputs of another type or shape.

    """
    choice("rule", rule, RULES)
    timeout = number("timeout", timeout, "(0, inf)")
    if not len(x):
        raise PalaverError("x has no input: give at least one")
    rows = _ROOM // max(1, x[0].nbytes)
    if not rows:
        raise PalaverError(f"one input has {x[0].nbytes} bytes: a question holds at most {_ROOM}")
    size = min(rows, 4096)
    chunks = [x[first : first + size] for first in range(0, len(x), size)]
    found, latest, refusals = _answers(session, at, collective, chunks, peers, timeout, calibrated, silent)
    if refusals and not found:
        raise PalaverError(refusals.most_common(1)[0][0])
    return decided(found, latest, [len(chunk) for chunk in chunks], peers, rule)


def _answers(
    session: zenoh.Session,
    at: str,
    collective: bytes,
    chunks: Sequence[np.ndarray],
    peers: Sequence[str],
    timeout: float,
    calibrated: bool,
    silent: bool,
) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, float], Counter[str]]:
    """Logits by peer and place of the question, milliseconds until each peer's last answer, and why some refuse."""
    began, found, latest = time.monotonic(), dict[str, dict[int, np.ndarray]](), dict[str, float]()
    refusals = Counter[str]()
    replies = [
        session.get(
            f"{at}/ask/*",
            payload=encode(question(collective, chunk, silent=silent)),
            target=zenoh.QueryTarget.ALL,
            consolidation=zenoh.ConsolidationMode.NONE,
            timeout=timeout,
            priority=zenoh.Priority.INTERACTIVE_HIGH,
        )
        for chunk in chunks
    ]
    for place, (chunk, handler) in enumerate(zip(chunks, replies, strict=True)):
        for reply in handler:
            if reply.ok is None:
                if reply.err is not None and reply.err.encoding == zenoh.Encoding.TEXT_PLAIN:  # Zenoh's own are not
                    refusals[plain(bytes(reply.err.payload))] += 1
                continue
            name = str(reply.ok.key_expr).rpartition("/")[2]
            try:
                answer = decode(bytes(reply.ok.payload), collective)
                if name not in peers or not isinstance(answer, Answer):
                    continue
                logits = array(answer.logits, (len(chunk), len(answer.logits) // (4 * len(chunk))), _FLOAT)
            except RefusedError:
                continue
            if calibrated:
                with np.errstate(over="ignore"):  # a rule takes numbers that are not finite for no answer
                    logits = logits / np.float32(answer.temperature)
            found.setdefault(name, {})[place] = logits
            latest[name] = 1000 * (time.monotonic() - began)
    return found, latest, refusals


def plain(reason: bytes) -> str:
    r"""What anyone gives for a reason, as a short line without signs that a terminal obeys.

    >>> plain(b"no \x1b[2Jsuch\nthing")
    'no ?[2Jsuch?thing'

    """
    text = reason[: 4 * REASON].decode(errors="replace")[:REASON]
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def decided(
    found: Mapping[str, Mapping[int, np.ndarray]],
    latest: Mapping[str, float],
    sizes: Sequence[int],
    peers: Sequence[str],
    rule: str,
) -> Decided:
    """The decision from what was answered.

    Args:
        found: logits ``[rows, C]`` by peer and place of the question.
        latest: milliseconds until each peer's last answer.
        sizes: rows of each question.
        peers: names of all who were asked.
        rule: of ``palaver.decision.RULES``.

    Returns:
        The decision.

    """
    widths = [array.shape[1] for parts in found.values() for array in parts.values()]
    classes = max(set(widths), key=widths.count, default=1)
    blank = [np.zeros((size, classes), np.float32) for size in sizes]
    of = {name: _of_width(found.get(name, {}), classes) for name in peers}
    logits = np.stack(
        [np.concatenate([parts.get(place, empty) for place, empty in enumerate(blank)]) for parts in of.values()]
    )
    answered = np.stack([np.repeat([place in parts for place in range(len(sizes))], sizes) for parts in of.values()])
    more = (1 << (sum(sizes) - 1).bit_length()) - sum(sizes)  # to a power of two: few programs, whatever is asked
    padded = np.pad(logits, ((0, 0), (0, more), (0, 0))), np.pad(answered, ((0, 0), (0, more)))
    p = np.asarray(RULES[rule](*map(jnp.asarray, padded)))[: sum(sizes)]
    entropy = np.abs((p * np.log(np.maximum(p, 1e-30))).sum(-1))
    weight = _weights(rule, logits, answered)
    voices = {}
    for place, (name, parts) in enumerate(of.items()):
        status = "answered" if len(parts) == len(sizes) else "late" if parts else "absent"
        voices[name] = Voice(status, latest.get(name), float(weight[place]))
    return Decided(p, entropy, voices, logits)


def _of_width(parts: Mapping[int, np.ndarray], classes: int) -> dict[int, np.ndarray]:
    """The answers with so many classes: those that most have given."""
    return {place: array for place, array in parts.items() if array.shape[1] == classes}


def _weights(rule: str, logits: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """``[N]``: each peer's share in a decision, mean over the inputs; where a rule has no weights, all the same."""
    if rule in ("confidence", "entropy_as_printed"):
        wide = logits.astype(float)  # float32 may not have the difference of two of its numbers
        log_p = np.maximum(wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True), -1e30)
        entropy = -(np.exp(log_p) * log_p).sum(-1)
        weight = entropy if rule == "entropy_as_printed" else math.log(logits.shape[-1]) - entropy
        weight = np.where(answered, np.maximum(weight, 0), 0)
        weight = np.where(weight.sum(0) > 0, weight, answered)
    else:
        weight = answered.astype(float)
    total = weight.sum(0)
    return (weight / np.where(total > 0, total, 1)).mean(1)
