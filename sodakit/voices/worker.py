"""The process that speaks: `python -m sodakit.voices.worker`. The only code that loads espeak-ng.

espeak-ng is GPL-3, so it lives in a process of its own and the rest of the package talks to it over pipes.
This file needs the standard library and `espeakng_loader`, nothing else.

    request    one JSON line   {"text", "voice", "task": "phonemes"}
    answer     one JSON line   {"clauses": [[ipa, mark], ...]}

    request    one JSON line   {"text", "voice", "pitch", "pitch_range", "speed_wpm"}
    answer     one JSON line   {"sample_rate_hz", "num_samples", "phones": [[phone, start_sample], ...],
                                "words": [[first_character, characters, start_sample], ...]}
               then            num_samples little-endian int16
               or one line     {"error"}
"""

import ctypes
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# From speak_lib.h, espeak-ng 1.52.
_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_IPA = 2
# espeak-ng reads on to the first letter of the next clause before it ends one.
_CLAUSE_END = re.compile(r"""([.,;:!?…—。！？])["'”’»)\]\s]*\w?$""")
# It stops after a title without a pause: no sentence ends there.
_TITLE = re.compile(r"(^|\W)(Mr|r|Mrs|rs|Ms|s|Dr|St|t|Prof|rof|Jr|Sr|vs)\.\s*\w?$")


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Engine:
    """espeak-ng with the sound and the phones of the last request."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = Path(espeakng_loader.get_data_path())
        rate_hz = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 500, str(data.parent).encode(), _PHONEME_EVENTS
        )
        if rate_hz <= 0:
            raise RuntimeError(f"espeak-ng did not start with the data in {data}.")
        self.sample_rate_hz: int = rate_hz
        self._sound: list[bytes] = []
        self._phones: list[tuple[str, int]] = []
        self._words: list[tuple[int, int, int]] = []
        # Kept on the object: a callback that is garbage collected crashes the process.
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, sound: Any, num_samples: int, events: Any) -> int:
        if sound and num_samples > 0:
            self._sound.append(ctypes.string_at(sound, 2 * num_samples))
        index = 0
        while events[index].type != _EVENT_END_OF_LIST:
            if events[index].type == _EVENT_PHONEME:
                phone = events[index].id.string.decode("utf-8", "replace")
                self._phones.append((phone, events[index].sample))
            elif events[index].type == _EVENT_WORD:
                event = events[index]
                self._words.append((event.text_position - 1, event.length, event.sample))
            index += 1
        return 0

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        if self._library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
            return {"error": f"espeak-ng has no voice {request['voice']!r}."}, b""
        if request.get("task") == "phonemes":
            return {"clauses": list(self._clauses(request["text"].encode("utf-8")))}, b""
        return self._speak(request)

    def _clauses(self, text: bytes) -> Iterator[tuple[str, str]]:
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        held = ctypes.create_string_buffer(text)
        begin = ctypes.addressof(held)
        place = ctypes.c_void_p(begin)
        while place.value is not None:
            before = place.value - begin
            ipa = self._library.espeak_TextToPhonemes(ctypes.byref(place), _CHARS_UTF8, _IPA) or b""
            after = len(text) if place.value is None else min(place.value - begin, len(text))
            yield ipa.decode("utf-8", "replace"), _mark(text[before:after].decode("utf-8", "ignore"))

    def _speak(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        for parameter, value in (
            (_RATE, request["speed_wpm"]),
            (_PITCH, request["pitch"]),
            (_RANGE, request["pitch_range"]),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        # Voices with breath draw noise from a generator that espeak-ng seeds with the time of day.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._sound, self._phones, self._words = [], [], []
        text = request["text"].encode("utf-8") + b"\0"
        if self._library.espeak_Synth(text, len(text), 0, 0, 0, _CHARS_UTF8, None, None) != 0:
            return {"error": f"espeak-ng could not speak {request['text'][:60]!r}."}, b""
        sound = b"".join(self._sound)
        header = {
            "sample_rate_hz": self.sample_rate_hz,
            "num_samples": len(sound) // 2,
            "phones": self._phones,
            "words": self._words,
        }
        return header, sound


def _mark(read: str) -> str:
    """The mark that ends a clause; '' for none."""
    found = _CLAUSE_END.search(read)
    return "" if found is None or _TITLE.search(read) else found[1]


def main() -> None:
    """Answer requests until the input closes."""
    # espeak-ng may print to standard output, which would break the protocol: answers get a private copy of it.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    engine = _Engine()
    for line in sys.stdin.buffer:
        _answer_afresh(engine, line, answers)


def _answer_afresh(engine: _Engine, line: bytes, answers: IO[bytes]) -> None:
    """Answer in a copy of the process that has never spoken, where the system can copy one.

    espeak-ng carries phase and noise from one sentence into the next and offers no reset: spoken in one process,
    a sentence would depend on those before it, and no store could be built twice.
    """
    child = os.fork() if hasattr(os, "fork") else 0
    if child:
        if os.waitpid(child, 0)[1] != 0:
            raise RuntimeError("espeak-ng crashed while speaking.")
        return
    header, sound = engine.answer(json.loads(line))
    answers.write(json.dumps(header).encode() + b"\n" + sound)
    answers.flush()
    if hasattr(os, "fork"):
        os._exit(0)


if __name__ == "__main__":
    main()
