"""What a model is asked to do: recordings to write down, sentences to speak in a given voice, openings to go on with.

meta.lst       seed-tts-eval: utt|prompt text|prompt wav|target text[|original wav], paths relative to the list
anything else  the layouts that `sodakit prepare` reads, with transcripts
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.files import digest, not_a_file
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.rows import read_lines
from sodakit.units import spread

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording and what is said in it."""

    id: str
    item: Item
    text: str
    speaker: str = ""

    @property
    def language(self) -> str:
        """ISO 639 code, without a country; empty where nobody says it."""
        return plain_language(self.item.language)

    def read(self) -> Wave:
        """The sound.

        Raises:
            AudioError: it cannot be read.
        """
        if self.item.problem is not None:
            raise AudioError(f"{self.id}: {self.item.problem}")
        return _sound(self.item.read(), self.id)


@dataclass(frozen=True, kw_only=True)
class VoiceCase:
    """A sentence to be spoken in the voice of a recording."""

    id: str
    text: str
    """To be spoken."""
    prompt_text: str = ""
    prompt: Path | None = None
    """A recording of the voice; None lets the model pick one."""
    prompt_name: str = ""
    """What the list calls the prompt."""
    original: Path | None = None
    """The sentence spoken by a person, where there is such a recording."""

    @property
    def voice(self) -> str:
        """Whose voice, as far as the list tells: cases of one prompt are resampled together."""
        return self.prompt_name or (self.prompt.name if self.prompt else self.id)

    @property
    def speaker(self) -> str:
        """The folder of the prompt: the speaker's name in sets that have a folder for each."""
        return self.prompt.parent.name if self.prompt else ""


class Cases(list[T]):
    """The cases of a set, and what else its lists name."""

    def __init__(self, cases: Iterable[T], skipped: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(cases)
        self.skipped = list(skipped)
        """`id` and `reason` of each entry that is no case: there is nothing to compare with. Results keep them."""


def plain_language(code: str) -> str:
    """The language of a code such as `pt-BR`: pt."""
    return code.replace("_", "-").split("-")[0].lower()


def language_of(cases: Sequence[Recording]) -> str | None:
    """The language that all of them name; None where they name several, or none."""
    named = {case.language for case in cases}
    return named.pop() or None if len(named) == 1 else None


def read_recordings(
    folder: Path | str, limit: int | None = None, language: str | None = None
) -> Cases[Recording]:
    """The recordings of a folder or manifest that have a transcript, in order of their ids, `limit` spread over them.

    One that has a transcript and cannot be read is a case too, and will count as an error.

    Args:
        language: leave out those that name another.
    Raises:
        ConfigError: no recording with a transcript.
    """
    wanted = plain_language(language or "")
    found: dict[str, Recording] = {}
    said: dict[object, str] = {}
    skipped = []
    for item in sorted(open_folder(folder), key=lambda item: item.id):
        reason, what = None, (item.audio, item.start_s, item.end_s, item.text)
        if not (item.text and item.text.strip()):
            reason = item.problem or "no transcript"
        elif item.is_text and item.problem is None:
            reason = "no sound"
        elif wanted and item.language and plain_language(item.language) != wanted:
            reason = f"in {item.language}, not {wanted}"
        elif item.id in found:
            reason = "named twice"
        elif item.audio is not None and what in said:
            reason = f"says what {said[what]} says of the same sound"
        if reason:
            skipped.append({"id": item.id, "reason": reason})
        else:
            said[what] = item.id
            found[item.id] = Recording(id=item.id, item=item, text=item.text or "", speaker=item.speaker)
    if not found:
        why = "; ".join(f"{entry['id']}: {entry['reason']}" for entry in skipped[:3])
        raise ConfigError(
            f"{folder} has no recording with a transcript{f' ({why})' if why else ''}. Name a folder that has some."
        )
    return Cases(spread(list(found.values()), limit), skipped)


def read_voice_cases(source: Path | str, limit: int | None = None) -> Cases[VoiceCase]:
    """The cases of a seed-tts-eval list, or of the folder that holds its `meta.lst`.

    Raises:
        ConfigError: no list, a line that is none of its, or a name that stands twice.
    """
    path = Path(source)
    path = path / "meta.lst" if path.is_dir() else path
    if why := not_a_file(path):
        raise ConfigError(
            f"{path} {why}. Needed: a list `utt|prompt text|prompt wav|target text[|original wav]`."
        )
    cases = [_voice_case(path, number, line) for number, line in read_lines(path)]
    if not cases:
        raise ConfigError(f"{path} is empty; needed: at least one line.")
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{path} names {', '.join(twice[:3])} more than once; needed: a name for each line."
        )
    return Cases(spread(cases, limit))


def cases_digest(cases: Sequence[Recording] | Sequence[VoiceCase]) -> str:
    """Digest of every text and sound; of sounds inside archives and tables, of their names and sizes."""
    parts: list[bytes | str] = []
    files: dict[Path, None] = {}
    for case in cases:
        if isinstance(case, Recording):
            parts += [case.id, case.text, case.item.fingerprint()]
            if case.item.audio is not None:
                files[case.item.audio] = None  # many cases may be cut from one
        else:
            parts += [case.id, case.text, case.prompt_text]
            parts += [
                digest(p.read_bytes()) if p and not_a_file(p) is None else ""
                for p in (case.prompt, case.original)
            ]
    parts += [digest(path.read_bytes()) for path in files if not_a_file(path) is None]
    return digest(*parts)


def original_of(case: Recording | VoiceCase) -> Wave | None:
    """The sentence of a case spoken by a person; None where there is no readable recording."""
    try:
        if isinstance(case, Recording):
            return case.read()
        return None if case.original is None else read_wave(case.original)
    except AudioError:
        return None


def _voice_case(path: Path, number: int, line: str | None) -> VoiceCase:
    if line is None:
        raise ConfigError(f"{path}, line {number}, is not UTF-8. Save the list as UTF-8.")
    fields = [field.strip() for field in line.split("|")]
    if len(fields) not in (4, 5) or not all(fields[i] for i in (0, 2, 3)):
        raise ConfigError(
            f"{path}, line {number}, has {len(fields)} fields; needed: "
            "utt|prompt text|prompt wav|target text[|original wav]."
        )
    name, prompt_text, prompt, text = fields[:4]
    # The released list has four columns, and the originals lie in wavs/ under the case's name.
    released = path.parent / "wavs" / f"{name}.wav"
    original = path.parent / fields[4] if len(fields) == 5 and fields[4] else released
    return VoiceCase(
        id=name,
        text=text,
        prompt_text=prompt_text,
        prompt=path.parent / prompt,
        prompt_name=prompt,
        original=original if not_a_file(original) is None else None,
    )


def _sound(wave: Wave, name: str) -> Wave:
    if not len(wave.samples_S):
        raise AudioError(f"{name} holds no samples.")
    return wave
