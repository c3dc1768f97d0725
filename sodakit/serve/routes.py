"""The HTTP interface: OpenAI's audio routes, and ours beside them."""

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from sodakit.align.subtitles import Line, lines_of
from sodakit.generate.defaults import CONTINUATION, CONTINUATION_S, SPEECH
from sodakit.generate.long_form import Segment, longest_piece_s
from sodakit.generate.sampling import Sampling
from sodakit.generate.translate import Wanted
from sodakit.serve.forms import CONSENT_CHARACTERS, NamingRoute, SoundForm, WrittenForm
from sodakit.serve.problems import Problem
from sodakit.serve.recording import Recording
from sodakit.serve.schemas import Cue, SpeechRequest, joined, subtitles, verbose
from sodakit.serve.service import Service, Timing
from sodakit.serve.streaming import ENDING, SoundAnswer, text_events, translation_events, unless_gone
from sodakit.serve.translation import (
    abilities,
    described,
    interpret,
    languages,
    passages,
    segments,
    translator_of,
)
from sodakit.voices.contract import WordSpan

Upload = Annotated[UploadFile, File()]
Model = Annotated[str, Form()]
Spoken = Annotated[SoundForm, Depends()]
Written = Annotated[WrittenForm, Depends()]
To = Annotated[str | None, Form(max_length=35)]
From = Annotated[str | None, Form(alias="from", max_length=35)]


async def _service(request: Request) -> Service:
    return request.app.state.service


ServiceHere = Annotated[Service, Depends(_service)]
router = APIRouter(prefix="/v1", route_class=NamingRoute)
open_router = APIRouter()


@open_router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Whether the model answers. Needs no key."""
    service: Service = request.app.state.service
    alive, turns = service.worker.alive, service.turns
    plain = {"status": "ok" if alive else "down", "active": turns.num_held, "waiting": turns.num_waiting}
    return JSONResponse(plain, 200 if alive else 503)


@router.get("/models")
async def models(service: ServiceHere) -> dict[str, Any]:
    """The one model there is."""
    return {"object": "list", "data": [_model(service)]}


@router.get("/models/{name:path}")
async def model(name: str, service: ServiceHere) -> dict[str, Any]:
    """The model of that name, or 404."""
    service.check_model(name)
    return _model(service)


def _model(service: Service) -> dict[str, Any]:
    spec, limits = service.model.codec.spec, service.limits
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "sodakit",
        "codec": spec.name,
        "sample_rate_hz": spec.sample_rate_hz,
        "frame_rate_hz": spec.frame_rate_hz,
        "num_codebooks": spec.num_codebooks,
        "codebook_size": spec.codebook_size,
        "context_s": round(service.model.context_s, 2),
        "longest_piece_s": round(min(longest_piece_s(service.model), service.piece_s or math.inf), 2),
        "translation": abilities(service),
        "about": _about(service),
        "limits": {
            "recording_s": limits.recording_s,
            "voice_s": round(service.voice_s, 2),
            "speech_s": limits.speech_s,
            "text_characters": limits.text_characters,
            "upload_bytes": limits.upload_bytes,
        },
        "needs_consent": service.needs_consent,
    }


def _about(service: Service) -> dict[str, Any] | None:
    """What the model says of itself; None where it says nothing. A note of consent is told to nobody."""
    about = service.model.about
    names = ("summary", "can", "cannot", "languages", "licence", "attribution", "adapted_from")
    return None if about is None else {name: getattr(about, name) for name in names}


@router.post("/audio/speech")
async def speak(request: Request, wanted: SpeechRequest, service: ServiceHere) -> Response:
    """Text to speech, sent while it is being made."""
    service.check_model(wanted.model)
    text = service.check_text(wanted.input, wanted.max_s)
    request.state.unused = wanted.unused
    timing = Timing()
    speaker = service.speaker(wanted.voice, wanted.sampling, wanted.seed, wanted.max_s)
    kind, origin = wanted.response_format, speaker.origin
    out = SoundAnswer(kind, wanted.stream_format, wanted.codes, wanted.speed, origin)
    return await out.response(request, service, service.speech(speaker, text, timing), timing)


@router.post("/audio/continuations")
async def continue_(
    request: Request,
    service: ServiceHere,
    file: Upload,
    form: Spoken,
    prompt_s: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
) -> Response:
    """What might be said next: the continuation alone, after the first `prompt_s` seconds of the recording.

    It lasts at most `max_s` seconds, by default 10. Of a recording longer than the context the last seconds are heard;
    how many, the header X-Sodakit-Heard-S says, and `heard_s` in the last event.
    """
    timing = Timing()
    max_s = service.check_length(form.max_s or min(CONTINUATION_S, service.limits.speech_s))
    service.check_consent(form.consent)
    origin = service.model.origin(cloned=True, consent=form.consent)
    recording = Recording(file.file, service.limits.recording_s, prompt_s)
    chunks = service.continuation(recording, form.sampling(CONTINUATION), form.seed, max_s, timing)
    out = SoundAnswer(form.response_format or "wav", form.stream_format, form.codes, origin=origin)
    response = await out.response(request, service, chunks, timing)
    response.headers["X-Sodakit-Heard-S"] = f"{timing.heard_s or 0:.2f}"
    return response


@router.post("/audio/transcriptions")
async def transcribe(
    request: Request,
    service: ServiceHere,
    file: Upload,
    form: Written,
    language: Annotated[str | None, Form(description="Taken and not used.")] = None,
) -> Response:
    """Speech to text. `prompt` is taken and not used, and `language` by the aligner of words alone: the model was not
    taught them."""
    service.check_model(form.model)
    if language and form.timed == "segment":
        request.state.unused = {*getattr(request.state, "unused", ()), "language"}
    recording, timing = Recording(file.file, service.limits.recording_s), Timing()
    sampling = Sampling(temperature=form.temperature)
    if form.stream:
        found = service.transcribe(recording, timing, sampling)
        return await text_events(request, service, found, timing)
    segments = await unless_gone(request, service.transcript(recording, timing, sampling))
    words = None
    if form.timed != "segment":
        words = await unless_gone(request, service.words(recording, segments, language or ""))
    return _written(segments, recording, form, timing, words=words)


@router.post("/audio/translations")
async def translate(
    request: Request,
    service: ServiceHere,
    file: Upload,
    form: Written,
    to: To = None,
    source: From = None,
    seed: Annotated[int, Form(ge=0, lt=2**62)] = 0,
) -> Response:
    """Speech to text in another language: English unless `to` names one. `prompt` is taken and not used."""
    service.check_model(form.model)
    translator = translator_of(service, "target_text")
    to, source = languages(translator, to, source)
    if form.timed != "segment":
        raise Problem(
            400,
            "timestamp_granularities: a translation has no times of words, only of segments. Ask for segment.",
            code="not_supported",
            param="timestamp_granularities",
        )
    sampling = Sampling(temperature=form.temperature)
    wanted = Wanted(to=to, source=source, text=sampling, seed=seed, spoken=False)
    recording, timing = Recording(file.file, service.limits.recording_s), Timing()
    if form.stream:
        parts = interpret(service, translator, recording, wanted, timing)
        return await translation_events(request, service, parts, timing)
    found = await unless_gone(request, passages(service, translator, recording, wanted, timing))
    heard = segments(service, found)
    return _written(heard, recording, form, timing, described(found))


@router.post("/audio/speech_translations")
async def speak_translation(
    request: Request,
    service: ServiceHere,
    file: Upload,
    model: Model,
    form: Spoken,
    to: To = None,
    source: From = None,
) -> Response:
    """Speech to speech in another language, sent while it is being made.

    What was heard and its translation come as events; without events, as the headers X-Transcript and X-Translation
    (percent-encoded, what is written before the first sound).
    """
    service.check_model(model)
    translator = translator_of(service, "target_speech")
    to, source = languages(translator, to, source)
    max_s = service.check_length(form.max_s or service.limits.speech_s)
    timing, sampling = Timing(), form.sampling(SPEECH)
    service.check_consent(form.consent)
    wanted = Wanted(
        to=to, source=source, sampling=sampling, max_s=max_s, seed=form.seed, decoded=False,
        consent=form.consent,
    )  # fmt: skip
    recording = Recording(file.file, service.limits.recording_s)
    parts = interpret(service, translator, recording, wanted, timing)
    origin = translator.origin(wanted)
    out = SoundAnswer(form.response_format or "mp3", form.stream_format, form.codes, origin=origin)
    return await out.response(request, service, parts, timing)


@router.get("/audio/voices")
async def voices(service: ServiceHere) -> dict[str, Any]:
    """Every voice uploaded."""
    return {"object": "list", "data": [voice.to_plain() for voice in service.voices.all()]}


@router.post("/audio/voices", status_code=201)
async def add_voice(
    request: Request,
    service: ServiceHere,
    file: Upload,
    name: Annotated[str, Form()],
    text: Annotated[str | None, Form(max_length=2000)] = None,
    consent: Annotated[str | None, Form(max_length=CONSENT_CHARACTERS)] = None,
) -> dict[str, Any]:
    """Keep a voice to speak with. `text` is what is said in it; without it, the model listens for itself.

    `consent` is a note of who agreed to the use of the voice, and how. It is kept in the voice's file and told to nobody;
    without one the voice, and all speech in it, is marked `consent unstated`.
    """
    recording = Recording(file.file, 4 * service.limits.voice_s)
    return (await unless_gone(request, service.add_voice(name, recording, text, consent))).to_plain()


@router.delete("/audio/voices/{name:path}")
async def remove_voice(name: str, service: ServiceHere) -> dict[str, Any]:
    """Forget a voice."""
    await asyncio.to_thread(service.voices.remove, name)
    return {"id": name, "object": "audio.voice.deleted", "deleted": True}


def _written(
    found: list[Segment],
    recording: Recording,
    form: WrittenForm,
    timing: Timing,
    beside: dict[str, Any] | None = None,
    words: list[WordSpan] | None = None,
) -> Response:
    kind = form.response_format
    headers, beside = {ENDING: timing.ending}, {"ending": timing.ending, **(beside or {})}
    if kind == "text":
        return PlainTextResponse(joined(found) + "\n", headers=headers)
    if kind in ("srt", "vtt"):
        cues: Sequence[Cue] = found
        if words is not None:
            each = [Line(w.start_s, w.end_s, w.word) for w in words]
            cues = lines_of(words) if form.timed == "line" else each
        return PlainTextResponse(subtitles(cues, kind), headers=headers)
    if kind == "verbose_json":
        return JSONResponse(verbose(found, recording.duration_s, words) | beside, headers=headers)
    usage = {"type": "duration", "seconds": round(recording.duration_s)}
    return JSONResponse({"text": joined(found)} | beside | {"usage": usage}, headers=headers)
