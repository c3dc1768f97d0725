"""Training on a scale of seconds: that it learns, that it resumes, and that the data says what it should."""

import gzip
import importlib.util
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.ema import EntryAverages
from sodakit.codec.fit.losses import envelope_mismatch
from sodakit.codec.fit.sounds import (
    UNKNOWN,
    Batches,
    Sound,
    plain_phone,
    read_sentences,
    recordings,
    synthetic,
)
from sodakit.codec.fit.speakers import speakers
from sodakit.codec.fit.trainer import Fit, train
from sodakit.codec.quality import stoi
from sodakit.codec.quantizer import SplitQuantizer
from sodakit.errors import CheckpointError, ConfigError, Stopped
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from tests.codec.conftest import TINY
from tests.codec.test_quality import speechlike

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


def hum(pitch_hz: float, phone: int, seconds: int = 3) -> Sound:
    time_S = np.arange(seconds * 24_000) / 24_000
    wave_S = sum(np.sin(2 * np.pi * pitch_hz * h * time_S) / h for h in range(1, 20))
    wave_S = wave_S * (
        0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_S)
    )  # syllables: envelopes must have something to follow
    samples_S = (8000 * wave_S / np.abs(wave_S).max()).astype(np.int16)
    return Sound(samples_S, np.full(seconds * 100, phone, np.int16))


def tiny_fit(out: Path, minutes: float = 1.0) -> Fit:
    config = FitConfig(out=out, minutes=minutes, network=TINY, batch_rows=4, segment_frames=8, warmup_steps=5)
    return Fit(config, Batches(config, [hum(100.0, 1), hum(240.0, 2)], []))


def test_training_brings_sound_envelopes_and_phones_nearer(tmp_path: Path) -> None:
    fit = tiny_fit(tmp_path)
    losses = [fit.train_step() for _ in range(50)]
    for name, ratio in (("mel", 0.9), ("envelope", 0.95), ("phone", 0.7)):
        first, last = (np.mean([row[name] for row in part]) for part in (losses[:5], losses[-5:]))
        assert last < ratio * first, f"{name} went from {first:.3f} to {last:.3f}"


def test_a_resumed_run_continues_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    straight, stopped = tiny_fit(tmp_path / "a"), tiny_fit(tmp_path / "b")
    for _ in range(3):
        straight.train_step(), stopped.train_step()
    stopped.save()
    resumed = tiny_fit(tmp_path / "b")
    assert resumed.resume() and resumed.step == 3
    assert [straight.train_step() for _ in range(2)] == [resumed.train_step() for _ in range(2)]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    tiny_fit(tmp_path).save()
    config = FitConfig(out=tmp_path, network=replace(TINY, code_width=12), batch_rows=4, segment_frames=8)
    other = Fit(config, Batches(config, [hum(100.0, 1)], []))
    with pytest.raises(CheckpointError, match="another shape"):
        other.resume()


def test_a_run_starts_from_what_fits_of_another_codec(tmp_path: Path) -> None:
    first = tiny_fit(tmp_path / "a")
    first.train_step()
    first.save()
    deeper = replace(TINY, num_codebooks=4)
    config = FitConfig(out=tmp_path / "b", network=deeper, batch_rows=4, segment_frames=8)
    second = Fit(config, Batches(config, [hum(100.0, 1)], []))
    second.start_from(tmp_path / "a")
    ours, theirs = second.network.state_dict(), first.codec().network.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert len(ours) == len(theirs) + 1, "one more codebook, which starts anew"
    second.train_step()
    assert torch.dist(second.network.quantizer.book(0).entries, theirs["quantizer.codebooks.0.entries"]) < 5


def test_entries_settle_on_the_means_of_what_they_attract() -> None:
    torch.manual_seed(0)
    quantizer = SplitQuantizer(4, 4, 4, 1, 24)
    averages = EntryAverages(quantizer, decay=0.9)
    centres = 3 * torch.randn(8, 4)
    for _ in range(300):
        x_ND = centres[torch.randint(8, (64,))] + 0.05 * torch.randn(64, 4)
        averages.observe(0, x_ND, quantizer.book(0).nearest(x_ND))
    distances = torch.cdist(centres, quantizer.book(0).entries).min(1).values
    assert distances.max() < 0.2, "a centre without an entry: dead entries were not revived"


def test_no_training_voice_is_an_unseen_one() -> None:
    drawn = [voice for voice, _ in zip(speakers(0), range(3000), strict=False)]
    assert not {voice.variant for voice in drawn} & {voice.variant for voice in UNSEEN_VOICES}
    assert set(SEEN_VOICES) <= set(drawn) and len({voice.espeak_name for voice in drawn}) > 200


@needs_espeak
def test_synthetic_speech_carries_phones_where_they_sound_and_is_the_same_every_time(tmp_path: Path) -> None:
    config = FitConfig(out=tmp_path, voices_hours=0.01)
    spoken, phones = synthetic(config)
    again, _ = synthetic(config)
    assert sum(len(sound.samples_S) for sound in spoken) >= 36 * 24_000
    for sound, same in zip(spoken, again, strict=True):
        assert len(sound.phones_T) == -(-len(sound.samples_S) // 240)
        np.testing.assert_array_equal(sound.samples_S, same.samples_S)
    vowels = [i for i, phone in enumerate(phones) if phone[0] in "aeiouAEIOU"]
    power = [
        np.concatenate([_hop_power(s)[np.isin(s.phones_T, kind)] for s in spoken])
        for kind in (vowels, [phones.index("_")])
    ]
    assert np.median(power[0]) > 100 * np.median(power[1])


def _hop_power(sound: Sound) -> np.ndarray:
    padded_S = np.zeros(240 * len(sound.phones_T))
    padded_S[: len(sound.samples_S)] = sound.samples_S
    return np.square(padded_S).reshape(-1, 240).mean(1)


def test_recordings_have_no_phones_and_unreadable_files_are_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_wave(tmp_path / "data" / "a.wav", Wave(0.1 * random.standard_normal(16_000), 16_000))
    (tmp_path / "data" / "b.wav").write_bytes(b"not a sound")
    (found,) = recordings(FitConfig(out=tmp_path, data=(tmp_path / "data",)))
    assert len(found) > 1 and all((sound.phones_T == UNKNOWN).all() for sound in found)
    assert len({len(sound.samples_S) for sound in found}) == len(found), "versions at different speeds"


def test_rows_are_cut_on_hops_so_that_labels_stay_with_their_sound(tmp_path: Path) -> None:
    config = FitConfig(out=tmp_path, network=TINY, batch_rows=16, segment_frames=8)
    random = np.random.default_rng(0)
    levels_T = random.integers(8000, 30_000, 300)  # the sound says which hop it is by its level
    sound = Sound(np.repeat(levels_T, 240).astype(np.int16), np.arange(300, dtype=np.int16))
    batch = Batches(config, [sound], []).draw(random)
    assert batch.wave_BS.shape == (16, 8 * 1920 + 960) and batch.phones_BT.shape == (16, 64)
    for wave_S, phones_T in zip(batch.wave_BS.numpy(), batch.phones_BT.numpy(), strict=True):
        hops_T = wave_S[: 64 * 240].reshape(64, 240).mean(1)
        assert np.corrcoef(hops_T, levels_T[phones_T])[0, 1] > 0.99


def test_sentences_are_read_from_text_and_json_lines_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three four\ntoo short\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "five six seven", "id": 1}) + "\n")
    assert read_sentences(tmp_path / "a.txt") == ["one two three four"]
    assert read_sentences(tmp_path / "b.jsonl.gz") == ["five six seven"]
    with pytest.raises(ConfigError, match="does not exist"):
        read_sentences(tmp_path / "c.txt")


def test_phones_lose_stress_and_pauses_are_one() -> None:
    assert [plain_phone(phone) for phone in ("'i:", ",aI", "t", "_:", "", "@L")] == [
        "i:",
        "aI",
        "t",
        "_",
        "_",
        "@L",
    ]


def test_the_envelope_mismatch_follows_one_minus_stoi() -> None:
    clean = speechlike()
    noise_S = np.random.default_rng(1).standard_normal(len(clean.samples_S)).astype(np.float32)
    for level in (0.0, 0.01, 0.05, 0.3):
        noisy = Wave(clean.samples_S + level * noise_S, 24_000)
        waves_BS = (torch.from_numpy(wave.samples_S)[None] for wave in (noisy, clean))
        mismatch = float(envelope_mismatch(*waves_BS, 24_000))
        assert mismatch == pytest.approx(1 - stoi(clean, noisy), abs=0.12)


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing to train on"):
        FitConfig(out=tmp_path, voices_hours=0)
    config = FitConfig(out=tmp_path, network=TINY)
    with pytest.raises(ConfigError, match="Lower segment_frames"):
        Batches(config, [hum(100.0, 1, seconds=1)], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever was learnt since the last save, up to five minutes, was lost, and the message said it was kept."""
    write_wave(tmp_path / "data/a.wav", Wave(hum(100.0, 1).samples_S.astype(np.float32) / 2**15, 24_000))
    config = FitConfig(
        out=tmp_path / "out",
        data=(tmp_path / "data",),
        voices_hours=0.0,
        network=TINY,
        batch_rows=4,
        segment_frames=8,
        steps=4,
    )
    step = Fit.train_step

    def interrupted(fit: Fit) -> dict[str, float]:
        if fit.step == 1:
            signal.raise_signal(number)
        return step(fit)

    monkeypatch.setattr(Fit, "train_step", interrupted)
    with pytest.raises(Stopped) as stopped:
        train(config)
    assert stopped.value.step == 2 and stopped.value.code == 0
    monkeypatch.setattr(Fit, "train_step", step)
    resumed = train(config)
    straight = train(replace(config, out=tmp_path / "straight"))
    for name, tensor in straight.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
