import io

import pytest
import soundfile

openai = pytest.importorskip("openai")

from tests.serve.conftest import sound  # noqa: E402


@pytest.fixture
def openai_client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none needed", max_retries=0) as client:
        yield client


def test_speech_is_created_and_streamed(openai_client, tmp_path):
    said = openai_client.audio.speech.create(
        model="tts-1", voice="alloy", input="Open the door.", response_format="wav"
    )
    assert len(soundfile.read(io.BytesIO(said.read()))[0]) > 1000
    with openai_client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="coral", input="Close the window.", instructions="Be kind."
    ) as response:
        response.stream_to_file(tmp_path / "speech.mp3")
    assert soundfile.info(tmp_path / "speech.mp3").format == "MP3"


def test_transcription_and_its_stream(openai_client):
    upload = ("a.wav", sound(2.0))
    plain = openai_client.audio.transcriptions.create(model="whisper-1", file=upload)
    verbose = openai_client.audio.transcriptions.create(
        model="whisper-1", file=upload, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert verbose.text == plain.text and verbose.segments[0].start == 0.0
    events = list(openai_client.audio.transcriptions.create(model="whisper-1", file=upload, stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == plain.text
    text = openai_client.audio.transcriptions.create(model="whisper-1", file=upload, response_format="text")
    assert text.strip() == plain.text


def test_models(openai_client):
    assert [m.id for m in openai_client.models.list()] == ["tiny"]
    assert openai_client.models.retrieve("tiny").owned_by == "sodakit"


def test_errors_are_the_clients_own(openai_client):
    with pytest.raises(openai.BadRequestError, match="holds no text") as caught:
        openai_client.audio.speech.create(model="tts-1", voice="alloy", input=" ")
    assert caught.value.code == "empty_text" and caught.value.param == "input"
    with pytest.raises(openai.NotFoundError, match="No model"):
        openai_client.models.retrieve("other")
    with pytest.raises(openai.APIStatusError, match="does not translate"):
        openai_client.audio.translations.create(model="tiny", file=("a.wav", sound()))
