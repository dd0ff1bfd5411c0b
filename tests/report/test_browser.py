"""The page in a browser: every figure shows, nothing complains, nothing sticks out."""

import pytest

import browser as chrome

FIGURES = ["accuracy_over_rounds", "accuracy_over_bits", "decision_rules", "graph", "temperature"]
UNLABELLED = [*FIGURES[:3], "learning", "graph", "pictures_0", "pictures_4"]


def check(folder, figures, width=1100):
    found = chrome.check_page(folder / "report.html", width=width)
    assert list(found["figures"]) == figures
    assert all(w > 300 and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == []
    assert found["too_wide"] == 0


@pytest.mark.parametrize("width", [1100, 600])
def test_every_figure_renders_and_the_console_is_silent(labelled_folder, width):
    check(labelled_folder, FIGURES, width)


@pytest.mark.parametrize("width", [1100, 600])
def test_nodes_that_learn_without_labels_render_too(unlabelled_folder, width):
    check(unlabelled_folder, UNLABELLED, width)


def test_the_parser_finds_the_same_figures(labelled_folder, unlabelled_folder, monkeypatch, capsys):
    monkeypatch.setattr(chrome, "chromium", lambda: None)
    check(labelled_folder, FIGURES)
    assert capsys.readouterr().out.count("\n") == 1
    check(unlabelled_folder, UNLABELLED)


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
