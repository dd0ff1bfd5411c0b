"""A chapter of one's own, registered for a test."""

import importlib
from pathlib import Path

import pytest

from palaver import experiments
from palaver.studies import runner

ENTRY = experiments.ChapterEntry("fits one parameter to the mean of noisy numbers", "toy_chapter:CHAPTER", 3)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The chapter registered by one entry, its experiment by another; in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_now", lambda: "2001-02-03T04:05:06+00:00")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(experiments.CHAPTERS, "toy", ENTRY)
    found = importlib.import_module("toy_chapter")
    experiment = experiments.Experiment("two toy configurations", "toy", 2, found.rows)
    monkeypatch.setitem(experiments.EXPERIMENTS, "two-toys", experiment)
    return found


@pytest.fixture
def plain(toy, monkeypatch):
    """The toy chapter with a figure that costs no time."""
    drawn = toy.CHAPTER.report

    def report(result):
        found = drawn(result)
        return found._replace(figures=[found.figures[0]._replace(draw=lambda: ['<svg viewBox="0 0 1 1"/>'])])

    monkeypatch.setattr(toy, "CHAPTER", toy.CHAPTER._replace(report=report))
    return toy
