"""The private-use strings of the public data sets, for import and export only.

Code `c` of codebook `k` is the character U+E000 + codebook_size*k + c. Only the first 6,400 lie in the private-use
area: the rest cover compatibility ideographs, the byte-order mark and non-characters, so such strings must never be
normalised, lower-cased or re-encoded. Inside sodakit everything is integers.
"""

import re
from dataclasses import dataclass

import numpy as np

from sodakit.errors import VocabularyError
from sodakit.tokens.frames import codes_to_ids, ids_to_codes
from sodakit.tokens.text import BOS_TEXT, EOS_TEXT, TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary

FIRST_CHARACTER = 0xE000
PRIVATE_CHARACTER = 0xF0000
"""First of the private-use planes, 131,072 characters that no text holds and no normalisation touches."""
CODEBOOK_SIZE, NUM_CODEBOOKS = 2048, 8
"""Of the public data sets (Mimi)."""
MARKER_TEXTS = ("<|text_start|>", "<|text_end|>", "<|audio_start|>", "<|audio_end|>")

_PIECES = re.compile("|".join(map(re.escape, (BOS_TEXT, EOS_TEXT, *MARKER_TEXTS))))


@dataclass(frozen=True)
class WrittenDocument:
    """A published document, taken apart but not interpreted."""

    spans: tuple[tuple[str, str], ...]
    """Transcript and audio characters of each utterance; of text alone: one pair with no audio."""
    text_first: bool = True
    """Whether each transcript comes before its audio."""
    is_text: bool = False
    """Whether it is text alone, without markers."""

    def write(self) -> str:
        """The string it was parsed from.

        Raises:
            VocabularyError: a transcript spells a marker, so the string would be read as something else.
        """
        for text, _ in self.spans:
            forged = _PIECES.search(text)
            if forged:
                raise VocabularyError(
                    f"A transcript spells the marker {forged.group()}; it cannot be written."
                )
        if self.is_text:
            return BOS_TEXT + self.spans[0][0] + EOS_TEXT
        pieces = [BOS_TEXT]
        for text, audio in self.spans:
            parts = [MARKER_TEXTS[0] + text + MARKER_TEXTS[1], MARKER_TEXTS[2] + audio + MARKER_TEXTS[3]]
            pieces += parts if self.text_first else parts[::-1]
        return "".join([*pieces, EOS_TEXT])

    @classmethod
    def parse(cls, string: str) -> "WrittenDocument":
        """The parts of a published string; `parse(s).write() == s`.

        Raises:
            VocabularyError: markers or text where none may be; the message says where.
        """
        markers = [match.group() for match in _PIECES.finditer(string)]
        contents = _PIECES.split(string)
        if markers[:1] != [BOS_TEXT] or markers[-1] != EOS_TEXT or contents[0] or contents[-1]:
            raise VocabularyError(f"A document from {BOS_TEXT} to {EOS_TEXT} is needed; got {string[:40]!r}…")
        if len(markers) == 2:
            return cls(((contents[1], ""),), is_text=True)
        text, audio = MARKER_TEXTS[:2], MARKER_TEXTS[2:]
        text_first = markers[1] == text[0]
        utterance = [*text, *audio] if text_first else [*audio, *text]
        count = (len(markers) - 2) // 4
        if markers[1:-1] != utterance * count or any(contents[1::2]):
            place = next((i for i, m in enumerate(markers[1:-1]) if m != utterance[i % 4]), len(markers) - 2)
            raise VocabularyError(
                f"Transcripts and audio do not alternate at marker {place + 1} of {len(markers)}; needed: "
                f"{' '.join(utterance)} for each utterance, and nothing between."
            )
        spans = [(contents[2 + 4 * n], contents[4 + 4 * n]) for n in range(count)]
        return cls(tuple(spans if text_first else [(t, a) for a, t in spans]), text_first)


def codes_to_characters(
    codes_KF: np.ndarray, codebook_size: int = 2048, first_character: int = FIRST_CHARACTER
) -> str:
    """The codes as one string, frame-major; code 0 of codebook 0 is `first_character`."""
    codes_FK = codes_KF.T.astype(np.uint32)
    offsets_K = first_character + codebook_size * np.arange(codes_KF.shape[0], dtype=np.uint32)
    # UTF-32 through numpy: a code point is four bytes, no loop over characters.
    return (codes_FK + offsets_K).astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")


def characters_to_codes(text: str, num_codebooks: int = 8, codebook_size: int = 2048) -> np.ndarray:
    """The uint16 codes_KF of such a string.

    Raises:
        VocabularyError: not whole frames, or a character that is not of the codebook due at its place.
    """
    points = (
        np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), "<u4").astype(np.int64)
        - FIRST_CHARACTER
    )
    if len(points) % num_codebooks:
        raise VocabularyError(
            f"{len(points)} audio characters are not whole frames of {num_codebooks} codebooks."
        )
    codes_FK = points.reshape(-1, num_codebooks) - codebook_size * np.arange(num_codebooks)
    wrong = np.flatnonzero((codes_FK < 0) | (codes_FK >= codebook_size))
    if len(wrong):
        place = int(wrong[0])
        raise VocabularyError(
            f"Character U+{int(points[place]) + FIRST_CHARACTER:04X} at place {place} is not of codebook "
            f"{place % num_codebooks}, which is due there."
        )
    return codes_FK.T.astype(np.uint16)


def ids_to_string(ids_T: np.ndarray, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> str:
    """A document as the published data sets write it."""
    names = dict(
        zip(
            (vocabulary.bos, vocabulary.eos, *vocabulary.markers),
            (BOS_TEXT, EOS_TEXT, *MARKER_TEXTS),
            strict=True,
        )
    )
    pieces: list[str] = []
    text: list[int] = []

    def flush() -> None:
        if text:
            pieces.append(tokenizer.decode(text))
            text.clear()

    is_audio_T = vocabulary.is_audio(np.asarray(ids_T))
    position = 0
    while position < len(ids_T):
        token = int(ids_T[position])
        if is_audio_T[position]:
            flush()
            end = position
            while end < len(ids_T) and is_audio_T[end]:
                end += 1
            codes_KF = ids_to_codes(ids_T[position:end], vocabulary)
            pieces.append(codes_to_characters(codes_KF, vocabulary.codebook_size))
            position = end
            continue
        if token in names:
            flush()
            pieces.append(names[token])
        else:
            text.append(token)
        position += 1
    flush()
    return "".join(pieces)


def string_to_ids(string: str, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> np.ndarray:
    """The int32 ids_T of a published document; audio spans become codes, the rest text.

    Raises:
        VocabularyError: a broken audio span.
    """
    ids = dict(
        zip(
            (BOS_TEXT, EOS_TEXT, *MARKER_TEXTS),
            (vocabulary.bos, vocabulary.eos, *vocabulary.markers),
            strict=True,
        )
    )
    parts: list[np.ndarray] = []
    in_audio = False
    position = 0
    for match in [*_PIECES.finditer(string), None]:
        piece = string[position : match.start() if match else len(string)]
        if piece and in_audio:
            codes_KF = characters_to_codes(piece, vocabulary.num_codebooks, vocabulary.codebook_size)
            parts.append(codes_to_ids(codes_KF, vocabulary))
        elif piece:
            parts.append(np.array(tokenizer.encode(piece), np.int32))
        if match:
            parts.append(np.array([ids[match.group()]], np.int32))
            in_audio = match.group() == MARKER_TEXTS[2]
            position = match.end()
    return np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)
