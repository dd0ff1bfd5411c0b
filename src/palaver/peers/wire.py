"""What travels between peers, as one table of messages, and how it is read when it may come from anyone.

| kind | message | says |
|---|---|---|
| 1 | ``Said`` | what a peer says about rows of the reference set, or about examples of its own |
| 2 | ``Beacon`` | how far a peer is, its state, and what it has received: an acknowledgement |
| 3 | ``Ask`` | a question: inputs to predict; to one without a word a beacon is the answer, with "classes" |
| 4 | ``Answer`` | a peer's logits for these inputs |

A message is one byte, the version, and a msgpack array: the kind, and the message's fields in order. It holds numbers,
bytes and names, nothing that is run. Types and shapes of arrays are never taken from a message: the receiver knows them
from what the collective has agreed on, and the bytes must be exactly as many (``palaver.channels.unpack``, ``array``).
A question says which it has, so that one that is wrong is refused and not read as something else.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

VERSION = 3
LARGEST = 65536
"""Bytes of a message at most; Zenoh drops larger ones where buffers are small."""
ROOM = LARGEST - 64
"""Bytes of arrays in a message at most; its other fields have fewer than the rest."""
REASON = 300
"""Characters of what a site says to refuse a question, at most."""
DIGEST = 8
"""Bytes of a digest."""

Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=DIGEST, max_length=DIGEST)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Long: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Blob: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=LARGEST)]
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]
State: TypeAlias = Literal["joining", "refused", "burn-in", "talking", "alone", "done", "leaving"]
"""What a site says of itself, see ``palaver.peers.site.Site.state``."""


class RefusedError(Exception):
    """Something from outside is not used; ``reason``, one of ``REASONS``, is counted, and the message says more."""

    def __init__(self, reason: str, more: str) -> None:
        assert reason in REASONS, reason
        super().__init__(more)
        self.reason = reason


REASONS = {
    "size": "more bytes than a message may have",
    "malformed": "no message of this table, or a field out of range",
    "version": "of another version",
    "collective": "of another collective, or one with another description or reference set",
    "stranger": "from nobody of the collective",
    "replayed": "received before, or from an earlier life of its sender",
    "rows": "about rows that are not there, or more of them than an answer has room for",
    "payload": "a payload that is not one of the channel's",
    "not finite": "numbers that are not finite",
    "range": "numbers far larger than those of the data set, or than features are",
    "model": "numbers that the model fails at",
    "link": "a link without a certificate of the collective's authority",
    "muted": "from a sender that is not believed",
}
"""Why something from outside is not used."""


class _Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What every message begins with, after its kind."""

    collective: Digest
    """Of all that the collective has agreed on, with the reference set."""


class Said(_Message, frozen=True, tag=1):
    """What a peer says about B rows."""

    epoch: Long
    """Which life of the sender: larger after every restart."""
    seq: Count
    """How many packets it sent to this receiver before, in this life."""
    step: Count
    """Of the sender: the round in which it said so."""
    start: Count
    """The first of the rows of the reference set; 0 for examples of the sender's own."""
    payload: Blob
    """The channel's, packed."""
    x: Blob = b""
    """The inputs, only for examples of the sender's own."""


class Beacon(_Message, frozen=True, tag=2):
    """How far a peer is, and the latest packet that it received from each sender."""

    epoch: Long
    step: Count
    state: State
    received: Annotated[dict[Name, tuple[Long, Count]], msgspec.Meta(max_length=1024)]
    """The sender's epoch and the largest seq of it, by the sender's name."""
    report: Annotated[dict[Name, float], msgspec.Meta(max_length=64)] = {}
    """For a table of the collective: accuracies, packets, bytes; empty where the beacon only acknowledges."""


class Ask(_Message, frozen=True, tag=3):
    """Inputs to predict."""

    rows: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    x: Blob
    """Little-endian, row by row."""
    dtype: Annotated[str, msgspec.Meta(max_length=32)]
    """NumPy's name of the inputs' type."""
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=16)]
    """Of one input."""
    silent: bool = False
    """Whether the peer's silent twin is asked: what the peer would say had it learnt alone."""


class Answer(_Message, frozen=True, tag=4):
    """A peer's logits for the inputs of a question."""

    step: Count
    logits: Blob
    """``[rows, C]`` float32."""
    temperature: float = 1.0
    """That the peer fitted on validation examples: dividing its logits by it calibrates them."""

    def __post_init__(self) -> None:
        """Checks what a type cannot say; what is raised here is told as any other field out of range."""
        if not 0.01 <= self.temperature <= 100:  # nor NaN
            raise ValueError(f"temperature is {self.temperature}: 0.01 to 100 is read")


Message: TypeAlias = Said | Beacon | Ask | Answer

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message as bytes.

    Args:
        message: of the table.

    Returns:
        At most ``LARGEST`` bytes.

    Raises:
        ValueError: it has more.

    """
    data = bytes([VERSION]) + _encoder.encode(message)
    if len(data) > LARGEST:
        raise ValueError(f"a message of {len(data)} bytes: at most {LARGEST} are sent")
    return data


def decode(data: bytes, collective: bytes) -> Message:
    """A message from anyone.

    >>> decode(encode(question(b"8 digits", np.ones((3, 2), np.uint8))), b"8 digits").rows
    3

    Args:
        data: the bytes.
        collective: digest of the receiver's own collective.

    Returns:
        The message, of which types, ranges, version and collective are checked; what its bytes hold is not.

    Raises:
        RefusedError: for any other data.

    """
    message = _read(data)
    if message.collective != collective:
        raise RefusedError("collective", f"digest {message.collective.hex()}: this peer's is {collective.hex()}")
    return message


def digest_of(data: bytes) -> bytes:
    """The digest of the collective that a message is of.

    Raises:
        RefusedError: it is no message.

    """
    return _read(data).collective


def _read(data: bytes) -> Message:
    """A message of any collective."""
    if len(data) > LARGEST:
        raise RefusedError("size", f"{len(data)} bytes: at most {LARGEST} are read")
    if data[:1] != bytes([VERSION]):
        raise RefusedError("version", f"the first byte is {data[:1].hex()}: this peer reads version {VERSION}")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise RefusedError("malformed", str(error)) from None


def question(collective: bytes, x: np.ndarray, *, silent: bool = False) -> Ask:
    """A question about inputs.

    >>> asked = question(b"8 digits", np.array([[1, 2]], ">u2"))
    >>> asked.x.hex(), asked.dtype, asked.shape
    ('01000200', 'uint16', (2,))

    Args:
        collective: digest.
        x: ``[rows, ...]`` inputs, in any order of bytes.
        silent: as in ``Ask``.

    Returns:
        The message.

    """
    data = np.ascontiguousarray(x, x.dtype.newbyteorder("<")).tobytes()
    return Ask(collective, len(x), data, x.dtype.name, x.shape[1:], silent)


def array(data: bytes, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> np.ndarray:
    """The array of a blob, whose type and shape the receiver knows.

    >>> array(b"abcd", (2, 2), np.dtype(np.uint8)).tolist()
    [[97, 98], [99, 100]]

    Args:
        data: the bytes, little-endian, row by row.
        shape: of the array.
        dtype: of its numbers.

    Returns:
        The array; it shares the bytes' memory and cannot be written to.

    Raises:
        RefusedError: there are more bytes or fewer, or numbers that are not finite.

    """
    size = int(np.prod(shape)) * dtype.itemsize
    if len(data) != size:
        raise RefusedError("payload", f"{len(data)} bytes: {shape} of {dtype} has {size}")
    found = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise RefusedError("not finite", f"of {shape} of {dtype}")
    return found
