"""Many clients at once, clients that leave, and clients that stall: what remains must be nothing."""

import asyncio
import importlib.util
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.generate.engine import Batch
from sodakit.generate.long_form import Speaker, speech
from sodakit.generate.sampling import Sampling
from sodakit.serve import recording
from sodakit.serve.app import build_app
from sodakit.serve.worker import Ids, Worker
from tests.serve.conftest import LIMITS, serving, slow_steps, sound, wait_until

SAY = {"model": "tiny", "input": "Open the door.", "response_format": "pcm", "max_s": 1.0}
LONG = {**SAY, "input": "Open the door. " * 15, "max_s": 8.0}


def idle(service):
    return lambda: service.worker.num_active == 0 and service.worker.num_waiting == 0


@pytest.fixture
def slow(monkeypatch):
    """The tiny model is faster than its clients: here a step takes 2 ms more."""
    slow_steps(monkeypatch, 0.002)


def test_clients_at_once_get_what_they_get_alone(address, service):
    def ask(seed):
        answer = httpx.post(f"{address}/v1/audio/speech", json={**SAY, "seed": seed}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(ask, range(5)))
    assert [len(a) for a in together] == [len(ask(seed)) for seed in range(5)]
    assert wait_until(idle(service))


def test_too_many_clients_are_turned_away_cleanly_and_the_others_served(address, service):
    def ask(seed):
        return httpx.post(f"{address}/v1/audio/speech", json={**SAY, "seed": seed}, timeout=60)

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    statuses = [a.status_code for a in answers]
    assert set(statuses) == {200, 429} and statuses.count(200) >= LIMITS.concurrent + LIMITS.queue
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.json()["error"]["type"] == "rate_limit_error" and "retry-after" in refused.headers
    assert wait_until(idle(service))


def test_a_client_that_leaves_ends_its_work(address, service, monkeypatch):
    slow_steps(monkeypatch, 0.02)  # on a busy machine the answer would end before the client has looked
    with httpx.stream("POST", f"{address}/v1/audio/speech", json=LONG, timeout=30) as response:
        next(response.iter_bytes())
        assert service.worker.num_active == 1
    assert wait_until(idle(service), 3)


def test_a_client_that_leaves_while_waiting_or_transcribing_ends_its_work(
    address, service, slow, monkeypatch
):
    # An untrained model may end its answer at the first token, so reading the prompt is what must take long.
    admit = Batch.admit
    monkeypatch.setattr(Batch, "admit", lambda self, request: (time.sleep(0.5), admit(self, request))[1])
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/audio/speech", json={**LONG, "response_format": "flac"}, timeout=0.3)
    assert wait_until(idle(service), 3)
    form = {"files": {"file": ("a.wav", sound(19.0))}, "data": {"model": "tiny"}}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/audio/transcriptions", timeout=0.3, **form)
    assert wait_until(idle(service), 3)


def test_a_reader_that_stalls_does_not_hold_the_model(address, service, slow):
    """The answer waits in memory, at most some seconds of codes; the row is free as soon as it is made."""
    host = urlsplit(address)
    body = b'{"model":"tiny","input":"Open the door.","response_format":"pcm","max_s":1.0}'
    with socket.create_connection((host.hostname, host.port)) as stalled:
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: application/json\r\n"
        stalled.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert wait_until(lambda: service.worker.num_active == 1, 5)
        assert wait_until(idle(service), 10)


def test_speech_that_is_far_ahead_of_its_listener_yields_to_speech_that_is_awaited(model):
    """Whose first sound is not there yet is not slowed down by rows that make the next minute of another's."""

    async def ask() -> tuple[int, int]:
        worker = Worker(model.engine, concurrent=3, queue=3)
        speaker = Speaker(model, (), sampling=Sampling(), seed=1, max_s=6.0)
        awaited, ahead = (worker.submit(speech(speaker, "Open the door. " * 10)) for _ in range(2))
        ahead.rests_until_s = inf
        ids = 0
        async for event in awaited.events(30):
            ids += len(event.ids) if isinstance(event, Ids) else 0
            if ids >= 120:
                break
        made = ahead._events.qsize()
        awaited.stop()
        rest = [event async for event in ahead.events(30)]
        await asyncio.to_thread(worker.close)
        return made, len(rest)

    made, rest = asyncio.run(ask())
    assert made <= 2 and rest > 20


def test_speech_that_was_ahead_goes_on_when_its_listener_catches_up_though_others_are_still_served(model):
    """It says so with each event, and makes none while it yields: it must come back by itself."""

    async def ask() -> int:
        worker = Worker(model.engine, concurrent=3, queue=3)
        speaker = Speaker(model, (), sampling=Sampling(), seed=1, max_s=30.0)
        awaited, ahead = (worker.submit(speech(speaker, "Open the door. " * 40)) for _ in range(2))
        ahead.rests_until_s = time.monotonic() + 0.03
        async for event in ahead.events(30):
            if isinstance(event, Ids) and time.monotonic() > ahead.rests_until_s:
                break
        active = worker.num_active
        for job in (awaited, ahead):
            job.stop()
        await asyncio.to_thread(worker.close)
        return active

    assert asyncio.run(ask()) == 2


def test_prompts_of_a_long_recording_take_a_share_of_the_time_while_somebody_listens(model, monkeypatch):
    """Each prompt holds up everybody's next step. When the listener has all, the recording goes on at full speed."""
    admit, prompts = Batch.admit, []

    def slowly(self, request):
        begun_s = time.monotonic()
        time.sleep(0.03)
        row = admit(self, request)
        prompts.append((begun_s, time.monotonic()))
        return row

    monkeypatch.setattr(Batch, "admit", slowly)

    def pieces(request):
        for _ in range(40):
            yield replace(request, max_new_tokens=1)

    async def ask() -> tuple[float, float, int]:
        worker = Worker(model.engine, concurrent=3, queue=3)
        plan = speech(Speaker(model, (), sampling=Sampling(), seed=1, max_s=6.0), "Open the door. " * 10)
        request = next(plan)
        plan.close()
        slow_steps(monkeypatch, 0.002)
        recording = worker.submit(pieces(request))
        while not prompts:
            await asyncio.sleep(0.01)
        listened = worker.submit(x for x in [request])
        listened.is_listened_to = True
        begun_s = time.monotonic()
        async for _ in listened.events(30):
            pass
        ended_s = time.monotonic()
        rest = [event async for event in recording.events(30)]
        await asyncio.to_thread(worker.close)
        return begun_s, ended_s, len(rest)

    begun_s, ended_s, rest = asyncio.run(ask())
    among = [stop - start for start, stop in prompts[2:] if begun_s < start and stop < ended_s]
    assert ended_s - begun_s > 0.5 and len(among) >= 1 and rest >= 40
    assert sum(among) < 0.4 * (ended_s - begun_s), (sum(among), ended_s - begun_s)


def test_late_comers_are_served_while_a_long_answer_is_made(address, service, slow):
    """First come, first served, but side by side: a short request does not wait for a long one to end."""
    ended = {}

    def ask(name, body):
        httpx.post(f"{address}/v1/audio/speech", json=body, timeout=60)
        ended[name] = time.monotonic()

    long = threading.Thread(target=ask, args=("long", LONG))
    long.start()
    assert wait_until(lambda: service.worker.num_active == 1)
    ask("short", {**SAY, "max_s": 0.5})
    long.join()
    assert ended["short"] < ended["long"]


def test_an_answer_that_takes_too_long_is_given_up(model):
    app = build_app(model, name="tiny", limits=replace(LIMITS, concurrent=1, request_s=1))
    with (
        serving(app) as address,
        httpx.stream("POST", f"{address}/v1/audio/speech", json={**LONG, "max_s": 8}, timeout=30) as first,
    ):
        next(first.iter_bytes())
        app.state.service.worker._batch.step = lambda rows: time.sleep(0.05) or []  # the model hangs
        second = httpx.post(f"{address}/v1/audio/speech", json=SAY, timeout=30)
        assert second.status_code == 503 and "No answer within 1 s" in second.json()["error"]["message"]


def test_a_step_that_fails_is_answered_and_the_next_request_served(model, monkeypatch):
    app = build_app(model, name="tiny", limits=LIMITS)
    with serving(app) as address:
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "step", lambda self, rows: 1 / 0)
            broken = httpx.post(f"{address}/v1/audio/speech", json=SAY, timeout=30)
        assert broken.status_code == 500 and "division" not in broken.text
        assert httpx.post(f"{address}/v1/audio/speech", json=SAY, timeout=30).status_code == 200
        assert httpx.get(f"{address}/health").json()["active"] == 0


@pytest.mark.slow
def test_a_crowd_for_a_while_leaves_nothing_behind():
    """benchmarks/serve_load.py in small: no failed request but clean 429s, everybody served, memory flat."""
    path = Path(__file__).parents[2] / "benchmarks" / "serve_load.py"
    spec = importlib.util.spec_from_file_location("serve_load", path)
    serve_load = importlib.util.module_from_spec(spec)
    sys.modules["serve_load"] = serve_load  # dataclasses look their module up
    spec.loader.exec_module(serve_load)
    load = serve_load.run(clients=12, seconds=15, rude_clients=3)
    assert load.failed == 0 and load.tally.statuses["200"] > 0
    assert set(load.left_running.values()) == {0}
    assert min(load.tally.served[n] for n in range(12)) > 0
    assert load.memory_growth_mib < 30


def test_a_client_that_leaves_ends_the_reading_of_its_upload(address, service, monkeypatch):
    """Its thread stops at the next block, and keeps its turn until then: memory is bounded by turns."""
    blocks = []

    def slowly(handle, rate_hz, name, longest_s):
        for _ in range(50):
            blocks.append(name)
            yield Wave(np.zeros(800, np.float32), 8000)
            time.sleep(0.1)

    monkeypatch.setattr(recording, "read_blocks", slowly)
    form = {"files": {"file": ("a.wav", sound(19.0))}, "data": {"model": "tiny"}}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/audio/transcriptions", timeout=0.3, **form)
    assert service._decoders.num_held == 1
    assert wait_until(lambda: service._decoders.num_held == service.turns.num_held == 0, 4)
    assert 0 < len(blocks) < 40


def test_an_upload_is_refused_before_it_is_read_where_no_place_is_left(model):
    app = build_app(model, name="tiny", limits=replace(LIMITS, concurrent=1, queue=0))
    with serving(app) as address:
        turns = app.state.service.turns
        turns.places = 0
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = httpx.post(f"{address}/v1/audio/transcriptions", content=b"no form", headers=headers)
        assert answer.status_code == 429 and answer.json()["error"]["type"] == "rate_limit_error"
        assert turns.num_waiting == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address")
def test_uploads_at_once_are_decoded_one_after_another_and_a_neighbour_beside_them(model, monkeypatch):
    """So memory follows the readers, of which there are two, and not the queue."""
    now, most, lock = [0], [0], threading.Lock()

    def counted(handle, rate_hz, name, longest_s):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        yield Wave(np.zeros(4000, np.float32), 8000)
        with lock:
            now[0] -= 1

    monkeypatch.setattr(recording, "read_blocks", counted)
    app = build_app(model, name="tiny", limits=replace(LIMITS, queue=20))
    with serving(app) as address, ThreadPoolExecutor(13) as pool:

        def upload(host):
            transport = httpx.HTTPTransport(local_address=host)
            with httpx.Client(base_url=address, transport=transport, timeout=60) as client:
                form = {"files": {"file": ("a.wav", sound(0.5))}, "data": {"model": "tiny"}}
                return client.post("/v1/audio/transcriptions", **form).status_code

        crowd = [pool.submit(upload, "127.0.0.1") for _ in range(12)]
        assert wait_until(lambda: app.state.service.turns.num_waiting > 0 and most[0] > 0)
        assert most[0] == 1
        assert upload("127.0.0.2") == 200
        assert sum(not future.done() for future in crowd) > 0
        assert {future.result() for future in crowd} == {200} and most[0] <= 2


def test_who_reads_an_upload_rests_as_long_as_it_worked_while_speech_is_awaited(service):
    """Else the reading of a crowd's recordings takes a core and Python's lock from the one who listens."""

    def rested_s(jobs):
        give_way, start_s = service._giving_way(), time.thread_time()
        while time.thread_time() - start_s < 0.05:
            pass
        start_s = time.perf_counter()
        service._spoken_jobs |= jobs
        try:
            give_way()
        finally:
            service._spoken_jobs -= jobs
        return time.perf_counter() - start_s

    awaited, ahead = (mock.Mock(rests_until_s=time.monotonic() + s) for s in (-1, 60))
    assert rested_s({ahead}) < 0.03 and 0.045 < rested_s({ahead, awaited}) < 0.5
