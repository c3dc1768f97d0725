import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from sodakit.prepare.sources import voices
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.voices.catalogue import SEEN_VOICES

READINGS = [
    Reading(SEEN_VOICES[n], tuple(f"Open the door number {n} {k}." for k in range(1 + n)), "train")
    for n in range(3)
]


def test_a_reading_is_one_recording_by_one_voice_in_order():
    items = list(speak_readings(READINGS))
    assert [i.text for i in items] == [s for r in READINGS for s in r.sentences]
    assert len({i.recording for i in items}) == 3 and all(i.fields["split"] == "train" for i in items)
    assert [i.speaker for i in items] == [r.voice.name for r in READINGS for _ in r.sentences]


def test_the_number_of_processes_does_not_change_the_sound(monkeypatch):
    several = [i.wave.samples_S for i in speak_readings(READINGS)]
    monkeypatch.setattr(voices, "SYNTHESIZERS", 1)
    alone = [i.wave.samples_S for i in speak_readings(READINGS)]
    assert all(np.array_equal(a, b) for a, b in zip(several, alone, strict=True))
