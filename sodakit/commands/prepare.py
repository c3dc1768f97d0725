"""`sodakit prepare`: folders of recordings to a store of codes and text."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from sodakit.bounds import Bounds, Count, Positive, PositiveShare, Share, ShareBelowOne
from sodakit.commands.options import read_options
from sodakit.errors import ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sodakit.codec.contract import CodecSpec
    from sodakit.eval.opinion import OpinionJudge
    from sodakit.eval.voiceprints import SpeakerJudge
    from sodakit.prepare.listening import Transcriber
    from sodakit.prepare.options import PrepareOptions
    from sodakit.prepare.recording import Item


@dataclass(frozen=True, kw_only=True)
class Options:
    """Recordings to a store of codes and text.

    Folders may hold manifest.jsonl, wav.scp (Kaldi), LibriSpeech or MLS as unpacked, manifests of lhotse; sound files
    with .txt, .lab, .srt, .vtt, .TextGrid or .json beside them, lists of them (.csv, .tsv, .list, .jsonl, .json: LJSpeech,
    Common Voice, NeMo, Hugging Face), .tar (WebDataset, Emilia), .parquet (Hugging Face hub, the authors' documents); or
    text alone. Killed at any moment, the same command makes only what is missing.

    Example: sodakit prepare recordings/ --out stores/mine --codec mini --workers 2

    Example: sodakit prepare talks/ --out stores/talks --segment --transcribe openai/whisper-small
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Where the recordings are: folders, or single .jsonl, .json, .csv, .tsv, .list, .tar and .parquet files."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The store's folder."""
    recipe: str | None = None
    """Read the folders as this public corpus, by lhotse's recipe: librispeech, mls, commonvoice, vctk, …"""
    keep_untranscribed: bool = False
    """Keep sounds without a transcript although others of their folder have one, or files lie there that may hold
    them and were not read. --segment and --transcribe keep them too."""
    segment: bool = False
    """Cut whole recordings without a transcript at pauses (extra `asr`). The cuts are in OUT/listened/, to be
    mended by hand where needed."""
    longest_segment_s: Positive = 30.0
    """Longest utterance that --segment makes; Whisper hears 30 seconds at once."""
    least_silence_s: float = 0.5
    """Shorter silences are no pause."""
    least_speech_s: float = 0.25
    """Shorter speech is none."""
    speech_padding_s: float = 0.2
    """Kept before and after each utterance."""
    transcribe: str | None = None
    """Recogniser that writes down what has no transcript: a hub id, a folder, or a judge's .safetensors. Its texts
    are in OUT/listened/ too; --max-repeats and --max-rate-deviations find those it made up."""
    listen_only: bool = False
    """Stop when everything is cut and transcribed, so that the notes can be mended before the store is made."""
    codec: str = "mini"
    """Codec: `mini`, `toy`, `mimi`, a folder or a Hugging Face id."""
    num_codebooks: Count | None = None
    """Codebooks to keep; default: the codec's own choice."""
    device: str = "cpu"
    """Where the codec runs: cpu, cuda, …"""
    tokenizer: str | None = None
    """Folder or hub id of a text tokenizer; default: one is trained on the transcripts."""
    text_vocab_size: Annotated[int, Bounds(least=1, most=10_000_000)] = 512
    """Ids of the tokenizer that is trained."""
    split_by: Literal["recording", "speaker"] = "recording"
    """What a split never divides. `speaker` tests speakers never heard in training."""
    validation: ShareBelowOne = 0.02
    """Share of recordings (or speakers) for validation."""
    test: ShareBelowOne = 0.02
    """Share of recordings (or speakers) for test."""
    stratify: bool = False
    """Hold out recordings of every speaker; for small sets."""
    split_field: str = ""
    """Field of the source's rows that names the split, instead of drawing: `split`, with --recipe also `part`. Read as
    they are: train, validation, dev, test, and names that begin so, such as train-clean-100."""
    split_values: tuple[str, ...] = ()
    """What other values of --split-field mean, each as VALUE=SPLIT: pool=train seen=validation"""
    redraw: bool = False
    """Draw train, validation and test anew where the corpus names its own; else its own are kept, and only one that it
    does not have is drawn from its train."""
    min_duration_s: float = 0.1
    """Shorter utterances are left out."""
    max_duration_s: Annotated[float, Bounds(above=0, endless=True)] = 120.0
    """Longer utterances are left out."""
    split_long: bool = False
    """Cut longer utterances without a transcript into equal parts instead."""
    max_clipped_fraction: Share = 0.01
    """Sounds with a larger share of samples at full scale are left out."""
    max_peak: Annotated[float, Bounds(least=1)] = 10.0
    """Sounds with a sample larger than this times full scale are left out (floats may exceed it a little)."""
    min_sample_rate_hz: int = 4000
    """Sounds with fewer samples per second are left out."""
    max_duration_error_s: Annotated[float, Bounds(least=0, endless=True)] = 1.0
    """Leave out sounds that are so many seconds longer or shorter than their list says: their text is another's."""
    max_parts: Count = 2000
    """Leave out a recording that --split-long would cut into more; often its header lies."""
    max_text_characters: Count = 10_000
    """Leave out sounds with a longer transcript. Text without sound may be of any length."""
    max_characters_per_s: Positive = 100.0
    """Leave out sounds whose transcript, of 50 characters or more, has more a second: nobody speaks 40."""
    max_control_fraction: Share = 0.0
    """Leave out items with a larger share of control characters in their text; tabs and line ends are none."""
    max_rate_deviations: Positive | None = None
    """Leave out transcripts whose characters per second are so many deviations from the usual; 5 is a fair start."""
    max_repeats: Count | None = None
    """Keep so many items with one and the same transcript."""
    languages: tuple[str, ...] = ()
    """Keep these languages only (en, de, …), as declared or as the transcript reads."""
    near_duplicate_share: PositiveShare | None = None
    """Leave out sounds of whose codes this share was heard before; 0.5 is a fair start."""
    quality: bool = False
    """Measure bandwidth, signal to noise and clipping of every sound, as columns of the store that `describe` shows; with
    --mos-judge also opinions, with --speaker-judge how well the voice stays one. Each limit below measures too."""
    min_bandwidth_hz: Positive | None = None
    """Leave out sounds whose band ends lower; 3600 leaves out telephones."""
    min_snr_db: float | None = None
    """Leave out sounds that stand less above their own noise; 15 is a fair start."""
    min_mos: Annotated[float, Bounds(least=1, most=5)] | None = None
    """Leave out sounds of a lower overall opinion by --mos-judge, 1 to 5."""
    min_voice_match: Annotated[float, Bounds(least=-1, most=1)] | None = None
    """Leave out sounds whose voices before and after some point are less alike by --speaker-judge: several speakers."""
    mos_judge: Path | None = None
    """Folder of DNSMOS (sig_bak_ovr.onnx, model_v8.onnx)."""
    speaker_judge: str | None = None
    """Resemblyzer's pretrained.pt, or WavLM-like speaker verification by hub id or folder."""
    judges: Path | None = None
    """Folder that holds both, each in a folder of its own."""
    shard_duration_s: Positive | None = None
    """Sound in one shard; what a killed job loses. Default: a 16th of the job, a minute to an hour."""
    workers: Count = 1
    """Processes that encode."""
    engine: Literal["processes", "ray"] = "processes"
    """Who runs the workers: this machine, or a Ray cluster (RAY_ADDRESS, or a local one)."""
    verify_items: int = 4
    """Utterances of each split that are encoded again and decoded before the store is sealed."""
    max_failed_fraction: Share = 0.2
    """Stop when more than this share of the items cannot be used."""
    dry_run: bool = False
    """Print what would be made, and stop."""
    fresh: bool = False
    """Delete what an earlier run left in the store's folder, and start over. What was heard under the same settings
    is kept, under others set aside."""


def main(argv: list[str]) -> None:
    """Prepare as argv says."""
    options = read_options(Options, "prepare", argv)
    from sodakit.codec.load import load_codec
    from sodakit.log import track
    from sodakit.prepare.checks import reasons_table
    from sodakit.prepare.cleaning import split_long
    from sodakit.prepare.cost import estimate_cost
    from sodakit.prepare.listening import foresee
    from sodakit.prepare.plan import make_plan, request
    from sodakit.prepare.recording import told_apart
    from sodakit.prepare.stages import prepare
    from sodakit.tokens.text import TextTokenizer

    codec = load_codec(options.codec, num_codebooks=options.num_codebooks, device=options.device)
    tokenizer = TextTokenizer.load(options.tokenizer) if options.tokenizer else None
    sentences: list[str] = []
    found = (read_folder(folder, options, codec.spec, sentences) for folder in options.folders)
    items = list(told_apart(track(chain.from_iterable(found), "read")))
    mos, speakers = quality_judges(options)
    chosen = prepare_options(options, mos, speakers)
    if options.dry_run:
        items, foreseen = foresee(
            items, options.out / "listened", chosen.limits, options.segment, options.transcribe
        )
        print(*foreseen, *sentences, sep="\n", end="\n" if foreseen or sentences else "")
        fingerprint = tokenizer.fingerprint if tokenizer else None
        items = list(split_long(items, chosen.limits))
        plan = make_plan(items, request(items, codec.spec, fingerprint, chosen), chosen)
        Console().print(plan.table(codec.spec))
        if plan.rejected:
            Console().print(reasons_table(plan.rejected, plan.num_items))
        print(f"Encoding will take about {estimate_cost(codec, plan.duration_s, chosen.workers)}.")
        return
    items, chosen = listened(items, options, chosen)
    if options.listen_only:
        print(
            f"Heard. Mend {options.out / 'listened'} where needed, then run the same without --listen-only."
        )
        return
    prepare(items, options.out, codec, chosen, tokenizer, mos, speakers)
    for sentence in sentences:
        say(sentence)


def listened(
    items: "list[Item]", options: Options, chosen: "PrepareOptions"
) -> "tuple[list[Item], PrepareOptions]":
    """The items cut and transcribed, where that is asked for; and the options, which then name the recogniser."""
    from sodakit.prepare.listening import cut_at_pauses, transcribe
    from sodakit.prepare.pauses import PauseRule

    if options.listen_only and not options.segment and options.transcribe is None:
        raise ConfigError(
            "--listen-only has nothing to do; needed with it: --segment, --transcribe, or both."
        )
    folder = options.out / "listened"
    if options.segment:
        rule = PauseRule(
            longest_s=options.longest_segment_s,
            least_silence_s=options.least_silence_s,
            least_speech_s=options.least_speech_s,
            padding_s=options.speech_padding_s,
        )
        items = cut_at_pauses(items, folder, rule, options.fresh)
    if options.transcribe is not None:
        transcriber = open_transcriber(options.transcribe)
        items = transcribe(items, folder, transcriber, chosen.limits, options.fresh)
        chosen = replace(chosen, transcriber=f"{transcriber.name} {transcriber.fingerprint}")
    return items, chosen


def open_transcriber(name: str) -> "Transcriber":
    """The judge of that name, as one who writes transcripts: with capitals and marks where it has them."""
    from sodakit.eval.judges import named_judge
    from sodakit.prepare.listening import Transcriber

    judge = named_judge(name)
    return Transcriber(judge.name, judge.fingerprint, getattr(judge, "write", judge.transcribe))


def read_folder(folder: Path, options: Options, codec: "CodecSpec", sentences: list[str]) -> "Iterable[Item]":
    """The items of one folder, by the recipe that is asked for or by what lies in it.

    Args:
        folder: the corpus.
        options: of the command.
        codec: whose codes are in it, where it holds codes instead of sound.
        sentences: gets what was not read, and how many sounds have a transcript.
    """
    from sodakit.prepare.sources.detect import open_corpus, read_corpus
    from sodakit.prepare.sources.lhotse_sets import read_recipe

    if options.recipe is not None:
        return read_recipe(options.recipe, folder, options.recipe)
    keep = options.keep_untranscribed or options.segment or options.transcribe is not None
    corpus = open_corpus(folder, codec=codec)
    items = read_corpus(corpus, keep)
    sentences += corpus.account(items)
    return items


def split_values(words: tuple[str, ...]) -> dict[str, str]:
    """What `VALUE=SPLIT` says, beside the splits that are called what they are.

    Raises:
        ConfigError: a word without `=`.
    """
    from sodakit.store.schema import SPLITS

    for word in words:
        if "=" not in word:
            raise ConfigError(f"--split-values {word}; needed: VALUE=SPLIT, such as dev=validation.")
    return {name: name for name in SPLITS} | {v: split for v, _, split in (w.rpartition("=") for w in words)}


def quality_judges(options: Options) -> "tuple[OpinionJudge | None, SpeakerJudge | None]":
    """The judges of quality and of speakers that are named."""
    from sodakit.eval.judge_folder import JudgeFolder, find_judges, named_speaker_judge
    from sodakit.eval.opinion import DnsMos

    found = JudgeFolder() if options.judges is None else find_judges(options.judges)
    folder, name = options.mos_judge or found.mos, options.speaker_judge or found.speakers
    mos = None if folder is None else DnsMos.load(folder)
    return mos, None if name is None else named_speaker_judge(str(name))


def prepare_options(
    options: Options, mos: "OpinionJudge | None" = None, speakers: "SpeakerJudge | None" = None
) -> "PrepareOptions":
    """The options of the stages from those of the command line, with the judges they name."""
    from sodakit.prepare.checks import Limits
    from sodakit.prepare.cleaning import CleaningRules
    from sodakit.prepare.options import PrepareOptions
    from sodakit.prepare.quality import QualityRules
    from sodakit.prepare.splits import SplitRule

    if options.split_values and not options.split_field:
        raise ConfigError("--split-values without --split-field; needed: the field whose values they are.")
    return PrepareOptions(
        limits=Limits(
            min_duration_s=options.min_duration_s,
            max_duration_s=options.max_duration_s,
            split_long=options.split_long,
            max_parts=options.max_parts,
            max_clipped_fraction=options.max_clipped_fraction,
            max_peak=options.max_peak,
            min_sample_rate_hz=options.min_sample_rate_hz,
            max_duration_error_s=options.max_duration_error_s,
            max_text_characters=options.max_text_characters,
            max_characters_per_s=options.max_characters_per_s,
            max_control_fraction=options.max_control_fraction,
        ),
        cleaning=CleaningRules(
            max_rate_deviations=options.max_rate_deviations,
            max_repeats=options.max_repeats,
            languages=options.languages,
            near_duplicate_share=options.near_duplicate_share,
        ),
        quality=QualityRules(
            quality=options.quality,
            min_bandwidth_hz=options.min_bandwidth_hz,
            min_snr_db=options.min_snr_db,
            min_mos=options.min_mos,
            min_voice_match=options.min_voice_match,
            mos_judge=None if mos is None else mos.fingerprint,
            speaker_judge=None if speakers is None else speakers.fingerprint,
        ),
        split=SplitRule(
            by=options.split_by,
            validation_fraction=options.validation,
            test_fraction=options.test,
            stratify=options.stratify,
            keep_own=not options.redraw,
            by_field=options.split_field,
            values=split_values(options.split_values),
        ),
        text_vocab_size=options.text_vocab_size,
        shard_duration_s=options.shard_duration_s,
        workers=options.workers,
        engine=options.engine,
        verify_items=options.verify_items,
        max_failed_fraction=options.max_failed_fraction,
        fresh=options.fresh,
    )
