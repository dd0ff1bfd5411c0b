"""The page in a browser, narrow and wide, light and dark, on paper: all of it shows, nothing is cut."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest

import browser as chrome

FIGURES = ["accuracy_over_rounds", "accuracy_over_bits", "decision_rules", "graph", "temperature"]
UNLABELLED = [*FIGURES[:3], "learning", "graph", "pictures_0", "pictures_4"]
CHAPTERS = ["labelled", "unlabelled", "teaching", "language", "versus"]
A4 = (688, 1017)
"""What the page's margins leave of it, in pixels."""

needs_browser = pytest.mark.skipif(chrome.chromium() is None, reason="no Chromium")


def check(folder, figures, width=1100, least=300):
    found = chrome.check_page(folder / "report.html", width=width)
    assert list(found["figures"]) == figures
    assert all(w > least and h > 150 for w, h in found["figures"].values()), found["figures"]
    assert found["console"] == []
    assert found["too_wide"] == 0


@pytest.mark.parametrize("width", [1100, 600, 400])
def test_every_figure_renders_and_the_console_is_silent(labelled_folder, width):
    check(labelled_folder, FIGURES, width)


@pytest.mark.parametrize("width", [1100, 600, 400])
def test_nodes_that_learn_without_labels_render_too(unlabelled_folder, width):
    check(unlabelled_folder, UNLABELLED, width, least=280)  # a picture has 71 · 4 pixels


def test_the_parser_finds_the_same_figures(labelled_folder, unlabelled_folder, monkeypatch, capsys):
    monkeypatch.setattr(chrome, "chromium", lambda: None)
    check(labelled_folder, FIGURES)
    assert capsys.readouterr().out.count("\n") == 1
    check(unlabelled_folder, UNLABELLED, least=280)  # one drawing wide, as nothing is laid out


BROKEN = (
    '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body><div>'
    '<figure data-figure="torn"><div><svg width="300pt" height="200pt"></svg></div></figure>'
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


TEXTS = """[...document.querySelectorAll("figure svg text")].map(text => {
  const style = getComputedStyle(text), scale = text.closest("svg").getScreenCTM().a;
  return [parseFloat(style.fontSize) * scale, style.fill];
})"""
LINES = """[...document.querySelectorAll("figure svg :is(path, use):not(defs *)")].map(line => {
  const style = getComputedStyle(line);
  return [style.stroke, style.fill].map(colour => colour + style.opacity + style.fillOpacity + style.strokeOpacity);
}).flat().filter(found => found.startsWith("rgb(") && found.endsWith(")111")).map(found => found.slice(0, -3))"""
VARIABLE = """name => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}"""


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2 of ``rgb(r, g, b)``."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_text_of_figures_is_legible_at_400_pixels(chapters_folders, name):
    with chrome.opened(chapters_folders[name] / "report.html", width=400) as page:
        assert page.ask("document.documentElement.scrollWidth") == 400
        sizes = [size for size, _ in page.ask(TEXTS)]
    assert len(sizes) > 50 and min(sizes) > 11


@needs_browser
@pytest.mark.parametrize(("dark", "ground"), [(False, "rgb(255, 255, 255)"), (True, "rgb(21, 24, 28)")])
@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_have_the_pages_colours(chapters_folders, name, dark, ground):
    with chrome.opened(chapters_folders[name] / "report.html", dark=dark) as page:
        assert page.ask("getComputedStyle(document.body).backgroundColor") == ground
        blue, grid = (page.ask(f"({VARIABLE})('{of}')") for of in ("blue", "grid"))
        inks, lines = {ink for _, ink in page.ask(TEXTS)}, {*page.ask(LINES)} - {ground, grid}
    # The ground's own colour is that of numbers on a graph's nodes.
    assert min(contrast(ink, blue if ink == ground else ground) for ink in inks) >= 4.5
    assert blue in lines and min(contrast(line, ground) for line in lines) >= 3


TABLES = """[...document.querySelectorAll(".wide")].filter(wide => wide.scrollWidth > wide.clientWidth).map(wide => {
  const lefts = of => [...wide.querySelectorAll(of)].map(cell => cell.getBoundingClientRect().left);
  const cells = ["th[scope=row], thead th:first-child, th[scope=rowgroup] span", "td"];
  const before = cells.map(lefts);
  wide.scrollLeft = 90;
  const [after, scrolled] = [cells.map(lefts), wide.scrollLeft];
  wide.scrollLeft = 0;
  const told = [wide.tabIndex, wide.role, wide.ariaLabel.length > 0];
  return {stays: [before[0], after[0]], goes: [before[1], after[1]], scrolled, told};
})"""


@needs_browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_the_first_column_stays_when_a_table_is_scrolled(chapters_folders, name):
    with chrome.opened(chapters_folders[name] / "report.html", width=400) as page:
        tables = page.ask(TABLES)
    assert tables
    for table in tables:
        assert table["stays"][0] == table["stays"][1]
        assert table["scrolled"] > 0
        assert [left - table["scrolled"] for left in table["goes"][0]] == pytest.approx(table["goes"][1], abs=0.1)
        assert table["told"] == [0, "region", True]


KEYS = """new Promise(done => {
  const wide = [...document.querySelectorAll(".wide")].find(wide => wide.scrollWidth > wide.clientWidth);
  wide.addEventListener("scroll", () => done(wide.scrollLeft));
  wide.focus();
})"""


@needs_browser
def test_the_arrow_keys_scroll_a_table(chapters_folders):
    with chrome.opened(chapters_folders["teaching"] / "report.html", width=400) as page:
        page.ask(f"window.scrolled = {KEYS}, 0")
        page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", windowsVirtualKeyCode=39)
        assert page.ask("scrolled") > 0


EDGE = """at => {
  const wide = [...document.querySelectorAll(".wide")].find(wide => wide.scrollWidth > wide.clientWidth);
  wide.scrollLeft = at * (wide.scrollWidth - wide.clientWidth);
  const box = wide.getBoundingClientRect();
  return {x: box.right - 2, y: box.top + scrollY, width: 2, height: box.height, scale: 1};
}"""


@needs_browser
def test_a_shadow_at_the_edge_tells_that_a_table_goes_on(chapters_folders):
    def edge(page, at):
        clip = page.ask(f"({EDGE})({at})")
        shot = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        return np.median(matplotlib.image.imread(io.BytesIO(base64.b64decode(shot)))[..., 0])

    with chrome.opened(chapters_folders["teaching"] / "report.html", width=400) as page:
        assert edge(page, 0) < 0.75
        assert edge(page, 1) == 1


PAPER = """(() => {
  const shown = [...document.querySelectorAll("body *")].filter(each => each.checkVisibility());
  const scrolls = each => getComputedStyle(each).overflowX !== "visible" && each.scrollWidth > each.clientWidth;
  const figures = [...document.querySelectorAll("figure")];
  return {
    ground: getComputedStyle(document.body).backgroundColor,
    widest: Math.max(...shown.map(each => each.getBoundingClientRect().right)),
    cut: shown.filter(each => !each.closest("svg") && scrolls(each)).map(each => each.outerHTML.slice(0, 80)),
    tallest: Math.max(...figures.map(figure => figure.getBoundingClientRect().height)),
    breaks: [...new Set(figures.map(figure => getComputedStyle(figure).breakInside))],
    settings: [...document.querySelectorAll("details .wide")].map(wide => wide.getBoundingClientRect().height),
  };
})()"""


@needs_browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_on_paper_nothing_is_cut_or_hidden(chapters_folders, name):
    with chrome.opened(chapters_folders[name] / "report.html", width=A4[0], dark=True, media="print") as page:
        found, inks = page.ask(PAPER), {ink for _, ink in page.ask(TEXTS)}
    assert found["ground"] == "rgb(255, 255, 255)" and "rgb(27, 31, 36)" in inks
    assert found["widest"] <= A4[0] and found["cut"] == []
    assert found["tallest"] < A4[1] and found["breaks"] == ["avoid"]
    assert min(found["settings"]) > 50


@needs_browser
def test_a_printed_page_has_every_figure_and_few_sheets(chapters_folders):
    with chrome.opened(chapters_folders["labelled"] / "report.html", dark=True) as page:
        pdf = base64.b64decode(page.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
        figures = page.ask("document.querySelectorAll('figure').length")
    pages = len(re.findall(rb"/Type /Page\b", pdf))
    assert figures == 5 and 3 <= pages <= 6


@needs_browser
@pytest.mark.parametrize("name", ["graph", "accuracy_over_rounds"])
def test_a_figures_file_is_drawn_on_white(labelled_folder, tmp_path, name):
    svg = (labelled_folder / "figures" / f"{name}.svg").read_text()
    assert "var(--" not in svg
    frame = tmp_path / "alone.html"
    frame.write_text(f'<body style="margin: 0; background: #15181c">{svg}')
    with chrome.opened(frame, dark=True) as page:
        clip = {"x": 1, "y": 1, "width": 1, "height": 1, "scale": 1}
        shot = page.call("Page.captureScreenshot", format="png", clip=clip)["data"]
    assert (matplotlib.image.imread(io.BytesIO(base64.b64decode(shot)))[..., :3] == 1).all()
