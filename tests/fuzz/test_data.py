"""Data files of one's own, right and wrong: a data set, or one line."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from budget import tries
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from palaver.data import Dataset, load
from palaver.types import PalaverError

KINDS = st.sampled_from(["u1", "i1", "<i4", "<i8", "<f4", "<f8", ">f4", "<f2", "?", "<U2", "<c8", "<M8[s]", "O", "S3"])
SIDE = st.integers(0, 12)


@st.composite
def arrays(draw):
    """Some of the arrays x, y, x_test, y_test, most of them such as a data set has."""
    rows, width = draw(SIDE), draw(SIDE)
    found = {}
    for name in draw(st.sampled_from([["x", "y"], ["x", "y"], ["x", "y", "x_test", "y_test"], ["x"], ["y"], []])):
        shape = draw(st.sampled_from([(rows,) if name[0] == "y" else (rows, width), (rows, 3, 3), (rows,), (), (0, 2)]))
        kind = (
            draw(st.sampled_from(["<i4"] if name[0] == "y" else ["u1", "<f4"]))
            if draw(st.integers(0, 3))
            else draw(KINDS)
        )
        if kind == "O":
            found[name] = np.full(shape, None)
        else:
            found[name] = draw(hnp.arrays(np.dtype(kind), shape))
        if name[0] == "y" and kind == "<i4" and draw(st.integers(0, 3)):
            found[name] = found[name] % 4
    return found


def altered(draw, raw):
    """Bytes as they are, or some changed, cut off or put in."""
    if draw(st.booleans()) or not raw:
        return raw
    place, new = draw(st.integers(0, len(raw) - 1)), draw(st.binary(max_size=5))
    return raw[:place] + new + raw[place + draw(st.integers(0, 5)) :]


def judged(name):
    try:
        found = load(name)
    except PalaverError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 900
        return
    assert isinstance(found, Dataset) and found.classes >= 1
    for part in ("train", "validation", "test"):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        assert len(x) == len(y) > 0 and x.dtype in (np.uint8, np.float32) and np.isfinite(x).all()
        assert y.min() >= 0 and y.max() < found.classes


@tries(0.1)
@given(arrays(), st.data())
def test_npz(tmp_path, made, data):
    raw = io.BytesIO()
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(raw, **made)
    (tmp_path / "own.npz").write_bytes(altered(data.draw, raw.getvalue()))
    judged(f"npz:{tmp_path / 'own.npz'}")


@pytest.fixture(scope="module")
def idx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("idx")
    for part, rows in (("train", 20), ("t10k", 6)):
        pixels = bytes(i % 251 for i in range(rows * 4))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, rows, 2, 2) + pixels)
        labels = bytes(i % 3 for i in range(rows))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, rows) + labels)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@tries(0.1)
@given(st.data())
def test_idx(idx, tmp_path, data):
    for name, raw in idx.items():
        (tmp_path / name).write_bytes(raw)
    name = data.draw(st.sampled_from(sorted(idx)))
    (tmp_path / name).write_bytes(altered(data.draw, idx[name]))
    judged(f"idx:{Path(tmp_path)}")
