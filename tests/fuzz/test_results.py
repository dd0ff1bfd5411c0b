"""Result files with something else in them, and bytes of them changed: a page or a table, or one line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from budget import tries
from hypothesis import given, reject
from hypothesis import strategies as st
from judging import ended

from palaver.studies import results

sys.path.append(str(Path(__file__).parents[1] / "report"))
from test_altered import make, state_of

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 12),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["labels", "collective", "digits", "accuracy", 1e308, -1e308, 2**64]),
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
COLUMNS = st.sampled_from([pl.String, pl.Int64, pl.Int8, pl.Float64, pl.Float32, pl.Boolean, pl.Null, pl.UInt64])


@pytest.fixture(scope="module", params=["collective", "teaching", "language"])
def whole(request, tmp_path_factory):
    folder = make(request.param, tmp_path_factory.mktemp(request.param) / "whole")
    return folder, {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def quick(monkeypatch, whole):
    """Figures are made with all their parts, but not rendered; files that are as they were need no process to try them.

    Without that process polars ended this one at about one in 20,000 altered files.
    """
    from matplotlib.figure import Figure

    sound, check = set(whole[1].values()), results._check_readable
    monkeypatch.setattr(results, "_check_readable", lambda path: path.read_bytes() in sound or check(path))
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write('<svg viewBox="0 0 1 1"/>'))


def altered_json(draw, content):
    """Some value of a JSON document deleted, replaced, or beside it another key."""
    at, key = None, None
    here = content
    for _ in range(draw(st.integers(1, 6))):
        if isinstance(here, dict) and here:
            at, key = here, draw(st.sampled_from(sorted(here)))
        elif isinstance(here, list) and here:
            at, key = here, draw(st.integers(0, min(len(here), 9) - 1))
        else:
            break
        here = at[key]
    match draw(st.integers(0, 3)):
        case 0:
            del at[key]
        case 1 if isinstance(at, dict):
            at[draw(st.text(max_size=5))] = draw(JSON)
        case _:
            at[key] = draw(JSON)
    return content


def altered_bytes(draw, raw):
    """Bytes changed, cut off, put in, or all others."""
    place = draw(st.integers(0, max(0, len(raw) - 1)))
    match draw(st.integers(0, 3)):
        case 0:
            return raw[:place]
        case 1:
            return raw[:place] + draw(st.binary(max_size=9)) + raw[place:]
        case 2:
            return draw(st.binary(max_size=40))
    new = draw(st.binary(min_size=1, max_size=4))
    return raw[:place] + new + raw[place + len(new) :]


def altered_frame(draw, path):
    """A column dropped, of another type, renamed, or with other values."""
    frame = pl.read_parquet(path)
    column = draw(st.sampled_from(frame.columns))
    match draw(st.integers(0, 3)):
        case 0:
            return frame.drop(column)
        case 1:
            try:
                return frame.with_columns(pl.col(column).cast(draw(COLUMNS), strict=False))
            except pl.exceptions.InvalidOperationError:  # no such conversion
                reject()
        case 2:
            return frame.rename(
                {column: draw(st.text(min_size=1, max_size=5).filter(lambda name: name not in frame.columns))}
            )
    value = draw(st.one_of(st.none(), st.integers(-5, 10**6), st.floats()))
    return frame.with_columns(pl.lit(value).cast(frame.schema[column], strict=False).alias(column))


@tries(0.15)
@given(st.data())
def test_results(whole, quick, tmp_path, data):
    made, files = whole
    folder = tmp_path / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    name = data.draw(st.sampled_from(sorted(files)))
    path = folder / name
    if name.endswith(".json") and data.draw(st.integers(0, 4)):
        path.write_text(json.dumps(altered_json(data.draw, json.loads(files[name]))))
    elif name.endswith(".parquet") and data.draw(st.booleans()):
        altered_frame(data.draw, path).write_parquet(path)
    else:
        path.write_bytes(altered_bytes(data.draw, files[name]))
    before = state_of(folder)
    command = data.draw(st.sampled_from(["report", "compare", "compare", "compare"]))
    code, line = ended([command, str(folder)] if command == "report" else ["compare", str(made), str(folder)])
    if command == "compare" or code == 2:
        assert state_of(folder) == before, line
