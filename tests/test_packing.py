"""Payloads as bytes: by hand, there and back, and what is no packet of a payload."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaver.channels.packing import Integers, encoded_bits, integers, pack, unpack
from palaver.types import PalaverError


def shapes(payload):
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, payload))


def test_a_packet_by_hand():
    payload = {
        "b": integers([[5, 1], [0, 7]], below=8),  # 101 001, 000 111
        "a": jnp.array([True, False]),  # 1 0
        "c": jnp.array([1.0, -2.0], jnp.float16),  # 3c00, c000: the lower byte first
        "d": jnp.array([3, 258], jnp.uint16),  # 0003, 0102
    }
    # By name: a, then b, then c, then d. 10101001 000111 and 64 bits, which leave two to fill.
    expected = "10" + "101001" + "000111" + "".join(f"{byte:08b}" for byte in bytes.fromhex("003c00c003000201")) + "00"
    assert pack(payload) == int(expected, 2).to_bytes(10, "big")
    assert encoded_bits(payload) == encoded_bits(shapes(payload)) == 2 * 3 + 1 + 16 + 16


def test_nothing_is_an_empty_packet():
    assert (pack(()), unpack((), b""), encoded_bits(())) == (b"", (), 0)
    one_class = integers([0, 0, 0], below=1)
    assert (pack(one_class), encoded_bits(one_class)) == (b"", 0)
    assert unpack(one_class, b"").values.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("below", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (65537, 17), (2**31, 31)]
)
def test_the_bits_of_a_limit(below, bits):
    payload = integers([below - 1, 0, below // 2], below)
    assert payload.bits == encoded_bits(payload) == bits
    assert unpack(payload, pack(payload)).values.tolist() == [below - 1, 0, below // 2]


def test_a_limit_is_part_of_the_structure():
    payload = integers([1, 2], below=10)
    assert jax.tree.map(lambda a: a + 1, payload).below == jax.jit(lambda p: p)(payload).below == 10
    assert jax.tree.structure(payload) != jax.tree.structure(integers([1, 2], below=9))


@pytest.mark.parametrize("below", [0, -1, 2**31 + 1, 2.5])
def test_a_limit_out_of_range_is_refused(below):
    with pytest.raises(PalaverError, match=f"below is {below}: give"):
        integers([0], below)


FLOATS = ["float32", "float16", "bfloat16"]


@given(st.data())
def test_every_payload_comes_back(data):
    batch, rng = data.draw(st.integers(1, 5)), np.random.default_rng(data.draw(st.integers(0, 99)))
    payload = []
    for _ in range(data.draw(st.integers(0, 4))):
        shape = (batch, *data.draw(st.lists(st.integers(1, 4), max_size=2)))
        if data.draw(st.booleans()):
            below = data.draw(st.integers(1, 70000))
            payload.append(Integers(rng.integers(0, below, shape).astype(np.int32), below))
        else:
            dtype = data.draw(st.sampled_from([*FLOATS, "int8", "int32", "bool"]))
            payload.append(rng.normal(0, 3, shape).astype(jnp.dtype(dtype)))
    packet = pack(payload)
    assert len(packet) == -(-batch * encoded_bits(payload) // 8)
    found = unpack(payload, packet)
    assert pack(found) == packet
    assert jax.tree.structure(found) == jax.tree.structure(payload)
    for leaf, sent in zip(jax.tree.leaves(found), jax.tree.leaves(payload), strict=True):
        assert leaf.dtype == sent.dtype
        np.testing.assert_array_equal(leaf, sent)


LIKE = {"ids": integers([[9, 0, 1]], below=10), "logits": jnp.zeros((1, 2), jnp.float16)}  # 12 + 32 bits: 6 bytes


@pytest.mark.parametrize("length", [0, 1, 5, 7, 10_000])
def test_a_packet_of_another_length_is_refused(length):
    with pytest.raises(PalaverError) as error:
        unpack(LIKE, bytes(length))
    assert str(error.value) == f"the packet has {length} bytes: a payload of these shapes has 6"


def test_bits_after_the_end_are_refused():
    packet = pack(LIKE)
    for bit in range(4):
        with pytest.raises(PalaverError, match="^the packet goes on after the payload's end: only zeros may fill"):
            unpack(LIKE, packet[:-1] + bytes([packet[-1] | 1 << bit]))


def test_a_number_at_its_limit_is_refused():
    with pytest.raises(PalaverError, match="^the packet holds 13: a number there is below 10$"):
        unpack(LIKE, bytes([0x1D, 0x20, 0, 0, 0, 0]))


@given(st.binary(min_size=6, max_size=6))
def test_a_strangers_bytes_are_a_payload_or_refused(packet):
    # Whatever is taken is the one packet of that payload: there is no second way to write it.
    try:
        found = unpack(LIKE, packet)
    except PalaverError as error:
        assert "\n" not in str(error)
    else:
        assert pack(found) == packet
        assert (found["ids"].values < 10).all()
