"""Settings of every kind, as flags and as TOML, right and wrong: a plan or one line, and no folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pooch
import pytest
from budget import tries
from hypothesis import given
from hypothesis import strategies as st
from judging import ended

from palaver import experiments

CHAPTERS = {name: experiments.chapter(name).settings for name in ("collective", "teaching", "language")}
SMALL = {"collective": ["--widths", "4"], "teaching": ["--hidden", "4"], "language": ["--hidden", "4"]}
ROW = {"table-2.1": "1 node*", "table-2.3": "VAE, 1 node", "table-3.1": "no teacher", "table-4.1": "none"}
NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**63, 10**12, -(2**31), 1257, 1258]),
    st.floats(0, 1),
    st.sampled_from([float("nan"), float("inf"), -1.0, 1.5, 1e-300, 1e308, -0.0]),
)
TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "-", "--", "digits", "mnist", "npz:", "idx:.", "a\nb", "\x00", "mlp:2", "cnn:4-4:3", "mlp:0"]),
)
VALUES = st.one_of(NUMBERS, NUMBERS, st.booleans(), TEXT, st.lists(st.one_of(NUMBERS, TEXT), max_size=3))


def of_field(field):
    """Values for a setting: of its own kind, one of the names it may have, or anything."""
    default = getattr(field, "default", None)
    choices = [each for each in getattr(field.type, "__args__", ()) if isinstance(each, str)]
    own = {bool: st.booleans(), int: st.integers(0, 40), float: st.floats(0, 1), tuple: st.lists(st.integers(1, 9))}
    kinds = [VALUES, *([own[type(default)]] if type(default) in own else []), *map(st.just, choices)]
    return st.one_of(*kinds)


@st.composite
def given_settings(draw):
    """A chapter or an experiment, some of its settings, and options of the run."""
    name = draw(st.sampled_from([*CHAPTERS, *CHAPTERS, *ROW, "quickstart"]))
    chapter = name if name in CHAPTERS else experiments.EXPERIMENTS[name].chapter
    fields = draw(
        st.lists(st.sampled_from(dataclasses.fields(CHAPTERS[chapter])), max_size=4, unique_by=lambda f: f.name)
    )
    own = {field.name: draw(of_field(field)) for field in fields}
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "seeds": NUMBERS,
                "first-seed": NUMBERS,
                "devices": NUMBERS,
                "scale": st.sampled_from(["tiny", "cpu", "thesis", "huge"]),
                "checkpoint-seconds": NUMBERS,
                "only": TEXT,
                "data-root": st.sampled_from(["nowhere", ""]),
            },
        )
    )
    return name, own, dict(draw(st.permutations(list(options.items())))[:2])


def flags(values):
    """Settings as a shell gives them."""
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        else:
            yield from (
                flag,
                *(str(each).replace("\x00", "") for each in (value if isinstance(value, list) else [value])),
            )


def toml(values):
    """Settings as a TOML file; what TOML cannot hold, it cannot read."""
    spelled = {True: "true", False: "false"}

    def one(value):
        if isinstance(value, bool):
            return spelled[value]
        if isinstance(value, list):
            return f"[{', '.join(map(one, value))}]"
        return json.dumps(value) if isinstance(value, str) else str(value)

    return "\n".join(f"{name} = {one(value)}" for name, value in values.items())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and no network."""

    def offline(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@tries(0.35)
@given(given_settings(), st.booleans(), st.integers(0, 400), TEXT)
def test_settings(here, drawn, as_toml, place, noise):
    name, own, options = drawn
    defaults = SMALL.get(name, ["--only", ROW[name]] if name in ROW else [])
    args = ["run", name, "--dry-run", "--out", "made", *flags(options)]
    if as_toml:
        text = toml(own)
        if place < len(text):
            text = text[:place] + noise + text[place + len(noise) :]
        Path("settings.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
        args += ["--settings", "settings.toml"]
    else:
        args += flags(own)
    if not {"widths", "hidden"} & own.keys() and "--only" not in args:
        args += defaults
    ended(args)
    assert {path.name for path in here.iterdir()} <= {"settings.toml"}
