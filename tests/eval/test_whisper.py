"""Whisper in CTranslate2 form: a small one is built with transformers, converted, and listened with."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.judges import WritingJudge, named_judge
from sodakit.eval.normalisers import normalise

pytest.importorskip("faster_whisper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Whisper of one layer, with the special tokens of the real ones, in CTranslate2 form."""
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    torch_form = tmp_path_factory.mktemp("whisper") / "torch"
    torch_form.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = len(letters)
    named = "endoftext startoftranscript en translate transcribe startoflm startofprev nospeech notimestamps"
    special = [f"<|{name}|>" for name in named.split()] + [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(torch_form / "tokenizer.json"))
    WhisperTokenizerFast(
        tokenizer_file=str(torch_form / "tokenizer.json"),
        bos_token=special[0], eos_token=special[0], unk_token=special[0],
    ).save_pretrained(torch_form)  # fmt: skip
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=end + len(special), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        bos_token_id=end, eos_token_id=end, pad_token_id=end, decoder_start_token_id=end + 1,
        suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config.alignment_heads = [[0, 0]]
    model.save_pretrained(torch_form)
    WhisperFeatureExtractor().save_pretrained(torch_form)
    converted = torch_form.parent / "tiny"
    TransformersConverter(str(torch_form), copy_files=["tokenizer.json"]).convert(str(converted))
    return converted


def noise(seconds: int, seed: int) -> Wave:
    random = np.random.default_rng(seed)
    return Wave((0.1 * random.standard_normal(16_000 * seconds)).astype(np.float32), 16_000)


def test_a_converted_whisper_writes_by_name_whoever_its_neighbours_are(folder: Path) -> None:
    judge = named_judge(str(folder))
    assert isinstance(judge, WritingJudge) and judge.limit_s is None
    waves = [noise(1, 0), resample(noise(2, 1), 24_000)]
    written = judge.write(waves)
    assert all(written)
    assert judge.write(waves[1:]) == written[1:]
    assert judge.transcribe(waves) == [normalise(text) for text in written]
    assert judge.name.startswith("tiny@")


def test_its_fingerprint_is_of_its_weights(folder: Path, tmp_path: Path) -> None:
    judge = named_judge(str(folder))
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert named_judge(str(other)).fingerprint == judge.fingerprint
    weights = bytearray((other / "model.bin").read_bytes())
    weights[-1] ^= 1
    (other / "model.bin").write_bytes(weights)
    assert named_judge(str(other)).fingerprint != judge.fingerprint


def test_a_broken_one_is_explained(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match="does not load as a Whisper in CTranslate2 form"):
        named_judge(str(tmp_path))
