"""The settings of a codec training run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from sodakit.bounds import Bounded, Bounds, Count, Positive, Share
from sodakit.codec.network import MiniConfig
from sodakit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FitConfig(Bounded):
    """One training run of the mini codec."""

    out: Path
    """Folder for the checkpoint, the metrics and the trained codec."""
    minutes: Positive = 40.0
    """Training time on this machine; the learning rate falls over it. Time before an interruption counts."""
    steps: int = 0
    """Train for this many steps instead, however long they take: the same weights on every run. 0: `minutes` decide."""
    network: MiniConfig = field(default_factory=MiniConfig)
    """Shape of the codec."""
    voices_hours: float = 3.0
    """Hours of synthetic speech to train on; 0 for none."""
    voices: tuple[str, ...] = ()
    """Who speaks it, as `voices/names.py` names them; none: the seen voices and as many random ones of espeak-ng."""
    text: tuple[Path, ...] = ()
    """Files of sentences to speak besides the household ones: .txt, .jsonl (field `text`), either with .gz."""
    data: tuple[Path, ...] = ()
    """Folders of recordings to train on besides the synthetic speech."""
    start: Path | None = None
    """Folder of a mini codec whose weights to begin with, where name and shape fit. A run that resumes ignores it."""
    data_versions: Count = 6
    """At how many speeds each recording is in the pool: its own, and others up to a quarter slower or faster."""
    real_fraction: Share = 0.5
    """Share of each batch cut from recordings, where there are any; every data folder has an equal share of it."""
    damage_fraction: Share = 0.0
    """Share of rows that are heard with lost bands, lossy, noisy or at another level: codebook 0 shall say of them what it says of
    the whole."""
    batch_rows: Count = 8
    """Sounds in a batch."""
    segment_frames: Annotated[int, Bounds(least=2)] = 20
    """Latents of the codec cut from each sound: frames, where all codebooks have one rate."""
    peak_lr: Positive = 1.2e-3
    """Learning rate after warm-up."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    mel_weight: float = 1.0
    """Weight of the log-mel distance."""
    stft_weight: float = 0.5
    """Weight of the log-magnitude distance."""
    commitment_weight: float = 0.1
    """Weight of the distance of latents to their entries."""
    envelope_weight: float = 2.0
    """Weight of the mismatch of third-octave envelopes, which is nearly 1 - STOI."""
    phone_weight: float = 0.8
    """Weight of the phone loss of codebook 0."""
    teacher: str | None = None
    """Hub id or folder of a speech encoder (WavLM, HuBERT, Whisper in CTranslate2 form) whose features codebook 0 learns
    to predict."""
    teacher_layer: Annotated[int, Bounds()] = -1
    """Which of its hidden states: -1 is the last."""
    teacher_weight: float = 2.0
    """Weight of the teacher loss: 1 minus the cosine of its feature and what codebook 0 says of it."""
    steady_weight: float = 0.3
    """Weight of the cross-entropy of damaged rows' codes of codebook 0 against those of the whole."""
    semantic_gradient: float = 0.1
    """Share of the decoder's gradient that reaches codebook 0's branch. At 1 it drifts from phones to timbre."""
    full_depth_fraction: Share = 0.5
    """Share of rows that keep all codebooks; the others keep a random number of acoustic ones, or none."""
    bypass_fraction: Share = 0.25
    """Share of full-depth rows decoded from unquantised acoustic latents at first; falls to 0 by 60% of the time."""
    seed: int = 0
    """Of weights, voices, crops and dropout."""
    device: str = "cpu"
    """Where the network is trained: cpu, cuda, …"""
    threads: Count = 2
    """CPU threads."""
    save_every_s: Positive = 120.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.voices_hours <= 0 and not self.data:
            raise ConfigError("Nothing to train on: voices_hours=0 and no data folder. Give one of them.")
        if self.segment_frames % self.network.latents_per_frame:
            raise ConfigError(
                f"segment_frames={self.segment_frames} is cut through a frame of network.acoustic_strides="
                f"{self.network.acoustic_strides}. Use a multiple of {self.network.latents_per_frame}."
            )
