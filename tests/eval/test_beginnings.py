import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.eval import beginnings
from sodakit.eval.beginnings import FEWEST_SHARED, Row, rows_of


def branching(seed: int, count: int) -> list[np.ndarray]:
    """Sequences of ids below 48, most of which begin as an earlier one does, some all of it, some equal to it."""
    rng = np.random.default_rng(seed)
    sequences = [np.append(18, rng.integers(0, 48, int(rng.integers(5, 40)))).astype(np.int32)]
    while len(sequences) < count:
        before = sequences[int(rng.integers(len(sequences)))]
        kept = before[: int(rng.integers(1, len(before) + 1))]
        more = rng.integers(0, 48, int(rng.integers(0, 25)))
        if len(kept) + len(more) > 1:
            sequences.append(np.concatenate([kept, more]).astype(np.int32))
    return sequences


def unlike(sequences: list[np.ndarray]) -> list[np.ndarray]:
    return list({ids_T.tobytes(): ids_T for ids_T in sequences}.values())


def lies_where_it_says(rows: list[Row], sequences: list[np.ndarray]) -> None:
    """Every sequence is read off its places, in order, and what it goes on from is before what it adds."""
    for row in rows:
        for number, places_T in zip(row.numbers, row.places, strict=True):
            assert np.array_equal(row.ids_PW[places_T], sequences[number])
            assert (np.diff(places_T) > 0).all()
        assert row.packing("cpu").num_positions == len(row.ids_PW) == sum(row.lengths)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 120), st.integers(1, 40))
def test_every_sequence_lies_in_one_row_that_is_not_too_long(
    seed: int, count: int, row_tokens: int, fewest: int
) -> None:
    sequences = unlike(branching(seed, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginnings, "FEWEST_SHARED", fewest)
        rows = list(rows_of(sequences, row_tokens))
    assert sorted(n for row in rows for n in row.numbers) == list(range(len(sequences)))
    lies_where_it_says(rows, sequences)
    for row in rows:
        assert len(row.ids_PW) <= row_tokens or len(row.ids_PW) == max(len(sequences[n]) for n in row.numbers)


def test_a_row_without_limit_holds_every_distinct_beginning_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "FEWEST_SHARED", 1)
    sequences = unlike(branching(3, 60))
    (row,) = rows_of(sequences, 10_000)
    assert len(row.ids_PW) == len(
        {ids_T[:n].tobytes() for ids_T in sequences for n in range(1, len(ids_T) + 1)}
    )


def test_three_endings_share_different_lengths() -> None:
    longest = np.arange(100, dtype=np.int32)
    sequences = [np.append(longest[:kept], [200 + kept] * 5).astype(np.int32) for kept in (100, 90, 40)]
    rows = list(rows_of(sequences, 2048))
    assert [len(row.ids_PW) for row in rows] == [105 + 5 + 5]
    lies_where_it_says(rows, sequences)


def test_short_beginnings_are_computed_again_but_whole_sequences_are_not() -> None:
    begin = np.arange(FEWEST_SHARED - 1, dtype=np.int32)
    sequences = [np.append(begin, 100 + n).astype(np.int32) for n in range(2)]
    (row,) = rows_of([*sequences, begin], 2048)
    assert sorted(row.lengths) == [0, len(begin) + 1, len(begin) + 1]
    assert row.packing("cpu").goes_on_from == ()


def test_a_family_moves_to_the_next_row_rather_than_being_cut() -> None:
    rng = np.random.default_rng(0)
    families = [np.append(n, rng.integers(0, 9, 60)) for n in range(3)]
    sequences = [np.append(f, [100 + n] * 10).astype(np.int32) for f in families for n in range(3)]
    rows = list(rows_of(sequences, 160))
    assert [len(row.ids_PW) for row in rows] == [61 + 30] * 3


def test_no_sequences_make_no_rows() -> None:
    assert list(rows_of([], 100)) == []
