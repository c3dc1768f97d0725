import json
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.speakers import HubEar, StatisticsEar, score_speakers

VCTK = Path(__file__).parents[2] / "../shared/data/vctk"
needs_vctk = pytest.mark.skipif(not VCTK.is_dir(), reason="no recordings beside the checkout")


def vctk_clips(count: int) -> tuple[list[Wave], list[str]]:
    rows = [json.loads(line) for line in (VCTK / "manifest.jsonl").read_text().splitlines()]
    rows = [row for speaker in ("p225", "p226") for row in rows if row["speaker"] == speaker][::2][:count]
    return [read_wave(VCTK / row["audio"]).cut(0, 4.0) for row in rows], [row["speaker"] for row in rows]


@needs_vctk
def test_the_ear_tells_two_real_speakers_apart_and_notices_a_swap() -> None:
    waves, speakers = vctk_clips(10)
    itself = score_speakers(waves, waves, speakers, StatisticsEar())
    swapped = score_speakers(waves, waves[::-1], speakers, StatisticsEar())
    assert itself is not None and swapped is not None
    assert itself.found_originals >= 0.9 and itself.found_copies == itself.found_originals
    assert itself.similarity == pytest.approx(1) and swapped.similarity < 0.3
    assert swapped.found_copies < 0.3


def test_one_speaker_or_an_unknown_one_gives_no_score() -> None:
    waves = [Wave(0.1 * np.random.default_rng(i).standard_normal(16_000), 16_000) for i in range(4)]
    assert score_speakers(waves, waves, ["a"] * 4, StatisticsEar()) is None
    assert score_speakers(waves, waves, ["a", "a", "", ""], StatisticsEar()) is None


def test_a_speaker_model_from_a_folder_is_asked(tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    shape = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(10, 8), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, tdnn_dim=(16,), tdnn_kernel=(3,),
        tdnn_dilation=(1,), xvector_output_dim=8,
    )  # fmt: skip
    WavLMForXVector(WavLMConfig(**shape)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    waves = [Wave(0.1 * np.random.default_rng(i).standard_normal(16_000), 16_000) for i in range(4)]
    scores = score_speakers(waves, waves, ["a", "a", "b", "b"], HubEar.load(str(tmp_path)))
    assert scores is not None and scores.similarity == pytest.approx(1) and scores.ear == tmp_path.name
    with pytest.raises(ConfigError, match="x-vector head"):
        HubEar.load(str(tmp_path / "nothing"))
