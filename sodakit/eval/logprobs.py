"""One forward pass per item, and the log-probability of every token stored once.

Items are packed into rows, so short clips cost what their tokens cost, and what several begin with is computed once
(`beginnings.py`). The head is applied to a few positions at a
time: all logits of a row of the published vocabulary would be gigabytes. A folder of log-probabilities is written
part by part; a part is complete or absent, so a killed run goes on where it stopped and ends with the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.eval.beginnings import Row, rows_of
from sodakit.eval.outputs import claim, hold_unless_whole
from sodakit.eval.partition import is_likeliest, partition
from sodakit.eval.token_table import AUDIO, CLOSE, EDGE, OPEN, TEXT, TokenTable, read_tables
from sodakit.log import track
from sodakit.model.contract import Told
from sodakit.model.families import pattern_of, targets_after
from sodakit.model.layers import wide
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import slots_of
from sodakit.tokens.layouts.contract import Layout, lay
from sodakit.tokens.vocabulary import FIRST_AUDIO_KIND, Vocabulary

SETTINGS = "logprobs.json"


@dataclass(frozen=True, eq=False)
class TokenItem:
    """One sequence to be scored."""

    name: str
    """Unique among the items of a folder."""
    ids_T: np.ndarray
    """int32, beginning with BOS, which is given and not scored."""
    ending_from: int | None = None
    """Position at which the ending begins; None where the task has none: everything counts as ending."""


@torch.inference_mode()
def score_items(
    model: Transformer, vocabulary: Vocabulary, items: Sequence[TokenItem], *, row_tokens: int = 2048
) -> TokenTable:
    """The log-probability of every token of every item but its first, in the order given.

    Args:
        model: in float32 for scores that are equal however items are packed; in 16 bits they differ in the
            third digit.
        vocabulary: the model's.
        items: any lengths up to the context.
        row_tokens: most tokens of one forward pass; a longer item has a row of its own.
    Raises:
        ConfigError: no items, an item longer than the context, or one with nothing to predict.
    """
    layout = pattern_of(model.config).layout(vocabulary, vocabulary.num_codebooks)
    _check(items, model.config.context, layout)
    sequences = [item.ids_T for item in items]
    counts = [len(ids_T) - 1 for ids_T in sequences]

    def scored(told: Told) -> Tensor:
        return _logprobs(vocabulary, told)

    found = _of_last_ids(model.eval(), layout, sequences, counts, scored, row_tokens)
    return _table(vocabulary, items, np.concatenate(found))


def score_folder(
    model: Transformer,
    vocabulary: Vocabulary,
    num_items: int,
    make: Callable[[range], Sequence[TokenItem]],
    folder: Path | str,
    settings: dict[str, Any],
    *,
    part_items: int = 64,
    row_tokens: int = 2048,
) -> TokenTable:
    """The table of all items, read from `folder` where it is there already and completed where it is not.

    Args:
        num_items: how many there are.
        make: the items of a range of numbers, encoded when they are needed; those that fail are left out.
        folder: where the parts go, `part-00000.parquet` and on, and `logprobs.json`.
        settings: everything the numbers depend on; a folder made with others is refused.
    Raises:
        ConfigError: the folder holds log-probabilities of other settings, or another process fills it.
    """
    folder = Path(folder)
    settings = settings | {"num_items": num_items, "part_items": part_items, "row_tokens": row_tokens}
    ranges = [range(first, min(first + part_items, num_items)) for first in range(0, num_items, part_items)]
    paths = [folder / f"part-{number:05d}.parquet" for number in range(len(ranges))]
    with hold_unless_whole(folder, [folder / SETTINGS, *paths]):
        claim(folder / SETTINGS, settings, "log-probabilities")
        missing = [(path, part) for path, part in zip(paths, ranges, strict=True) if not path.exists()]
        for path, part in track(missing, "scoring", total=len(missing)):
            items = make(part)
            empty = not len(items)
            table = _empty_table() if empty else score_items(model, vocabulary, items, row_tokens=row_tokens)
            table.write(path)
    return read_tables(paths)


@torch.inference_mode()
def score_targets(
    model: Transformer,
    vocabulary: Vocabulary,
    sequences: Sequence[np.ndarray],
    counts: Sequence[int],
    *,
    row_tokens: int = 2048,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each sequence, of its last `counts` ids: log-probabilities over all ids (float64), and which were likeliest.

    Args:
        sequences: ids beginning with BOS, none longer than the context.
    """

    def scored(told: Told) -> Tensor:
        found = partition(told.x_TD, told.head_VD, told.targets_T, [(0, told.num_ids)])
        logprob_P = (found.picked_P - found.logsumexp_PR[:, 0]).double()
        return torch.stack([logprob_P, is_likeliest(found).double()], dim=1)

    layout = pattern_of(model.config).layout(vocabulary, vocabulary.num_codebooks)
    found = _of_last_ids(model.eval(), layout, sequences, counts, scored, row_tokens)
    return [(answer_P2[:, 0], answer_P2[:, 1] > 0) for answer_P2 in found]


def _check(items: Sequence[TokenItem], context: int, layout: Layout) -> None:
    if not items:
        raise ConfigError("No items to score; needed: at least one.")
    for item in items:
        if len(item.ids_T) < 2:
            raise ConfigError(
                f"{item.name} has {len(item.ids_T)} tokens; needed: BOS and something after it."
            )
        if (positions := len(_laid(layout, item.ids_T))) > context:
            raise ConfigError(
                f"{item.name} has {positions} positions and the model's context {context}. "
                "Leave the item out, or cut the clips with max_s."
            )


Scored = Callable[[Told], Tensor]
"""A line of numbers for each told id, (T, L)."""


def _of_last_ids(
    model: Transformer,
    layout: Layout,
    sequences: Sequence[np.ndarray],
    counts: Sequence[int],
    scored: Scored,
    row_positions: int,
) -> list[np.ndarray]:
    """For each sequence what `scored` says of its last `counts` ids, a line for each, in the order of the document."""
    # Equal sequences are scored once: apart they could differ in the last digit, and a tie would be decided by it.
    wanted: dict[bytes, int] = {}
    sequences = [ids_T.astype(np.int32) for ids_T in sequences]
    keys = [ids_T.tobytes() for ids_T in sequences]
    for key, count in zip(keys, counts, strict=True):
        wanted[key] = max(count, wanted.get(key, 0))
    unlike = list({key: ids_T for key, ids_T in zip(keys, sequences, strict=True)}.values())
    laid = [_laid(layout, ids_T) for ids_T in unlike]
    answers: dict[bytes, np.ndarray] = {}
    for row in rows_of(laid, min(row_positions, model.config.context)):
        members = [(unlike[n], laid[n], wanted[unlike[n].tobytes()]) for n in row.numbers]
        parts = _score_row(model, layout, row, members, scored)
        answers |= {ids_T.tobytes(): part for (ids_T, _, _), part in zip(members, parts, strict=True)}
    return [answers[key][wanted[key] - count :] for key, count in zip(keys, counts, strict=True)]


def _laid(layout: Layout, ids_T: np.ndarray) -> np.ndarray:
    """A sequence along positions. Where codes are late, speech that it leaves open is taken to end there, so that those of
    its last frames have a place; the `audio_end` is given and not scored."""
    v = layout.vocabulary
    if any(layout.delays) and v.is_audio(ids_T[-1:])[0]:
        ids_T = np.append(ids_T, np.int32(v.audio_end))
    return lay(layout, ids_T)


def _score_row(
    model: Transformer,
    layout: Layout,
    row: Row,
    members: Sequence[tuple[np.ndarray, np.ndarray, int]],
    scored: Scored,
) -> list[np.ndarray]:
    """What `scored` says of the last ids of each sequence of a row; asked once where they share the state.

    Args:
        members: the ids of each sequence, the same along positions, and how many of the last are wanted.
    """
    ids_1PW = torch.from_numpy(row.ids_PW)[None].to(model.device)
    x_1PD = model(ids_1PW, row.packing(model.device))
    asked, cells = [], []
    for (ids_T, ids_PW, count), places_P in zip(members, row.places, strict=True):
        position_C, column_C = (where_T[len(ids_T) - count :] for where_T in layout.places(ids_T))
        first = int(position_C.min()) if count else len(ids_PW)
        # A position is told by the state before it, which may lie in another sequence's part of the row.
        asked.append(np.concatenate([places_P[first - 1 : -1, None], ids_PW[first:]], axis=1))
        cells.append((position_C - first, column_C))
    asked_QX, line_P = np.unique(np.concatenate(asked), axis=0, return_inverse=True)
    targets = targets_after(model.config, asked_QX[:, 0], asked_QX[:, 1:]).to(model.device)
    groups = [scored(told) for told in model.told(x_1PD, targets)]
    answers_CL = torch.zeros(asked_QX.shape[0] * layout.width, groups[0].shape[1], dtype=groups[0].dtype)
    answers_CL[targets.cells_T.cpu()] = torch.cat(groups).cpu()
    answers_QWL = answers_CL.view(len(asked_QX), layout.width, -1).numpy()
    of_members = np.split(answers_QWL[line_P.reshape(-1)], np.cumsum([len(a) for a in asked])[:-1])
    return [part_PWL[where] for part_PWL, where in zip(of_members, cells, strict=True)]


def _logprobs(v: Vocabulary, told: Told) -> Tensor:
    """All three softmaxes from the denominators of a few blocks of ids: (T, 3)."""
    if not told.is_first:
        return _inside(told)
    num_ids = told.num_ids
    audio_stop = v.audio_base + v.num_codebooks * v.codebook_size
    books = [v.codebook_range(k) for k in range(v.num_codebooks) if v.codebook_range(k)[1] <= num_ids]
    # Markers after the audio block, or a padded vocabulary: with the text.
    rest = [(0, v.audio_base), (audio_stop, num_ids)]
    rest = [(start, stop) for start, stop in rest if stop > start]
    slots_P = torch.from_numpy(slots_of(told.targets_T.cpu().numpy(), v)).to(told.x_TD.device)
    found = partition(told.x_TD, told.head_VD, told.targets_T, [*books, *rest])
    books_PK = found.logsumexp_PR[:, : len(books)]
    rest_P = found.logsumexp_PR[:, len(books) :].logsumexp(1)
    codes_P = books_PK.logsumexp(1)
    closing_P = wide(F.linear(told.x_TD, told.head_VD[v.audio_end][None]))[:, 0]
    full_P = torch.logaddexp(rest_P, codes_P)
    modality_P = torch.where(slots_P > 0, torch.logaddexp(codes_P, closing_P), rest_P)
    book_P = books_PK.gather(1, (slots_P - 1).clamp(min=0)[:, None])[:, 0]
    first_P = torch.logaddexp(books_PK[:, 0], closing_P)
    slot_P = torch.where(slots_P > 1, book_P, torch.where(slots_P == 1, first_P, rest_P))
    wanted_P3 = torch.stack([full_P, modality_P, slot_P], dim=1)
    return (found.picked_P[:, None] - wanted_P3).float()


def _inside(told: Told) -> Tensor:
    """Of codes inside a frame, which have one softmax each: three times the same."""
    lines_T3 = torch.zeros(len(told.targets_T), 3, device=told.x_TD.device)
    for slot in told.slots or ():
        x_TD, targets_T = told.x_TD[slot.positions_T], told.targets_T[slot.positions_T]
        found = partition(x_TD, told.head_VD, targets_T, [(slot.rows.start, slot.rows.stop)])
        lines_T3[slot.positions_T] = (found.picked_P - found.logsumexp_PR[:, 0]).float()[:, None]
    return lines_T3


def _table(vocabulary: Vocabulary, items: Sequence[TokenItem], logprobs_P3: np.ndarray) -> TokenTable:
    counts = [len(item.ids_T) - 1 for item in items]
    ids_P = np.concatenate([item.ids_T[1:] for item in items]).astype(np.int32)
    position_P = np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in counts])
    ending_from_P = np.repeat([item.ending_from or 0 for item in items], counts)
    kinds_P = vocabulary.kinds_V[ids_P].astype(np.int8)
    return TokenTable(
        items=tuple(item.name for item in items),
        item_P=np.repeat(np.arange(len(items), dtype=np.int32), counts),
        kind_P=_roles(vocabulary)[ids_P],
        position_P=position_P,
        codebook_P=np.where(kinds_P >= FIRST_AUDIO_KIND, kinds_P - FIRST_AUDIO_KIND, -1).astype(np.int8),
        token_id_P=ids_P,
        logprob_P=logprobs_P3[:, 0],
        logprob_modality_P=logprobs_P3[:, 1],
        logprob_slot_P=logprobs_P3[:, 2],
        ending_P=position_P >= ending_from_P,
    )


def _roles(v: Vocabulary) -> np.ndarray:
    roles_V = np.where(v.kinds_V >= FIRST_AUDIO_KIND, AUDIO, TEXT).astype(np.int8)
    roles_V[[v.bos, v.eos]] = EDGE
    roles_V[[v.text_start, v.audio_start]] = OPEN
    roles_V[[v.text_end, v.audio_end]] = CLOSE
    return roles_V


def _empty_table() -> TokenTable:
    nothing = {name: np.zeros(0, np.int32) for name in ("item_P", "position_P", "token_id_P")}
    nothing |= {name: np.zeros(0, np.int8) for name in ("kind_P", "codebook_P")}
    nothing |= {
        name: np.zeros(0, np.float32) for name in ("logprob_P", "logprob_modality_P", "logprob_slot_P")
    }
    return TokenTable(items=(), ending_P=np.zeros(0, bool), **nothing)
