"""How good each sound is, as columns of the store, and what is left out for it.

clipped_fraction   share of samples at full scale
bandwidth_hz       the highest frequency in use
snr_db             loud frames above quiet ones
mos_…              opinions of a judge of quality (DNSMOS), where one is named
voice_match        how alike the voices before and after its likeliest change of speaker are, -1 to 1; empty where the
                   sound is short, or no judge of speakers is named
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from sodakit.audio.levels import PAUSE_DB, rms
from sodakit.audio.quality import bandwidth_hz, clipped_fraction, signal_to_noise_db
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Bounds, Positive
from sodakit.errors import ConfigError
from sodakit.prepare.checks import Rejection

PIECE_S = 1.6
"""A voice is compared in pieces this long: what speaker encoders hear at once."""


class RatesSound(Protocol):
    """Whatever foretells opinions of sounds. It pickles: other processes rate with it."""

    def rate(self, waves: Sequence[Wave]) -> list[Mapping[str, float]]:
        """For each sound the numbers by column: the overall one first."""


class TellsVoices(Protocol):
    """Whatever makes a vector of length 1 of a voice. It pickles."""

    def embed(self, waves: Sequence[Wave]) -> np.ndarray:
        """A row for each sound."""


@dataclass(frozen=True, kw_only=True)
class QualityRules(Bounded):
    """What is measured of each sound, and how good it must be. All off unless asked for."""

    quality: bool = False
    """Measure it. Any limit below does so too."""
    min_bandwidth_hz: Positive | None = None
    """Leave out sounds whose band ends lower: 3,600 leaves out telephones."""
    min_snr_db: float | None = None
    """Leave out sounds that stand less above their noise."""
    min_mos: Annotated[float, Bounds(least=1, most=5)] | None = None
    """Leave out sounds of a lower overall opinion; needs a judge of quality."""
    min_voice_match: Annotated[float, Bounds(least=-1, most=1)] | None = None
    """Leave out sounds in which the voice changes: those of a lower voice_match; needs a judge of speakers."""
    mos_judge: str | None = None
    """Fingerprint of the judge of quality."""
    speaker_judge: str | None = None
    """Fingerprint of the judge of speakers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_mos is not None and self.mos_judge is None:
            raise ConfigError(
                f"min_mos={self.min_mos:g} needs a judge of quality. Name a folder of DNSMOS (the package speechmos brings "
                "it) with --mos-judge, or one that holds it with --judges."
            )
        if self.min_voice_match is not None and self.speaker_judge is None:
            raise ConfigError(
                f"min_voice_match={self.min_voice_match:g} needs a judge of speakers. Name pretrained.pt of the package "
                "Resemblyzer or a WavLM-like model with --speaker-judge, or a folder that holds one with --judges."
            )

    @property
    def measured(self) -> bool:
        """Whether anything is."""
        return self != QualityRules()


@dataclass(frozen=True)
class QualityMeter:
    """The rules with those who judge."""

    rules: QualityRules
    mos: RatesSound | None = None
    speakers: TellsVoices | None = None

    def measure(self, wave: Wave) -> dict[str, float]:
        """The columns of a sound, in order; one that does not apply is not there."""
        found = {
            "clipped_fraction": clipped_fraction(wave.samples_S),
            "bandwidth_hz": bandwidth_hz(wave),
            "snr_db": signal_to_noise_db(wave),
        }
        if self.mos is not None:
            found |= self.mos.rate([wave])[0]
        match = None if self.speakers is None else voice_match(wave, self.speakers)
        return found if match is None else found | {"voice_match": match}

    def check(self, found: Mapping[str, float]) -> Rejection | None:
        """Why a sound with these numbers is left out; None: it is not."""
        rules = self.rules
        opinion = next((name for name in found if name.startswith("mos_")), "mos_ovrl")
        for reason, name, least, unit in (
            ("narrow band", "bandwidth_hz", rules.min_bandwidth_hz, " Hz"),
            ("noisy", "snr_db", rules.min_snr_db, " dB"),
            ("low quality", opinion, rules.min_mos, ""),
            ("voice changes", "voice_match", rules.min_voice_match, ""),
        ):
            if least is not None and name in found and found[name] < least:
                return Rejection(
                    reason, f"{name} {round(found[name], 2):g}{unit}, needed at least {least:g}{unit}"
                )
        return None


def voice_match(wave: Wave, speakers: TellsVoices) -> float | None:
    """The least likeness of what lies before and after any border of its pieces; None with fewer than two pieces.

    Pauses have no voice and are left out.
    """
    count = int(wave.duration_s / PIECE_S)
    pieces = [wave.cut(n * wave.duration_s / count, (n + 1) * wave.duration_s / count) for n in range(count)]
    levels = [rms(piece.samples_S) for piece in pieces]
    floor = max(levels, default=0.0) * 10 ** (PAUSE_DB / 20)
    spoken = [piece for piece, level in zip(pieces, levels, strict=True) if level > floor]
    if len(spoken) < 2:
        return None
    rows_ND = speakers.embed(spoken)
    sides = ((rows_ND[:n].sum(axis=0), rows_ND[n:].sum(axis=0)) for n in range(1, len(spoken)))
    return min(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)) for a, b in sides)
