"""The numbers of a codec: its copies, what each codebook carries, speed, latency and exactness of streaming."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec, CodecSpec
from sodakit.codec.quality import CodebookUse
from sodakit.eval.copies import CopyScores, SoundSet, score_copies, without_nan
from sodakit.eval.opinion import OpinionJudge
from sodakit.eval.phones import Labelled, RecordedPhones, labelled_codes, on_recordings, spoken_phones
from sodakit.eval.report import Clip, Report
from sodakit.eval.results import provenance
from sodakit.eval.spoken_scores import spoken_errors
from sodakit.eval.voiceprints import SpeakerJudge

_ROUNDS = 15
_SPEED_CLIP_S = 10.0


@dataclass(frozen=True)
class Speed:
    """How fast a codec is on this machine, and whether streaming changes what it says."""

    encode_x_real_time: float
    """Seconds of sound encoded in a second, median of several runs on one clip."""
    decode_x_real_time: float
    """The same of decoding."""
    first_audio_ms: float
    """From the frames of codes that a fresh stream needs to its first samples, median."""
    lookahead_ms: float
    """Sound that must follow a frame before its samples come, by the codec's own word; 0: causal."""
    streaming_max_difference: float
    """Largest difference of a sample between decoding frame by frame and at once."""
    threads: int
    """CPU threads that PyTorch used."""


@dataclass(frozen=True)
class CodecReport:
    """Everything measured of one codec."""

    spec: CodecSpec
    sets: tuple[CopyScores, ...]
    codebooks: tuple[CodebookUse, ...]
    num_frames: int
    """Frames behind `codebooks`."""
    speed: Speed
    recorded: RecordedPhones | None = None
    """What codes tell of phones on recordings; None where nobody told when their words are said."""

    @property
    def entropy_bps(self) -> float:
        """Bits per second of an ideal coder that knows how often each code occurs, codebooks apart."""
        rates = zip(self.codebooks, self.spec.rows, strict=True)
        return self.spec.frame_rate_hz * sum(use.entropy_bits * len(rows) for use, rows in rates)

    @property
    def purity_ratio(self) -> float:
        """Phone purity of codebook 0 over that of the best of the others; NaN with one codebook."""
        others = [use.phone_purity for use in self.codebooks[1:]]
        return self.codebooks[0].phone_purity / max(others) if others else float("nan")

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        report = {
            "codec": asdict(self.spec),
            "bitrate_bps": self.spec.bitrate_bps,
            "entropy_bps": self.entropy_bps,
            "sets": [scores.plain() for scores in self.sets],
            "codebooks": [asdict(use) for use in self.codebooks],
            "frames_of_codebooks": self.num_frames,
            "phone_purity_ratio": self.purity_ratio,
            "recorded_phones": self.recorded and self.recorded.plain(),
            "speed": asdict(self.speed),
            "versions": provenance(),
        }
        return without_nan(report)


def copy_all(codec: Codec, sounds: SoundSet) -> list[Wave]:
    """Every recording of the set, encoded and decoded."""
    rate_hz = codec.spec.sample_rate_hz
    waves_S = [resample(recording.wave, rate_hz).samples_S for recording in sounds.recordings]
    copies_S = [codec.decode(codes_KF) for codes_KF in codec.encode_batch(waves_S)]
    return [Wave(copy_S[: len(wave_S)], rate_hz) for copy_S, wave_S in zip(copies_S, waves_S, strict=True)]


def measure_codec(
    codec: Codec,
    sets: Sequence[SoundSet],
    speaker_judge: SpeakerJudge,
    phone_sentences: int = 200,
    mos: OpinionJudge | None = None,
    recorded: Sequence[Labelled] = (),
    words_by: str = "",
) -> tuple[CodecReport, list[list[Wave]]]:
    """The report, and the copies of each set.

    Args:
        phone_sentences: sentences of the unseen voices behind what the codebooks carry.
        recorded: recordings whose phones are known.
        words_by: who told when their words are said.
    Raises:
        MissingExtra: the package that brings espeak-ng, whose phones label the frames, is not installed.
    """
    copies = [copy_all(codec, sounds) for sounds in sets]
    spoken = labelled_codes(codec, spoken_phones(phone_sentences))
    report = CodecReport(
        spec=codec.spec,
        sets=tuple(
            score_copies(sounds, made, speaker_judge, mos) for sounds, made in zip(sets, copies, strict=True)
        ),
        codebooks=tuple(spoken.uses(codec.spec.codebook_size)),
        num_frames=sum(map(len, spoken.codes[0])) // len(codec.spec.rows[0]),
        speed=measure_speed(codec, sets[0].recordings[0].wave),
        recorded=on_recordings(codec, recorded, words_by) if recorded else None,
    )
    return report, copies


def measure_speed(codec: Codec, wave: Wave, rounds: int = _ROUNDS) -> Speed:
    """Speed on one clip, repeated to `_SPEED_CLIP_S` seconds; the first round of everything is not counted."""
    import torch

    rate_hz = codec.spec.sample_rate_hz
    wave_S = np.resize(resample(wave, rate_hz).samples_S, int(_SPEED_CLIP_S * rate_hz))
    codes_KF = codec.encode(wave_S)
    whole_S = codec.decode(codes_KF)
    encode_s, decode_s, first_s = [], [], []
    for _ in range(rounds):
        encode_s.append(_elapsed_s(lambda: codec.encode(wave_S)))
        decode_s.append(_elapsed_s(lambda: codec.decode(codes_KF)))
        first_s.append(_elapsed_s(lambda: _first_sound(codec, codes_KF)))
    stream = codec.stream()
    pieces = [stream.push(codes_KF[:, f : f + 1]) for f in range(codes_KF.shape[1])]
    pieces.append(stream.finish())
    return Speed(
        encode_x_real_time=_SPEED_CLIP_S / statistics.median(encode_s),
        decode_x_real_time=_SPEED_CLIP_S / statistics.median(decode_s),
        first_audio_ms=1000 * statistics.median(first_s),
        lookahead_ms=1000 * codec.lookahead_frames / codec.spec.frame_rate_hz,
        streaming_max_difference=float(np.abs(np.concatenate(pieces) - whole_S).max()),
        threads=torch.get_num_threads(),
    )


def _first_sound(codec: Codec, codes_KF: np.ndarray) -> np.ndarray:
    stream = codec.stream()
    sound_S = stream.push(codes_KF[:, : codec.lookahead_frames + 1])
    return sound_S if len(sound_S) else stream.finish()


def _elapsed_s(work: Any) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


# ------------------------------------------------------------------------------------------------- as text

SET_COLUMNS = (
    "Sounds", "Clips", "STOI", "95 % interval", "Mel, dB", "STFT, dB", "Pitch, semitones", "PESQ", "WER",
    "WER of originals", "Speaker found", "of originals", "MOS", "MOS of originals",
)  # fmt: skip

CODEBOOK_COLUMNS = ("Codebook", "Used", "Entropy, bits", "Phone purity", "Phone information")


def set_row(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of one set's `CopyScores.plain` under `SET_COLUMNS`; – for what was not measured."""
    stoi, speakers = scores["stoi"], scores["speakers"]
    return (
        scores["name"],
        str(scores["num_clips"]),
        "–" if stoi is None else f"{stoi['value']:.3f}",
        "–" if stoi is None else f"{stoi['low']:.3f} – {stoi['high']:.3f}",
        *(_or_dash(scores[name], ".2f") for name in ("mel_db", "stft_db", "pitch_semitones", "pesq")),
        *(_or_dash(scores[name] and scores[name]["wer"], ".1%") for name in ("heard", "heard_original")),
        *(_or_dash(speakers and speakers[name], ".0%") for name in ("found_copies", "found_originals")),
        *(_overall(scores[name]) for name in ("mos", "mos_originals")),
    )


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _overall(mos: Mapping[str, Mapping[str, Any]] | None) -> str:
    """The first column, with its interval."""
    value = next(iter(mos.values()), None) if mos else None
    return "–" if value is None else f"{value['value']:.2f} ({value['low']:.2f} – {value['high']:.2f})"


def codebook_rows(spec: CodecSpec, uses: Sequence[CodebookUse]) -> list[tuple[str, ...]]:
    """The cells of every codebook under `CODEBOOK_COLUMNS`."""
    return [
        (
            _codebook_name(k, spec),
            f"{use.used_fraction:.0%}",
            f"{use.entropy_bits:.2f}",
            f"{use.phone_purity:.3f}",
            f"{use.phone_information:.3f}",
        )
        for k, use in enumerate(uses)
    ]


def _codebook_name(k: int, spec: CodecSpec) -> str:
    name = f"{k} (semantic)" if spec.rows[k][0] in spec.semantic_codebooks else str(k)
    return f"{name}, {spec.frame_rate_hz * len(spec.rows[k]):.4g} Hz" if spec.codes_per_frame else name


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_text(report: CodecReport) -> str:
    """The report for a terminal, in Markdown."""
    return "\n\n".join(
        (
            _summary(report),
            markdown(SET_COLUMNS, [set_row(scores.plain()) for scores in report.sets]),
            *(f"Judge of {s.name}: {s.judge}" for s in report.sets),
            *(f"MOS of {s.name}: {s.mos_judge['name']}" for s in report.sets if s.mos_judge),
            markdown(CODEBOOK_COLUMNS, codebook_rows(report.spec, report.codebooks)),
            *_recorded_text(report),
            _speed_line(report.speed),
        )
    )


def _recorded_text(report: CodecReport) -> list[str]:
    if report.recorded is None:
        return []
    table = markdown(CODEBOOK_COLUMNS, codebook_rows(report.spec, report.recorded.codebooks))
    return [f"On recordings:\n\n{table}", probe_line(report.recorded)]


def probe_line(recorded: RecordedPhones) -> str:
    """What is told of phones on recordings, in a sentence or two."""
    ratio = f"Phone purity of codebook 0 on recordings {recorded.purity_ratio:.2f} times the best other's. "
    probe = recorded.probe
    told = "" if probe is None else (
        f"A linear probe of its codes tells {probe.accuracy.value:.1%} of the phones of speakers it has not heard "
        f"({probe.accuracy.low:.1%} – {probe.accuracy.high:.1%}; {probe.most_frequent:.1%} are the commonest one). "
    )  # fmt: skip
    return (
        f"{'' if np.isnan(recorded.purity_ratio) else ratio}{told}{recorded.num_codes} codes; words in time by "
        f"{recorded.words_by}, their phones by espeak-ng."
    )


def _summary(report: CodecReport) -> str:
    spec = report.spec
    return (
        f"{spec.name}: {spec.sample_rate_hz} Hz, {spec.frame_rate_hz:g} frames/s, "
        f"{spec.codebooks_shown}, {spec.bitrate_bps:.0f} bit/s ({report.entropy_bps:.0f} after entropy coding), "
        f"phone purity of codebook 0 {report.purity_ratio:.2f} times the best other's. Fingerprint {spec.fingerprint}."
    )


def _speed_line(speed: Speed) -> str:
    return (
        f"{speed.threads} threads: encode {speed.encode_x_real_time:.0f} and decode {speed.decode_x_real_time:.0f} "
        f"times real time, first audio {speed.first_audio_ms:.1f} ms after its frame{_ahead(speed)}, streaming differs from offline "
        f"by at most {speed.streaming_max_difference:.1e}."
    )


def _ahead(speed: Speed) -> str:
    return f" and the {speed.lookahead_ms:.0f} ms that must follow it" if speed.lookahead_ms else ""


# ------------------------------------------------------------------------------------------------ as a page


def page(
    report: CodecReport, sets: Sequence[SoundSet], copies: Sequence[Sequence[Wave]], rows: int = 4
) -> Report:
    """A page with all tables, and `rows` clips of each set to listen to."""
    made = Report(f"Codec {report.spec.name}", _summary(report))
    for scores in report.sets:
        if scores.stoi is not None:
            made.headline(f"STOI, {scores.name}", f"{scores.stoi.value:.3f}", f"{scores.num_clips} clips")
    made.section("Copies against originals")
    made.table(SET_COLUMNS, [set_row(scores.plain()) for scores in report.sets], "Means over clips")
    for scores in report.sets:
        quality = f" MOS by {scores.mos_judge['name']}." if scores.mos_judge else ""
        made.text(f"{scores.name}, judge: {scores.judge}. {_speaker_line(scores)}{quality}")
    made.section("What the codebooks carry")
    caption = f"{report.num_frames} frames of unseen voices, phones by espeak-ng"
    made.table(CODEBOOK_COLUMNS, codebook_rows(report.spec, report.codebooks), caption)
    if report.recorded:
        rows_recorded = codebook_rows(report.spec, report.recorded.codebooks)
        made.table(CODEBOOK_COLUMNS, rows_recorded, "On recordings")
        made.text(probe_line(report.recorded))
    made.section("Speed", _speed_line(report.speed))
    for sounds, heard in zip(sets, copies, strict=True):
        made.section(f"Listen: {sounds.name}")
        step = max(1, len(heard) // rows)
        for i in range(0, min(len(heard), step * rows), step):
            _add_clips(made, sounds, i, heard[i])
    return made.provenance({"codec": report.spec.fingerprint, **provenance()})


def _speaker_line(scores: CopyScores) -> str:
    if scores.speakers is None:
        return "Fewer than two known speakers, so nobody was asked who speaks."
    return f"Speakers by {scores.speakers.judge}: similarity {scores.speakers.similarity:.2f}."


def _add_clips(made: Report, sounds: SoundSet, i: int, copy: Wave) -> None:
    recording, judge = sounds.recordings[i], sounds.judge
    if judge is None:
        made.audio_row(recording.text or f"Clip {i}", [Clip("Original", recording.wave), Clip("Copy", copy)])
        return
    text = recording.text or ""
    heard = spoken_errors(judge, [text, text], [recording.wave, copy]).items
    made.audio_row(text, [Clip("Original", recording.wave, heard[0]), Clip("Copy", copy, heard[1])])
