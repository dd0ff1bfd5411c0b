"""What a site serves over HTTP: questions are checked, bounded, and hold nobody up."""

import contextlib
import json
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sites import world

pytest.importorskip("zenoh")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx
import jax
from web import answer, serving

from palaver.errors import MachineError, PalaverError
from palaver.peers import service
from palaver.peers.learners import flax
from palaver.peers.questions import decided
from palaver.peers.service import served
from palaver.peers.settings import SiteSettings
from palaver.peers.snapshot import Board
from palaver.peers.zenoh import Links, ZenohTransport

ZEROS = [[0] * 8] * 8


def ones(value):
    """An input that begins with a number."""
    return [[value, *[0] * 7], *ZEROS[1:]]


@pytest.fixture(scope="module")
def site():
    """One of three, after five seconds."""
    made = world(3)
    made.play(5)
    return made.sites[0]


@pytest.fixture(scope="module")
def client(site):
    with serving(Board(site, 5.0), site.peer.agreement) as found:
        yield found


def test_a_question_gets_the_decision_and_what_became_of_each_peer(client):
    response = client.post("/predict", json={"x": [ones(3), ones(7)]})
    assert response.status_code == 200
    found = response.json()
    assert found["classes"] == [3, 7]
    assert np.shape(found["distribution"]) == (2, 10)
    assert np.sum(found["distribution"], -1) == pytest.approx([1, 1])
    p = 1 / (1 + 9 * np.exp(-5))
    rest = (1 - p) / 9
    assert found["entropy"] == pytest.approx([-p * np.log(p) - 9 * rest * np.log(rest)] * 2, abs=1e-5)
    assert found["peers"] == {
        "site-0": {"status": "answered", "milliseconds": 2.5, "weight": pytest.approx(0.5)},
        "site-1": {"status": "answered", "milliseconds": 4.0, "weight": pytest.approx(0.5)},
        "site-2": {"status": "absent", "milliseconds": None, "weight": 0.0},
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `x`"),
        (b'{"x": []}', "Expected `array` of length >= 1 - at `$.x`"),
        (json.dumps({"x": [ZEROS[1:]]}), "Expected `array` of length >= 8 - at `$.x[0]`"),
        (json.dumps({"x": [[[0] * 9] * 8]}), "Expected `array` of length <= 8 - at `$.x[0][0]`"),
        (json.dumps({"x": [ones(256)]}), "Expected `int` <= 255 - at `$.x[0][0][0]`"),
        (json.dumps({"x": [ones(-1)]}), "Expected `int` >= 0"),
        (json.dumps({"x": [ones(0.5)]}), "Expected `int`, got `float`"),
        (json.dumps({"x": [ones(True)]}), "Expected `int`, got `bool`"),
        (json.dumps({"x": [ones("1")]}), "Expected `int`, got `str`"),
        (json.dumps({"x": [ones(None)]}), "Expected `int`, got `null`"),
        (json.dumps({"x": [ones(float("nan"))]}), "malformed"),
        (json.dumps({"x": [ones(float("inf"))]}), "malformed"),
        (json.dumps({"x": [ZEROS] * 1001}), "Expected `array` of length <= 1000 - at `$.x`"),
        (json.dumps({"x": [ZEROS], "timeout": 0}), "Expected `float` > 0.0 - at `$.timeout`"),
        (json.dumps({"x": [ZEROS], "timeout": 31}), "Expected `float` <= 30.0 - at `$.timeout`"),
        (json.dumps({"x": [ZEROS], "rule": "__import__('os')"}), "Invalid enum value"),
        (json.dumps({"x": [ZEROS], "code": "1 + 1"}), "unknown field `code`"),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"x":' + b"[" * 100_000, "Expected `int`, got `array`"),
        (b"\xff\xfe", "malformed"),
    ],
)
def test_a_bad_question_is_told_in_one_line(client, body, said):
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    (detail,) = response.json().values()
    assert said in detail
    assert "\n" not in detail


def test_floats_must_be_numbers_that_the_type_has(site):
    asked = []

    def decide(x, *, timeout, rule, calibrated):
        asked.append(x)
        return answer(np.zeros((len(x), 8, 8), int), timeout=timeout, rule=rule)

    deal = site.peer.agreement._replace(shape=(2,), dtype=np.dtype(np.float32))
    with serving(Board(site, 5.0), deal, decide) as client:
        assert client.post("/predict", json={"x": [[1, 0.5]]}).status_code == 200
        too_large = client.post("/predict", json={"x": [[1e300, 0.5]]})
        assert (too_large.status_code, "float32 has not" in too_large.json()["detail"]) == (422, True)
        for bad in (True, "1", None, [1]):
            assert client.post("/predict", json={"x": [[bad, 0.5]]}).status_code == 422
    assert [each.tolist() for each in asked] == [[[1.0, 0.5]]]
    assert asked[0].dtype == np.float32


def test_large_inputs_are_as_many_as_fit_in_four_questions(site):
    kind = service.question(site.peer.agreement._replace(shape=(32, 32, 3)))
    assert service.msgspec.json.schema_components([kind])[1]["Question"]["properties"]["x"]["maxItems"] == 84
    kind = service.question(site.peer.agreement._replace(shape=(1000, 1000)))
    assert service.msgspec.json.schema_components([kind])[1]["Question"]["properties"]["x"]["maxItems"] == 1


def test_what_asking_refuses_is_a_bad_question(site):
    def refuse(x, *, timeout, rule, calibrated):
        raise PalaverError("one input has 1000000 bytes: a question holds at most 65472")

    with serving(Board(site, 5.0), site.peer.agreement, refuse) as client:
        response = client.post("/predict", json={"x": [ZEROS]})
    assert (response.status_code, response.json()["detail"][:22]) == (422, "one input has 1000000 ")


def test_a_mistake_of_the_program_is_told_in_one_line(site, capsys):
    def fail(x, *, timeout, rule, calibrated):
        raise TypeError("no such thing\nindeed")

    with serving(Board(site, 5.0), site.peer.agreement, fail) as client:
        response = client.post("/predict", json={"x": [ZEROS]})
        assert client.get("/metrics").status_code == 200
    assert (response.status_code, list(response.json())) == (500, ["detail"])
    assert capsys.readouterr().err == "palaver: HTTP /predict failed (TypeError: no such thing)\n"


def test_a_body_must_be_said_to_be_json(client):
    """A page on the internet can make a browser post a form here, but nothing else without leave."""
    response = client.post("/predict", content=json.dumps({"x": [ZEROS]}), headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


def test_a_request_must_name_this_host(client):
    assert client.get("/", headers={"Host": "127.0.0.1"}).status_code == 200
    assert client.get("/", headers={"Host": "evil.example.org"}).status_code == 400


def test_a_large_body_is_refused_before_it_is_read_in_full(client):
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    sent = 0
    with connected(client) as endless, contextlib.suppress(ConnectionError):
        endless.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        while sent < 2**28:
            endless.sendall(b"10000\r\n" + b" " * 2**16 + b"\r\n")
            sent += 2**16
    assert 2**22 <= sent < 2**25


def test_a_body_of_four_mebibytes_and_a_byte_is_too_large(client):
    headers = {"Content-Type": "application/json"}
    exact = client.post("/predict", content=b" " * 4 * 2**20, headers=headers)
    assert (exact.status_code, "truncated" in exact.json()["detail"]) == (422, True)
    assert client.post("/predict", content=b" " * (4 * 2**20 + 1), headers=headers).status_code == 413


def connected(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=30)


def test_a_client_that_does_not_send_its_body_is_given_up(site, monkeypatch):
    monkeypatch.setattr(service, "_SLOW", 0.3)
    head = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with serving(Board(site, 5.0), site.peer.agreement) as client, connected(client) as slow:
        slow.sendall(head)
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_more_than_four_questions_at_once_are_told_to_wait(site):
    """And the page is served all the while."""
    inside, go = threading.Semaphore(0), threading.Event()

    def decide(x, *, timeout, rule, calibrated):
        inside.release()
        assert go.wait(60)
        return answer(x, timeout=timeout, rule=rule)

    statuses = []
    with serving(Board(site, 5.0), site.peer.agreement, decide) as client:

        def post():
            statuses.append(httpx.post(f"{client.base_url}/predict", json={"x": [ZEROS]}, timeout=60).status_code)

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            assert inside.acquire(timeout=60)
        busy = client.post("/predict", json={"x": [ZEROS]})
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        assert client.get("/").status_code == 200
        go.set()
        for thread in threads:
            thread.join()
        assert client.post("/predict", json={"x": [ZEROS]}).status_code == 200
    assert statuses == [200] * 4


def test_more_connections_than_allowed_are_told_to_come_back(site, monkeypatch):
    monkeypatch.setattr(service, "_CONNECTIONS", 5)
    with serving(Board(site, 5.0), site.peer.agreement) as client:
        assert client.get("/metrics").status_code == 200
        others = [connected(client) for _ in range(5)]
        assert client.get("/metrics").status_code == 503
        for other in others:
            other.close()


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost:"], ids=["nothing", "a part of a head"])
def test_connections_without_a_request_are_closed(site, monkeypatch, sent):
    """So that they cannot take all that there are for good."""
    monkeypatch.setattr(service, "_SLOW", 0.5)
    with serving(Board(site, 5.0), site.peer.agreement) as client:
        others = [connected(client) for _ in range(service._CONNECTIONS + 6)]
        for other in others:
            other.sendall(sent)
        assert [other.recv(1) for other in others] == [b""] * len(others)
        assert client.get("/metrics").status_code == 200
        for other in others:
            other.close()


def test_the_server_ends_while_requests_wait_and_events_are_not_read(site):
    go = threading.Event()

    def decide(x, *, timeout, rule, calibrated):
        go.wait(60)
        return answer(x, timeout=timeout, rule=rule)

    body = json.dumps({"x": [ZEROS]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    before = set(threading.enumerate())
    with serving(Board(site, 5.0), site.peer.agreement, decide) as client:
        deaf, waiting = connected(client), connected(client)
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert deaf.recv(15) == b"HTTP/1.1 200 OK"
        waiting.sendall(head.encode() + b"\r\n\r\n" + body)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert "http" not in {thread.name for thread in set(threading.enumerate()) - before}
    go.set()
    deaf.close()
    waiting.close()


def test_events_are_snapshots_one_a_second(site, monkeypatch):
    monkeypatch.setattr(service, "_EVERY", 0.01)
    board = Board(site, 5.0)
    with serving(board, site.peer.agreement) as client, client.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in response.iter_lines() if line)
        first = json.loads(next(lines).removeprefix("data: "))
        assert first == json.loads(json.dumps(board.latest))
        board.look(6.0)
        assert any(json.loads(line.removeprefix("data: "))["time"] == 6.0 for line in lines)


def test_the_openapi_document_says_what_a_question_is(client):
    found = client.get("/openapi.json").json()
    assert set(found["paths"]) == {"/predict", "/", "/docs", "/metrics", "/events"}
    schema = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["x"]
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    row = {"type": "array", "minItems": 8, "maxItems": 8, "items": pixel}
    picture = {"type": "array", "minItems": 8, "maxItems": 8, "items": row}
    assert schema["properties"]["x"] == {"type": "array", "minItems": 1, "maxItems": 1000, "items": picture}
    assert "confidence" in schema["properties"]["rule"]["enum"]
    assert "http" not in client.get("/docs").text.split("</style>")[1].replace("HTTP", "")


def test_metrics_are_prometheus_text(client):
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "palaver_round 50.0" in response.text.splitlines()


@pytest.mark.parametrize(
    "http", ["8000", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "a b:80", ":80", "::1:80", "é:80"]
)
def test_an_address_must_be_a_host_and_a_port(http):
    with pytest.raises(PalaverError, match="give HOST:PORT, such as 127.0.0.1:8000"):
        SiteSettings(name="a", peers={"a": "tcp/127.0.0.1:7447"}, http=http)


@pytest.mark.parametrize("http", ["0.0.0.0:8000", "10.0.0.1:8000", "[::]:8000", "127.example.org:8000"])
def test_off_loopback_it_must_be_said_aloud(http):
    given = {"name": "a", "peers": {"a": "tcp/127.0.0.1:7447"}, "http": http}
    with pytest.raises(PalaverError, match="HTTP has no certificates here"):
        SiteSettings(**given)
    assert SiteSettings(**given, insecure=True).http == http


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def collective():
    """Two sites over Zenoh that a thread keeps going, and the address at which the first is served."""
    made, stop, gaps = world(2, rounds=50), threading.Event(), [0.0]
    ends = {f"site-{me}": f"tcp/127.0.0.1:{free_port()}" for me in range(2)}
    http = f"127.0.0.1:{free_port()}"
    for me, site in made.sites.items():
        site.transport.close()
        site.transport = ZenohTransport(Links("served", f"site-{me}", ends[f"site-{me}"], ends))
        site.temperature = lambda peer, me=me: 0.5 + me
        site.peer.learner.predict(np.zeros((4, 8, 8), np.uint8))  # compiled before anything is timed
    done = threading.Event()

    def loop():
        with served(made.sites[0], http) as look:
            while not stop.is_set():
                before = time.monotonic()
                for site in made.sites.values():
                    site.cycle(time.monotonic())
                look(time.monotonic())
                gaps.append(time.monotonic() - before)
                if not any(site.trains for site in made.sites.values()):
                    done.set()
                    made.sites[0].rest(0.01)

    thread = threading.Thread(target=loop)
    thread.start()
    assert done.wait(120)
    yield SimpleNamespace(url=f"http://{http}", world=made, gaps=gaps)
    stop.set()
    thread.join()
    for site in made.sites.values():
        site.transport.close()


def test_a_site_answers_over_http_with_its_own_answer_and_the_others(collective):
    x = collective.world.test[0][:4]
    found = httpx.post(f"{collective.url}/predict", json={"x": x.tolist(), "timeout": 20}, timeout=30).json()
    assert {name: each["status"] for name, each in found["peers"].items()} == {
        "site-0": "answered",
        "site-1": "answered",
    }
    assert sum(each["weight"] for each in found["peers"].values()) == pytest.approx(1)
    logits = np.stack([site.peer.learner.predict(x).logits for site in collective.world.sites.values()])
    expected = np.asarray(service.RULES["mean"](logits, np.ones(logits.shape[:2], bool)))
    mean = httpx.post(f"{collective.url}/predict", json={"x": x.tolist(), "timeout": 20, "rule": "mean"}, timeout=30)
    np.testing.assert_allclose(mean.json()["distribution"], expected, atol=1e-5)


@pytest.mark.parametrize("rule", service.RULES)
def test_a_calibrated_decision_is_that_of_logits_divided_by_each_peers_temperature(collective, rule):
    x = collective.world.test[0][:4]
    body = {"x": x.tolist(), "timeout": 20, "rule": rule, "calibrated": True}
    found = httpx.post(f"{collective.url}/predict", json=body, timeout=30).json()["distribution"]
    logits = np.stack([site.peer.learner.predict(x).logits / (0.5 + me) for me, site in collective.world.sites.items()])
    answered = np.ones(logits.shape[:2], bool)
    np.testing.assert_allclose(found, service.RULES[rule](logits, answered), atol=1e-5)
    if rule != "majority":
        plain = httpx.post(f"{collective.url}/predict", json=body | {"calibrated": False}, timeout=30).json()
        assert np.abs(np.subtract(plain["distribution"], found)).max() > 0.01


def test_an_address_that_is_taken_is_told_in_one_line(collective):
    with pytest.raises(MachineError, match="cannot be listened on: Address already in use"):  # noqa: SIM117
        with served(collective.world.sites[0], collective.url.removeprefix("http://")):
            pass


def test_questions_of_every_size_compile_few_programs(site):
    """Else whoever asks could hold a site up by asking about ever other numbers of inputs."""
    x = np.random.default_rng(0).integers(0, 256, (16, 8, 8), np.uint8)
    whole = site.peer.learner.predict(x).logits
    before = flax._predict._cache_size()
    for rows in range(9, 17):
        found = site.peer.learner.predict(x[:rows]).logits
        assert found.shape == (rows, 10)
        np.testing.assert_allclose(found, whole[:rows], rtol=1e-5, atol=1e-6)
    assert flax._predict._cache_size() == before
    few = decided({"a": {0: whole[:5]}}, {"a": 1.0}, [5], ("a", "b"), "confidence", 10)
    assert few.distribution.shape == (5, 10)
    np.testing.assert_allclose(few.distribution, np.exp(jax.nn.log_softmax(whole[:5])), atol=1e-5)
