"""What limits mini: STOI with its codes, with those of wider searches, and with no acoustic codes at all.

    python benchmarks/codec_limits.py --data $DATA --clips 6

One line per set and variant.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.codec.mini import MiniCodec
from sodakit.codec.network import MiniNetwork
from sodakit.codec.quality import mel_distance_db, stoi
from sodakit.eval.copies import SoundSet, folder_set, voices_set


def chains(network: MiniNetwork, latent_BFD: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The semantic and acoustic entries (B, F, D) by each way to choose them."""
    found = {}
    for paths in (1, 8, 32):
        network.quantizer.search_paths = paths
        found[f"{paths} paths"] = network.quantizer.entries(network.quantizer.encode(latent_BFD))
    network.quantizer.search_paths = 8
    codes = network.quantizer.encode(latent_BFD)
    found["8 paths, last level left out"] = network.quantizer.entries(codes[:-1])
    found["unquantised"] = (found["8 paths"][0], network.quantizer.acoustic_in(latent_BFD))
    return found


@torch.inference_mode()
def variants(network: MiniNetwork, wave_BS: Tensor) -> dict[str, np.ndarray]:
    """Sounds (S,) by what is taken from where."""
    log_pitch_BT = network.melody.log_pitch(network.listen(wave_BS))
    sounds = {}
    for how, (semantic, acoustic) in chains(network, network.latents(wave_BS)).items():
        latent = network.quantizer.merge(semantic, acoustic, torch.ones(1, dtype=torch.bool))
        sounds[how] = network.decode_latents(latent, acoustic, log_pitch_BT)[0].numpy()
    return sounds


def report(codec: MiniCodec, sounds: SoundSet) -> None:
    """Print the means over the set."""
    rate_hz, frame = codec.spec.sample_rate_hz, codec.spec.frame_samples
    scores: dict[str, list[tuple[float, float]]] = {}
    for recording in sounds.recordings:
        original = resample(recording.wave, rate_hz)
        padded_S = np.zeros(
            codec.spec.num_frames(len(original.samples_S)) * frame + codec.network.config.lookahead_samples,
            np.float32,
        )
        padded_S[: len(original.samples_S)] = original.samples_S
        for name, sound_S in variants(codec.network, torch.from_numpy(padded_S)[None]).items():
            copy = Wave(sound_S[: len(original.samples_S)], rate_hz)
            scores.setdefault(name, []).append((stoi(original, copy), mel_distance_db(original, copy)))
    for name, values in scores.items():
        mean_stoi, mean_mel_db = np.nanmean(values, axis=0)
        print(f"{sounds.name:<24} {name:<42} STOI {mean_stoi:.3f}   mel {mean_mel_db:.2f} dB", flush=True)


def main() -> None:
    """Measure every set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders of recordings")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--codec", default="mini")
    options = parser.parse_args()
    codec = load_codec(options.codec)
    assert isinstance(codec, MiniCodec), "only mini has these parts"
    report(codec, voices_set(options.clips, None))
    for name in ("librispeech_test_other", "vctk", "ljspeech"):
        report(codec, folder_set(options.data / name, options.clips, None))


if __name__ == "__main__":
    main()
