"""Requests that come in half, too slowly, too many at once, or not as HTTP: answered in JSON, and nobody else waits."""

import json
import logging
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import h11
import httpx
import pytest

from sodakit.serve.app import build_app
from sodakit.serve.connections import _Door
from tests.serve.conftest import LIMITS, serving, sound
from tests.serve.test_live import hear_until_closed

QUICK = replace(
    LIMITS, header_s=0.4, body_s=0.4, idle_s=0.4, client_connections=6, connections=8, live_idle_s=0.4
)


@pytest.fixture(scope="module")
def quick(model):
    with serving(build_app(model, name="tiny", limits=QUICK)) as address:
        yield address


@contextmanager
def opened(address, data=b""):
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(data.replace(b"HOST", where.netloc.encode()))
        yield connection


def answer_of(connection):
    """Status and JSON of what comes until the server closes; (0, None) if nothing does."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    if not data:
        return 0, None
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


HALF_HEAD = b"POST /v1/audio/speech HTTP/1.1\r\nHost: HOST\r\nContent-"
HALF_BODY = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: HOST\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 5000\r\n\r\n--x\r\nContent-Disposition: form-data; name=model\r\n\r\nti"
)
JSON_BODY = b"POST /v1/audio/speech HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"


@pytest.mark.parametrize("half", [b"", HALF_HEAD, HALF_BODY, JSON_BODY], ids=["none", "head", "form", "json"])
def test_half_a_request_is_given_up(quick, half, monkeypatch):
    complaints = []
    monkeypatch.setattr(
        logging.getLogger("uvicorn.error"), "error", lambda *told, **_: complaints.append(told)
    )
    with opened(quick, half) as connection:
        start_s = time.monotonic()
        status, body = answer_of(connection)
        assert 0.2 < time.monotonic() - start_s < 4
        assert status == 408 and body["error"]["code"] == "too_slow"
    time.sleep(0.1)
    assert not complaints


def test_a_trickle_is_given_up_too(quick):
    with opened(quick, HALF_HEAD) as connection:
        start_s = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - start_s < 5:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - start_s < 4


def test_a_connection_that_is_idle_after_an_answer_is_closed_without_a_word(quick):
    with opened(quick, b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\n") as connection:
        data, start_s = b"", time.monotonic()
        while more := connection.recv(65536):
            data += more
        assert data.startswith(b"HTTP/1.1 200") and data.count(b"HTTP/1.1") == 1
        assert time.monotonic() - start_s < 4


def test_halves_make_room_for_whole_requests(quick):
    """More than may be open: the eldest leave, and a client beside them is answered as ever."""
    with ExitStack() as stack:
        halves = [stack.enter_context(opened(quick, half)) for half in (HALF_HEAD, HALF_BODY) * 10]
        start_s = time.monotonic()
        assert httpx.get(f"{quick}/health").status_code == 200
        assert time.monotonic() - start_s < 0.35
        statuses = [answer_of(half)[0] for half in halves]
        assert set(statuses) <= {0, 408, 429} and statuses.count(429) >= 10


def test_where_everybody_is_being_answered_newcomers_are_told_so_in_json(model):
    app = build_app(model, name="tiny", limits=replace(QUICK, client_connections=2))
    with serving(app) as address, ExitStack() as stack:
        app.state.service.turns.places = 0  # nobody's turn comes
        body = b'{"model":"tiny","input":"Open.","max_s":1}'
        whole = JSON_BODY.replace(b"50", b"%d" % len(body))[:-1] + body
        for _ in range(2):
            stack.enter_context(opened(address, whole))
        time.sleep(0.3)
        with opened(address, b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\n") as third:
            status, answer = answer_of(third)
        assert status == 429 and answer["error"]["type"] == "rate_limit_error"


def test_what_is_no_http_is_answered_in_json(quick):
    with opened(quick, b"\x16\x03\x01\x02\x00nonsense\r\n\r\n") as connection:
        status, body = answer_of(connection)
    assert status == 400 and body["error"]["type"] == "invalid_request_error"


def test_the_key_is_asked_for_before_the_body_is_read(model):
    from sodakit.serve.guard import Access

    with (
        serving(build_app(model, limits=QUICK, access=Access("sesame"))) as address,
        opened(address, HALF_BODY) as connection,
    ):
        start_s = time.monotonic()
        assert connection.recv(65536).startswith(b"HTTP/1.1 401") and time.monotonic() - start_s < 0.35


def test_a_websocket_that_says_nothing_is_closed(quick):
    connect = pytest.importorskip("websockets.sync.client").connect
    for messages in ([], [{"type": "start"}]):
        with connect(quick.replace("http", "ws") + "/v1/audio/live") as live:
            for message in messages:
                live.send(json.dumps(message))
            start_s = time.monotonic()
            told, _ = hear_until_closed(live)
            assert told[-1]["error"]["code"] == "too_slow" and time.monotonic() - start_s < 4


def test_websockets_have_a_limit_for_each_client(model):
    connect = pytest.importorskip("websockets.sync.client").connect
    from websockets.exceptions import InvalidStatus

    with serving(build_app(model, limits=replace(QUICK, client_live=1))) as address:
        where = address.replace("http", "ws") + "/v1/audio/live"
        with connect(where), pytest.raises(InvalidStatus) as refused:
            connect(where)
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body)["error"]["code"] == "too_many"
        time.sleep(0.2)
        connect(where).close()


def test_uploads_in_flight_have_a_limit_together(model):
    with serving(build_app(model, name="tiny", limits=replace(QUICK, in_flight_bytes=10_000))) as address:
        form = {"files": {"file": ("a.wav", sound(2.0))}, "data": {"model": "tiny"}}
        refused = httpx.post(f"{address}/v1/audio/transcriptions", **form)
        assert refused.status_code == 429 and refused.json()["error"]["type"] == "rate_limit_error"
        form["files"] = {"file": ("a.wav", sound(0.3))}
        assert httpx.post(f"{address}/v1/audio/transcriptions", **form).status_code == 200


UPLOAD = HALF_BODY.replace(b"5000", b"3000000")


@pytest.fixture
def full(model):
    """A server that has room for two uploads, and a third of them is one too many; nobody's turn comes."""
    limits = replace(LIMITS, concurrent=1, queue=1, upload_bytes=4_000_000)
    app = build_app(model, name="tiny", limits=limits)
    with serving(app) as address, ExitStack() as stack:
        app.state.service.turns.places = 0
        stack.enter_context(opened(address, UPLOAD))
        yield address


def test_an_upload_is_refused_by_its_header_while_those_before_it_are_still_coming(full):
    """Not when its body has been read: sixty clients that send for ten minutes, and most of them for nothing."""
    with opened(full, UPLOAD) as late:
        start_s = time.monotonic()
        status, answer = answer_of(late)
        assert (
            status == 429 and answer["error"]["type"] == "rate_limit_error" and time.monotonic() - start_s < 2
        )


def test_who_is_refused_by_the_header_and_goes_on_sending_is_told_why(full):
    """The answer is not lost with what was unread, and what was unread is not parsed."""
    with opened(full, UPLOAD) as late:
        late.sendall(bytes(1_500_000))
        head = late.recv(65536)
        assert head.startswith(b"HTTP/1.1 429") and b"connection: close" in head.lower()
        late.sendall(bytes(500_000))
        while late.recv(65536):
            pass


def test_an_upload_is_refused_where_its_length_is_more_than_all_may_have_together(model):
    limits = replace(QUICK, in_flight_bytes=10_000, body_s=20.0)
    with (
        serving(build_app(model, name="tiny", limits=limits)) as address,
        opened(address, UPLOAD.replace(b"3000000", b"300000")) as half,
    ):
        status, answer = answer_of(half)
    assert status == 429 and "Too many uploads" in answer["error"]["message"]


def test_a_client_that_has_gone_before_its_refusal_is_no_error():
    """Shutting the socket of somebody who left raises, and each was a traceback in the log."""

    class Gone:
        closed = 0

        def can_write_eof(self):
            return True

        def write_eof(self):
            raise OSError(107, "Transport endpoint is not connected")

        def is_closing(self):
            return False

        def close(self):
            self.closed += 1

    class Unread:
        their_state = h11.SEND_BODY

    transport = Gone()
    door = _Door(transport, Unread(), None)
    door.close()
    assert transport.closed == 1 and not door.lingers
