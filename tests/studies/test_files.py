"""Files are whole or absent; result folders get their name when complete, and are read whole or refused in one line."""

import json
import math

import numpy as np
import polars as pl
import pytest

from palaver.studies.files import read_arrays, write_atomically, write_bytes, write_json, write_text
from palaver.studies.folder import open_folder, publish
from palaver.studies.record import SCHEMA, apart, take_timings
from palaver.studies.results import data_of, last_rounds, metrics_of, read_result, settings_of
from palaver.studies.statistics import interval
from palaver.types import PalaverError


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "deep" / "summary.json"
    write_json(path, {"mean": 0.5})
    assert path.read_text() == '{\n  "mean": 0.5\n}\n'
    assert path.stat().st_mode & 0o777 == 0o644

    def torn(file):
        file.write(b'{"mea')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, torn)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"mean": math.nan})
    assert json.loads(path.read_text()) == {"mean": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["summary.json"]
    write_bytes(path, b"secret", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    write_text(path, "τ")
    assert path.read_bytes() == "τ".encode()


def opened(out, resume=False, overwrite=False):
    return open_folder(out, resume=resume, overwrite=overwrite)


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    with opened(tmp_path / "run") as folder:
        assert not folder.final.exists() and folder.partial.is_dir()
        write_json(folder.partial / "settings.json", {})
        write_json(folder.partial / "history" / "0.json", {})
    with pytest.raises(PalaverError, match=r"run\.partial exists: --resume .*run goes on, --overwrite replaces it"):
        opened(tmp_path / "run").__enter__()
    with opened(tmp_path / "run", resume=True) as again:
        assert again == folder
        publish(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in folder.final.iterdir()] == ["settings.json"]


def test_a_complete_folder_is_replaced_only_when_asked_and_only_at_the_end(tmp_path):
    write_json(tmp_path / "run" / "settings.json", "old")
    with pytest.raises(PalaverError, match="exists"):
        opened(tmp_path / "run").__enter__()
    with opened(tmp_path / "run", overwrite=True) as folder:
        write_json(folder.partial / "settings.json", "new")
        assert json.loads((tmp_path / "run" / "settings.json").read_text()) == "old"
        publish(folder)
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_not_a_result_folder_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for name in ("thesis", "file"):
        with pytest.raises(PalaverError, match="is not a result folder: --overwrite replaces only those"):
            opened(tmp_path / name, overwrite=True).__enter__()
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    with pytest.raises(PalaverError, match="cannot be made: Not a directory; give another --out"):
        opened(tmp_path / "file" / "run").__enter__()


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(PalaverError, match="nothing to resume: .*run holds no interrupted run"):
        opened(tmp_path / "run", resume=True).__enter__()
    write_json(tmp_path / "run" / "summary.json", {})
    with pytest.raises(PalaverError, match="nothing to resume: .*run is complete"):
        opened(tmp_path / "run", resume=True).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_arrays_of_several_files_are_read_together(tmp_path):
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", **{f"0/{number}/samples": np.full(3, number, np.uint8)})
    found = read_arrays(sorted(tmp_path.iterdir()))
    assert {name: array.tolist() for name, array in found.items()} == {
        "0/0/samples": [0, 0, 0],
        "0/1/samples": [1, 1, 1],
    }


LOSS = {"mean": 1.0, "low": None, "high": None, "values": [1.0]}


@pytest.fixture
def result_folder(tmp_path):
    """Two configurations, of which one has no row in the history and no metric in the summary."""
    folder = tmp_path / "run"
    settings = [{"configuration": "a", "settings": {"data": "digits"}}, {"configuration": "b", "settings": {}}]
    write_json(folder / "settings.json", {"rows": settings})
    lines = [("a", 0, step, None, "loss", 1.0) for step in (0, 10, 20)]
    pl.DataFrame(lines, schema=SCHEMA, orient="row").write_parquet(folder / "metrics.parquet")
    rows = [{"configuration": "a", "metrics": {"loss": LOSS}}, {"configuration": "b", "metrics": {}}]
    write_json(folder / "summary.json", {"chapter": "toy", "rows": rows})
    return folder


def test_what_a_result_says(result_folder):
    result = read_result(str(result_folder))
    assert last_rounds(result) == {"a": 20}
    assert data_of(result) == ["digits"]
    assert settings_of(result) == {"a": {"data": "digits"}, "b": {}}
    assert metrics_of(result, "loss") == {"a": LOSS, "b": None}


def test_readings_of_the_clock_are_apart_in_the_files_and_read_with_the_results(result_folder):
    rows = pl.DataFrame([("a", 0, 30, None, name, 2.0) for name in ("seconds", "loss")], schema=SCHEMA, orient="row")
    measured, timings = apart(rows)
    assert measured["metric"].to_list() == ["loss"] and timings["metric"].to_list() == ["seconds"]
    metrics = {"loss": 1, "seconds_to.96 %": 2, "updates_to.96 %": 3}
    assert take_timings(metrics) == {"seconds_to.96 %": 2} and list(metrics) == ["loss", "updates_to.96 %"]

    timings.write_parquet(result_folder / "timings.parquet")
    summary = json.loads((result_folder / "summary.json").read_text())
    summary["timings"] = {"wall_seconds": 4.0, "metrics": {"a": {"seconds_to_best": interval([2.0])}}}
    summary["timings"]["rows"] = {"a": {"table_seconds": 3.0}}
    write_json(result_folder / "summary.json", summary)
    result = read_result(result_folder)
    assert result.metrics["metric"].to_list() == ["loss", "loss", "loss", "seconds"]
    assert metrics_of(result, "seconds_to_best") == {"a": interval([2.0]), "b": None}
    assert metrics_of(result, "loss") == {"a": interval([1.0]), "b": None}
    assert [row["timings"] for row in result.summary["rows"]] == [{"table_seconds": 3.0}, {}]
    for wrong in ([], {"metrics": 3}, {"rows": []}):
        write_json(result_folder / "summary.json", summary | {"timings": wrong})
        with pytest.raises(PalaverError, match="timings.*: it should be a valid dictionary"):
            read_result(result_folder)


def test_reading_refuses_in_one_line(tmp_path, result_folder):
    with pytest.raises(PalaverError, match="nowhere is not a folder: "):
        read_result(tmp_path / "nowhere")
    with pytest.raises(PalaverError, match=r"settings\.json is missing: "):
        read_result(tmp_path)
    pl.DataFrame({"value": [1.0]}).write_parquet(result_folder / "metrics.parquet")
    with pytest.raises(PalaverError, match="has no column configuration: it is not a"):
        read_result(result_folder)
    (result_folder / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(PalaverError, match=r"cannot read .*metrics\.parquet \(.*\): run the experiment again") as error:
        read_result(result_folder)
    assert "\n" not in str(error.value)
    (result_folder / "summary.json").write_text('{"rows": ')
    with pytest.raises(PalaverError, match=r"cannot read .*summary\.json \("):
        read_result(result_folder)
    (result_folder / "summary.json").write_text(json.dumps({"rows": [{}]}))
    with pytest.raises(PalaverError, match=r"summary\.json: the file has no chapter; it is not a result file"):
        read_result(result_folder)


def test_who_has_published_leaves_the_next_run_alone(tmp_path):
    first, second = (opened(tmp_path / "run", overwrite=True) for _ in range(2))
    folder = first.__enter__()
    write_json(folder.partial / "settings.json", {})
    publish(folder)
    second.__enter__()
    first.__exit__(None, None, None)
    assert {"lock", "lock.pid"} <= {path.name for path in folder.partial.iterdir()}
    second.__exit__(None, None, None)
    assert not folder.partial.exists() and folder.final.is_dir()
