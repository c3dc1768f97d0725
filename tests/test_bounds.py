"""No number that a setting cannot have gets as far as a traceback, or is silently taken."""

import dataclasses
import math
import re
import typing
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from sodakit.bounds import Bounded, Bounds, Count, Positive, Share, ShareBelowOne, check_bounds
from sodakit.cli import main
from sodakit.codec.load import load_codec
from sodakit.config import from_plain, override
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.errors import CodecError, ConfigError
from sodakit.model.config import model_size
from sodakit.train.config import TrainConfig
from tests.test_help import PLAIN, WORDS, module_of

ZERO_IS_MEANT = {
    "temperature", "top_k", "seed", "seeds", "shots", "queue", "port", "lora", "replay", "validation", "test", "draws",
    "hold_out", "drop_highest", "at_s", "gpu_price", "hourly_cost", "weights", "examples", "report_cases",
    "verify_items", "speech_padding_s", "least_silence_s", "least_speech_s", "min_duration_s", "min_sample_rate_hz",
    "max_duration_error_s", "max_clipped_fraction", "max_control_fraction", "max_failed_fraction", "snr_db",
    "min_snr_db", "min_voice_match", "min_confidence", "replay_share", "variants",
    "voices_hours", "grid_share", "cpus_per_run", "gpus_per_run", "inference_tokens", "floor", "ceiling",
}  # fmt: skip
"""Options of which 0 says something: none of them, the first, or the coldest."""
GOOD = {
    "replay_share": "0.5",
    "validation": "0.5",
    "test": "0.5",
    "replay": "0.5",
    "window": "2",
    "context": "2",
    "count": "2",
}
"""What is tried of those that do not take 1."""


def options_of(verb: str, word: str | None) -> type:
    return WORDS[verb][word] if word else module_of(verb).Options


def numbers_of(kind: type) -> dict[str, type]:
    """The options that take a number, and whether it is a whole one."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        inside = {hint, *typing.get_args(hint)} & {int, float}
        if inside and name in {f.name for f in dataclasses.fields(kind)}:
            found[name] = inside.pop()
    return found


def needed_words(kind: type) -> list[str]:
    """Words for the options without a default."""
    words = []
    for option in dataclasses.fields(kind):
        if option.default is not dataclasses.MISSING or option.default_factory is not dataclasses.MISSING:
            continue
        positional = "Positional" in str(option.type)
        hint = typing.get_type_hints(kind)[option.name]
        word = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Literal else "x"
        value = "7" if option.name in numbers_of(kind) else word
        words += [value] if positional else [f"--{option.name.replace('_', '-')}", value]
    return words


CASES = [(verb, None) for verb in PLAIN] + [(verb, word) for verb, words in WORDS.items() for word in words]


@pytest.mark.parametrize(("verb", "word"), CASES)
def test_every_number_of_a_command_line_is_asked_before_anything_is_done(verb, word, capsys, monkeypatch):
    kind = options_of(verb, word)

    class Went(Exception):
        pass

    def stop(*args, **more):
        raise Went

    if word:
        monkeypatch.setattr(kind, "run", stop)
    else:
        read = module_of(verb).read_options
        monkeypatch.setattr(module_of(verb), "read_options", lambda *given: stop(read(*given)))
    before = [] if word is None else [word]
    for name, number in numbers_of(kind).items():
        option = f"--{name.replace('_', '-')}"
        needed = needed_words(kind)
        if option in needed:
            del needed[needed.index(option) : needed.index(option) + 2]
        bad = ["zzz", "nan", "inf", str(10**23) if number is int else "-inf"]
        bad += [] if name.endswith("_db") or name in ("floor", "ceiling", "min_voice_match") else ["-1"]
        bad += [] if name in ZERO_IS_MEANT else ["0"]
        if name in ("max_duration_s", "max_duration_error_s", "total"):
            bad.remove("inf")
        for value in bad:
            with pytest.raises(SystemExit) as stopped:
                try:
                    main([verb, *before, *needed, option, value])
                except Went:
                    pytest.fail(f"sodakit {verb} {word or ''} {option} {value} is taken")
            said = capsys.readouterr().err
            assert stopped.value.code == 2 and option in said and "Traceback" not in said, (
                option,
                value,
                said,
            )
        with pytest.raises(Went):
            main([verb, *before, *needed, option, GOOD.get(name, "1")])


@pytest.mark.parametrize(("verb", "word"), CASES)
def test_a_device_that_is_not_here_is_refused_by_every_command(verb, word, capsys, monkeypatch):
    kind = options_of(verb, word)
    for name in {f.name for f in dataclasses.fields(kind)} & {"device", "judge_device"}:
        with pytest.raises(SystemExit) as stopped:
            words = [*([word] if word else []), *needed_words(kind), f"--{name.replace('_', '-')}", "zzz"]
            main([verb, *words])
        assert stopped.value.code == 2 and "device='zzz' is not here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", "1e99"), ("steps", "0"), ("steps", "Infinity"), ("steps", "NaN"), ("steps", "2.5"),
        ("schedule.peak_lr", "0"), ("schedule.peak_lr", "1e300"), ("schedule.peak_lr", "-1e-3"), ("schedule.peak_lr", "NaN"),
        ("schedule.warmup_fraction", "-0.1"), ("schedule.final_fraction", "2"), ("log_every_steps", "0"),
        ("validate_every_steps", "0"), ("listen_every_steps", "0"), ("save_every_steps", "-5"), ("keep_checkpoints", "-1"),
        ("seed", "-1"), ("seed", "12345678901234567890123"), ("data.seed", "-1"), ("data.batch_rows", "0"),
        ("data.context", "1"), ("data.sources", '[{"store": "s", "weight": NaN}]'), ("loss.z_loss", "-1"),
        ("data.sources", '[{"store": "s", "weight": -1}]'), ("data.sources", '[{"store": "s", "max_epochs": 0}]'),
        ("loss.kind_weights", '{"text": -1}'), ("optim.beta1", "1"), ("optim.weight_decay", "Infinity"),
        ("optim.clip_norm", "0"), ("micro_rows", "0"), ("validation_rows", "0"), ("lora", '{"rank": 0}'),
        ("model.layers", "0"), ("model.norm_eps", "Infinity"), ("model.rope_theta", "NaN"), ("model.init_std", "-1"),
        ("model.width", "1e30"),
    ],
)  # fmt: skip
def test_no_setting_of_a_run_takes_a_number_it_cannot_have(setting, value):
    source = SourceConfig(store="s")
    run = TrainConfig(model=model_size("nano"), data=DataConfig(sources=(source,)), steps=10)
    with pytest.raises(
        ConfigError, match=rf"{setting.split('.')[1 if '.' in setting else 0].split('_')[-1]}"
    ):
        override(run, {setting: value})


@dataclass(frozen=True)
class Some(Bounded):
    count: Count = 1
    share: Share = 0.5
    rates: tuple[Positive, ...] = ()
    limit_s: Annotated[float, Bounds(least=0, endless=True)] | None = None
    level_db: float = -3.0
    weights: dict[str, ShareBelowOne] = field(default_factory=dict)
    on: bool = False


def test_bounds_hold_inside_lists_tables_and_optional_values():
    good = Some(
        count=3, share=1, rates=(1e-9, 5.0), limit_s=math.inf, level_db=-60, weights={"a": 0}, on=True
    )
    assert from_plain(Some, {"count": 3.0, "limit_s": None}) == Some(count=3) and good.share == 1
    for bad, needed in [
        ({"count": 0}, "count=0; needed: at least 1."),
        ({"count": 2**63}, "count=9223372036854775808; needed: less than 2^63."),
        ({"count": 10**40}, f"count={'1' + '0' * 26}…; needed: less than 2^63"),
        ({"rates": (1e300,)}, "rates=1e+300; needed: less than 3.4e+38."),
        ({"share": -0.1}, "share=-0.1; needed: 0 to 1."),
        ({"rates": (1.0, 0.0)}, "rates=0.0; needed: more than 0."),
        ({"limit_s": -1.0}, "limit_s=-1.0; needed: at least 0, or inf for no limit."),
        ({"limit_s": math.nan}, "limit_s=nan"),
        ({"level_db": math.inf}, "level_db=inf; needed: a finite number."),
        ({"weights": {"a": 1.0}}, "weights=1.0; needed: at least 0 and less than 1."),
    ]:
        with pytest.raises(ConfigError, match=re.escape(needed)):
            Some(**bad)
        with pytest.raises(ConfigError, match=r"some\."):
            from_plain(Some, bad, "some")
    check_bounds(Some, {"count": 1, "unknown": -1})


@pytest.mark.parametrize("count", [0, -1, 10**15])
def test_a_toy_codec_of_no_or_of_too_many_codebooks_is_refused(count):
    with pytest.raises(CodecError, match=f"{count} codebooks"):
        load_codec("toy", num_codebooks=count)


def test_a_codec_on_a_device_that_is_not_here_is_refused():
    for name in ("toy", "mini"):
        with pytest.raises(ConfigError, match="device='zzz' is not here"):
            load_codec(name, device="zzz")
    with pytest.raises(CodecError, match="num_codebooks=0"):
        load_codec("mini", num_codebooks=0)
