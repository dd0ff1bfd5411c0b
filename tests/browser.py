"""Does a report render? Asked of a headless Chromium; where there is none, of an HTML parser.

``check_page(path)`` gives, for instance, ``{"browser": "/usr/bin/chromium", "figures": {"graph": (735.6, 521.3)},
"console": [], "too_wide": 0.0}``. ``opened(path)`` is for questions of one's own.
"""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_PROBE = """(() => {
  const figures = [...document.querySelectorAll("figure[data-figure]")].map(figure => {
    const drawn = [...figure.querySelectorAll("svg")].filter(svg => svg.getBBox().width && svg.getBBox().height);
    const boxes = drawn.map(svg => svg.getBoundingClientRect());
    const span = (low, high) => Math.max(0, ...boxes.map(high)) - Math.min(...boxes.map(low), boxes.length ? 1e9 : 0);
    return [figure.dataset.figure, [span(box => box.left, box => box.right), span(box => box.top, box => box.bottom)]];
  });
  const page = document.documentElement;
  return {figures, too_wide: page.scrollWidth - page.clientWidth};
})()"""
_EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def chromium() -> str | None:
    """Where the browser is: the program named by ``CHROMIUM``, or the first of its usual names."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Page:
    """A page in a browser, over the DevTools protocol on a pair of pipes."""

    def __init__(self, write: int, read: int, timeout: float):
        self._write, self._read, self._deadline = write, read, time.monotonic() + timeout
        self._rest, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        """What the browser reported by itself, in its order."""

    def attach(self) -> None:
        """Speaks with a new tab from now on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> dict:
        """One command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait(self, event: str) -> None:
        """Until the browser reports this."""
        while not any(each.get("method") == event for each in self.events):
            self.events.append(self._next())

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression, as JSON holds it."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Every line that the page or the browser wrote about it."""
        return [json.dumps(each["params"]) for each in self.events if each.get("method") in _COMPLAINTS]

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, self._deadline - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def opened(
    path: Path | str, *, width: int = 1100, dark: bool = False, media: str = "", timeout: float = 120.0
) -> Generator[Page]:
    """A page in a browser.

    Args:
        path: an HTML page, or the address of one.
        width: of the window, in pixels.
        dark: whether the reader prefers a dark page.
        media: print, or empty: what is asked for, a screen or a PDF file.
        timeout: seconds until the browser counts as hung.

    Yields:
        The page, loaded.

    """
    browser = chromium()
    assert browser, "no Chromium"
    (from_us, write), (read, to_us) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        # The browser reads commands from descriptor 3 and writes to 4.
        shell = f'exec "$@" 3<&{from_us} 4>&{to_us}'
        flags = [*_FLAGS, f"--user-data-dir={scratch}", "--remote-debugging-pipe"]
        process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "bash", browser, *flags], pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL
        )
        os.close(from_us)
        os.close(to_us)
        try:
            page = Page(write, read, timeout)
            page.attach()
            for domain in ("Page", "Runtime", "Log"):
                page.call(f"{domain}.enable")
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=1600, deviceScaleFactor=1, mobile=False)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            page.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
            page.call("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
            page.wait("Page.loadEventFired")
            yield page
        finally:
            process.kill()
            process.wait()
            os.close(write)
            os.close(read)


def check_page(path: Path, *, width: int = 1100, **how: Any) -> dict:
    """Open ``path`` and measure it.

    Args:
        path: an HTML page.
        width: of the window, in pixels.
        how: more arguments of ``opened``.

    Returns:
        ``browser`` (its path, or None), ``figures`` (name to width and height in pixels; zeros where nothing is drawn),
        ``console`` (every line the page or the browser wrote about it; without a browser, what is wrong with the tags),
        ``too_wide`` (pixels by which the page is wider than the window).
    """
    browser = chromium()
    if browser is None:
        print("no Chromium (chromium, chromium-browser, google-chrome): the page is parsed, not rendered")
        return _parse(path)
    with opened(path, width=width, **how) as page:
        found = page.ask(_PROBE)
        console = page.complaints()
    return {
        "browser": browser,
        "figures": {name: tuple(size) for name, size in found["figures"]},
        "console": console,
        "too_wide": float(found["too_wide"]),
    }


_COMPLAINTS = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}


class _Tags(HTMLParser):
    """Open tags, the size of each figure with its drawings below each other, and complaints."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.figures: dict[str, tuple[float, float]] = {}
        self.complaints: list[str] = []
        self._size = (0.0, 0.0)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in _EMPTY:
            self.open.append(tag)
        if tag == "figure":
            self.figures[found["data-figure"]] = (0.0, 0.0)
        if tag == "svg":
            width, height = ((found.get(side) or "0").removesuffix("pt") for side in ("width", "height"))
            self._size = (float(width) * 96 / 72, float(height) * 96 / 72)
        if tag in ("path", "image") and self._size[1]:
            name = next(reversed(self.figures))
            (wide, high), (width, height) = self.figures[name], self._size
            self.figures[name], self._size = (max(wide, width), high + height), (0.0, 0.0)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

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
    return {"browser": None, "figures": tags.figures, "console": complaints, "too_wide": 0.0}
