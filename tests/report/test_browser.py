"""The page in a browser: every figure shows, nothing complains, nothing sticks out."""

import pytest
from unlabelled import CONFIGURATIONS, make_unlabelled, write_pictures

import browser as chrome
from palaver.report import write_report

FIGURES = ["accuracy_over_rounds", "accuracy_over_bits", "decision_rules", "graph", "temperature"]


@pytest.mark.parametrize("width", [1100, 600])
def test_every_figure_renders_and_the_console_is_silent(result_folder, width):
    found = chrome.check_page(write_report(result_folder), width=width)
    assert list(found["figures"]) == FIGURES
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == []
    assert found["too_wide"] == 0


@pytest.mark.parametrize("width", [1100, 600])
def test_nodes_that_learn_without_labels_render_too(tmp_path, width):
    folder = make_unlabelled(tmp_path / "run")
    write_pictures(folder)
    found = chrome.check_page(write_report(folder), width=width)
    shown = [*FIGURES[:3], "learning", "graph", *(f"pictures_{row}" for row in range(len(CONFIGURATIONS)))]
    assert list(found["figures"]) == shown
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == []
    assert found["too_wide"] == 0


def test_the_parser_finds_the_same_figures(result_folder, monkeypatch, capsys):
    monkeypatch.setattr(chrome, "chromium", lambda: None)
    found = chrome.check_page(write_report(result_folder))
    assert capsys.readouterr().out.count("\n") == 1
    assert list(found["figures"]) == FIGURES
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == []


BROKEN = (
    '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body><div>'
    '<figure><img data-figure="torn" src="data:image/svg+xml;base64,PHN2Zz4="></figure>'
    '<script>console.error("loud")</script><p style="width: 3000px">wide</p></span></body></html>'
)


def test_a_broken_page_is_found_out(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text(BROKEN)
    found = chrome.check_page(page)
    assert found["figures"] == {"torn": (0, 0)}
    assert found["console"]
    if found["browser"]:
        assert "loud" in found["console"][0]
        assert found["too_wide"] > 1000


def test_a_broken_page_is_found_out_by_the_parser(tmp_path, monkeypatch):
    monkeypatch.setattr(chrome, "chromium", lambda: None)
    page = tmp_path / "broken.html"
    page.write_text(BROKEN)
    found = chrome.check_page(page)
    assert found["figures"] == {"torn": (0, 0)}
    assert any("span" in line for line in found["console"])
