import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from sodakit.errors import AudioError, ConfigError, MissingExtra
from sodakit.voices import espeak
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES, voice
from sodakit.voices.espeak import EspeakEngine, EspeakVoice

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


@needs_espeak
def test_phones_tile_the_sound_in_order() -> None:
    with EspeakEngine() as synthesizer:
        speech = synthesizer.speak("Please open the door.", voice("anna"))
    starts = [span.start_s for span in speech.phones]
    ends = [span.end_s for span in speech.phones]
    assert starts[0] == 0 and ends[-1] == pytest.approx(speech.wave.duration_s) and starts[1:] == ends[:-1]
    spoken = "".join(span.phone for span in speech.phones if not span.is_pause)
    assert spoken.startswith("pl") and speech.wave.sample_rate_hz == 22050


@needs_espeak
def test_pauses_are_quiet_and_vowels_are_loud() -> None:
    """Labels that ran ahead of the sound, or behind it, would teach the codec the wrong phones."""
    with EspeakEngine() as synthesizer:
        speech = synthesizer.speak("Tomorrow morning. Please paint the gate.", voice("frank"))
    loudness = {True: [], False: []}
    for span in speech.phones:
        part = speech.wave.cut(span.start_s, span.end_s).samples_S
        if len(part) > 400 and (span.is_pause or span.phone.lstrip("'")[0] in "aeiouAEIOU@"):
            loudness[span.is_pause].append(float(np.sqrt(np.mean(part**2))))
    assert max(loudness[True]) < 0.2 * float(np.median(loudness[False]))


@needs_espeak
def test_a_sentence_sounds_the_same_whatever_was_said_before() -> None:
    """espeak-ng carries noise and phase over; a store made by two workers would differ from one made by one."""
    with EspeakEngine() as synthesizer:
        first = synthesizer.speak("Close the window.", voice("henry"))
        synthesizer.speak("Something else.", voice("bella"))
        again = synthesizer.speak("Close the window.", voice("henry"))
    np.testing.assert_array_equal(first.wave.samples_S, again.wave.samples_S)
    assert first.phones == again.phones


@needs_espeak
def test_many_texts_come_back_in_order_and_as_if_spoken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_MAX_IN_FLIGHT_BYTES", 300)  # two or three requests
    items = [(f"This is number {i}.", SEEN_VOICES[i % 3]) for i in range(12)]
    long = ("many words " * 40, SEEN_VOICES[0])  # a request larger than what may be in flight
    with EspeakEngine() as synthesizer:
        together = list(synthesizer.speak_many([*items, long, items[0]]))
        alone = synthesizer.speak(*items[7])
    assert len(together) == 14 and together[12].wave.duration_s > 10
    np.testing.assert_array_equal(together[7].wave.samples_S, alone.wave.samples_S)
    np.testing.assert_array_equal(together[13].wave.samples_S, together[0].wave.samples_S)


@needs_espeak
def test_stopping_early_does_not_mix_up_later_answers() -> None:
    with EspeakEngine() as synthesizer:
        for _ in synthesizer.speak_many((f"This is number {i}.", voice("anna")) for i in range(8)):
            break
        after = synthesizer.speak("Something else.", voice("anna"))
        np.testing.assert_array_equal(
            after.wave.samples_S, synthesizer.speak("Something else.", voice("anna")).wave.samples_S
        )


@needs_espeak
def test_every_voice_of_the_catalogue_speaks_and_none_sounds_like_another() -> None:
    voices = (*SEEN_VOICES, *UNSEEN_VOICES)
    with EspeakEngine() as synthesizer:
        spoken = list(synthesizer.speak_many([("Good morning.", each) for each in voices]))
    assert all(np.abs(speech.wave.samples_S).max() > 0.2 for speech in spoken)
    assert len({speech.wave.samples_S.tobytes() for speech in spoken}) == len(voices)


@needs_espeak
def test_an_unknown_voice_and_an_empty_text_say_what_is_wrong_and_the_next_text_is_spoken() -> None:
    with EspeakEngine() as synthesizer:
        with pytest.raises(ConfigError, match="no voice 'xx"):
            synthesizer.speak("Hello.", EspeakVoice(name="x", language="xx-nowhere", variant=""))
        with pytest.raises(AudioError, match="says nothing"):
            synthesizer.speak("", voice("anna"))
        assert synthesizer.speak("Hello.", voice("anna")).wave.duration_s > 0.2


@needs_espeak
def test_a_worker_that_died_is_reported_and_not_waited_for() -> None:
    synthesizer = EspeakEngine()
    synthesizer._process.kill()
    synthesizer._process.wait()
    with pytest.raises(AudioError, match="ended with status"):
        synthesizer.speak("Hello.", voice("anna"))
    synthesizer.close()


@needs_espeak
def test_the_package_never_loads_espeak_into_its_own_process() -> None:
    """espeak-ng is GPL-3; this package is not."""
    code = (
        "import sys; from sodakit.voices.espeak import EspeakEngine; from sodakit.voices.catalogue import voice\n"
        "with EspeakEngine() as s: s.speak('Hello.', voice('anna'))\n"
        "print('espeakng_loader' in sys.modules, 'espeak' in open('/proc/self/maps').read())"
    )
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


def test_without_espeak_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sodakit\[voices\]"):
        EspeakEngine()


def test_a_voice_out_of_range_names_the_field() -> None:
    with pytest.raises(ConfigError, match="pitch=120"):
        EspeakVoice(name="squeak", pitch=120)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="anna, bella"):
        voice("zoe")


def test_unseen_voices_share_no_variant_with_seen_ones() -> None:
    assert not {each.variant for each in SEEN_VOICES} & {each.variant for each in UNSEEN_VOICES}


@pytest.mark.parametrize("known", [*SEEN_VOICES, *UNSEEN_VOICES], ids=lambda v: v.name)
def test_every_voice_says_the_same_samples_in_another_process(known: EspeakVoice) -> None:
    """Breathy voices draw noise; seeded by the clock, no store could be made twice and no demo resumed."""
    with EspeakEngine() as first, EspeakEngine() as second:
        sounds = [s.speak("Could you turn on the fan?", known).wave.samples_S for s in (first, second)]
    assert np.array_equal(*sounds)


def test_what_was_said_before_a_death_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    send = EspeakEngine._send
    sent = []

    def dies_at_the_third(engine: EspeakEngine, request: bytes) -> None:
        sent.append(request)
        if len(sent) == 3:
            raise AudioError("It ended.")
        send(engine, request)

    monkeypatch.setattr(EspeakEngine, "_send", dies_at_the_third)
    heard = []
    with EspeakEngine() as engine, pytest.raises(AudioError, match="It ended"):
        for speech in engine.speak_many([(text, SEEN_VOICES[0]) for text in ("One.", "Two.", "Three.")]):
            heard.append(speech)
    assert len(heard) == 2
