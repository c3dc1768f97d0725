"""Hub judges of a few thousand untrained weights: the real classes at toy size, each written to a folder."""

import json
from pathlib import Path
from typing import Any

import torch


def small_wav2vec2(folder: Path, seed: int = 0) -> None:
    """A recogniser that labels frames with the letters a to e."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    vocab = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"])}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    config = Wav2Vec2Config(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(seed)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)


def small_whisper(folder: Path) -> None:
    """A recogniser that writes, and hears two seconds at once."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    vocab = {token: i for i, token in enumerate([*"abcde", "Ġ", "<|endoftext|>", "<|startoftranscript|>"])}
    config = WhisperConfig(
        vocab_size=len(vocab), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=80,
        max_source_positions=100, max_target_positions=20, bos_token_id=6, eos_token_id=6, pad_token_id=6,
        decoder_start_token_id=6, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=2), WhisperTokenizer(vocab, [])).save_pretrained(
        folder
    )


def small_speaker(folder: Path) -> tuple[Any, Any]:
    """The model and its extractor, as transformers has them."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(10, 8), conv_kernel=(20, 16), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, tdnn_dim=(16,), tdnn_kernel=(3,), tdnn_dilation=(1,), xvector_output_dim=8,
    )  # fmt: skip
    theirs = WavLMForXVector(config).eval()
    theirs.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(folder)
    return theirs, extractor


def small_faster_whisper(folder: Path) -> Path:
    """An untrained Whisper of one layer, with the special tokens of the real ones, in CTranslate2 form: a folder in it."""
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    torch_form = folder / "torch"
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
