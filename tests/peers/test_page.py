"""A site's page in a browser: its numbers are there, follow the events, and fit on a narrow screen."""

import threading

import pytest
from sites import world

pytest.importorskip("zenoh")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from web import serving

import browser as chrome
from palaver.peers import service
from palaver.peers.snapshot import Board
from palaver.peers.transport import Arrived

needs_browser = pytest.mark.skipif(chrome.chromium() is None, reason="no Chromium")

REPORT = {"silent": 0.5, "inbox": 0.0, "lost": 0.125, "refused": 0.0, "present": 2.0}


def played(nodes=4):
    """A world after 20 seconds, in which the last site was killed after 10, with a board of the first."""
    made = world(nodes)
    for me, site in made.sites.items():
        site.report = lambda site, me=me: (
            REPORT | {"accuracy": 0.4 + site.peer.step / 1000 + me / 20, "bytes in": 1234.0, "bytes out": 5678.0}
        )
    made.play(2)
    board = Board(made.sites[0], 2.0)
    for second in range(3, 21):
        made.play(1)
        board.look(float(second))
        if second == 10:
            made.kill(nodes - 1)
    return made, board


@pytest.fixture(scope="module")
def served():
    made, board = played()
    site = made.sites[0]
    for sender, data in [("site-1", b"junk"), ("<img src=x onerror=alert(1)>", b""), ("?", b"")]:
        site.take(Arrived("packet", sender, data))
    board.look(21.0)
    with serving(board, site.peer.agreement) as client:
        yield made, board, client


CELLS = (
    """id => [...document.getElementById(id).tBodies[0].rows].map(row => [...row.cells].map(cell => cell.innerText))"""
)


def cells(page, table):
    return page.ask(f"({CELLS})('{table}')")


@needs_browser
def test_the_tables_have_the_sites_numbers(served):
    made, _, client = served
    site = made.sites[0]
    with chrome.opened(f"{client.base_url}/") as page:
        own, other, _, gone = cells(page, "sites")
        sent = site.ledger.bytes.total() / 1000
        came = site.bytes_in / 1000
        assert own[:5] == ["site-0", "talking", "200", f"{100 * site.reported['accuracy']:.1f}", "50.0"]
        assert own[5:7] == ["–", "0"]
        assert own[7:] == [f"{came:.1f}", f"{sent:.1f}", "12.5", "3", "3"]
        assert (other[0], other[1], other[4], other[7]) == ("site-1", "talking", "50.0", "1.2")
        assert gone[:2] == ["site-3", "gone"]
        link = cells(page, "links")[0]
        assert link[:2] == ["site-1", str(site.outbox.lines[1].seq)]
        assert link[4] == str(site.seen[1].arrived)
        assert [row[:3] for row in cells(page, "refused")] == [["?", "stranger", "2"], ["site-1", "version", "1"]]
        assert "of another version" in cells(page, "refused")[1][3]
        assert page.ask("document.querySelectorAll('#graph circle').length") == 4
        hears = page.ask("document.querySelectorAll('#graph path.hears').length")
        assert hears == 6  # three that are there, each of which hears the two others
        assert page.ask("document.querySelectorAll('#curves path.curve').length") == 5
        assert page.complaints() == []


@needs_browser
@pytest.mark.parametrize("width", [1100, 400])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_nothing_is_wider_than_the_screen_and_the_console_is_silent(served, width, path):
    found = chrome.check_page(f"{served[2].base_url}{path}", width=width)
    assert found["console"] == []
    assert found["too_wide"] == 0
    sizes = found["figures"].values()
    assert list(found["figures"]) == (["graph", "curves"] if path == "/" else [])
    assert all(wide > 280 and high > 200 for wide, high in sizes)


TEXTS = "[...document.querySelectorAll('svg text')].map(t => 12 * t.closest('svg').getScreenCTM().a)"
OUT = """[...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect(), svg = text.closest('svg').getBoundingClientRect();
  return box.left < svg.left || box.right > svg.right || box.top < svg.top || box.bottom > svg.bottom;
}).map(text => text.textContent)"""
TALLEST = (
    "Math.max(...[...document.querySelectorAll('#sites tbody tr')].map(row => row.getBoundingClientRect().height))"
)


@needs_browser
def test_text_of_figures_is_legible_at_400_pixels_and_not_cut(served):
    with chrome.opened(f"{served[2].base_url}/", width=400) as page:
        sizes = page.ask(TEXTS)
        assert len(sizes) >= 12 and min(sizes) > 11
        assert page.ask(OUT) == []
        assert page.ask(TALLEST) < 45  # no word of it is broken


@needs_browser
@pytest.mark.parametrize(("dark", "ground"), [(False, "rgb(255, 255, 255)"), (True, "rgb(21, 24, 28)")])
def test_the_page_is_dark_where_that_is_preferred(served, dark, ground):
    with chrome.opened(f"{served[2].base_url}/", dark=dark) as page:
        assert page.ask("getComputedStyle(document.body).backgroundColor") == ground


NEXT = """new Promise(done => {
  const cell = document.getElementById("sites").tBodies[0].rows[0].cells[2];
  const look = () => cell.textContent === "210" ? done(cell.textContent) : 0;
  new MutationObserver(look).observe(cell, {childList: true, characterData: true, subtree: true});
  look();
})"""


@needs_browser
def test_an_event_updates_the_numbers(monkeypatch):
    monkeypatch.setattr(service, "_EVERY", 0.05)
    made, board = played(2)
    with serving(board, made.agreement) as client, chrome.opened(f"{client.base_url}/") as page:
        assert cells(page, "sites")[0][2] == "200"
        page.ask(f"window.updated = {NEXT}, 0")
        made.play(1)
        board.look(22.0)
        assert page.ask("updated") == "210"
        assert page.ask("document.getElementById('line').textContent") == "live"
        assert page.ask("curves.length") == 20


@needs_browser
def test_names_from_the_network_are_text(served):
    """Even where every check before had let them through."""
    _, board, client = served
    evil = "</script><img src=x onerror='window.bad = 1'>"
    latest = board.latest
    row = latest["sites"][1] | {"name": evil, "state": evil}
    refused = [{"peer": evil, "reason": evil, "packets": 1}]
    sites = [latest["sites"][0], row, *latest["sites"][2:]]
    sites = [site | {"hears": [evil if name == "site-1" else name for name in site["hears"]]} for site in sites]
    board.latest = latest | {"sites": sites, "refused": refused, "checkpoint": {"trouble": evil, "seconds": 1.0}}
    try:
        with chrome.opened(f"{client.base_url}/", width=400) as page:
            assert cells(page, "sites")[1][0] == evil
            assert cells(page, "refused")[0][0] == evil
            assert evil in page.ask("document.getElementById('trouble').textContent")
            assert page.ask("document.querySelectorAll('img').length") == 0
            assert page.ask("typeof window.bad") == "undefined"
            assert page.ask("document.documentElement.scrollWidth") == 400
    finally:
        board.latest = latest


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_page_is_whole_and_loads_nothing_from_elsewhere(served, path, tmp_path, monkeypatch):
    response = served[2].get(path)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not [
        line for line in response.text.splitlines() if "//" in line and "http://www.w3.org/2000/svg" not in line
    ]
    monkeypatch.setattr(chrome, "chromium", lambda: None)
    (page := tmp_path / "page.html").write_text(response.text)
    assert chrome.check_page(page)["console"] == []


def test_a_board_can_change_while_pages_are_made(served):
    """What the server reads is never changed, only replaced."""
    made, _, _ = served
    board, stop, failures = Board(made.sites[0], 0.0), threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                service.exposition(board.latest)
                service.msgspec.json.encode((board.latest, board.curves))
            except Exception as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for second in range(1, 100):
        made.sites[0].take(Arrived("packet", "site-1", bytes([second])))
        made.play(0.1)
        board.look(float(second))
    stop.set()
    reader.join()
    assert failures == []
