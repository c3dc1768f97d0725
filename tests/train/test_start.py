"""A text model becomes the beginning of an audio model."""

from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer

from sodakit.checkpoint.hf import export_hf
from sodakit.data.language import open_language
from sodakit.errors import CheckpointError, CodecError, ConfigError, VocabularyError
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.config import RopeScaling
from sodakit.model.transformer import Transformer
from sodakit.tokens.text import extended_tokenizer, train_bpe
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import ParallelConfig
from sodakit.train.start import kept_rows, starting_weights
from sodakit.train.trainer import train
from tests.train.ranks import rank_config


def text_model(config, folder, **changes):
    """A tied text model of the same body, with as many rows as a padded text vocabulary has."""
    model = Transformer(replace(config.model, vocab_size=290, tied_embeddings=True, **changes), seed=7)
    return model, str(export_hf(model, folder))


def test_text_rows_are_kept_and_the_others_are_new(store, tmp_path):
    config = rank_config(store)
    theirs, folder = text_model(config, tmp_path / "text")
    vocabulary = Vocabulary.layout(text_size=280, bos=279, eos=0, num_codebooks=3, codebook_size=8)
    model = replace(config.model, vocab_size=vocabulary.size)
    ours = starting_weights(
        folder, replace(config, model=model), vocabulary, open_language(store)[0].codec_spec
    )
    for name in ("embedding.weight", "head.weight"):
        assert torch.equal(ours[name][:279], theirs.embedding.weight[:279])
        new = ours[name][279:]
        assert len(new) == vocabulary.size - 279 and 0.015 < new.std() < 0.025
    assert not torch.equal(ours["embedding.weight"][279:], ours["head.weight"][279:])
    name = "blocks.1.attention.query.weight"
    assert torch.equal(ours[name], theirs.state_dict()[name])


def test_a_run_starts_from_a_text_model(store, tmp_path):
    config = rank_config(store, steps=1)
    theirs, folder = text_model(config, tmp_path / "text")
    path = train(replace(config, init_from=folder), tmp_path / "run", device="cpu")
    from sodakit.checkpoint.load import load_checkpoint

    name = "blocks.0.feed_forward.up.weight"
    moved = (load_checkpoint(path).weights()[name] - theirs.state_dict()[name]).abs().max()
    assert 0 < moved < 0.02


def test_text_and_new_rows_learn_at_rates_apart_in_a_run(store, tmp_path):
    """With a rate of nearly nothing the text model stays what it was; its new rows learn."""
    config = rank_config(store, steps=3)
    _, folder = text_model(config, tmp_path / "text")
    optim = replace(config.optim, lr_factors={"blocks.*": 1e-6, "*norm*": 1e-6, "*@text": 1e-6})
    path = train(replace(config, init_from=folder, optim=optim), tmp_path / "run", device="cpu")
    from sodakit.checkpoint.load import load_checkpoint

    vocabulary = open_language(store)[1]
    first = starting_weights(
        folder, replace(config, init_from=folder), vocabulary, open_language(store)[0].codec_spec
    )
    moved = {name: (w - first[name]).abs() for name, w in load_checkpoint(path).weights().items()}
    kept = kept_rows(vocabulary)
    assert moved["head.weight"][kept:].max() > 1e-4
    assert max(moved["head.weight"][:kept].max(), moved["blocks.0.feed_forward.up.weight"].max()) < 1e-6
    with pytest.raises(ConfigError, match="lr_factors of rows"):
        replace(config, optim=optim, parallel=ParallelConfig(kind="fsdp"))


@pytest.mark.parametrize("family", ["depth", "delay"])
def test_a_backbone_over_frames_starts_from_a_text_model_too(store, tmp_path, family):
    """Its blocks and text rows are the text model's; audio rows and what writes the codes inside a frame are new."""
    config = rank_config(store, family=family, steps=1)
    reader, vocabulary = open_language(store)
    text = Transformer(replace(config.model.backbone, vocab_size=290, tied_embeddings=True), seed=7)
    folder = str(export_hf(text, tmp_path / "text"))
    ours = starting_weights(folder, replace(config, init_from=folder), vocabulary, reader.codec_spec)
    kept = kept_rows(vocabulary)
    for name in ("embedding.weight", "head.weight"):
        assert torch.equal(ours[name][:kept], text.embedding.weight[:kept])
        assert 0.015 < ours[name][kept:].std() < 0.025
    assert len(ours["head.weight"]) == config.model.head_ids
    name = "blocks.1.feed_forward.down.weight"
    assert torch.equal(ours[name], text.state_dict()[name])
    train(replace(config, init_from=folder), tmp_path / "run", device="cpu")


def test_a_text_model_of_another_shape_is_refused(store, tmp_path):
    config = rank_config(store)
    _, folder = text_model(config, tmp_path / "text", rope_scaling=RopeScaling(factor=2.0))
    with pytest.raises(CheckpointError, match="rope_scaling"):
        starting_weights(
            folder,
            config,
            Vocabulary.layout(text_size=9, bos=0, eos=1, num_codebooks=1, codebook_size=4),
            open_language(store)[0].codec_spec,
        )


def test_a_model_of_another_shape_tokenizer_or_codec_is_refused_in_a_line(store, tmp_path):
    config = rank_config(store, steps=1)
    train(config, tmp_path / "model", device="cpu")
    onward = replace(config, init_from=str(tmp_path / "model"))
    wider = replace(onward, model=replace(config.model, ffn_width=2 * config.model.ffn_width))
    with pytest.raises(CheckpointError, match="ffn_width"):
        train(wider, tmp_path / "wider", device="cpu")
    codec_file = next((tmp_path / "model" / "checkpoints").glob("step_*")) / "codec.json"
    codec_file.write_text(codec_file.read_text().replace('"fingerprint": "test"', '"fingerprint": "best"'))
    contents = codec_file.with_name("contents.json")
    assert contents.exists()
    with pytest.raises(ConfigError, match="codec toy best there, toy test in the data"):
        train(onward, tmp_path / "codec", device="cpu")


def test_a_model_whose_codec_is_not_at_hand_names_it_and_how_to_get_it(store, tmp_path):
    """The codec of the store is called toy and is none that can be loaded."""
    path = train(rank_config(store, steps=1), tmp_path, device="cpu")
    with pytest.raises(
        CodecError, match=r"was trained on codes of toy \(8000 Hz.*fingerprint test\); the one here"
    ):
        SpeechModel.load(path, device="cpu")
    codec_file = path / "codec.json"
    codec_file.write_text(codec_file.read_text().replace('"name": "toy"', '"name": "out/mine"'))
    with pytest.raises(CodecError, match=r"not at hand.*hf download out/mine.*--codec FOLDER"):
        SpeechModel.load(path, codec=str(tmp_path / "nowhere"), device="cpu")


def test_only_an_appended_bos_is_new_text():
    layout = {"eos": 1, "num_codebooks": 8, "codebook_size": 2048}
    assert kept_rows(Vocabulary.layout(text_size=151_671, bos=151_670, **layout)) == 151_670
    assert kept_rows(Vocabulary.layout(text_size=128_256, bos=128_000, **layout)) == 128_256


def test_a_text_models_tokenizer_is_renamed_and_extended(tmp_path):
    plain = train_bpe(["good morning"] * 3, 300)._tokenizer
    made = Tokenizer.from_str(
        plain.to_str().replace("<|begin_of_text|>", "<|pad|>").replace("<|end_of_text|>", "<|endoftext|>")
    )
    made.add_special_tokens([AddedToken("<|im_start|>", special=True)])
    made.save(str(tmp_path / "tokenizer.json"))
    extended = extended_tokenizer(tmp_path)
    assert extended.eos == made.token_to_id("<|endoftext|>")
    assert extended.bos == made.get_vocab_size() == extended.size - 1
    text = "good morning to you"
    assert extended.encode(text) == made.encode(text).ids
    extended.save(tmp_path / "again")
    assert extended_tokenizer_fails(tmp_path / "again")


def extended_tokenizer_fails(folder) -> bool:
    """Extending twice would append a second BOS."""
    with pytest.raises(VocabularyError, match="endoftext"):
        extended_tokenizer(folder)
    return True
