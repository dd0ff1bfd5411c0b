"""Altered result folders: a page, or one line that names the file, and nothing in the folder has changed."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from synthetic import make_language, make_result, make_teaching, make_unlabelled, write_pictures

from palaver import experiments
from palaver.cli import main
from palaver.experiments import chapter
from palaver.report.page import write_report
from palaver.studies.results import checksum, read_result
from palaver.types import PalaverError

CHAPTERS = ("collective", "teaching", "language")
GONE = object()
VALUES = (GONE, [], "text", float("inf"), None, {"x": [1]})
"""What stands in place of each value: ``inf`` is written as 1e400."""
OTHERS = (float("nan"), -1, True, 10**30)
"""Of these one in turn."""
UNDRAWN = {"version", "device", "scale", "overrides", "only", "wall_seconds", "experiment", "thesis", "diverged"}
UNDRAWN |= {"data", "channel", "neighbours", "rounds", "report_round", "collapsed", "certain", "teacher"}
"""What no figure reads."""


def make(name: str, folder: Path) -> Path:
    """A small result of a chapter: two configurations, the metrics that its report knows, a graph, pictures."""
    if name != "collective":
        return {"teaching": make_teaching, "language": make_language}[name](folder)
    make_result(folder)
    for file in ("settings.json", "summary.json"):
        content = json.loads((folder / file).read_text())
        content["rows"] = content["rows"][1:3]
        if file == "summary.json":
            content["rows"][0] |= {"collapsed": {"0": [1, 2]}, "certain": {"1": [3]}}
        else:
            content["graph"] = {"nodes": 3, "edges": [[0, 1], [1, 2]]}
            content["rows"][0]["settings"]["report_round"] = 0
        (folder / file).write_text(json.dumps(content))
    metrics = pl.read_parquet(folder / "metrics.parquet").filter(pl.col("round") % 500 == 0)
    metrics.filter(pl.col("metric") != "loss").write_parquet(folder / "metrics.parquet")
    tiles = {f"0/{step}/samples": np.zeros((1, 2, 4, 4), np.uint8) for step in (0, 500)}
    np.savez(folder / "pictures.npz", **tiles)
    return folder


@pytest.fixture(scope="module", params=CHAPTERS)
def valid(request, tmp_path_factory):
    folder = make(request.param, tmp_path_factory.mktemp(request.param) / "run")
    write_report(folder, chapter)
    return folder


@pytest.fixture
def folder(valid, tmp_path):
    return shutil.copytree(valid, tmp_path / "run")


@pytest.fixture
def quick(monkeypatch):
    """Figures are made with all their parts, but not rendered."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write('<svg viewBox="0 0 1 1"/>'))


def paths(content, before=()):
    """The place of every value of a JSON document; of long lists the first element alone, of metrics the first two."""
    items = []
    if isinstance(content, dict):
        items = list(content.items())[: 2 if before[-1:] == ("metrics",) else None]
    elif isinstance(content, list):
        items = list(enumerate(content))[:1]
    for key, value in items:
        yield (*before, key)
        yield from paths(value, (*before, key))


def put(content, path, value):
    """A copy with another value at that place, as a file holds it."""
    content = copy.deepcopy(content)
    *parents, last = path
    at = content
    for key in parents:
        at = at[key]
    if value is GONE:
        del at[last]
    else:
        at[last] = value
    return json.dumps(content).replace("Infinity", "1e400")


def state_of(folder: Path) -> dict[str, tuple[bytes, int] | None]:
    """Every file's content and when it was written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
    }


def judge(folder: Path, capsys, *, file: str = "", before=None, command=("report",)) -> tuple[int, str]:
    """Runs the command; what is wrong with how it ended, or nothing, and its line."""
    before = state_of(folder) if before is None else before
    code = main([*command, str(folder)])
    said = capsys.readouterr()
    line = said.err.removesuffix("\n")
    if code == 0:
        assert not line and said.out, line
    else:
        assert code == 2, code
        assert line.startswith("palaver: ") and "\n" not in line and len(line) < 700, line
        assert str(folder / file) in line, line
        assert state_of(folder) == before
    return code, line


def undrawn(name: str):
    """A chapter whose report has no figures."""
    found = chapter(name)
    return found._replace(report=lambda result: found.report(result)._replace(figures=[]))


@pytest.mark.parametrize("file", ["summary.json", "settings.json"])
def test_every_value_replaced_by_every_other(folder, file, quick, capsys, monkeypatch):
    content, codes = json.loads((folder / file).read_text()), []
    for place, path in enumerate(paths(content)):
        monkeypatch.setattr(experiments, "chapter", undrawn if UNDRAWN & {*path} else chapter)
        for value in (*VALUES, OTHERS[place % len(OTHERS)]):
            (folder / file).write_text(put(content, path, value))
            try:
                codes.append(judge(folder, capsys, before=state_of(folder))[0])
            except BaseException as error:
                error.add_note(f"{file} with {value!r} at {path}")
                raise
    assert codes.count(2) > 20 and codes.count(0) > 20
    for whole in (*VALUES[1:], *OTHERS):
        (folder / file).write_text(json.dumps(whole).replace("Infinity", "1e400"))
        assert judge(folder, capsys, file=file)[0] == 2


REFUSED = {
    "a list of metrics": (
        "summary.json",
        ("rows", 0, "metrics"),
        [],
        "rows[0].metrics is []: it should be a valid dict",
    ),
    "text for a mean": (
        *("summary.json", ("rows", 0, "metrics", 0, "mean"), "0.5"),
        ".mean is '0.5': it should be a valid number; it is not a result file of this version; run the experiment",
    ),
    "1e400": ("summary.json", ("rows", 0, "metrics", 0, "mean"), float("inf"), "is inf: it should be a finite number"),
    "no interval": ("summary.json", ("rows", 0, "metrics", 0, "low"), None, "low and high should both be numbers, or"),
    "out of order": (
        "summary.json",
        ("rows", 0, "metrics", 0, "low"),
        9,
        "the mean should be a number between low",
    ),
    "no chapter": ("summary.json", ("chapter",), "gossip", "'gossip' is no chapter: choose one of collective, "),
    "other names": ("summary.json", ("rows", 0, "configuration"), "x", "has other configurations than"),
    "a graph's ends": ("settings.json", ("graph", "edges", 0), [0, 7], "graph: edges should be of nodes below 3;"),
    "seeds": ("summary.json", ("seeds",), 4, "has 3 values for 4 seeds"),
    "a teacher": ("summary.json", ("rows", 1, "teacher", "epochs"), GONE, "rows[1].teacher has no epochs;"),
    "a stack": ("settings.json", ("rows", 0, "settings", "stack"), [], "it should have at least 1 item"),
    "bits": ("summary.json", ("rows", 0, "bits_available"), GONE, "rows[0] has no bits_available;"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_the_line_says_where_and_what_is_expected(why, tmp_path, capsys):
    file, path, value, said = REFUSED[why]
    of = {"a graph's ends": "collective", "bits": "language"}.get(why, "teaching")
    folder = make(of, tmp_path / "run")
    content = json.loads((folder / file).read_text())
    if 0 in path[2:] and "metrics" in path:
        path = tuple("test_accuracy" if key == 0 and place > 2 else key for place, key in enumerate(path))
    (folder / file).write_text(put(content, path, value))
    code, line = judge(folder, capsys, file=file)
    assert code == 2 and said in line


def test_metrics_of_ones_own_are_let_through(folder, quick, capsys):
    content = json.loads((folder / "summary.json").read_text())
    own = {"mean": -3.0, "low": None, "high": None, "values": [None] * 3, "unit": "furlongs"}
    content["rows"][0]["metrics"]["my.own"] = own
    content["mine"] = content["rows"][1]["mine"] = {"deep": [1, "x"]}
    (folder / "summary.json").write_text(json.dumps(content))
    metrics = pl.read_parquet(folder / "metrics.parquet").with_columns(mine=pl.lit("x"))
    metrics.write_parquet(folder / "metrics.parquet")
    assert judge(folder, capsys)[0] == 0
    assert judge(folder, capsys, command=("compare", str(folder)))[0] == 0


COLUMNS = ("configuration", "seed", "round", "node", "metric", "value")


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_dropped_or_of_another_type(column, folder, quick, capsys):
    path = folder / "metrics.parquet"
    metrics = pl.read_parquet(path)
    other = [pl.lit("x"), pl.lit(1, pl.Int32), pl.lit(1.5, pl.Float32), pl.lit(None), pl.concat_list(pl.lit(1))]
    nulls = pl.lit(None, metrics.schema[column])
    for altered in (metrics.drop(column), *(metrics.with_columns(each.alias(column)) for each in (*other, nulls))):
        altered.write_parquet(path)
        code, line = judge(folder, capsys, file="metrics.parquet" if code_of(altered, metrics, column) else "")
        assert code == code_of(altered, metrics, column), line


def code_of(altered: pl.DataFrame, metrics: pl.DataFrame, column: str) -> int:
    """Columns of the same type are read, but only ``node`` and ``value`` may have nulls."""
    if altered.schema.get(column) != metrics.schema[column]:
        return 2
    return 2 if altered[column].null_count() and column not in ("node", "value") else 0


EXTREMES = [
    ("value", np.nan), ("value", np.inf), ("value", 0.0), ("value", 1.5), ("value", 1e308), ("value", 5e-324),
    ("round", 0), ("round", 2**62), ("round", -1), ("seed", -(2**63)), ("metric", ""), ("configuration", "$x^"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), EXTREMES)
def test_extreme_columns_are_drawn_or_refused(column, value, folder, capsys):
    path = folder / "metrics.parquet"
    metrics = pl.read_parquet(path)
    metrics.with_columns(pl.lit(value, metrics.schema[column]).alias(column)).write_parquet(path)
    code, line = judge(folder, capsys)
    assert code == (2 if value in (1.5, 1e308, -1) else 0), line


def test_large_numbers_have_room(tmp_path, capsys):
    folder = make("collective", tmp_path / "run")
    metrics = pl.read_parquet(folder / "metrics.parquet")
    bits = pl.col("metric").str.starts_with("bits")
    metrics.with_columns(value=pl.when(bits).then(1e100).otherwise("value")).write_parquet(folder / "metrics.parquet")
    content = json.loads((folder / "summary.json").read_text())
    for row in content["rows"]:
        for name, metric in row["metrics"].items():
            metric |= {"mean": 1e100, "low": -1e100, "high": 1e100} if name.startswith("bits") else {}
    (folder / "summary.json").write_text(json.dumps(content))
    assert judge(folder, capsys)[0] == 0


@pytest.mark.parametrize("name", ["summary.json", "settings.json", "metrics.parquet", "pictures.npz"])
def test_every_file_missing_empty_damaged_or_a_folder(name, folder, quick, capsys):
    path, ignored = folder / name, name == "pictures.npz" and reads_no_pictures(folder)
    whole, expected = path.read_bytes() if path.exists() else b"PK", 0 if ignored else 2
    texts = {"empty": b"", "short": whole[:-20], "not UTF-8": b"\xff\xfe{}", "zeros": bytes(200), "deep": b"[" * 10**6}
    texts |= {"a wrong escape": b'{"rows": "\\ud800"}', "long": b"1" * 10_000, "a null byte": b"{}\0"}
    for how, content in texts.items():
        path.write_bytes(content)
        assert judge(folder, capsys, file=name)[0] == expected, how
    path.unlink()
    assert judge(folder, capsys, file=name)[0] == (0 if name == "pictures.npz" else 2)
    path.mkdir()
    assert judge(folder, capsys, file=name)[0] == expected


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


HEADERS = {
    "claims 10¹² elements": npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
    "claims 10⁴⁰ elements": npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,)}" % 10**40),
    "Python objects": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n"),
    "no dictionary": npy(b"[" * 5000),
    "code": npy(b"__import__('os').system('true')"),
    "another version": b"\x93NUMPY\x07\x00",
    "short": b"\x93NUM",
    "no picture": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
}


@pytest.mark.parametrize("how", HEADERS)
def test_an_array_that_is_not_what_it_says(how, folder, quick, capsys):
    kind = "views" if read_result(folder).summary["chapter"] == "language" else "samples"
    with zipfile.ZipFile(folder / "pictures.npz", "w") as pack:
        pack.writestr(f"0/0/{kind}.npy", HEADERS[how])
    code, line = judge(folder, capsys)
    assert code == (0 if reads_no_pictures(folder) else 2), line


def reads_no_pictures(folder: Path) -> bool:
    return read_result(folder).summary["chapter"] == "teaching"


@pytest.mark.parametrize("key", ["", "x", "0", "0/0", "0/0/x", "-1/0/samples", "9/0/views", "²/0/views", "1/1/1/views"])
def test_an_array_of_nothing(key, folder, quick, capsys):
    np.savez(folder / "pictures.npz", **{key: np.zeros((1, 1, 2, 2), np.uint8)})
    assert judge(folder, capsys)[0] == (0 if reads_no_pictures(folder) else 2)


def test_a_file_that_is_not_the_one_the_run_wrote(folder, quick, capsys):
    content = json.loads((folder / "summary.json").read_text())
    content["checksums"] = {"metrics.parquet": checksum(folder / "metrics.parquet")}
    (folder / "summary.json").write_text(json.dumps(content))
    assert judge(folder, capsys)[0] == 0
    whole = (folder / "metrics.parquet").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(50):
        torn = bytearray(whole)
        torn[random.integers(len(torn))] ^= 1 << int(random.integers(8))
        (folder / "metrics.parquet").write_bytes(torn)
        code, line = judge(folder, capsys, file="metrics.parquet")
        assert code == 2 and "is not as the run wrote it (summary.json has its SHA-256): put the original there" in line


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_file_at_which_polars_ends_the_process(command, folder):
    (folder / "metrics.parquet").write_bytes(Path(__file__).with_name("aborts.parquet").read_bytes())
    args = [sys.executable, "-m", "palaver", command, folder, *([folder] if command == "compare" else [])]
    ended = subprocess.run(args, capture_output=True, text=True, check=False)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and line.startswith("palaver: cannot read") and "metrics.parquet" in line


def test_pages_that_cannot_be_written(folder, quick, capsys, monkeypatch):
    def refused(what):
        code, line = judge(folder, capsys)
        assert code == 2 and what in line, line

    shutil.rmtree(folder / "figures")
    (folder / "figures").write_text("mine")
    refused("figures is no folder: the report's files go there")
    (folder / "figures").unlink()
    (folder / "figures" / "old.svg").mkdir(parents=True)
    refused("old.svg is a folder: the report writes a file there; move it away")
    (folder / "figures" / "old.svg").rmdir()
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    refused("report.html is a folder")
    (folder / "report.html").rmdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "run")
    refused("run is a folder that may not be written")


def test_unlabelled_pictures_are_still_read(tmp_path, quick, capsys):
    folder = make_unlabelled(tmp_path / "run")
    write_pictures(folder)
    assert judge(folder, capsys)[0] == 0
    assert (folder / "figures" / "pictures_4.svg").exists()


def test_folders_that_are_none(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file", "x" * 300, "file/below", "null\0byte"):
        with pytest.raises(PalaverError, match="is not a folder: give the result folder of a finished run"):
            read_result(tmp_path / name)
