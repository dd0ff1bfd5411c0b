"""Drawings: their colours and ids on a page, and several of them in one file."""

import re
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
import pytest

from palaver.report.drawing import COLOURS, STYLE, legend, panel
from palaver.report.svg import inline, sheet, size, to_svg


def drawn(height=2.0, colour=COLOURS[0], title="<#0072b2> & $"):
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = panel(height)
        axes.plot([0, 1], [0, 1], color=colour, marker="o", label=title)
        axes.set_title(r"\$".join(title.split("$")))
        return to_svg(figure), legend(axes.get_lines())


def test_a_drawing_has_text_and_neither_counted_ids_nor_metadata():
    svg, _ = drawn()
    assert size(svg) == (252, 144)
    assert re.findall(r">([^<]+)</text>", svg)[-1] == "&lt;#0072b2&gt; &amp; $"
    assert "metadata" not in svg and not re.search(r' id="\w+_\d+"', svg)
    assert drawn()[0] == svg


def test_on_the_page_it_has_the_pages_colours_and_its_own_ids():
    svg, _ = drawn()
    part = inline(svg, "fit-0")
    assert "stroke: var(--blue)" in part and "fill: var(--ink)" in part and "stroke: var(--grid)" in part
    assert set(re.findall(r"#[0-9a-f]{6}", part)) == {"#0072b2"}  # the words, which stay
    ids, used = (set(re.findall(pattern, part)) for pattern in (r' id="([^"]*)"', r'(?:href="|url\()#([^")]*)'))
    assert ids and used <= ids and all(each.startswith("fit-0-") for each in ids)
    assert "xmlns" not in part and "<style" not in part
    ElementTree.fromstring(re.sub("xlink:href", "href", part))


def test_a_sheet_is_filled_line_by_line():
    wide, other = drawn(2.0)[0], drawn(1.0)[0]
    root = ElementTree.fromstring(sheet([wide, other, other]))
    # Two of 252 points and a gap of 12 have room in 735; the third is below the taller of them, 144 points high.
    places = [(float(each.get("x")), float(each.get("y"))) for each in root if each.tag.endswith("svg")]
    assert places == [(0, 0), (264, 0), (0, 156)]
    assert (root.get("width"), root.get("height")) == ("516pt", "228pt")
    assert size(sheet([wide])) == (252, 144)
    # In the sheet's own units, of which one is a point.
    assert [(part.get("width"), part.get("height")) for part in root[1:2]] == [("252", "144")]


@pytest.mark.parametrize(("letters", "lines", "columns"), [(4, 1, 3), (12, 1, 2), (30, 1, 1), (60, 2, 1)])
def test_a_legend_has_as_many_columns_as_its_labels_leave_room_for(letters, lines, columns):
    with matplotlib.style.context(["default", STYLE]):
        _, axes = panel(2.0)
        handles = [axes.plot([], [], label=f"{'ab ' * (letters // 3)}{place}")[0] for place in range(6)]
        svg = legend(handles)
    rows = 6 / columns
    assert size(svg)[1] == pytest.approx(72 * (0.1 + rows * (0.06 + 0.14 * lines)))
    lefts = np.array([float(x) for x in re.findall(r'<text[^>]*(?: x="|translate\()([\d.]+)', svg)])
    assert len(lefts) == 6 * lines and len(np.unique(lefts.round())) == columns
