"""Aligners of each kind on small models of the real classes, and the one that is taught here on speech of known times."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from sodakit.align.ctc import CtcAligner, Frames, hub_aligner, taught_aligner
from sodakit.align.named import named_aligner
from sodakit.align.taught import teach_aligner
from sodakit.align.viterbi import forced_path
from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.judges import CtcJudge, HubJudge
from sodakit.hardware import torch_threads
from sodakit.prepare.recording import Item
from sodakit.voices.contract import Speech
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices
from tests.align.fakes import noise
from tests.eval.small_judges import small_faster_whisper, small_wav2vec2, small_whisper


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices gain nothing from a second thread, and tests share the machine."""
    with torch_threads(1):
        yield


SPOKEN = "__hhe_l_lo || _wo_rrld_"
"""A frame each, `_` for the blank, `|` between words; the space is for the reader."""
LETTERS = "_|helowrd"


def spelled(frames: str, confidence: float = 0.9) -> np.ndarray:
    frames = frames.replace(" ", "")
    probs_FV = np.full((len(frames), len(LETTERS)), (1 - confidence) / (len(LETTERS) - 1))
    for frame, letter in enumerate(frames):
        probs_FV[frame, LETTERS.index(letter)] = confidence
    return np.log(probs_FV)


def aligner_of(frames: str, between: bool = True, **more) -> CtcAligner:
    def listen(waves: Sequence[Wave]) -> Iterator[Frames]:
        yield from (Frames(spelled(frames), -0.1, 0.1) for _ in waves)

    def spell(word: str) -> list[int]:
        return [LETTERS.index(c) for c in word.lower() if c in LETTERS[2:]]

    return CtcAligner("spelled", "1", listen, spell, 0, 1 if between else None, **more)


@pytest.mark.parametrize("between", [True, False])
def test_words_begin_with_their_first_letter_and_end_with_their_last(between):
    (words,) = aligner_of(SPOKEN, between).align([noise(3.0)], ["Hello, — World!"], [""])
    assert [w.word for w in words] == ["Hello,", "World!"]
    # Frame 2 begins at -0.1 + 0.2 s.
    times = [(round(w.start_s, 6), round(w.end_s, 6)) for w in words]
    assert times == [(0.1, 0.9), (1.2, 1.9)]
    assert all(w.confidence == pytest.approx(0.9) for w in words)


def test_words_meet_where_no_pause_is_and_begin_before_their_first_letter_is_sure():
    (words,) = aligner_of("__hel_lo|wo_rld").align([noise(1.5)], ["hello world"], [""])
    assert words[0].end_s == words[1].start_s == pytest.approx(0.75)
    (words,) = aligner_of("__hel_lo|wo_rld", border=0.0, lead_s=0.05).align(
        [noise(1.5)], ["hello world"], [""]
    )
    assert (words[0].start_s, words[0].end_s, words[1].start_s) == pytest.approx((0.05, 0.7, 0.7))


def test_a_word_of_unknown_letters_is_what_stands_between_its_neighbours():
    (words,) = aligner_of("__hhe_l_lo |_rro_| wo_rld").align([noise(3.0)], ["hello 25 world"], [""])
    assert [w.word for w in words] == ["hello", "25", "world"]
    assert words[0].end_s <= words[1].start_s < words[1].end_s <= words[2].start_s
    assert (words[1].start_s, words[1].end_s) == pytest.approx((1.1, 1.4))


def test_a_wrong_text_is_told_by_its_confidence_and_one_without_room_is_not_aligned():
    (wrong,) = aligner_of(SPOKEN).align([noise(3.0)], ["dell hello"], [""])
    assert np.mean([w.confidence for w in wrong]) < 0.6
    assert aligner_of("__h_").align([noise(0.4)], ["hello"], [""]) == [()]


def test_a_hub_model_is_held_to_its_text_by_its_own_log_probabilities(tmp_path):
    small_wav2vec2(tmp_path / "small")
    aligner = named_aligner(str(tmp_path / "small"))
    wave = noise(0.5, 8000)
    (words,) = aligner.align([wave], ["Bad abed É"], [""])
    from transformers import AutoModelForCTC, AutoProcessor

    model = AutoModelForCTC.from_pretrained(tmp_path / "small").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "small")
    heard_S = resample(wave, 16_000).samples_S
    with torch.inference_mode():
        logits = model(**processor(heard_S, sampling_rate=16_000, return_tensors="pt")).logits[0]
    vocabulary = processor.tokenizer.get_vocab()
    labels = [vocabulary[c] for c in "bad|abed|e"]
    path = forced_path(logits.log_softmax(-1).numpy(), np.array(labels), processor.tokenizer.pad_token_id)
    firsts, lasts = path.first_L[[0, 4, 9]], path.last_L[[2, 7, 9]]
    starts_s, ends_s = firsts * 20 / 16_000, (lasts + 1) * 20 / 16_000
    assert (words[0].start_s, words[-1].end_s) == pytest.approx((starts_s[0], ends_s[-1]))
    for n in (0, 1):
        met_s = (ends_s[n] + starts_s[n + 1]) / 2 if starts_s[n + 1] - ends_s[n] < 0.16 else None
        assert words[n].end_s == pytest.approx(met_s or ends_s[n])
        assert words[n + 1].start_s == pytest.approx(met_s or starts_s[n + 1])


def test_a_long_sound_is_heard_in_pieces_that_fit_together(tmp_path, monkeypatch):
    """Frame n of the whole is frame n of some piece: no frame is lost or doubled at a border."""
    small_wav2vec2(tmp_path / "small")
    aligner = hub_aligner(HubJudge.load(str(tmp_path / "small")))
    for samples in (16_000, 16_037, 32_000, 24_019):
        wave = noise(samples / 16_000)
        (whole,) = aligner.listen([wave])
        monkeypatch.setattr("sodakit.align.ctc.PIECE_S", 0.5)
        monkeypatch.setattr("sodakit.align.ctc.MARGIN_S", 0.1)
        (pieces,) = aligner.listen([wave])
        monkeypatch.undo()
        assert pieces.log_probs_FV.shape == whole.log_probs_FV.shape
        assert np.allclose(np.exp(pieces.log_probs_FV).sum(1), 1, atol=1e-5)


def test_models_that_label_no_frames_are_refused(tmp_path):
    small_whisper(tmp_path / "small")
    with pytest.raises(ConfigError, match="labels no frames"):
        named_aligner(str(tmp_path / "small"))
    with pytest.raises(ConfigError, match="does not load"):
        named_aligner(str(tmp_path / "nothing"))


def test_whisper_tells_every_word_of_the_given_text(tmp_path):
    pytest.importorskip("faster_whisper")
    aligner = named_aligner(str(small_faster_whisper(tmp_path)), language="en")
    short, long = aligner.align(
        [noise(1.5), noise(31.0)], ["Hello, big world!", "Hello, big world!"], ["", ""]
    )
    assert "".join(w.word for w in short) == "Hello,bigworld!"
    assert all(0 <= w.start_s <= w.end_s <= 31.0 and 0 <= w.confidence <= 1 for w in (*short, *long))
    assert [w.start_s for w in short] == sorted(w.start_s for w in short)
    assert len({aligner.fingerprint, named_aligner(str(tmp_path / "tiny"), language="en").fingerprint}) == 1


def spoken(count: int) -> list[tuple[str, Speech]]:
    """Sentences by two voices that tell the times of their words."""
    texts = [
        f"{who} {does} the {what} {when}"
        for who in ("Anna", "Tom", "My brother")
        for does in ("opens", "paints", "forgets")
        for what in ("door", "yellow lamp", "old garden")
        for when in ("now", "every morning")
    ]
    voices = find_voices(["anna", "frank"])
    with Synthesizer() as engines:
        return [(text, engines.speak(text, voices[n % 2])) for n, text in enumerate(texts[:count])]


def items_of(said: list[tuple[str, Speech]]) -> list[Item]:
    return [Item(id=str(n), wave=speech.wave, text=text) for n, (text, speech) in enumerate(said)]


def test_an_aligner_that_is_taught_here_is_kept_and_opened_again(tmp_path):
    said = spoken(8)
    aligner = teach_aligner(items_of(said), tmp_path / "aligner.safetensors", epochs=1)
    again = named_aligner(str(tmp_path / "aligner.safetensors"))
    assert teach_aligner([], tmp_path / "aligner.safetensors").fingerprint == aligner.fingerprint
    waves, texts = [speech.wave for _, speech in said], [text for text, _ in said]
    found = aligner.align(waves, texts, [""] * len(texts))
    assert found == again.align(waves, texts, [""] * len(texts))
    assert [[w.word for w in words] for words in found] == [text.split() for text in texts]
    assert isinstance(taught_aligner(CtcJudge.load(tmp_path / "aligner.safetensors")), CtcAligner)


@pytest.mark.slow
def test_an_aligner_that_is_taught_here_finds_words_within_three_frames(tmp_path):
    said = spoken(54)
    aligner = teach_aligner(items_of(said), tmp_path / "aligner.safetensors", epochs=80)
    found = aligner.align([speech.wave for _, speech in said], [text for text, _ in said], [""] * len(said))
    errors_s = [
        abs(mine - known)
        for words, (_, speech) in zip(found, said, strict=True)
        for word, told in zip(words, speech.words, strict=True)
        for mine, known in ((word.start_s, told.start_s), (word.end_s, told.end_s))
    ]
    assert np.median(errors_s) < 0.12


def test_too_few_sounds_teach_nothing(tmp_path):
    items = items_of(spoken(3))
    with pytest.raises(ConfigError, match="--aligner"):
        teach_aligner(items, tmp_path / "aligner.safetensors")
