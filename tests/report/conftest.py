"""Synthetic results and their pages, made once; a test that changes one copies it first."""

import re
import shutil
import sys
from html import unescape
from pathlib import Path

import pytest

from palaver.experiments import chapter
from palaver.report.page import write_report
from palaver.studies import results
from palaver.studies.results import read_result

if (_here := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, _here)


@pytest.fixture(autouse=True)
def sound(monkeypatch):
    """Synthetic results have no checksums; that polars survives them is not tried out each time."""
    monkeypatch.setattr(results, "_check_readable", lambda path: None)


@pytest.fixture(scope="session")
def labelled_folder(tmp_path_factory):
    """A result of nodes that learn labels, its page written; its numbers are in ``synthetic.CONFIGURATIONS``."""
    from synthetic import make_result

    folder = make_result(tmp_path_factory.mktemp("labelled") / "run")
    write_report(folder, chapter)
    return folder


@pytest.fixture(scope="session")
def unlabelled_folder(tmp_path_factory):
    """A result of nodes that learn without labels, with pictures, its page written."""
    from synthetic import make_unlabelled, write_pictures

    folder = make_unlabelled(tmp_path_factory.mktemp("unlabelled") / "run")
    write_pictures(folder)
    write_report(folder, chapter)
    return folder


@pytest.fixture(scope="session")
def labelled(labelled_folder):
    return read_result(labelled_folder, chapter)


@pytest.fixture(scope="session")
def unlabelled(unlabelled_folder):
    return read_result(unlabelled_folder, chapter)


@pytest.fixture
def labelled_copy(labelled_folder, tmp_path):
    return shutil.copytree(labelled_folder, tmp_path / "run")


@pytest.fixture
def unlabelled_copy(unlabelled_folder, tmp_path):
    return shutil.copytree(unlabelled_folder, tmp_path / "run")


@pytest.fixture(scope="session")
def text_of():
    """What a reader sees of a folder's page: tags out, entities in."""

    def text(folder: Path) -> str:
        page = re.sub(r"<style>.*?</style>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
        return unescape(re.sub(r"<[^>]+>", "", page))

    return text


@pytest.fixture(scope="session")
def chapters_folders(labelled_folder, unlabelled_folder, tmp_path_factory):
    """A result of each chapter, by its name, its page written; those of students and languages have all their rows."""
    from chapters import make_language, make_teaching, make_versus

    made = {"teaching": make_teaching, "language": make_language, "versus": make_versus}
    folders = {name: make(tmp_path_factory.mktemp(name) / "run") for name, make in made.items()}
    for folder in folders.values():
        write_report(folder, chapter)
    return {"labelled": labelled_folder, "unlabelled": unlabelled_folder} | folders
