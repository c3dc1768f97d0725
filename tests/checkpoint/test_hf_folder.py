"""Exports are what transformers, and we ourselves, can use; imports say what ids mean or refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sodakit.checkpoint import hf_folder
from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.hf import export_hf
from sodakit.checkpoint.hf_folder import check_parity, export_folder, import_folder
from sodakit.checkpoint.load import load_checkpoint
from sodakit.commands.export import main as export_main
from sodakit.errors import CheckpointError
from sodakit.model.transformer import Transformer
from sodakit.tokens.characters import codes_to_characters
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary
from sodakit.train.trainer import train
from tests.model.strategies import small_config
from tests.stores import small_store
from tests.train.ranks import rank_config


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    root = tmp_path_factory.mktemp("trained")
    store = small_store(root / "store", recordings=40)
    return load_checkpoint(train(rank_config(store, steps=3), root / "run", device="cpu"))


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    return export_folder(checkpoint, tmp_path_factory.mktemp("hf") / "model", dtype=torch.float32)


@torch.no_grad()
def test_transformers_loads_it_and_speaks_our_language(checkpoint, exported):
    """A document as text through their tokenizer gives our ids, and their model gives our scores of them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
    text = TextTokenizer.load(checkpoint.vocabulary_folder)
    codes_KF = np.random.default_rng(0).integers(0, vocabulary.codebook_size, (vocabulary.num_codebooks, 5))
    words = "please open the garden window"
    ids_T = Template(vocabulary, vocabulary.num_codebooks).document(
        [Text(np.array(text.encode(words))), Speech(codes_KF)]
    )
    string = f"<|text_start|>{words}<|text_end|><|audio_start|>{codes_to_characters(codes_KF, vocabulary.codebook_size)}<|audio_end|>"
    tokenizer = AutoTokenizer.from_pretrained(exported)
    theirs = tokenizer(string, return_tensors="pt").input_ids
    assert theirs[0].tolist() == ids_T[:-1].tolist()
    assert tokenizer.decode(theirs[0], skip_special_tokens=True) == words
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    ours = checkpoint.model()
    torch.testing.assert_close(model(theirs).logits, ours.logits(ours(theirs)), rtol=1e-3, atol=1e-4)
    out = model.generate(theirs[:, :9], max_new_tokens=4, do_sample=False)
    assert out.shape[1] > 9


def test_the_card_and_generation_config_state_facts(checkpoint, exported):
    card = (exported / "README.md").read_text()
    for fact in ("3 of 3 steps", "cautious_adamw", "toy (test)", "FOLDER"):
        assert fact in card
    generation = json.loads((exported / "generation_config.json").read_text())
    vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
    assert vocabulary.audio_end in generation["eos_token_id"]


def test_what_we_export_we_import(checkpoint, exported, tmp_path):
    back = load_checkpoint(import_folder(exported, tmp_path / "back"))
    assert back.codec == checkpoint.codec and back.model_config == checkpoint.model_config
    assert Vocabulary.load(back.vocabulary_folder) == Vocabulary.load(checkpoint.vocabulary_folder)
    for name, weight in checkpoint.weights().items():
        assert torch.equal(back.weights()[name], weight)


def test_an_export_whose_logits_differ_is_not_written(checkpoint, tmp_path, monkeypatch):
    def wrong(*args, **more):
        folder = export_hf(*args, **more)
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = 1e3
        config["rope_theta"] = 1e3
        # Ours reads the true config, theirs the wrong one: what a mistaken export would look like.
        monkeypatch.setattr(hf_folder, "import_hf", lambda _: (checkpoint.model_config, checkpoint.weights()))
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    monkeypatch.setattr(hf_folder, "export_hf", wrong)
    with pytest.raises(CheckpointError, match="other logits"):
        export_folder(checkpoint, tmp_path / "hf", dtype=torch.float32)
    assert not (tmp_path / "hf").exists()


def test_the_verb_exports_the_newest_checkpoint_of_a_run(checkpoint, tmp_path, capsys):
    export_main([str(checkpoint.folder.parent.parent), "--out", str(tmp_path / "hf"), "--dtype", "bfloat16"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "hf")
    assert check_parity(tmp_path / "hf", Vocabulary.load(tmp_path / "hf")) < 1e-3


def test_the_best_checkpoint_of_a_fine_tuned_run_is_exported_under_the_run_s_name(checkpoint, tmp_path):
    """Its folder is called `best`, which says nothing of whose."""
    shutil.copytree(checkpoint.folder, tmp_path / "spanish/best")
    (tmp_path / "spanish/checkpoints/step_00000009").mkdir(parents=True)
    export_main([str(tmp_path / "spanish"), "--out", str(tmp_path / "hf"), "--no-check"])
    assert "\n# spanish\n" in (tmp_path / "hf/README.md").read_text()


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """The layout of soda-research/*-base: a Llama-3-sized tokenizer with markers and audio characters, no files of ours."""
    folder = tmp_path_factory.mktemp("released") / "soda-base"
    soda = soda_vocabulary()
    export_hf(
        Transformer(small_config(vocab_size=soda.size, width=16, heads=2, kv_heads=2, head_width=8)), folder
    )
    tokens = [f"t{i}" for i in range(soda.text_size)]
    tokens[soda.bos], tokens[soda.eos] = "<|begin_of_text|>", "<|end_of_text|>"
    every = [*tokens, *hf_folder.audio_texts(soda)]
    special = [
        {"id": i, "content": every[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i in (soda.bos, soda.eos, *range(soda.text_size, soda.size))
    ]  # fmt: skip
    model = {"type": "WordLevel", "vocab": {t: i for i, t in enumerate(every)}, "unk_token": "t0"}
    plain = {"version": "1.0", "added_tokens": special, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(plain), encoding="utf-8")
    return folder


def test_a_released_model_is_imported_with_the_published_ids(released, tmp_path):
    codec = {"name": "kyutai/mimi", "num_codebooks": 8}
    checkpoint = load_checkpoint(import_folder(released, tmp_path / "model", codec=codec))
    vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
    assert vocabulary.size == 144_644 and vocabulary.audio_base == 128_260
    assert checkpoint.codec == codec
    tokenizer = TextTokenizer.load(checkpoint.vocabulary_folder)
    assert tokenizer.bos == 128_000
    assert (vocabulary.tokenizer_fingerprint, tokenizer.size) == (tokenizer.fingerprint, 144_644)


def test_a_text_model_is_refused_with_the_way_to_use_it(released, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(released / name)
    tokenizer = Tokenizer.from_str(
        (released / "tokenizer.json").read_text().replace("<|text_start|>", "<|other|>")
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="init_from"):
        import_folder(folder, tmp_path / "model")
