"""Codecs beside each other: what each one's numbers say, on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.contract import CodecSpec
from sodakit.config import from_plain
from sodakit.eval.codecs import SET_COLUMNS, markdown, set_row
from sodakit.eval.copies import SoundSet
from sodakit.eval.report import Clip, Report
from sodakit.eval.results import provenance
from sodakit.files import read_json, write_json
from sodakit.units import format_count

HEARD = 3
"""Clips of each set to listen to."""
MOST_PASSES = 4
"""Passes over the data up to which new sound would teach little more."""
GLANCE_COLUMNS = (
    "Codec", "kHz", "Frames/s", "Codebooks", "Tokens/s", "bit/s", "after entropy", "Look-ahead, ms", "First audio, ms",
    "Encode, ×", "Decode, ×", "Model's loss, bit/s",
)  # fmt: skip
MODEL_COLUMNS = (
    "Codec", "Loss, bit/s", "of its bit/s", "of its entropy", "Tokens", "Hours heard", "Passes", "Parameters", "FLOPs",
)  # fmt: skip
BOOK_COLUMNS = (
    "Codec",
    "Entropy of each codebook, bits",
    "of",
    "Used",
    "Phone purity of the first, × the best other",
)
PHONE_COLUMNS = (
    "Codec", "Phone purity of codebook 0", "× the best other", "Phone information", "Linear probe", "95 % interval",
    "Commonest phone", "Codes",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One codec's folder."""

    folder: Path
    report: Mapping[str, Any]
    """Its `codec.json`: what `sodakit codec eval` measures."""
    model: Mapping[str, Any] | None
    """What a language model sees of it; None where none was asked for."""

    @property
    def name(self) -> str:
        """Name and number of codebooks: one codec may stand there with several."""
        return f"{self.report['codec']['name']}@{self.report['codec']['num_codebooks']}"


def open_compared(folder: Path, asked: Mapping[str, Any]) -> Compared | None:
    """What an earlier run measured of a codec; None where there is nothing, or it was asked otherwise."""
    path = folder / "codec.json"
    if not path.exists():
        return None
    told = read_json(path)
    return Compared(folder, told["report"], told["model"]) if told.get("asked") == asked else None


def save_compared(compared: Compared, asked: Mapping[str, Any]) -> None:
    """Write what was measured, so that the same command need not do it again."""
    write_json(
        compared.folder / "codec.json",
        {"asked": dict(asked), "report": compared.report, "model": compared.model},
    )


def keep_heard(folder: Path, copies: Sequence[Sequence[Wave]]) -> None:
    """Write the copies that the page lets one listen to."""
    for number, made in enumerate(copies):
        for clip in _heard(len(made)):
            write_wave(folder / f"heard/{number}-{clip}.flac", made[clip])


def keep_originals(folder: Path, sets: Sequence[SoundSet]) -> None:
    """Write the originals of those, and what is said in them."""
    texts = {}
    for number, sounds in enumerate(sets):
        for clip in _heard(len(sounds.recordings)):
            recording = sounds.recordings[clip]
            write_wave(folder / f"heard/{number}-{clip}.flac", recording.wave)
            texts[f"{number}-{clip}"] = recording.text or f"Clip {clip}"
    write_json(folder / "heard.json", texts)


def _heard(clips: int) -> range:
    step = max(1, clips // HEARD)
    return range(0, min(clips, step * HEARD), step)


def glance_row(compared: Compared) -> tuple[str, ...]:
    """The cells of a codec under `GLANCE_COLUMNS`."""
    report, spec, speed = compared.report, compared.report["codec"], compared.report["speed"]
    rate_hz = spec["sample_rate_hz"] / spec["frame_samples"]
    return (
        compared.name,
        f"{spec['sample_rate_hz'] / 1000:g}",
        f"{rate_hz:.4g}",
        from_plain(CodecSpec, spec, "codec").codebooks_shown,
        f"{rate_hz * spec['num_codebooks']:.4g}",
        f"{report['bitrate_bps']:.0f}",
        f"{report['entropy_bps']:.0f}",
        f"{speed['lookahead_ms']:.0f}",
        f"{speed['first_audio_ms']:.1f}",
        f"{speed['encode_x_real_time']:.1f}",
        f"{speed['decode_x_real_time']:.1f}",
        f"{compared.model['bits_per_audio_s']:.0f}" if compared.model else "–",
    )


def model_row(compared: Compared) -> tuple[str, ...]:
    """The cells of a codec under `MODEL_COLUMNS`."""
    model, report = compared.model, compared.report
    assert model is not None
    loss = model["bits_per_audio_s"]
    return (
        compared.name,
        f"{loss:.0f}",
        f"{loss / report['bitrate_bps']:.0%}",
        f"{loss / report['entropy_bps']:.0%}" if report["entropy_bps"] else "–",
        format_count(model["tokens"]),
        f"{model['audio_hours']:.2f}",
        ", ".join(f"{passes:.1f}" for passes in model["passes"]),
        format_count(model["parameters"]),
        f"{model['flops']:.2g}",
    )


def book_row(compared: Compared) -> tuple[str, ...]:
    """The cells of a codec under `BOOK_COLUMNS`."""
    books, ratio = compared.report["codebooks"], compared.report["phone_purity_ratio"]
    used = [book["used_fraction"] for book in books]
    return (
        compared.name,
        ", ".join(f"{book['entropy_bits']:.2f}" for book in books),
        f"{(compared.report['codec']['codebook_size']).bit_length() - 1}",
        f"{min(used):.0%} – {max(used):.0%}",
        "–" if ratio is None else f"{ratio:.2f}",
    )


def phone_row(compared: Compared) -> tuple[str, ...]:
    """The cells of a codec under `PHONE_COLUMNS`."""
    recorded = compared.report["recorded_phones"]
    first, ratio, probe = recorded["codebooks"][0], recorded["purity_ratio"], recorded["probe"]
    told = ("–", "–", "–")
    if probe:
        accuracy = probe["accuracy"]
        told = (
            f"{accuracy['value']:.1%}",
            f"{accuracy['low']:.1%} – {accuracy['high']:.1%}",
            f"{probe['most_frequent']:.1%}",
        )
    return (
        compared.name,
        f"{first['phone_purity']:.3f}",
        "–" if ratio is None else f"{ratio:.2f}",
        f"{first['phone_information']:.3f}",
        *told,
        str(recorded["num_codes"]),
    )


def _with_phones(all_compared: Sequence[Compared]) -> list[Compared]:
    return [c for c in all_compared if c.report.get("recorded_phones")]


def as_text(all_compared: Sequence[Compared]) -> str:
    """The tables for a terminal, in Markdown."""
    parts = [markdown(GLANCE_COLUMNS, [glance_row(c) for c in all_compared])]
    parts += [f"{name}\n\n{markdown(columns, rows)}" for name, columns, rows in _set_tables(all_compared)]
    parts.append(markdown(BOOK_COLUMNS, [book_row(c) for c in all_compared]))
    if phones := [phone_row(c) for c in _with_phones(all_compared)]:
        parts.append(markdown(PHONE_COLUMNS, phones))
    if models := [model_row(c) for c in all_compared if c.model]:
        parts.append(markdown(MODEL_COLUMNS, models))
    return "\n\n".join(parts)


def _set_tables(
    all_compared: Sequence[Compared],
) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Of each set its name, and a row for each codec; without columns that nobody measured."""
    tables = []
    for number, scores in enumerate(all_compared[0].report["sets"]):
        rows = [(c.name, *set_row(c.report["sets"][number])[1:]) for c in all_compared]
        columns = ("Codec", *SET_COLUMNS[1:])
        kept = [i for i in range(len(columns)) if any(row[i] != "–" for row in rows)]
        tables.append(
            (scores["name"], tuple(columns[i] for i in kept), [tuple(row[i] for i in kept) for row in rows])
        )
    return tables


def compare_page(all_compared: Sequence[Compared], originals: Path) -> Report:
    """The page of all codecs measured so far.

    Args:
        originals: folder of `keep_originals`.
    """
    made = Report("Codecs compared", ", ".join(c.name for c in all_compared))
    made.section("At a glance")
    made.table(GLANCE_COLUMNS, [glance_row(c) for c in all_compared], "Rate, delay and speed")
    threads = all_compared[0].report["speed"]["threads"]
    made.text(
        f"Speeds are in times real time, on one clip, CPU threads: {threads}. First audio: work from the frames that a stream needs to its first sound; the "
        "look-ahead is sound that must be there first, and comes on top."
    )
    for number, (name, columns, rows) in enumerate(_set_tables(all_compared)):
        made.section(f"Copies: {name}")
        made.table(columns, rows, "Means over clips")
        scores = all_compared[0].report["sets"][number]
        mos = f" MOS by {scores['mos_judge']['name']}." if scores["mos_judge"] else ""
        voices = f" Voices by {scores['speakers']['judge']}." if scores["speakers"] else ""
        made.text(f"Words by: {scores['judge']}.{voices}{mos}")
    made.section("What the codebooks carry")
    frames = ", ".join(f"{c.name} {c.report['frames_of_codebooks']}" for c in all_compared)
    made.table(BOOK_COLUMNS, [book_row(c) for c in all_compared], "On unseen voices, phones by espeak-ng")
    made.text(
        f"Phone purity: of the first codebook, times that of the best other. Frames: {frames}. A codebook with more entries "
        "than frames shows less entropy than it has."
    )
    if known := _with_phones(all_compared):
        made.table(PHONE_COLUMNS, [phone_row(c) for c in known], "On the recordings above")
        made.text(
            f"Words in time by {known[0].report['recorded_phones']['words_by']}, their phones by espeak-ng. The probe is a linear "
            "classifier of the phone from a code of codebook 0 and its two neighbours, tested on speakers it was not taught; "
            "the commonest phone is what knowing no code gives."
        )
    _model_section(made, all_compared)
    _listen_sections(made, all_compared, originals)
    facts = {c.name: c.report["codec"]["fingerprint"] for c in all_compared}
    return made.provenance({**facts, **provenance()})


def _model_section(made: Report, all_compared: Sequence[Compared]) -> None:
    models = [c for c in all_compared if c.model]
    if not models:
        return
    made.section("What a language model sees")
    made.table(
        MODEL_COLUMNS,
        [model_row(c) for c in models],
        "A small model on each codec's codes, for equal compute",
    )
    made.text(
        "Loss: bits per second of held-out sound, all codebooks together. Fewer are easier to predict; they are worth it only "
        "where the copies above are as good. Equal compute is not equal sound: a codec with more tokens a second hears less of it."
    )
    known = [c.name for c in models if c.model and max(c.model["passes"], default=0) > MOST_PASSES]
    if known:
        made.text(
            f"{', '.join(known)}: more than {MOST_PASSES} passes over the same sound, so its amount and not the compute decides. "
            "Give more recordings (--model-data) or less compute."
        )


def _listen_sections(made: Report, all_compared: Sequence[Compared], originals: Path) -> None:
    texts = read_json(originals / "heard.json")
    for number, scores in enumerate(all_compared[0].report["sets"]):
        made.section(f"Listen: {scores['name']}")
        for key, text in texts.items():
            if key.split("-")[0] != str(number):
                continue
            folders = [("Original", originals), *((c.name, c.folder) for c in all_compared)]
            clips = [Clip(name, read_wave(folder / f"heard/{key}.flac")) for name, folder in folders]
            made.audio_row(text, clips)
