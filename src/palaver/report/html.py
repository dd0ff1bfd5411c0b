"""Pieces of the report's page: every word from a file is escaped, nothing is fetched, nothing runs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from palaver.report.tables import Grid

_CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d5d9de; --back: #ffffff;
  --card: #f5f6f8; --accent: #0072b2; --warn: #fff4d6; --warn-ink: #5c4300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a4acb6; --line: #3a4048; --back: #15181c;
  --card: #1f2328; --accent: #6cb6e8; --warn: #3d3210; --warn-ink: #ffe3a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
.facts { color: var(--soft); margin: 0 0 1.2rem; font-size: .92rem; }
.verdict { font-size: 1.12rem; padding: .9rem 1.1rem; background: var(--card); border-left: 4px solid var(--accent);
  border-radius: 4px; }
.notice { padding: .7rem 1.1rem; background: var(--warn); color: var(--warn-ink); border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .38rem .7rem; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; vertical-align: bottom; border-bottom-width: 2px; }
th.words, td.words { text-align: left; font-weight: 400; }
thead th.words { font-weight: 600; }
tbody th { min-width: 11rem; }
td { white-space: nowrap; }
td.words { white-space: normal; overflow-wrap: anywhere; }
.range { color: var(--soft); font-size: .9em; }
figure { margin: 1.4rem 0 2rem; }
figure img { display: block; width: 100%; max-width: 760px; height: auto; background: #fff; padding: .6rem;
  border: 1px solid var(--line); border-radius: 6px; }
figcaption, .how { color: var(--soft); font-size: .92rem; max-width: 760px; margin: .5rem 0 0; }
.how { margin: 0 0 .8rem; }
figcaption b { color: var(--ink); }
summary { cursor: pointer; font-weight: 600; }
details { margin: .6rem 0; }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page around pieces of HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{escape(text)}</h2>"


def table(grid: Grid, *, stacked: bool = False) -> str:
    """A grid as a table that scrolls by itself where the window is too narrow; ``stacked`` puts intervals below."""
    head = "".join(
        f'<th scope="col"{_kind(column, grid)}>{escape(header)}</th>' for column, header in enumerate(grid.headers)
    )
    rows = "\n".join(f"<tr>{_row(row, grid, stacked)}</tr>" for row in grid.rows)
    label = escape(grid.title)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def figure(svg: str, name: str, title: str, caption: str, *, own_size: bool = False) -> str:
    """A drawing with the words that explain it; as an image of its own, so that ids of two drawings never meet.

    With ``own_size`` it is shown as large as it was drawn, where the window has room.
    """
    size = ' style="width: auto; max-width: 100%"' if own_size else ""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img data-figure="{escape(name)}" alt="{escape(title)}"{size} src="{source}">\n'
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption></figure>"
    )


def folded(label: str, pieces: Iterable[str]) -> str:
    """Pieces of HTML behind a line to click on."""
    return f"<details><summary>{escape(label)}</summary>\n" + "\n".join(pieces) + "\n</details>"


def _kind(column: int, grid: Grid) -> str:
    return ' class="words"' if column < grid.labels else ""


def _row(row: Sequence[str], grid: Grid, stacked: bool) -> str:
    cells = []
    for column, cell in enumerate(row):
        if column == 0:
            cells.append(f'<th scope="row" class="words">{escape(cell)}</th>')
        elif column < grid.labels:
            cells.append(f'<td class="words">{escape(cell)}</td>')
        else:
            cells.append(f"<td>{_number(cell, stacked)}</td>")
    return "".join(cells)


def _number(cell: str, stacked: bool) -> str:
    """A number, its interval or its count of seeds softer and kept in one piece."""
    for opening in (" [", " ("):
        if opening in cell:
            middle, rest = cell.split(opening, 1)
            between = "<br>" if stacked else " "
            return f'<span>{escape(middle)}</span>{between}<span class="range">{escape(opening[1] + rest)}</span>'
    return f"<span>{escape(cell)}</span>"
