"""Does a report render? Asked of a headless Chromium; where there is none, of an HTML parser.

``check_page(path)`` gives, for instance, ``{"browser": "/usr/bin/chromium", "figures": {"graph": (735.6, 521.3)},
"console": [], "too_wide": 0.0}``.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--dump-dom"),
)
_PROBE = """<script>addEventListener("load", () => {
  const drawings = [...document.querySelectorAll("figure img, figure svg")];
  const figures = drawings.map((drawing, place) => {
    const drawn = drawing.tagName === "IMG" ? drawing.complete && drawing.naturalWidth > 0 : true;
    const box = drawing.getBoundingClientRect();
    return [drawing.dataset.figure || `figure ${place}`, drawn ? [box.width, box.height] : [0, 0]];
  });
  const page = document.documentElement;
  const text = JSON.stringify({figures, too_wide: page.scrollWidth - page.clientWidth});
  document.body.setAttribute("data-probe", btoa(unescape(encodeURIComponent(text))));
});</script>"""
_EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def chromium() -> str | None:
    """Where the browser is: the program named by ``CHROMIUM``, or the first of its usual names."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def check_page(path: Path, *, width: int = 1100, timeout: float = 120.0) -> dict:
    """Open ``path`` and measure it.

    Args:
        path: an HTML page; it is copied, not changed.
        width: of the window, in pixels.
        timeout: seconds to wait for the browser.

    Returns:
        ``browser`` (its path, or None), ``figures`` (name to width and height in pixels; zeros where the drawing does
        not render), ``console`` (every line the page or the browser wrote about it; without a browser, what is wrong
        with the tags), ``too_wide`` (pixels by which the page is wider than the window).
    """
    browser = chromium()
    if browser is None:
        print("no Chromium (chromium, chromium-browser, google-chrome): the page is parsed, not rendered")
        return _parse(path)
    with tempfile.TemporaryDirectory() as scratch:
        probed = Path(scratch) / "page.html"
        probed.write_text(path.read_text(encoding="utf-8") + _PROBE, encoding="utf-8")
        command = [browser, *_FLAGS, f"--user-data-dir={scratch}/profile", f"--window-size={width},2000"]
        done = subprocess.run([*command, probed.as_uri()], capture_output=True, timeout=timeout, check=True)
    dom, log = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    probe = re.search(r'data-probe="([^"]*)"', dom)
    assert probe, f"the probe did not run in {path.name}: {log[-500:]}"
    found = json.loads(base64.b64decode(probe[1]))
    return {
        "browser": browser,
        "figures": {name: tuple(size) for name, size in found["figures"]},
        "console": [line for line in log.splitlines() if "CONSOLE" in line],
        "too_wide": float(found["too_wide"]),
    }


class _Tags(HTMLParser):
    """Open tags, the figures' sources, and complaints."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.figures: dict[str, str] = {}
        self.complaints: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in _EMPTY:
            self.open.append(tag)
        if tag == "img" and "figure" in self.open:
            found = dict(attrs)
            self.figures[found.get("data-figure") or f"figure {len(self.figures)}"] = found.get("src") or ""

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.complaints.append(f"line {self.getpos()[0]}: </{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()


def _parse(path: Path) -> dict:
    tags = _Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    tags.close()
    complaints = tags.complaints + [f"<{tag}> is never closed" for tag in tags.open]
    sizes = {name: _svg_size(source) for name, source in tags.figures.items()}
    return {"browser": None, "figures": sizes, "console": complaints, "too_wide": 0.0}


def _svg_size(source: str) -> tuple[float, float]:
    """Width and height an inlined SVG states, zeros where there is no drawing in it."""
    svg = base64.b64decode(source.partition("base64,")[2]).decode("utf-8", "replace")
    stated = [re.search(rf'<svg[^>]*\b{side}="([\d.]+)', svg) for side in ("width", "height")]
    drawn = "<path" in svg and svg.rstrip().endswith("</svg>")
    return tuple(float(each[1]) if each and drawn else 0.0 for each in stated)
