"""A language as a study."""

from palaver.data import load
from palaver.language import study
from palaver.language.settings import LanguageSettings
from palaver.studies.chapter import Configuration

DIGITS = load("digits")


def test_what_is_trained_after_the_agents_is_compiled_once_for_all_games():
    small = {"data": "digits", "hidden": (4,), "critic_hidden": 4, "length": 3, "steps": 2, "eval_every": 2}
    information, programs = [], []
    for view in ("halves", "inversion"):
        row = Configuration(view, LanguageSettings(**small, view=view))
        made = study.prepare(row, DIGITS, [0], 1)
        _, evaluation = made.advance(made.begin())
        found = dict(evaluation.frame.filter(evaluation.frame["node"].is_null()).select("metric", "value").iter_rows())
        information.append(found["mutual_information"])
        programs.append(study._compiled(True)._cache_size())
        assert evaluation.finished and 0 < found["reconstruction_error"] < 1
    assert programs[0] == programs[1] >= 1
    assert information[0] != information[1]
