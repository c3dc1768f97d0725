import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from sodakit.codec.contract import CodecSpec
from sodakit.data.language import open_language
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import soda_vocabulary
from tests.stores import small_store


@pytest.fixture(scope="module")
def llama_tokenizer(tmp_path_factory):
    """A tokenizer of the Llama-3 type and size: byte-level, 128,000 entries, then 256 special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(f"unused{i}" for i in range(128_000 - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(entries)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_{i}|>" for i in range(254))]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextTokenizer.load(folder)


def test_a_llama_tokenizer_and_mimi_codes_give_the_published_layout(llama_tokenizer, tmp_path):
    spec = CodecSpec(
        name="kyutai/mimi",
        sample_rate_hz=24_000,
        frame_samples=1920,
        num_codebooks=8,
        codebook_size=2048,
        fingerprint="m",
    )
    llama_tokenizer.save(tmp_path / "tokenizer")
    writer = StoreWriter(tmp_path, spec, llama_tokenizer.fingerprint)
    codes_KF = np.full((8, 3), 2047, np.uint16)
    text_ids_T = np.array(llama_tokenizer.encode("hello"), np.int32)
    writer.write_shard(
        "train", 0, [Utterance(id="a", recording="a", codes_KF=codes_KF, text="hello", text_ids_T=text_ids_T)]
    )
    writer.seal()
    _, vocabulary = open_language(tmp_path)
    assert vocabulary == soda_vocabulary(llama_tokenizer.fingerprint)
    assert vocabulary.size == 144_644


def test_another_store_gets_text_then_markers_then_audio(tmp_path):
    _, vocabulary = open_language(small_store(tmp_path))
    assert vocabulary.text_start == vocabulary.text_size and vocabulary.audio_base == vocabulary.text_size + 4
    assert (vocabulary.num_codebooks, vocabulary.codebook_size) == (3, 8)
