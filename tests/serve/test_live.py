import json

import numpy as np
import pytest

from tests.late_codec import Late
from tests.serve.conftest import slow_steps, wait_until

connect = pytest.importorskip("websockets.sync.client").connect


@pytest.fixture
def live(address):
    with connect(address.replace("http", "ws") + "/v1/audio/live") as socket:
        yield socket


def tell(socket, **message):
    socket.send(json.dumps(message))


def hear(socket):
    """Every message up to the end: (objects, samples)."""
    objects, pcm = [], b""
    for message in socket:
        if isinstance(message, bytes):
            pcm += message
        else:
            objects.append(json.loads(message))
    return objects, np.frombuffer(pcm, "<i2") / 32767


@pytest.mark.parametrize("late", [False, True])
def test_text_in_pieces_becomes_the_sound_of_the_whole(late, live, model, monkeypatch):
    """Also with a codec that looks ahead: the end of the sound comes when all is said."""
    if late:
        monkeypatch.setattr(model, "codec", Late(4, 16))
    text = "Open the door, please. Close the window."
    tell(live, type="start", seed=4, codes=True, mood=3)
    for n in range(0, len(text), 7):
        tell(live, type="text", text=text[n : n + 7])
    tell(live, type="end")
    objects, samples_S = hear(live)
    assert objects[0]["type"] == "started" and objects[0]["sample_rate_hz"] == 8000
    assert objects[0]["unused"] == ["mood"]
    assert [o["text"] for o in objects if o["type"] == "sentence"] == [
        "Open the door, please.",
        "Close the window.",
    ]
    codes_KF = np.concatenate([np.array(o["codes"]) for o in objects if o["type"] == "codes"], axis=1)
    np.testing.assert_allclose(samples_S, model.codec.decode(codes_KF), atol=1e-4)
    done = objects[-1]
    assert done["type"] == "done" and done["speech_s"] == pytest.approx(len(samples_S) / 8000, abs=0.01)


def test_a_sentence_is_spoken_before_the_text_ends(live):
    tell(live, type="start")
    tell(live, type="text", text="Open the door, please. And then ")
    kinds = [
        json.loads(m)["type"] if isinstance(m, str) else "sound" for m in (live.recv(10) for _ in range(3))
    ]
    assert kinds == ["started", "sentence", "sound"]
    tell(live, type="cancel")


def test_cancel_and_leaving_end_the_work(address, service, monkeypatch):
    slow_steps(monkeypatch, 0.002)
    for leave in (lambda s: tell(s, type="cancel"), lambda s: s.close()):
        with connect(address.replace("http", "ws") + "/v1/audio/live") as socket:
            tell(socket, type="start")
            tell(socket, type="text", text="Open the door. " * 15)
            tell(socket, type="end")
            assert wait_until(lambda: service.worker.num_active == 1)
            leave(socket)
            assert wait_until(lambda: service.worker.num_active == 0, 3)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["not json"], "not JSON"),
        (["[]"], "no object"),
        (['{"type": "text"}'], "needed: 'start'"),
        (['{"type": "start", "voice": "nobody"}'], "No voice"),
        (['{"type": "start", "temperature": -3}'], "temperature"),
        (['{"type": "start"}', '{"type": "text", "text": 3}'], "needed: 'text'"),
        (['{"type": "start"}', json.dumps({"type": "text", "text": "a" * 301})], "More than 300"),
    ],
)
def test_what_is_not_understood_is_told_and_closes(live, messages, reason):
    for message in messages:
        live.send(message)
    objects, _ = hear_until_closed(live)
    assert objects[-1]["type"] == "error" and reason in objects[-1]["error"]["message"]


def hear_until_closed(socket):
    from websockets.exceptions import ConnectionClosed

    objects = []
    try:
        while True:
            message = socket.recv(10)
            if isinstance(message, str):
                objects.append(json.loads(message))
    except ConnectionClosed as closed:
        return objects, closed


def test_pages_of_other_sites_may_not_connect(address):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"):
        connect(address.replace("http", "ws") + "/v1/audio/live", origin="https://evil.example")
