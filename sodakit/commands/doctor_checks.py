"""What `sodakit doctor` looks at. Whatever can be tried is tried: a package that imports may still not work."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sodakit.ceilings import device_name, memory_bytes
from sodakit.compiler import COMPILERS, lacks_for_gpu
from sodakit.errors import first_line
from sodakit.hardware import gpu_named, has_fast_bfloat16, unused_gpu
from sodakit.units import format_bytes

STORAGE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Check:
    """One thing that a machine can do or cannot."""

    name: str
    works: bool | None
    """None where it was not looked at, or is of no use here."""
    told: str
    """What was found."""
    advice: str = ""
    """What to do about a no."""


def all_checks(device: torch.device, storage: Path) -> Iterator[Check]:
    """One after the other, as they are known."""
    yield Check("Python and torch", True, f"{platform.python_version()}, torch {torch.__version__}")
    yield _processor()
    yield from _gpus()
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("several GPUs (NCCL)", _nccl),
        ("attention over packed documents", lambda: _attention(device)),
        ("compiling for a GPU", lambda: _compiles(device)),
        ("decoding by CUDA graphs", lambda: _graphs(device)),
        ("C++ compiler", _cpp),
        ("8-bit products", lambda: _fp8(device)),
        ("storage", lambda: _storage(storage)),
        ("built-in codec", lambda: _codec(device)),
        ("the model `starter`", _starter),
        ("Mimi", _mimi),
        ("wav, flac, mp3, ogg", _sound_files),
        ("aac, mp4, webm", _containers),
        ("ffmpeg", _ffmpeg),
        ("built-in voices (espeak-ng)", _espeak),
        ("flite's voices", _flite),
        (NAMES["onnxruntime"], lambda: _package("onnxruntime", "onnx")),
        (NAMES["faster_whisper"], lambda: _package("faster_whisper", "asr")),
        ("judges from the hub", _hub_judges),
        (NAMES["lm_eval"], lambda: _package("lm_eval", "eval")),
        (NAMES["fastapi"], lambda: _package("fastapi", "serve")),
    ]
    for name, look in checks:
        yield _tried(name, look)


def _tried(name: str, look: Callable[[], Check]) -> Check:
    """What a look finds; a look that breaks finds that."""
    try:
        return look()
    except Exception as error:
        return Check(name, False, f"fails: {first_line(error)}")


def _processor() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = torch.device("cpu")
    fast = "bfloat16 faster than float32" if has_fast_bfloat16() else "bfloat16 no faster than float32"
    return Check(
        "processor", True, f"{device_name(cpu)}, {cores} cores, {format_bytes(memory_bytes(cpu))}, {fast}"
    )


def _gpus() -> Iterator[Check]:
    if not torch.cuda.is_available():
        reason = unused_gpu()
        told = "none that torch can use" if reason else "none here"
        yield Check("GPU", False if reason else None, told, reason or "")
        return
    for number in range(torch.cuda.device_count()):
        found: Any = torch.cuda.get_device_properties(number)
        sheet = gpu_named(found.name)
        peak = f"{sheet.peak_flops / 1e12:.0f} TFLOP/s by its data sheet" if sheet else "data sheet not known"
        major, minor = torch.cuda.get_device_capability(number)
        yield Check(
            f"GPU {number}",
            True,
            f"{found.name}, {format_bytes(found.total_memory)}, compute capability {major}.{minor}, {peak}",
            "" if sheet else "Measure it with --bench.",
        )


def _nccl() -> Check:
    name = "several GPUs (NCCL)"
    if not torch.cuda.is_available():
        return Check(name, None, "no GPU; several processes on a CPU talk by gloo")
    if not torch.distributed.is_nccl_available():
        return Check(name, False, "torch has none", "Install torch for CUDA on Linux.")
    version = ".".join(map(str, torch.cuda.nccl.version()))
    return Check(name, True, f"NCCL {version}, {torch.cuda.device_count()} GPUs")


def _attention(device: torch.device) -> Check:
    from sodakit.model.attention_routes import parities

    told, right = [], []
    for name, error in parities(device).items():
        right.append(isinstance(error, float))
        told.append(f"{name} {f'right to {error:.1e}' if isinstance(error, float) else f'not: {error}'}")
    return Check("attention over packed documents", any(right), "; ".join(told))


def _compiles(device: torch.device) -> Check:
    name = "compiling for a GPU"
    if device.type != "cuda":
        return Check(name, None, "no GPU in use; on a CPU torch compiles nothing here")
    if lacking := lacks_for_gpu():
        return Check(
            name, False, f"{lacking} is missing", "Install it: training is several times slower without."
        )
    x = torch.randn(1024, device=device)
    compiled = torch.compile(lambda x: torch.sin(x) * 2 + 1)
    start_s = time.monotonic()
    right = torch.allclose(compiled(x), torch.sin(x) * 2 + 1, atol=1e-5)
    return Check(name, right, f"{'right' if right else 'wrong'}, in {time.monotonic() - start_s:.1f} s")


def _graphs(device: torch.device) -> Check:
    """A small model's frames by graph and step by step, in float64, where rounding decides nothing."""
    from sodakit.generate import graphs
    from sodakit.generate.engine import Engine, Request
    from sodakit.generate.frame_graph import FrameEngine
    from sodakit.generate.sampling import Sampling
    from sodakit.model.config import model_size
    from sodakit.model.families import build_model
    from sodakit.tokens.documents import Template
    from sodakit.tokens.vocabulary import Vocabulary

    name, how = "decoding by CUDA graphs", Sampling(temperature=0.9, top_p=0.8)
    if not graphs.can_capture(device):
        return Check(name, None, "no GPU in use")
    v = Vocabulary.layout(text_size=50, bos=0, eos=1, num_codebooks=4, codebook_size=16)
    model = build_model(model_size("nano", v.size, context=64)).double().to(device)
    prompt_T = Template(v, 4).speak_prompt(torch.arange(2, 9).numpy())
    # The first seed that does not end it early.
    request = Request(
        prompt_T=prompt_T, closing=v.audio_end, max_new_tokens=32, semantic=how, acoustic=how, seed=2
    )
    plain = Engine(model, v, 4, graphs=False)
    frames = FrameEngine(plain, 1, semantic=how, acoustic=how)
    same = frames.generate([request])[0].ids_T.tolist() == plain.generate([request])[0].ids_T.tolist()
    if not same:
        return Check(name, False, "other codes than step by step", "Report it; Engine(graphs=False) decodes.")
    if not frames.is_captured:
        return Check(name, False, "torch does not capture them here; decoding is several times slower")
    return Check(name, True, "a frame at a launch, the codes of the steps")


def _cpp() -> Check:
    from sodakit.data import native as windows
    from sodakit.model import native as steps

    found = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if found is None:
        told = "none: the loader's windows and decoding on a CPU use numpy and torch, more slowly, and none of int8"
        return Check("C++ compiler", False, told, "Install one (apt install g++).")
    missing = [n for n, library in (("loader", windows), ("decoding", steps)) if library.compiled() is None]
    if missing:
        return Check("C++ compiler", False, f"{found} does not compile {', '.join(missing)}", "Update it.")
    return Check("C++ compiler", True, f"{found} compiles the loader and decoding on a CPU")


def _fp8(device: torch.device) -> Check:
    from sodakit.train.fp8 import CAPABILITY, rounded

    name, need = "8-bit products", ".".join(map(str, CAPABILITY))
    if device.type != "cuda":
        return Check(name, None, "no GPU in use")
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        return Check(name, False, f"needs compute capability {need} (Ada, Hopper or newer)")
    a = torch.randn(256, 256, device=device, dtype=torch.bfloat16)
    low, unit = rounded(a, torch.float8_e4m3fn)
    out = torch._scaled_mm(low, low.T, unit, unit, out_dtype=torch.bfloat16, use_fast_accum=True)
    wanted = a.float() @ a.float().T
    error = float((out.float() - wanted).abs().max() / wanted.abs().max())
    return Check(
        name, error < 0.05, f"right to {error:.1%} of the largest value; fp8_from_width=2048 uses them"
    )


def _storage(folder: Path) -> Check:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".sodakit-doctor-{os.getpid()}"
    block = os.urandom(2**20)
    try:
        start_s = time.perf_counter()
        with open(path, "wb") as file:
            for _ in range(STORAGE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        write_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        path.read_bytes()
        read_s = time.perf_counter() - start_s
    finally:
        path.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    speeds = f"{format_bytes(STORAGE_BYTES / write_s)}/s written, {format_bytes(STORAGE_BYTES / read_s)}/s read again"
    return Check("storage", True, f"{folder.resolve()}: {speeds}, {format_bytes(free)} free")


def _codec(device: torch.device) -> Check:
    import numpy as np

    from sodakit.codec.load import load_codec

    codec = load_codec("mini", device=str(device))
    wave_S = np.sin(np.arange(codec.spec.sample_rate_hz) * 0.05).astype(np.float32)
    start_s = time.perf_counter()
    sound_S = codec.decode(codec.encode_batch([wave_S])[0])
    took_s = time.perf_counter() - start_s
    heard = bool(np.isfinite(sound_S).all()) and len(sound_S) >= len(wave_S)
    return Check("built-in codec", heard, f"a second to codes and back in {took_s:.2f} s")


def _starter() -> Check:
    from sodakit.checkpoint.shipped import STARTER, shipped_folder
    from sodakit.generate.speech_model import SpeechModel

    name, folder = "the model `starter`", shipped_folder(str(STARTER))
    if folder is None:
        return Check(name, None, "not part of this installation; commands need --model")
    about = SpeechModel.load(folder, device="cpu").about
    return Check(name, True, f"answers where none is named; {about.summary if about else folder}")


def _mimi() -> Check:
    kept = in_hub_cache("kyutai/mimi")
    if importlib.util.find_spec("transformers") is None:
        return Check("Mimi", False, "the package transformers is missing", "pip install transformers")
    if kept:
        return Check("Mimi", True, "its weights are in the hub's cache")
    return Check("Mimi", None, "not downloaded yet: the first use loads kyutai/mimi (400 MB) from the hub")


def in_hub_cache(model: str) -> bool:
    """Whether a model of the Hugging Face hub has been downloaded."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json"), str)


def _sound_files() -> Check:
    import soundfile
    import soxr

    known = soundfile.available_formats()
    missing = [kind for kind in ("WAV", "FLAC", "MP3", "OGG") if kind not in known]
    told = f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"
    if missing:
        return Check(
            "wav, flac, mp3, ogg", False, f"{told} without {', '.join(missing)}", "pip install -U soundfile"
        )
    return Check("wav, flac, mp3, ogg", True, told)


def _containers() -> Check:
    return _package("av", "containers", "aac, mp4, webm")


def _ffmpeg() -> Check:
    found = shutil.which("ffmpeg")
    return Check("ffmpeg", None, f"{found or 'not here'}; nothing here needs it, PyAV brings its own")


def _espeak() -> Check:
    from sodakit.voices.catalogue import SEEN_VOICES
    from sodakit.voices.engines import Synthesizer

    name = "built-in voices (espeak-ng)"
    if importlib.util.find_spec("espeakng_loader") is None:
        return Check(
            name,
            False,
            "the package espeakng-loader is missing: no demo, no default judge",
            "pip install 'sodakit[voices]'",
        )
    with Synthesizer() as synthesizer:
        wave = synthesizer.speak("Good morning.", SEEN_VOICES[0]).wave
    return Check(name, True, f"{SEEN_VOICES[0].name} says good morning in {wave.duration_s:.1f} s")


def _flite() -> Check:
    from sodakit.voices.flite import installed_voices

    voices = installed_voices()
    if not voices:
        return Check("flite's voices", False, "not installed; nothing else needs it", "apt install flite")
    return Check("flite's voices", True, ", ".join(voices))


def _package(package: str, extra: str, name: str = "") -> Check:
    name = name or NAMES[package]
    if importlib.util.find_spec(package) is None:
        return Check(name, False, f"the package {package} is missing", f"pip install 'sodakit[{extra}]'")
    if package not in SLOW_TO_IMPORT:
        importlib.import_module(package)
    return Check(name, True, f"{package} {importlib.metadata.version(package.replace('_', '-'))}")


SLOW_TO_IMPORT = ("lm_eval", "faster_whisper")
NAMES = {
    "onnxruntime": "Piper and Kokoro voices, DNSMOS",
    "faster_whisper": "Whisper in CTranslate2 form",
    "lm_eval": "text benchmarks and translation scores",
    "fastapi": "server",
}


def _hub_judges() -> Check:
    wanted = (
        "openai/whisper-large-v3-turbo",
        "openai/whisper-base.en",
        "microsoft/wavlm-base-plus-sv",
        "Qwen/Qwen3-0.6B-Base",
    )
    kept = [model for model in wanted if in_hub_cache(model)]
    told = f"in the hub's cache: {', '.join(kept) or 'none of ' + ', '.join(wanted)}"
    advice = (
        ""
        if kept
        else "The first use downloads them; without, a judge is trained on the built-in voices in minutes."
    )
    return Check("judges from the hub", bool(kept) or None, told, advice)
