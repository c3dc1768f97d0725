"""The HTTP interface: OpenAI's audio routes, and ours beside them."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from sodakit.generate.long_form import Segment, context_s, longest_piece_s
from sodakit.generate.sampling import Sampling
from sodakit.generate.translate import Wanted
from sodakit.serve.guard import Access, bearer
from sodakit.serve.schemas import (
    SoundFormat,
    SpeechRequest,
    TextFormat,
    joined,
    subtitles,
    verbose,
)
from sodakit.serve.service import Service, Timing
from sodakit.serve.streaming import SoundAnswer, text_events, translation_events, unless_gone
from sodakit.serve.translation import (
    abilities,
    described,
    interpret,
    languages,
    passages,
    segments,
    translator_of,
)

Upload = Annotated[UploadFile, File()]
To = Annotated[str | None, Form(max_length=35)]
From = Annotated[str | None, Form(alias="from", max_length=35)]


async def _service(request: Request) -> Service:
    access: Access = request.app.state.access
    access.check_key(bearer(request.headers))
    return request.app.state.service


ServiceHere = Annotated[Service, Depends(_service)]
router = APIRouter(prefix="/v1")
open_router = APIRouter()


@open_router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Whether the model answers. Needs no key."""
    worker = request.app.state.service.worker
    plain = {
        "status": "ok" if worker.alive else "down",
        "active": worker.num_active,
        "waiting": worker.num_waiting,
    }
    return JSONResponse(plain, 200 if worker.alive else 503)


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
        "context_s": round(context_s(service.model), 2),
        "longest_piece_s": round(min(longest_piece_s(service.model), service.piece_s or 1e9), 2),
        "translation": abilities(service),
        "limits": {
            "recording_s": limits.recording_s,
            "voice_s": round(service.voice_s, 2),
            "speech_s": limits.speech_s,
            "text_characters": limits.text_characters,
            "upload_bytes": limits.upload_bytes,
        },
    }


@router.post("/audio/speech")
async def speak(request: Request, wanted: SpeechRequest, service: ServiceHere) -> Response:
    """Text to speech, sent while it is being made."""
    service.check_model(wanted.model)
    text = service.check_text(wanted.input)
    timing = Timing()
    speaker = service.speaker(wanted.voice, wanted.sampling, wanted.seed, wanted.max_s)
    chunks = service.speech(speaker, text, timing)
    out = SoundAnswer(wanted.response_format, wanted.stream_format, wanted.codes)
    return await out.response(request, service, chunks, timing)


@router.post("/audio/continuations")
async def continue_(
    request: Request,
    service: ServiceHere,
    file: Upload,
    response_format: Annotated[SoundFormat, Form()] = "wav",
    stream_format: Annotated[Literal["audio", "sse"], Form()] = "audio",
    prompt_s: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    max_s: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    temperature: Annotated[float, Form(ge=0, le=2)] = 1.0,
    top_p: Annotated[float, Form(gt=0, le=1)] = 0.9,
    seed: Annotated[int, Form(ge=0, lt=2**62)] = 0,
    codes: Annotated[bool, Form()] = False,
) -> Response:
    """What might be said next: the continuation alone, after the last `prompt_s` seconds of the recording.

    It lasts at most `max_s` seconds, by default 10.
    """
    timing = Timing()
    max_s = service.check_length(max_s or min(10.0, service.limits.speech_s))
    wave = await service.read(await file.read())
    if prompt_s is not None and prompt_s < wave.duration_s:
        wave = wave.cut(wave.duration_s - prompt_s, wave.duration_s)
    sampling = Sampling(temperature=temperature, top_p=top_p)
    chunks = service.continuation(wave, sampling, seed, max_s, timing)
    return await SoundAnswer(response_format, stream_format, codes).response(request, service, chunks, timing)


@router.post("/audio/transcriptions")
async def transcribe(
    request: Request,
    service: ServiceHere,
    file: Upload,
    model: Annotated[str, Form()],
    response_format: Annotated[TextFormat, Form()] = "json",
    temperature: Annotated[float, Form(ge=0, le=2)] = 0.0,
    stream: Annotated[bool, Form()] = False,
    language: Annotated[str | None, Form()] = None,
    prompt: Annotated[str | None, Form()] = None,
) -> Response:
    """Speech to text. `language` and `prompt` are taken and not used: the model was not taught them."""
    service.check_model(model)
    wave = await service.read(await file.read())
    sampling = Sampling(temperature=temperature)
    if stream:
        return await text_events(request, service, service.transcribe(wave, sampling))
    found = await unless_gone(request, service.transcript(wave, sampling))
    return _written(found, wave.duration_s, response_format)


@router.post("/audio/translations")
async def translate(
    request: Request,
    service: ServiceHere,
    file: Upload,
    model: Annotated[str, Form()],
    response_format: Annotated[TextFormat, Form()] = "json",
    temperature: Annotated[float, Form(ge=0, le=2)] = 0.0,
    stream: Annotated[bool, Form()] = False,
    to: To = None,
    source: From = None,
    seed: Annotated[int, Form(ge=0, lt=2**62)] = 0,
    prompt: Annotated[str | None, Form()] = None,
) -> Response:
    """Speech to text in another language: English unless `to` names one. `prompt` is taken and not used."""
    service.check_model(model)
    translator = translator_of(service, "target_text")
    to, source = languages(translator, to, source)
    wanted = Wanted(to=to, source=source, text=Sampling(temperature=temperature), seed=seed, spoken=False)
    wave = await service.read(await file.read())
    if stream:
        parts = interpret(service, translator, wave, wanted, Timing())
        return await translation_events(request, service, parts)
    found = await unless_gone(request, passages(service, translator, wave, wanted))
    return _written(segments(service, found), wave.duration_s, response_format, described(found))


@router.post("/audio/speech_translations")
async def speak_translation(
    request: Request,
    service: ServiceHere,
    file: Upload,
    model: Annotated[str, Form()],
    response_format: Annotated[SoundFormat, Form()] = "mp3",
    stream_format: Annotated[Literal["audio", "sse"], Form()] = "audio",
    to: To = None,
    source: From = None,
    max_s: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    temperature: Annotated[float, Form(ge=0, le=2)] = 0.9,
    top_p: Annotated[float, Form(gt=0, le=1)] = 0.8,
    seed: Annotated[int, Form(ge=0, lt=2**62)] = 0,
    codes: Annotated[bool, Form()] = False,
) -> Response:
    """Speech to speech in another language, sent while it is being made.

    What was heard and its translation come as events; without events, as the headers X-Transcript and X-Translation
    (percent-encoded, what is written before the first sound).
    """
    service.check_model(model)
    translator = translator_of(service, "target_speech")
    to, source = languages(translator, to, source)
    max_s = service.check_length(max_s or service.limits.speech_s)
    timing, sampling = Timing(), Sampling(temperature=temperature, top_p=top_p)
    wanted = Wanted(to=to, source=source, sampling=sampling, max_s=max_s, seed=seed, decoded=False)
    wave = await service.read(await file.read())
    parts = interpret(service, translator, wave, wanted, timing)
    return await SoundAnswer(response_format, stream_format, codes).response(request, service, parts, timing)


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
) -> dict[str, Any]:
    """Keep a voice to speak with. `text` is what is said in it; without it, the model listens for itself."""
    wave = await service.read(await file.read(), 4 * service.limits.voice_s)
    return (await unless_gone(request, service.add_voice(name, wave, text))).to_plain()


@router.delete("/audio/voices/{name:path}")
async def remove_voice(name: str, service: ServiceHere) -> dict[str, Any]:
    """Forget a voice."""
    await asyncio.to_thread(service.voices.remove, name)
    return {"id": name, "object": "audio.voice.deleted", "deleted": True}


def _written(
    found: list[Segment], duration_s: float, kind: TextFormat, beside: dict[str, Any] | None = None
) -> Response:
    if kind == "text":
        return PlainTextResponse(joined(found) + "\n")
    if kind in ("srt", "vtt"):
        return PlainTextResponse(subtitles(found, kind))
    if kind == "verbose_json":
        return JSONResponse(verbose(found, duration_s) | (beside or {}))
    usage = {"type": "duration", "seconds": round(duration_s)}
    return JSONResponse({"text": joined(found)} | (beside or {}) | {"usage": usage})
