"""Questions to a collective: the decision of whoever answers in time."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import zenoh

from palaver.arguments import choice
from palaver.decision import DEFAULT_RULE, RULES
from palaver.peers.introduction import ALL, introduced, looking, waiting
from palaver.peers.wire import LARGEST, REASON, Answer, RefusedError, array, decode, encode, question
from palaver.types import PalaverError

_FLOAT = np.dtype(np.float32)
_ROOM = LARGEST - 256
"""Bytes of inputs in a question at most, and of logits in an answer."""


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
    """``[B, C]``; uniform where nobody answered."""
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
    waiting(timeout)
    with looking(Path(site), operator, credentials) as (session, settings):
        at, peers = f"palaver/{settings.agreed().name}", tuple(settings.peers)
        found = introduced(session, settings, timeout)
        how: Any = {"timeout": timeout, "rule": rule, "calibrated": calibrated}
        return put(session, at, found.digest, x, peers, classes=found.classes, **how)


def put(
    session: zenoh.Session,
    at: str,
    collective: bytes,
    x: np.ndarray,
    peers: Sequence[str],
    *,
    classes: int,
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
        classes: C; answers with another number of them are left out.
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
    timeout = waiting(timeout)
    if not len(x):
        raise PalaverError("x has no input: give at least one")
    size = at_once(x[0].nbytes, classes)
    if not size:
        raise PalaverError(f"one input has {x[0].nbytes} bytes: a question holds at most {_ROOM}")
    chunks = [x[first : first + size] for first in range(0, len(x), size)]
    how = (timeout, calibrated, silent)
    found, latest, refusals = _answers(session, at, collective, chunks, peers, classes, *how)
    if refusals and not found:
        raise PalaverError(refusals.most_common(1)[0][0])
    return decided(found, latest, [len(chunk) for chunk in chunks], peers, rule, classes)


def at_once(size: int, classes: int) -> int:
    """How many inputs a question has at most, so that neither it nor an answer is too large to be sent.

    >>> at_once(64, 10), at_once(3072, 10), at_once(64, 1000), at_once(100_000, 10)
    (1020, 21, 16, 0)

    Args:
        size: bytes of an input.
        classes: of an answer.

    Returns:
        The number; 0: not one.

    """
    return min(4096, _ROOM // max(1, size, classes * _FLOAT.itemsize))


def _answers(
    session: zenoh.Session,
    at: str,
    collective: bytes,
    chunks: Sequence[np.ndarray],
    peers: Sequence[str],
    classes: int,
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
            timeout=timeout,
            **ALL,
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
                logits = array(answer.logits, (len(chunk), classes), _FLOAT)
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
    classes: int,
) -> Decided:
    """The decision from what was answered.

    Args:
        found: logits ``[rows, C]`` by peer and place of the question.
        latest: milliseconds until each peer's last answer.
        sizes: rows of each question.
        peers: names of all who were asked.
        rule: of ``palaver.decision.RULES``.
        classes: C.

    Returns:
        The decision.

    """
    blank = [np.zeros((size, classes), np.float32) for size in sizes]
    of = {name: found.get(name, {}) for name in peers}
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
