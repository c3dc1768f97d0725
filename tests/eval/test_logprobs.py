from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.eval import beginnings, logprobs, partition
from sodakit.eval.logprobs import TokenItem, score_folder, score_items, score_targets
from sodakit.eval.provenance import model_fingerprint
from sodakit.eval.token_table import AUDIO, CLOSE, OPEN, TEXT, TokenTable
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.vocabulary import Vocabulary
from tests.eval.test_beginnings import branching

VOCABULARY = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=3, codebook_size=8)


@pytest.fixture(scope="module")
def model() -> Transformer:
    # Large initial weights: the scores differ from token to token, and a mistake shows.
    return Transformer(model_size("nano", VOCABULARY.size, init_std=0.1, context=256), seed=3).eval()


def some_items(count: int = 9, seed: int = 0) -> list[TokenItem]:
    rng = np.random.default_rng(seed)
    template = Template(VOCABULARY, 3)
    return [
        TokenItem(
            f"item-{n}",
            template.document(
                [
                    Speech(rng.integers(0, 8, (3, int(rng.integers(1, 12))))),
                    Text(rng.integers(0, 18, int(rng.integers(1, 9))).astype(np.int32)),
                ]
            ),
        )
        for n in range(count)
    ]


def test_packed_scores_are_those_of_each_item_alone(model: Transformer) -> None:
    items = some_items()
    together = score_items(model, VOCABULARY, items, row_tokens=200)
    for column in ("logprob_P", "logprob_modality_P", "logprob_slot_P"):
        alone = [getattr(score_items(model, VOCABULARY, [item]), column) for item in items]
        np.testing.assert_allclose(getattr(together, column), np.concatenate(alone), atol=1e-5)


def test_scores_are_the_log_softmax_of_the_logits_over_all_ids_a_modality_or_a_slot(
    model: Transformer,
) -> None:
    item = some_items(1)[0]
    table = score_items(model, VOCABULARY, [item])
    ids = item.ids_T.tolist()
    logits = model.logits(model(torch.tensor([ids])))[0].detach().double()
    codes = list(range(24, 48))
    for row, token in enumerate(ids[1:]):
        scores = logits[row]
        speaks = token in codes or token == VOCABULARY.audio_end
        others = [i for i in range(VOCABULARY.size) if i not in codes]
        modality = [*codes, VOCABULARY.audio_end] if speaks else others
        if token in codes:
            slot = list(range(*VOCABULARY.codebook_range((token - 24) // 8)))
            slot += [VOCABULARY.audio_end] if token < 32 else []
        else:
            slot = [*range(24, 32), VOCABULARY.audio_end] if speaks else others
        for column, allowed in (
            ("logprob", range(VOCABULARY.size)),
            ("logprob_modality", modality),
            ("logprob_slot", slot),
        ):
            expected = scores[token] - scores[list(allowed)].logsumexp(0)
            assert getattr(table, f"{column}_P")[row] == pytest.approx(float(expected), abs=1e-5)


def test_identical_items_score_identically_to_the_last_bit(model: Transformer) -> None:
    """Or ties would be decided by where in a row an item happens to stand."""
    items = some_items(5)
    copies = [TokenItem(f"copy-{n}", item.ids_T) for n, item in enumerate(items)]
    table = score_items(model, VOCABULARY, [*items, *copies], row_tokens=100)
    half = len(table) // 2
    assert np.array_equal(table.logprob_P[:half], table.logprob_P[half:])


def test_what_another_item_begins_with_is_computed_once(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other = some_items(2)
    items = [TokenItem("a", whole.ids_T[:5]), whole, other, TokenItem("b", whole.ids_T[:9])]
    alone = [score_items(model, VOCABULARY, [item]).logprob_P for item in items]
    computed, predicted = counted(monkeypatch, model)
    table = score_items(model, VOCABULARY, items)
    assert sum(computed) == len(whole.ids_T) + len(other.ids_T)
    assert sum(predicted) == sum(computed) - 2
    np.testing.assert_allclose(table.logprob_P, np.concatenate(alone), atol=1e-5)


def counted(monkeypatch: pytest.MonkeyPatch, model: Transformer) -> tuple[list[int], list[int]]:
    """Positions that go through the model, and through its head, call by call."""
    computed: list[int] = []
    predicted: list[int] = []

    def forward(ids_BT: torch.Tensor, *others: Any) -> torch.Tensor:
        computed.append(ids_BT.numel())
        return Transformer.forward(model, ids_BT, *others)

    def head(x_PD: torch.Tensor, *others: Any) -> partition.Partition:
        predicted.append(len(x_PD))
        return partition.partition(x_PD, *others)

    monkeypatch.setattr(model, "forward", forward)
    monkeypatch.setattr(logprobs, "partition", head)
    return computed, predicted


def test_two_sides_compute_their_common_half_once_though_it_ends_inside_a_frame(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes_KF = np.random.default_rng(1).integers(0, 8, (3, 20))
    other_KF = codes_KF.copy()
    other_KF[1:, 15:] = 7 - other_KF[1:, 15:]
    sides = [Template(VOCABULARY, 3).document([Speech(c)]) for c in (codes_KF, other_KF)]
    items = [TokenItem(str(n), ids_T) for n, ids_T in enumerate(sides)]
    shared = int((sides[0] != sides[1]).argmax())
    assert shared == 2 + 15 * 3 + 1
    alone = [score_items(model, VOCABULARY, [item]).logprob_P for item in items]
    computed, predicted = counted(monkeypatch, model)
    table = score_items(model, VOCABULARY, items)
    assert sum(computed) == 2 * len(sides[0]) - shared
    assert sum(predicted) == 2 * (len(sides[0]) - 1) - (shared - 1)
    np.testing.assert_allclose(table.logprob_P, np.concatenate(alone), atol=1e-5)
    first, second = np.split(table.logprob_P, 2)
    assert np.array_equal(first[: shared - 1], second[: shared - 1])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("row_tokens", [50, 120, 1000])
def test_items_that_branch_from_each_other_score_as_each_alone(
    model: Transformer, seed: int, row_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared beginnings of shared beginnings, items inside others, equal items, families longer than a row."""
    monkeypatch.setattr(beginnings, "FEWEST_SHARED", 2)
    sequences = branching(seed, 25)
    items = [TokenItem(str(n), ids_T) for n, ids_T in enumerate(sequences)]
    alone = [score_items(model, VOCABULARY, [item]) for item in items]
    table = score_items(model, VOCABULARY, items, row_tokens=row_tokens)
    for column in ("logprob_P", "logprob_modality_P", "logprob_slot_P"):
        expected = np.concatenate([getattr(one, column) for one in alone])
        np.testing.assert_allclose(getattr(table, column), expected, atol=1e-5)
    assert np.array_equal(table.token_id_P, np.concatenate([ids_T[1:] for ids_T in sequences]))


@pytest.mark.parametrize("seed", range(3))
def test_targets_are_scored_as_in_each_sequence_alone(
    model: Transformer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some the last ids lie inside what another begins with; equal sequences ask for different numbers of them."""
    monkeypatch.setattr(beginnings, "FEWEST_SHARED", 2)
    sequences = branching(seed, 20)
    rng = np.random.default_rng(seed)
    counts = [int(rng.integers(1, len(ids_T))) for ids_T in sequences]
    found = score_targets(model, VOCABULARY, sequences, counts, row_tokens=100)
    for ids_T, count, (logprob_P, best_P) in zip(sequences, counts, found, strict=True):
        (alone_P, alone_best_P), *_ = score_targets(model, VOCABULARY, [ids_T], [count])
        np.testing.assert_allclose(logprob_P, alone_P, atol=1e-5)
        assert np.array_equal(best_P, alone_best_P)


def test_four_endings_ask_the_head_for_their_own_ids_only(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    context_T = np.append(VOCABULARY.bos, rng.integers(0, 18, 40))
    endings = [np.append(n, rng.integers(0, 18, 5 + n)) for n in range(4)]
    computed, predicted = counted(monkeypatch, model)
    sequences = [np.append(context_T, ending) for ending in endings]
    score_targets(model, VOCABULARY, sequences, [len(ending) for ending in endings])
    ids = sum(len(ending) for ending in endings)
    assert computed == [41 + ids] and predicted == [ids]


def test_small_chunks_of_logits_change_nothing(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    items = some_items(4)
    whole = score_items(model, VOCABULARY, items)
    monkeypatch.setattr(partition, "CHUNK_ELEMENTS", {"cpu": 1})
    monkeypatch.setattr(partition, "BLOCK_IDS", 7)
    np.testing.assert_allclose(score_items(model, VOCABULARY, items).logprob_P, whole.logprob_P, atol=1e-5)


def test_rows_say_what_each_token_is(model: Transformer) -> None:
    ids_T = Template(VOCABULARY, 3).prompt([Speech(np.array([[1], [2], [3]]))], VOCABULARY.text_start)
    table = score_items(model, VOCABULARY, [TokenItem("a", np.append(ids_T, [7, VOCABULARY.text_end]), 3)])
    assert table.kind_P.tolist() == [OPEN, AUDIO, AUDIO, AUDIO, CLOSE, OPEN, TEXT, CLOSE]
    assert table.codebook_P.tolist() == [-1, 0, 1, 2, -1, -1, -1, -1]
    assert table.position_P.tolist() == list(range(1, 9))
    assert table.ending_P.tolist() == [False, False, True, True, True, True, True, True]


def test_a_parquet_file_gives_the_same_table_back(model: Transformer, tmp_path: Path) -> None:
    table = score_items(model, VOCABULARY, some_items(3))
    again = TokenTable.from_arrow(table.to_arrow())
    assert again.items == table.items
    assert all(np.array_equal(getattr(again, n), getattr(table, n)) for n in vars(table) if n != "items")


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(model: Transformer, tmp_path: Path) -> None:
    items = some_items(10)
    asked: list[int] = []

    def make(part: range) -> list[TokenItem]:
        asked.append(part.start)
        if kill_at == part.start:
            raise KeyboardInterrupt
        return [items[n] for n in part]

    kill_at = -1
    score_folder(model, VOCABULARY, 10, make, tmp_path / "whole", {"model": "m"}, part_items=4)
    kill_at = 4
    with pytest.raises(KeyboardInterrupt):
        score_folder(model, VOCABULARY, 10, make, tmp_path / "stopped", {"model": "m"}, part_items=4)
    kill_at, asked = -1, []
    score_folder(model, VOCABULARY, 10, make, tmp_path / "stopped", {"model": "m"}, part_items=4)
    assert asked == [4, 8]
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "stopped" / path.name).read_bytes()


def test_a_folder_of_another_model_is_refused(model: Transformer, tmp_path: Path) -> None:
    score_folder(model, VOCABULARY, 2, lambda part: some_items(2), tmp_path, {"model": "a"})
    with pytest.raises(ConfigError, match="another model"):
        score_folder(model, VOCABULARY, 2, lambda part: some_items(2), tmp_path, {"model": "b"})


def test_a_part_whose_items_all_failed_is_empty_and_not_tried_again(
    model: Transformer, tmp_path: Path
) -> None:
    def make(part: range) -> list[TokenItem]:
        return [] if part.start == 0 else [some_items(4)[n] for n in part]

    table = score_folder(model, VOCABULARY, 4, make, tmp_path, {}, part_items=2)
    assert table.items == ("item-2", "item-3")


def test_an_item_longer_than_the_context_is_named(model: Transformer) -> None:
    with pytest.raises(ConfigError, match=r"long has 300 positions .* context 256"):
        score_items(model, VOCABULARY, [TokenItem("long", np.zeros(300, np.int32))])


def test_a_changed_weight_changes_the_fingerprint() -> None:
    first = Transformer(model_size("nano", 30), seed=1)
    same = Transformer(model_size("nano", 30), seed=1)
    assert model_fingerprint(first) == model_fingerprint(same)
    with torch.no_grad():
        same.final_norm.weight[0] += 1e-4
    assert model_fingerprint(first) != model_fingerprint(same)
