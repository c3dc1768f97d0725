"""How good sounds are: the columns order clips as a listener would, and limits leave out the right ones."""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import read_wave, resample, write_wave
from sodakit.audio.quality import bandwidth_hz, clipped_fraction, signal_to_noise_db
from sodakit.audio.wave import Wave
from sodakit.commands.describe import main as describe
from sodakit.commands.prepare import main as prepare_command
from sodakit.errors import ConfigError
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.prepare.quality import QualityMeter, QualityRules, voice_match
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from tests.prepare.test_stages import options, toy
from tests.recordings import real_recordings

SPEECH = Path(__file__).parents[1] / "fixtures" / "speech"


def noisy(wave: Wave, snr_db: float, noise_S: np.ndarray | None = None) -> Wave:
    if noise_S is None:
        noise_S = np.random.default_rng(0).normal(size=len(wave.samples_S))
    noise_S = np.resize(noise_S, len(wave.samples_S))
    gain = np.sqrt(np.mean(wave.samples_S**2) / np.mean(noise_S**2) / 10 ** (snr_db / 10))
    return Wave((wave.samples_S + gain * noise_S).astype(np.float32), wave.sample_rate_hz)


def narrow(wave: Wave) -> Wave:
    return resample(resample(wave, 8000), wave.sample_rate_hz)


def after(first: Wave, second: Wave) -> Wave:
    samples_S = np.concatenate([first.samples_S, resample(second, first.sample_rate_hz).samples_S])
    return Wave(samples_S, first.sample_rate_hz)


def clips() -> dict[str, Wave]:
    anna, frank = (read_wave(SPEECH / f"{name}_0.opus") for name in ("anna", "frank"))
    more = read_wave(SPEECH / "anna_1.opus")
    return {
        "clean": after(anna, more),
        "noisy": noisy(after(anna, more), 5),
        "narrow": narrow(after(anna, more)),
        "two": after(anna, frank),
    }


@dataclass(frozen=True)
class Loudness:
    """Stands for a judge of quality: what it says of a sound is known. It pickles."""

    def rate(self, waves: Sequence[Wave]) -> list[Mapping[str, float]]:
        return [{"mos_ovrl": 1 + 4 * float(np.abs(w.samples_S).max()), "mos_sig": 2.0} for w in waves]


def test_each_column_finds_its_own_fault() -> None:
    meter = QualityMeter(QualityRules(quality=True), speakers=SpectralSpeaker())
    found = {name: meter.measure(wave) for name, wave in clips().items()}
    assert found["noisy"]["snr_db"] < 15 < 25 < found["clean"]["snr_db"]
    assert found["narrow"]["bandwidth_hz"] < 4100 < 6000 < found["clean"]["bandwidth_hz"]
    assert found["two"]["voice_match"] < found["clean"]["voice_match"] - 0.2
    assert list(found["clean"]) == ["clipped_fraction", "bandwidth_hz", "snr_db", "voice_match"]


def test_real_recordings_with_noise_a_telephone_and_a_second_speaker() -> None:
    people, noises, rooms = (real_recordings(name) for name in ("vctk", "esc10", "rir"))
    rows = [json.loads(line) for line in (people / "manifest.jsonl").read_text().splitlines()]
    sounds = [json.loads(line) for line in (noises / "manifest.jsonl").read_text().splitlines()]
    rain = next(read_wave(noises / row["audio"]) for row in sounds if row["label"] == "rain")
    room = read_wave(next((rooms / "audio").glob("*response_0.wav")))
    first, other = (
        [read_wave(people / row["audio"]) for row in rows if row["speaker"] == speaker][:2]
        for speaker in ("p225", "p226")
    )
    for own, second, stranger in ((first[0], first[1], other[0]), (other[0], other[1], first[0])):
        rain_S = resample(rain, own.sample_rate_hz).samples_S
        levels = [signal_to_noise_db(wave) for wave in (own, noisy(own, 20, rain_S), noisy(own, 5, rain_S))]
        assert levels == sorted(levels, reverse=True) and levels[0] > levels[1] + 3 > levels[2] + 6
        heard_S = np.convolve(own.samples_S, resample(room, own.sample_rate_hz).samples_S).astype(np.float32)
        assert signal_to_noise_db(Wave(heard_S[: len(own.samples_S)], own.sample_rate_hz)) < levels[0]
        assert bandwidth_hz(narrow(own)) < 4100 < 7000 < bandwidth_hz(own)
        alike, apart = (voice_match(after(own, w), SpectralSpeaker()) for w in (second, stranger))
        assert alike is not None and apart is not None and apart < alike - 0.2


def test_limits_leave_out_the_right_ones_and_say_the_value(tmp_path: Path) -> None:
    items = [Item(id=name, wave=wave, text=f"this is {name}") for name, wave in clips().items()]
    quiet = Wave(items[0].wave.samples_S * 0.1, items[0].wave.sample_rate_hz)  # type: ignore[union-attr]
    items.append(Item(id="quiet", wave=quiet, text="this is quiet"))
    rules = QualityRules(min_bandwidth_hz=4200, min_snr_db=18, min_voice_match=0.4, min_mos=1.5,
                         mos_judge="m", speaker_judge="s")  # fmt: skip
    made = prepare(items, tmp_path / "store", toy(), options(quality=rules, max_failed_fraction=0.9),
                   mos=Loudness(), speakers=SpectralSpeaker())  # fmt: skip
    reasons = {row["id"]: row["reason"] for row in made.rejected}
    assert reasons == {
        "noisy": "noisy",
        "narrow": "narrow band",
        "two": "voice changes",
        "quiet": "low quality",
    }
    told = {row["id"]: row["detail"] for row in made.rejected}
    assert (
        "bandwidth_hz 3875 Hz, needed at least 4200 Hz" in told["narrow"]
        and "dB, needed at least 18 dB" in told["noisy"]
    )
    (kept,) = StoreReader(tmp_path / "store").utterances("train")
    assert kept.id == "clean" and kept.quality["mos_sig"] == 2 and kept.quality["snr_db"] > 18


def test_columns_are_kept_and_described_and_change_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, wave in clips().items():
        write_wave(tmp_path / "in" / f"{name}.wav", wave)
        (tmp_path / "in" / f"{name}.txt").write_text(f"this is {name}")
    words = [str(tmp_path / "in"), "--codec", "toy", "--validation", "0", "--test", "0", "--out"]
    prepare_command([*words, str(tmp_path / "plain")])
    prepare_command([*words, str(tmp_path / "measured"), "--quality"])
    plain, measured = (StoreReader(tmp_path / name) for name in ("plain", "measured"))
    assert plain.quality("train") == {} and set(measured.quality("train")) == {
        "clipped_fraction",
        "bandwidth_hz",
        "snr_db",
    }
    assert np.array_equal(plain.columns("train").codes, measured.columns("train").codes)
    assert [u.quality["snr_db"] for u in measured.utterances("train")] == measured.quality("train")[
        "snr_db"
    ].tolist()
    measured.verify()
    capsys.readouterr()
    describe([str(tmp_path / "measured")])
    assert "snr_db: median" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match=r"min_snr_db: None then, 15\.0 now"):
        prepare_command([*words, str(tmp_path / "measured"), "--quality", "--min-snr-db", "15"])
    with pytest.raises(ConfigError, match=r"min_mos=3 needs a judge of quality.*--mos-judge"):
        prepare_command([*words, str(tmp_path / "x"), "--min-mos", "3"])
    with pytest.raises(ConfigError, match=r"min_voice_match=0\.5 needs a judge of speakers.*Resemblyzer"):
        prepare_command([*words, str(tmp_path / "x"), "--min-voice-match", "0.5"])


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
def test_white_noise_fills_its_band_and_silence_has_none(rate_hz: int) -> None:
    noise = Wave(np.random.default_rng(1).normal(0, 0.1, rate_hz).astype(np.float32), rate_hz)
    assert bandwidth_hz(noise) > 0.48 * rate_hz and signal_to_noise_db(noise) < 3
    silent = Wave(np.zeros(rate_hz, np.float32), rate_hz)
    assert bandwidth_hz(silent) == signal_to_noise_db(silent) == clipped_fraction(silent.samples_S) == 0
    padded = Wave(np.concatenate([noise.samples_S, silent.samples_S]), rate_hz)
    assert signal_to_noise_db(padded) < 3  # written silence is no quiet recording
    assert voice_match(silent, SpectralSpeaker()) is None
    assert bandwidth_hz(Wave(noise.samples_S[:5], rate_hz)) >= 0


def test_a_meter_goes_to_other_processes() -> None:
    meter = QualityMeter(QualityRules(quality=True), Loudness(), SpectralSpeaker())
    assert pickle.loads(pickle.dumps(meter)) == meter
