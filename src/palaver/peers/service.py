"""What a site serves over HTTP: questions to the collective, a page, metrics for Prometheus, and what these are.

The server has a thread of its own, in which it reads what the site's thread puts on its ``Board``; a question is asked
in a third one, over the site's network. So no request holds the site up. Requests are bounded: connections, bytes of a
body, seconds for it to come, questions at once.
"""

import asyncio
import math
import secrets
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal, Protocol

import anyio.to_thread
import jinja2
import msgspec
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from palaver.decision import DEFAULT_RULE, RULES
from palaver.errors import MachineError
from palaver.peers.agreement import Agreement
from palaver.peers.metrics import exposition
from palaver.peers.questions import Decided, at_once, put
from palaver.peers.settings import address, loopback
from palaver.peers.site import Site
from palaver.peers.snapshot import Board
from palaver.peers.wire import REASONS
from palaver.peers.zenoh import ZenohTransport
from palaver.report.colours import SHADES
from palaver.types import PalaverError
from palaver.version import __version__

_CONNECTIONS = 64
"""At most; more are told to come back later."""
_BODY = 4 * 2**20
"""Bytes of a body at most."""
_SLOW = 10.0
"""Seconds for the head of a request to come at most, and for its body."""
_AT_ONCE, _PARTS = 4, 4
"""Requests to ``/predict`` at once, and questions to each peer that one may need: together what waits at a peer."""
_INPUTS = 1000
"""Of a request, at most."""
_LONGEST = 30.0
"""Seconds that a request may wait for answers."""
_EVERY = 1.0
"""Seconds between events."""
_END = 2
"""Seconds for requests to end when the server does."""

_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("palaver", "peers"), autoescape=True, undefined=jinja2.StrictUndefined
)


class Deciding(Protocol):
    """What asks the collective; it waits, and any thread may call it."""

    def __call__(self, x: np.ndarray, *, timeout: float, rule: str, calibrated: bool) -> Decided:
        """The decision about inputs ``[B, ...]`` of whoever answers within ``timeout`` seconds."""
        ...


@contextmanager
def served(site: Site, http: str) -> Generator[Callable[[float], None]]:
    """Serves a site over HTTP while open.

    Args:
        site: on a ``ZenohTransport``; its own thread opens and closes this.
        http: HOST:PORT.

    Yields:
        What the site's loop calls with the time, as ``Site.cycle``.

    Raises:
        PalaverError: ``http`` is no HOST:PORT.
        MachineError: nothing can be served there.

    """
    assert isinstance(site.transport, ZenohTransport)
    deal, transport = site.peer.agreement, site.transport

    def decide(x: np.ndarray, **how: Any) -> Decided:
        with transport.asking() as session:
            return put(session, transport.at, site.collective, x, deal.names, classes=deal.classes, **how)

    listening = _listening(http)
    if not loopback(f"tcp/{http}"):
        print(f"palaver: HTTP has no certificates: anyone who reaches {http} can ask and look", file=sys.stderr)
    board, hosts = Board(site, time.monotonic()), _hosts(http)
    with listening, running(make_app(board, deal, decide, hosts), listening):
        yield board.look


def _listening(http: str) -> socket.socket:
    host, port = address(http)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise MachineError(
            f"http {http} cannot be listened on: {error.strerror}: give another, or end what listens there"
        ) from None


def _hosts(http: str) -> list[str]:
    """What a browser must have asked for: else any page on the internet could have its own name lead here."""
    host = http.rpartition(":")[0]
    return [host, "localhost", "127.0.0.1", "[::1]"] if loopback(f"tcp/{http}") else ["*"]


class _Hurried(H11Protocol):
    """Uvicorn's protocol, which by itself waits for ever for a request: silent connections would take all there are."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)

        def hurry() -> None:
            if self.scope is None:  # pyright: ignore[reportUnnecessaryComparison]
                transport.close()

        self.loop.call_later(_SLOW, hurry)


@contextmanager
def running(app: FastAPI, listening: socket.socket) -> Generator[None]:
    """Uvicorn in a thread."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Hurried,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # failures are told by _failed
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("Connection", "close")],  # so that nobody holds one, or goes on to send what is not read
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_END,
    )
    server = uvicorn.Server(config)
    app.state.ends = lambda: server.should_exit
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="http", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2 * _END)


def make_app(board: Board, deal: Agreement, decide: Deciding, hosts: list[str]) -> FastAPI:
    """The application.

    Args:
        board: of the site.
        deal: what its collective agreed on.
        decide: asks the collective.
        hosts: that requests may name; ``*``: any.

    Returns:
        It; ``state.ends`` tells streams of events when to end.

    """
    app = FastAPI(title=f"palaver: {board.latest['name']}", version=__version__, docs_url=None, redoc_url=None)
    app.state.ends = lambda: False
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_exception_handler(Exception, _failed)
    _predict(app, deal, decide)

    @app.get("/", summary="A page that shows the collective as this site sees it", response_class=HTMLResponse)
    async def page() -> Response:
        return _page("page.html.jinja", title=board.latest["name"], first=board.latest, curves=board.curves)

    @app.get("/docs", summary="This table", response_class=HTMLResponse)
    async def docs() -> Response:
        return _page("docs.html.jinja", title=f"{board.latest['name']}: HTTP", api=app.openapi())

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(exposition(board.latest), media_type=CONTENT_TYPE_LATEST)

    @app.get("/events", summary="A snapshot of the site each second, as server-sent events", response_class=Response)
    async def events() -> Response:
        return StreamingResponse(_events(app, board), media_type="text/event-stream", headers=_FRESH)

    return app


async def _failed(request: Request, error: Exception) -> Response:
    """A mistake of this program: the site goes on."""
    said = next(iter(str(error).splitlines()), "")
    print(f"palaver: HTTP {request.url.path} failed ({type(error).__name__}: {said})", file=sys.stderr)
    return JSONResponse({"detail": "this site could not answer; its standard error says why"}, 500)


_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _page(template: str, **what: Any) -> Response:
    """A page that loads nothing and runs no script but its own."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _PAGES.get_template(template).render(shades=SHADES, nonce=nonce, reasons=REASONS, **what)
    return HTMLResponse(text, headers=_FRESH | {"Content-Security-Policy": policy})


async def _events(app: FastAPI, board: Board) -> AsyncIterator[bytes]:
    """A client that does not read is waited for here, and gets the newest snapshot afterwards: nothing piles up."""
    while not app.state.ends():
        yield b"data: " + msgspec.json.encode(board.latest) + b"\n\n"
        await asyncio.sleep(_EVERY)


def question(deal: Agreement) -> Any:
    """The type of ``/predict``'s body, which has a collective's inputs exactly.

    Args:
        deal: what the collective agreed on.

    Returns:
        A ``msgspec.Struct``.

    """
    kind = deal.dtype
    inputs: Any = float
    if kind.kind in "iu":
        bounds = np.iinfo(kind)
        inputs = Annotated[int, msgspec.Meta(ge=int(bounds.min), le=int(bounds.max))]
    elif kind.kind == "b":
        inputs = bool
    for size in reversed(deal.shape):
        inputs = Annotated[list[inputs], msgspec.Meta(min_length=size, max_length=size)]
    most = min(_INPUTS, _PARTS * at_once(math.prod(deal.shape) * kind.itemsize, deal.classes))
    fields = [
        ("x", Annotated[list[inputs], msgspec.Meta(min_length=1, max_length=max(1, most))]),
        ("timeout", Annotated[float, msgspec.Meta(gt=0, le=_LONGEST)], 2.0),
        ("rule", Literal[tuple(RULES)], DEFAULT_RULE),
        ("calibrated", bool, False),
    ]
    return msgspec.defstruct("Question", fields, forbid_unknown_fields=True, frozen=True)


_DECISION = {
    "type": "object",
    "properties": {
        "classes": {"type": "array", "items": {"type": "integer"}, "description": "the most probable one, by input"},
        "distribution": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "entropy": {"type": "array", "items": {"type": "number"}, "description": "nats"},
        "peers": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "status": {"enum": ["answered", "late", "absent"]},
                    "milliseconds": {"type": ["number", "null"]},
                    "weight": {"type": "number", "description": "share in the decision, mean over the inputs"},
                },
            },
        },
    },
}


def _predict(app: FastAPI, deal: Agreement, decide: Deciding) -> None:
    """Adds ``POST /predict``."""
    kind, asking = question(deal), asyncio.Semaphore(_AT_ONCE)
    decoder = msgspec.json.Decoder(kind)
    (_,), schemas = msgspec.json.schema_components([kind])
    json = "application/json"

    @app.post(
        "/predict",
        summary="The collective's decision about inputs, from whoever answers in time",
        openapi_extra={"requestBody": {"required": True, "content": {json: {"schema": schemas["Question"]}}}},
        responses={
            200: {"description": "The decision", "content": {json: {"schema": _DECISION}}},
            408: {"description": f"The body did not come within {_SLOW:g} s"},
            413: {"description": f"The body has more than {_BODY} bytes"},
            415: {"description": "The body is not said to be JSON"},
            422: {"description": "The body is not as it must be; detail says why in one line"},
            503: {"description": f"{_AT_ONCE} others are asking"},
        },
        response_class=Response,
    )
    async def predict(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != json:
            raise HTTPException(415, f"the body is not said to be JSON: give the header Content-Type: {json}")
        if asking.locked():
            raise HTTPException(503, f"{_AT_ONCE} others are asking: try again", headers={"Retry-After": "1"})
        async with asking:
            body = await _body(request)
            try:
                asked = decoder.decode(body)
                x = _inputs(asked.x, deal)
                call = partial(decide, x, timeout=asked.timeout, rule=asked.rule, calibrated=asked.calibrated)
                found = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
            except msgspec.MsgspecError as error:
                raise HTTPException(422, f"{error}: give JSON as /docs says") from None
            except PalaverError as error:
                raise HTTPException(422, str(error)) from None
        return Response(msgspec.json.encode(found.to_json()), media_type=json, headers=_FRESH)


async def _body(request: Request) -> bytes:
    found = bytearray()
    try:
        async with asyncio.timeout(_SLOW):
            async for part in request.stream():
                found += part
                if len(found) > _BODY:
                    raise HTTPException(413, f"the body has more than {_BODY} bytes: give fewer inputs at once")
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_SLOW:g} s: try again") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body was cut off") from None
    return bytes(found)


def _inputs(x: list[Any], deal: Agreement) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = np.array(x, deal.dtype)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise PalaverError(f"x has numbers that {deal.dtype} has not: give finite ones")
    return found
