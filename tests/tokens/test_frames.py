import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.errors import VocabularyError
from sodakit.tokens.frames import codes_to_ids, ids_to_codes
from sodakit.tokens.vocabulary import soda_vocabulary
from tests.tokens.strategies import codes

SODA = soda_vocabulary()


@given(codes(2048))
def test_codes_survive_flattening(codes_KF):
    num_codebooks = codes_KF.shape[0]
    back = ids_to_codes(codes_to_ids(codes_KF, SODA), SODA, num_codebooks)
    assert np.array_equal(back, codes_KF) and back.dtype == np.uint16


@given(codes(2048, num_codebooks=8), st.integers(1, 8))
def test_fewer_codebooks_keep_their_ids(codes_KF, first):
    ids_T = codes_to_ids(codes_KF, SODA, first)
    assert np.array_equal(ids_T.reshape(-1, first), codes_to_ids(codes_KF, SODA).reshape(-1, 8)[:, :first])


def test_ids_lie_frame_by_frame():
    codes_KF = np.array([[5, 6], [7, 8]], np.uint16)
    assert codes_to_ids(codes_KF, SODA).tolist() == [128_265, 130_315, 128_266, 130_316]


def test_a_code_out_of_range_is_refused():
    with pytest.raises(VocabularyError, match="2048"):
        codes_to_ids(np.full((8, 1), 2048), SODA)


def test_a_part_frame_and_a_wrong_codebook_are_refused_with_their_place():
    ids_T = codes_to_ids(np.zeros((8, 2), np.uint16), SODA)
    with pytest.raises(VocabularyError, match="whole frames"):
        ids_to_codes(ids_T[:-1], SODA)
    ids_T[9], ids_T[8] = ids_T[8], ids_T[9]
    with pytest.raises(VocabularyError, match="position 8"):
        ids_to_codes(ids_T, SODA)
