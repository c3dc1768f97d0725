"""Random codes, with code 0 and the last code as likely as the rest together."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def codes(draw, codebook_size: int, num_codebooks: int | None = None, max_frames: int = 12) -> np.ndarray:
    """codes_KF uint16 of 0 to `max_frames` frames."""
    rows = num_codebooks or draw(st.integers(1, 8))
    frames = draw(st.integers(0, max_frames))
    code = st.one_of(st.just(0), st.just(codebook_size - 1), st.integers(0, codebook_size - 1))
    flat = draw(st.lists(code, min_size=rows * frames, max_size=rows * frames))
    return np.array(flat, np.uint16).reshape(rows, frames)
