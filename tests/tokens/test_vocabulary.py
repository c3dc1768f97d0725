import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.errors import VocabularyError
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary


def test_the_soda_preset_has_every_published_id():
    v = soda_vocabulary()
    assert v.size == 144_644
    assert (v.bos, v.eos) == (128_000, 128_001)
    assert v.markers == (128_256, 128_257, 128_258, 128_259)
    assert v.codebook_range(0) == (128_260, 130_308)
    assert v.codebook_range(1)[0] == 130_308
    assert v.codebook_range(7)[1] == 144_644


def test_kinds_partition_the_vocabulary():
    v = soda_vocabulary()
    counts = np.bincount(v.kinds_V)
    assert counts[0] == 128_256 - 2
    assert counts[1] == 6
    assert counts[2:].tolist() == [2_048] * 8
    assert v.kind_names[:4] == ("text", "markers", "semantic", "acoustic_1")


@given(st.integers(2, 600), st.integers(1, 16), st.integers(1, 3000))
def test_any_layout_survives_json(text_size, num_codebooks, codebook_size):
    v = Vocabulary.layout(
        text_size=text_size, bos=0, eos=1, num_codebooks=num_codebooks, codebook_size=codebook_size
    )
    assert Vocabulary.from_plain(v.to_plain()) == v
    assert v.size == text_size + 4 + num_codebooks * codebook_size
    assert len(v.kinds_V) == v.size


def test_a_changed_layout_changes_the_fingerprint(tmp_path):
    v = soda_vocabulary("a")
    assert v.fingerprint != soda_vocabulary("b").fingerprint
    v.save(tmp_path)
    assert Vocabulary.load(tmp_path).fingerprint == v.fingerprint


def test_overlapping_ids_are_refused():
    with pytest.raises(VocabularyError, match="overlaps"):
        Vocabulary(
            text_size=10, bos=0, eos=1, text_start=10, text_end=11, audio_start=12, audio_end=13, audio_base=8,
            num_codebooks=1, codebook_size=4,
        )  # fmt: skip


def test_a_folder_without_a_vocabulary_says_so(tmp_path):
    with pytest.raises(VocabularyError, match=r"no vocabulary\.json"):
        Vocabulary.load(tmp_path)
