"""One forward pass per item, and the log-probability of every token stored once.

Items are packed into rows, so short clips cost what their tokens cost. The head is applied to a few positions at a
time: all logits of a row of the published vocabulary would be gigabytes. A folder of log-probabilities is written
part by part; a part is complete or absent, so a killed run goes on where it stopped and ends with the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.eval.outputs import claim
from sodakit.eval.token_table import AUDIO, CLOSE, EDGE, OPEN, TEXT, TokenTable, read_tables
from sodakit.files import digest
from sodakit.log import track
from sodakit.model.attention import Packing
from sodakit.model.layers import wide
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import slots_of
from sodakit.tokens.vocabulary import FIRST_AUDIO_KIND, Vocabulary

CHUNK_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}
"""Logits held at a time, by device type: 16 MiB stay near a CPU's cache; a GPU wants large products."""

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
    _check(items, model.config.context)
    # Equal sequences are scored once: apart they could differ in the last digit, and a tie would be decided by it.
    unlike = {item.ids_T.tobytes(): item for item in items}
    rows = _rows(list(unlike.values()), min(row_tokens, model.config.context))
    parts = [part for row in rows for part in _score_row(model.eval(), vocabulary, row)]
    scored = dict(zip(unlike, parts, strict=True))
    return _table(vocabulary, items, np.concatenate([scored[item.ids_T.tobytes()] for item in items]))


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
        ConfigError: the folder holds log-probabilities of other settings.
    """
    folder = Path(folder)
    settings = settings | {"num_items": num_items, "part_items": part_items, "row_tokens": row_tokens}
    claim(folder / SETTINGS, settings, "log-probabilities")
    ranges = [range(first, min(first + part_items, num_items)) for first in range(0, num_items, part_items)]
    paths = [folder / f"part-{number:05d}.parquet" for number in range(len(ranges))]
    missing = [(path, part) for path, part in zip(paths, ranges, strict=True) if not path.exists()]
    for path, part in track(missing, "scoring", total=len(missing)):
        items = make(part)
        table = score_items(model, vocabulary, items, row_tokens=row_tokens) if len(items) else _empty_table()
        table.write(path)
    return read_tables(paths)


def model_fingerprint(model: Transformer) -> str:
    """Digest of a model's shape and weights."""
    parts: list[bytes | str] = [repr(model.config)]
    for name, weight in model.state_dict().items():
        parts += [name, weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def _check(items: Sequence[TokenItem], context: int) -> None:
    if not items:
        raise ConfigError("No items to score; needed: at least one.")
    for item in items:
        if len(item.ids_T) > context:
            raise ConfigError(
                f"{item.name} has {len(item.ids_T)} tokens and the model's context {context}. "
                "Leave the item out, or cut the clips with max_s."
            )
        if len(item.ids_T) < 2:
            raise ConfigError(
                f"{item.name} has {len(item.ids_T)} tokens; needed: BOS and something after it."
            )


def _rows(items: Sequence[TokenItem], row_tokens: int) -> Iterator[list[TokenItem]]:
    row: list[TokenItem] = []
    filled = 0
    for item in items:
        if row and filled + len(item.ids_T) > row_tokens:
            yield row
            row, filled = [], 0
        row.append(item)
        filled += len(item.ids_T)
    yield row


def _score_row(model: Transformer, vocabulary: Vocabulary, row: list[TokenItem]) -> list[np.ndarray]:
    """For each item (P, 3) float32: the three log-probabilities of every token but its first."""
    lengths = [len(item.ids_T) for item in row]
    ids_T = np.concatenate([item.ids_T for item in row]).astype(np.int64)
    first_T = np.zeros(len(ids_T), bool)
    first_T[np.cumsum([0, *lengths[:-1]])] = True
    target_at = np.flatnonzero(~first_T)
    packing = Packing.from_lengths(lengths, model.device)
    x_TD = model(torch.from_numpy(ids_T)[None].to(model.device), packing)[0]
    x_PD = x_TD[torch.from_numpy(target_at - 1).to(model.device)]
    logprobs_P3 = _logprobs(model, vocabulary, x_PD, ids_T[target_at])
    return np.split(logprobs_P3, np.cumsum([length - 1 for length in lengths])[:-1])


def _logprobs(model: Transformer, vocabulary: Vocabulary, x_PD: Tensor, targets_P: np.ndarray) -> np.ndarray:
    slots = torch.from_numpy(slots_of(targets_P, vocabulary)).to(x_PD.device)
    targets = torch.from_numpy(targets_P).to(x_PD.device)
    elements = CHUNK_ELEMENTS.get(x_PD.device.type, 2**26)
    chunk = max(16, elements // model.config.vocab_size)
    parts = [
        _chunk_logprobs(
            wide(model.logits(x_PD[at : at + chunk])),
            targets[at : at + chunk],
            slots[at : at + chunk],
            vocabulary,
        )
        for at in range(0, len(targets), chunk)
    ]
    return torch.cat(parts).cpu().numpy()


def _chunk_logprobs(logits_PV: Tensor, targets_P: Tensor, slots_P: Tensor, v: Vocabulary) -> Tensor:
    """One pass over the logits: the partition of each block of ids, from which all three softmaxes follow."""
    start, stop = v.audio_base, v.audio_base + v.num_codebooks * v.codebook_size
    picked_P = logits_PV.gather(1, targets_P[:, None])[:, 0]
    books_PK = logits_PV[:, start:stop].unflatten(1, (v.num_codebooks, v.codebook_size)).logsumexp(2)
    rest_P = logits_PV[:, :start].logsumexp(1)
    if logits_PV.shape[1] > stop:  # markers after the audio block, or a padded vocabulary
        rest_P = torch.logaddexp(rest_P, logits_PV[:, stop:].logsumexp(1))
    codes_P, closing_P = books_PK.logsumexp(1), logits_PV[:, v.audio_end]
    full_P = torch.logaddexp(rest_P, codes_P)
    modality_P = torch.where(slots_P > 0, torch.logaddexp(codes_P, closing_P), rest_P)
    book_P = books_PK.gather(1, (slots_P - 1).clamp(min=0)[:, None])[:, 0]
    first_P = torch.logaddexp(books_PK[:, 0], closing_P)
    slot_P = torch.where(slots_P > 1, book_P, torch.where(slots_P == 1, first_P, rest_P))
    return torch.stack([picked_P - full_P, picked_P - modality_P, picked_P - slot_P], dim=1)


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
