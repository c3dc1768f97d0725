"""What programs written for OpenAI, browsers, proxies and monitors do besides: taken, or refused by name."""

import io
import json
import socket
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from sodakit.serve.app import build_app
from sodakit.serve.guard import Access
from sodakit.serve.tempo import Tempo
from tests.serve.conftest import LIMITS, serving, sound
from tests.serve.test_live import hear_until_closed
from tests.serve.test_routes import SAY, error_of, events_of


def transcribe(client, data=None, **form):
    files = {"file": ("a.wav", data or sound(1.0))}
    return client.post("/v1/audio/transcriptions", files=files, data={"model": "tiny", **form})


OPTIONAL = ["speed", "instructions", "response_format", "voice", "stream_format", "seed", "temperature", "top_p", "max_s", "codes"]  # fmt: skip


def test_null_is_the_default(client):
    plain = {**SAY, "response_format": "pcm", "voice": "default"}
    nulls = {**dict.fromkeys(OPTIONAL), **SAY, "response_format": "pcm"}
    answers = [client.post("/v1/audio/speech", json=body) for body in (plain, nulls)]
    assert [a.status_code for a in answers] == [200, 200] and answers[0].content == answers[1].content
    assert error_of(client.post("/v1/audio/speech", json={**SAY, "input": None}), 400)["param"] == "input"


@pytest.mark.parametrize("nothing", ["", "null"])
def test_a_form_field_that_says_nothing_is_the_default(client, nothing):
    fields = ("response_format", "temperature", "stream", "language", "prompt")
    assert transcribe(client, **dict.fromkeys(fields, nothing)).json() == transcribe(client).json()


def test_what_changes_nothing_is_named(client):
    said = client.post("/v1/audio/speech", json={**SAY, "instructions": "Be kind.", "mood": 3})
    assert said.headers["x-sodakit-unused"] == "instructions, mood"
    heard = transcribe(client, prompt="Names: Ada.", language="en", chunking_strategy="auto")
    assert heard.headers["x-sodakit-unused"] == "chunking_strategy, language, prompt"
    assert "x-sodakit-unused" not in transcribe(client).headers


@pytest.mark.parametrize(
    "name", ["timestamp_granularities[]", "timestamp_granularities", "timestamp_granularities[0]"]
)
def test_times_of_segments_and_of_words_are_given(client, name):
    given = transcribe(client, response_format="verbose_json", **{name: "segment"})
    assert given.json()["segments"][0]["start"] == 0 and "words" not in given.json()
    timed = transcribe(client, response_format="verbose_json", **{name: ["word", "segment"]}).json()
    assert " ".join(word["word"] for word in timed["words"]).split() == timed["text"].split() != []
    times = [t for word in timed["words"] for t in (word["start"], word["end"])]
    assert times == sorted(times) and all(0 <= t <= timed["duration"] + 1e-3 for t in times)
    assert "verbose_json" in error_of(transcribe(client, **{name: "segment"}), 400)["message"]


def test_subtitles_come_by_segment_line_or_word(client):
    words = transcribe(
        client, response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    ).json()["words"]
    by_word = transcribe(client, response_format="srt", **{"timestamp_granularities[]": "word"}).text
    assert by_word.count(" --> ") == len(words)
    by_line = transcribe(client, response_format="vtt", **{"timestamp_granularities[]": "line"}).text
    shown = [line for line in by_line.splitlines()[1:] if line and "-->" not in line and not line.isdecimal()]
    assert by_line.startswith("WEBVTT") and " ".join(shown).split() == [w["word"] for w in words]
    assert transcribe(client, response_format="srt").text.count(" --> ") == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"response_format": "verbose_json", "timestamp_granularities[]": "letter"}, "needed: word, segment"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "line"},
            "lines are those of subtitles",
        ),
        ({"response_format": "text", "timestamp_granularities[]": "word"}, "srt or vtt"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "word", "stream": "true"},
            "Leave stream out",
        ),
    ],
)
def test_times_that_cannot_be_given_are_refused(client, fields, problem):
    error = error_of(transcribe(client, **fields), 400)
    assert error["param"] == "timestamp_granularities" and problem in error["message"]


def test_probabilities_and_second_files_are_refused(client):
    assert error_of(transcribe(client, **{"include[]": "logprobs"}), 400)["param"] == "include[]"
    twice = client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", sound(1.0))},
        data={"model": "tiny", "language": ["en", "es"]},
    )
    assert error_of(twice, 400)["param"] == "language"
    files = [("file", ("a.wav", sound(1.0))), ("file", ("b.wav", sound(0.5)))]
    error_of(client.post("/v1/audio/transcriptions", files=files, data={"model": "tiny"}), 400)


def test_halves_of_surrogate_pairs_are_refused_wherever_they_come(client, address):
    headers = {"content-type": "application/json"}
    for field in ("input", "voice", "instructions", "model"):
        body = json.dumps({**SAY, field: "a\ud800"})
        error = error_of(client.post("/v1/audio/speech", content=body, headers=headers), 400)
        assert error["param"] == field and "surrogate" in error["message"]
    multipart = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n+2AA-\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x; charset=utf-7"}
    told = error_of(client.post("/v1/audio/transcriptions", content=multipart, headers=headers), 400)
    assert "surrogate" in told["message"]
    connect = pytest.importorskip("websockets.sync.client").connect
    for messages in (
        [{"type": "start", "api_key": "\ud800"}],
        [{"type": "start"}, {"type": "text", "text": "\udfff"}],
    ):
        with connect(address.replace("http", "ws") + "/v1/audio/live") as live:
            for message in messages:
                live.send(json.dumps(message))
            told = hear_until_closed(live)[0][-1]["error"]
            assert told["type"] == "invalid_request_error" and "surrogate" in told["message"]


def test_a_key_of_any_letters_is_compared_as_it_was_sent(model):
    with serving(build_app(model, limits=LIMITS, access=Access("schlüssel"))) as address:
        for key, status in (("schlüssel", 200), ("schlussel", 401), ("\ud800", 401)):
            headers = {"authorization": b"Bearer " + key.encode("utf-8", "surrogatepass")}
            assert httpx.get(f"{address}/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/metrics", "/page/api.js"])
def test_head_is_get_without_its_body(client, path):
    head, got = client.head(path), client.get(path)
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("LOCALHOST", 200), ("localhost.", 200), ("[::1]:8000", 200), ("127.0.0.1:1", 200),
     ("[::1].evil.com", 403), ("localhost.evil.com", 403), ("localhost@evil.com", 403), ("[::1", 403), ("", 403)],
)  # fmt: skip
def test_a_host_is_known_by_its_whole_name(client, host, status):
    assert client.get("/health", headers={"host": host}).status_code == status


def test_a_named_origin_may_use_the_server_and_no_other(model):
    access = Access(api_key="sesame", origins=("https://app.example",))
    with serving(build_app(model, name="tiny", limits=LIMITS, access=access)) as address:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        may = httpx.options(f"{address}/v1/audio/speech", headers={"origin": "https://app.example", **ask})
        assert may.status_code == 200
        assert may.headers["access-control-allow-origin"] == "https://app.example"
        assert httpx.options(f"{address}/v1/audio/speech", headers={"origin": "https://evil.example", **ask}).status_code == 400  # fmt: skip
        for origin, status in (("https://app.example", 401), ("https://evil.example", 403)):
            answer = httpx.get(f"{address}/v1/models", headers={"origin": origin})
            assert answer.status_code == status
            assert ("access-control-allow-origin" in answer.headers) == (status == 401)


def test_behind_a_proxy_paths_come_with_the_prefix_or_without(model):
    with serving(build_app(model, name="tiny", limits=LIMITS, root_path="/soda")) as address:
        for prefix in ("", "/soda"):
            for path in ("/", "/v1/models", "/health", "/page/api.js"):
                assert httpx.get(address + prefix + path).status_code == 200, prefix + path
        assert httpx.get(f"{address}/soda").headers["location"] == "/soda/"
        assert httpx.get(f"{address}/openapi.json").json()["servers"] == [{"url": "/soda"}]
        page = httpx.get(f"{address}/soda/").text
        assert 'src="/' not in page and 'href="/' not in page


def test_aac_is_what_others_can_read(client):
    av = pytest.importorskip("av")
    said = client.post("/v1/audio/speech", json={**SAY, "response_format": "aac"})
    assert said.headers["content-type"] == "audio/aac"
    with av.open(io.BytesIO(said.content), format="aac") as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert samples / 8000 == pytest.approx(1.5, abs=0.3)


def test_speed_changes_the_length(client):
    pytest.importorskip("av")
    lengths = [
        len(client.post("/v1/audio/speech", json={**SAY, "response_format": "pcm", "speed": speed}).content)
        for speed in (1.0, 0.5, 2.0)
    ]
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.05)
    assert lengths[2] / lengths[0] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.9, 1.2, 4.0])
def test_a_faster_or_slower_tone_keeps_its_pitch(speed):
    pytest.importorskip("av")
    rate_hz = 16_000
    tone_S = 0.3 * np.sin(2 * np.pi * 220 * np.arange(4 * rate_hz) / rate_hz).astype(np.float32)
    tempo = Tempo(rate_hz, speed)
    parts = [tempo.write(tone_S[n : n + 1280]) for n in range(0, len(tone_S), 1280)]
    out_S = np.concatenate([*parts, tempo.finish()])
    assert len(out_S) == pytest.approx(len(tone_S) / speed, rel=0.03)
    power = np.abs(np.fft.rfft(out_S * np.hanning(len(out_S))))
    assert power.argmax() * rate_hz / len(out_S) == pytest.approx(220, abs=2)
    assert np.abs(out_S).max() == pytest.approx(0.3, abs=0.05)


def raw(address, body):
    where, data = urlsplit(address), json.dumps(body).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def test_what_is_cut_says_so(client, address):
    """Before the sound where that is in time, else behind it, or in the last event."""
    long = {**SAY, "input": "Open the door. " * 10, "max_s": 1.0}
    whole = client.post("/v1/audio/speech", json={**long, "response_format": "flac"})
    assert whole.headers["x-sodakit-ending"] == "limit"
    *_, done = events_of(client.post("/v1/audio/speech", json={**long, "stream_format": "sse"}))
    assert done["ending"] == "limit"
    streamed = raw(address, {**long, "response_format": "pcm"})
    assert b"trailer: X-Sodakit-Ending" in streamed.split(b"\r\n\r\n")[0].replace(b"Trailer", b"trailer")
    assert streamed.rstrip().endswith(b"x-sodakit-ending: limit")


def test_a_text_that_cannot_be_spoken_in_time_is_refused_with_both_numbers(client):
    body = {"model": "tiny", "input": "Open the door. " * 14}
    error = error_of(client.post("/v1/audio/speech", json=body), 400)
    assert error["code"] == "text_too_long" and "10 s" in error["message"] and "8 s" in error["message"]


def test_a_transcript_says_whether_it_was_cut(client):
    for kind in ("json", "verbose_json"):
        heard = transcribe(client, response_format=kind)
        assert heard.json()["ending"] == heard.headers["x-sodakit-ending"] and heard.json()["ending"] in (
            "end",
            "limit",
        )
    assert "x-sodakit-ending" in transcribe(client, response_format="srt").headers


def test_prompt_s_takes_the_beginning(client):
    """As in the command and in evaluation: two recordings that begin alike go on alike."""
    quiet, loud = np.zeros(16_000), 0.5 * np.sin(np.arange(16_000))
    answers = []
    for rest in (quiet, loud):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.concatenate([loud, rest]), 8000, format="WAV")
        form = {"prompt_s": "1.9", "max_s": "1", "seed": "5", "response_format": "pcm"}
        files = {"file": ("a.wav", buffer.getvalue())}
        answers.append(client.post("/v1/audio/continuations", files=files, data=form).content)
    assert answers[0] == answers[1] and answers[0]


@pytest.mark.parametrize("kind", ["m4a", "webm", "aac"])
def test_what_phones_and_browsers_record_is_heard(client, kind):
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    formats = {
        "m4a": ("mp4", "aac", 48_000),
        "webm": ("webm", "libopus", 48_000),
        "aac": ("adts", "aac", 48_000),
    }
    container, codec, rate_hz = formats[kind]
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        samples_CS = (0.3 * np.sin(np.arange(2 * rate_hz) / 20)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples_CS, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    heard = transcribe(client, buffer.getvalue(), response_format="verbose_json")
    assert heard.status_code == 200 and heard.json()["duration"] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("name", ["include[]", "include", "include[0]"])
def test_probabilities_are_refused_however_the_list_is_spelt(client, name):
    assert error_of(transcribe(client, **{name: "logprobs"}), 400)["param"] == "include[]"


def test_a_form_that_events_do_not_have_is_named(client):
    heard = transcribe(client, stream="true", response_format="srt")
    assert heard.headers["content-type"].startswith("text/event-stream")
    assert heard.headers["x-sodakit-unused"] == "response_format"


@pytest.mark.parametrize("path", ["/v1/models/", "/v1//models", "/health/", "/v1/audio/voices/"])
def test_slashes_mean_nothing_and_redirect_nobody(client, path):
    """Clients join a base address that ends with a slash to a path that begins with one."""
    plain = path.replace("//", "/").rstrip("/")
    assert client.get(path).json() == client.get(plain).json()
    assert client.head(path).status_code == 200


def test_a_body_is_taken_behind_a_slash(client):
    assert client.post("/v1/audio/speech/", json=SAY).status_code == 200
