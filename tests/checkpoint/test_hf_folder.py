"""Exports are what transformers, and we ourselves, can use; imports say what ids mean or refuse."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sodakit.checkpoint import hf_folder, parity
from sodakit.checkpoint.card import scaled_frequencies
from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.hf import export_hf
from sodakit.checkpoint.hf_folder import export_folder, import_folder
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.parity import check_parity
from sodakit.commands.export import main as export_main
from sodakit.data.language import open_language
from sodakit.errors import CheckpointError
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.characters import PRIVATE_CHARACTER, codes_to_characters
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.frames import codes_to_ids
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
    audio = codes_to_characters(codes_KF, vocabulary.codebook_size, PRIVATE_CHARACTER)
    string = f"<|text_start|>{words}<|text_end|><|audio_start|>{audio}<|audio_end|>"
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


TEXTS_THAT_LOOK_LIKE_AUDIO = (
    "你好，世界！",
    "I like it ❤️",
    "ﬁne",
    "￥100",
    "\ufeffHello",
    "豈 更 ﷺ ﹏ ｶﾅ",
    "\ue000 \uf8ff",
)


def test_text_is_text_in_the_exported_tokenizer(checkpoint, exported):
    """The strings of the public data sets lie where compatibility characters, ligatures and selectors lie as well."""
    from transformers import AutoTokenizer

    base = Vocabulary.load(checkpoint.vocabulary_folder).text_size
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for text in TEXTS_THAT_LOOK_LIKE_AUDIO:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert max(ids) < base and tokenizer.decode(ids, skip_special_tokens=True) == text
    assert "private-use planes" in (exported / "README.md").read_text()


def test_published_strings_are_an_option_that_the_card_warns_of(checkpoint, tmp_path):
    folder = export_folder(checkpoint, tmp_path / "hf", check=False, audio_text="published")
    vocabulary = Vocabulary.load(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    codes_KF = np.random.default_rng(1).integers(0, vocabulary.codebook_size, (vocabulary.num_codebooks, 3))
    ids = tokenizer.encode(
        codes_to_characters(codes_KF, vocabulary.codebook_size), add_special_tokens=False
    ).ids
    assert ids == codes_to_ids(codes_KF, vocabulary).tolist()
    assert "Ordinary text holds some of these" in (folder / "README.md").read_text()


def test_an_imported_model_takes_the_stores_it_was_trained_on_and_those_made_with_it(
    checkpoint, exported, tmp_path
):
    """Its tokenizer is that of the stores, not the exported one with markers and audio."""
    back = load_checkpoint(import_folder(exported, tmp_path / "back"))
    store = Path(checkpoint.config["data"]["sources"][0]["store"])
    vocabulary = Vocabulary.load(back.vocabulary_folder)
    assert vocabulary == open_language(store)[1]
    assert TextTokenizer.load(back.vocabulary_folder).fingerprint == vocabulary.tokenizer_fingerprint
    # And there and back again: nothing is added twice.
    again = export_folder(back, tmp_path / "again", check=False)
    assert (again / "tokenizer.json").read_text() == (exported / "tokenizer.json").read_text()


def test_an_export_of_an_older_sodakit_is_imported_with_the_tokenizer_of_its_stores(
    exported, tmp_path, capsys
):
    old = tmp_path / "old"
    shutil.copytree(exported, old)
    (old / "text_tokenizer.json").unlink()
    back = load_checkpoint(import_folder(old, tmp_path / "back"))
    vocabulary = Vocabulary.load(back.vocabulary_folder)
    tokenizer = TextTokenizer.load(back.vocabulary_folder)
    assert (tokenizer.size, tokenizer.fingerprint) == (vocabulary.text_size, vocabulary.tokenizer_fingerprint)
    # One that cannot be had again as it was: said, and no store is refused for it.
    plain = json.loads((old / "vocabulary.json").read_text())
    (old / "vocabulary.json").write_text(json.dumps(plain | {"tokenizer_fingerprint": "0" * 16}))
    back = load_checkpoint(import_folder(old, tmp_path / "back"))
    assert Vocabulary.load(back.vocabulary_folder).tokenizer_fingerprint == ""
    assert "Export it again" in capsys.readouterr().err


def test_files_of_an_export_and_an_import_are_for_whom_the_umask_says(exported, tmp_path):
    before = os.umask(0o027)
    try:
        import_folder(exported, tmp_path / "back")
    finally:
        os.umask(before)
    modes = {
        path: path.stat().st_mode & 0o777 for path in [tmp_path / "back", *(tmp_path / "back").rglob("*")]
    }
    assert {0o750 if path.is_dir() else 0o640 for path in modes} == {0o750, 0o640}
    assert all(mode == (0o750 if path.is_dir() else 0o640) for path, mode in modes.items()), modes


def test_a_span_ends_at_its_marker_and_sampling_is_the_paper_s(checkpoint, exported):
    vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
    assert json.loads((exported / "generation_config.json").read_text()) == {
        "do_sample": True,
        "temperature": 0.9,
        "top_p": 0.8,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": [vocabulary.eos, vocabulary.text_end, vocabulary.audio_end],
        "pad_token_id": vocabulary.eos,
    }


def test_rotations_that_llama_cpp_computes_otherwise_are_warned_of(checkpoint, tmp_path, capsys):
    """Llama 3's scaling is ignored for a Qwen3 there; a model without it is taken as it is."""
    export_main([str(checkpoint.folder), "--out", str(tmp_path / "hf"), "--no-check"])
    said = capsys.readouterr().err
    affected = scaled_frequencies(checkpoint.model_config)
    assert affected and affected in said and "model.rope_scaling=null" in said
    assert "without that scaling" in (tmp_path / "hf/README.md").read_text()
    assert scaled_frequencies(replace(checkpoint.model_config, rope_scaling=None)) == ""
    # The published 135M: frequencies whose wave is longer than a quarter of 8,192 positions.
    assert scaled_frequencies(model_size("soda_135m")) == "17 of 32 frequencies differ"


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
        monkeypatch.setattr(parity, "import_hf", lambda _: (checkpoint.model_config, checkpoint.weights()))
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
