"""One forward pass per item, and the log-probability of every token stored once.

Items are packed into rows, so short clips cost what their tokens cost. The head is applied to a few positions at a
time: all logits of a row of the published vocabulary would be gigabytes. A folder of log-probabilities is written
part by part; a part is complete or absent, so a killed run goes on where it stopped and ends with the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.eval.outputs import claim
from sodakit.eval.partition import is_likeliest, partition
from sodakit.eval.token_table import AUDIO, CLOSE, EDGE, OPEN, TEXT, TokenTable, read_tables
from sodakit.files import digest
from sodakit.log import track
from sodakit.model.attention import Packing
from sodakit.model.layers import wide
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import slots_of
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
    _check(items, model.config.context)
    # Equal sequences are scored once: apart they could differ in the last digit, and a tie would be decided by it.
    # So is a sequence with which another begins (audio alone, and audio with its transcript): nothing later counts.
    unlike = {item.ids_T.tobytes(): item for item in items}
    hosts = _hosts(unlike)
    longest = [item for key, item in unlike.items() if hosts[key] == key]
    rows = _rows(longest, min(row_tokens, model.config.context))
    parts = [part for row in rows for part in _score_row(model.eval(), vocabulary, row)]
    scored = {item.ids_T.tobytes(): part for item, part in zip(longest, parts, strict=True)}
    found = [scored[hosts[item.ids_T.tobytes()]][: len(item.ids_T) - 1] for item in items]
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


@torch.inference_mode()
def score_targets(
    model: Transformer,
    sequences: Sequence[np.ndarray],
    counts: Sequence[int],
    *,
    row_tokens: int = 2048,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each sequence, of its last `counts` ids: log-probabilities over all ids (float64), and which were likeliest.

    Args:
        sequences: ids beginning with BOS, none longer than the context.
    """
    everything = [(0, model.config.vocab_size)]
    items = [TokenItem(str(n), ids_T) for n, ids_T in enumerate(sequences)]
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for row in _rows(items, row_tokens):
        own = [counts[int(item.name)] for item in row]
        x_PD, targets_P = _states(model.eval(), [item.ids_T for item in row], own)
        found = partition(model, x_PD, torch.from_numpy(targets_P).to(model.device), everything)
        logprob_P = (found.picked_P - found.logsumexp_PR[:, 0]).double().cpu().numpy()
        best_P = is_likeliest(found).cpu().numpy()
        ends = np.cumsum(own)[:-1]
        answers += list(zip(np.split(logprob_P, ends), np.split(best_P, ends), strict=True))
    return answers


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


def _hosts(sequences: Iterable[bytes]) -> dict[bytes, bytes]:
    """For each sequence the longest that begins with it, itself if there is no other."""
    hosts: dict[bytes, bytes] = {}
    following = b""
    for sequence in sorted(sequences, reverse=True):
        # In order, those that begin with a sequence come right after it.
        begins = bool(following) and following.startswith(sequence)
        hosts[sequence] = hosts[following] if begins else sequence
        following = sequence
    return hosts


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
    counts = [len(item.ids_T) - 1 for item in row]
    x_PD, targets_P = _states(model, [item.ids_T for item in row], counts)
    return np.split(_logprobs(model, vocabulary, x_PD, targets_P), np.cumsum(counts)[:-1])


def _states(
    model: Transformer, sequences: Sequence[np.ndarray], counts: Sequence[int]
) -> tuple[Tensor, np.ndarray]:
    """The states from which the last `counts` ids of each sequence are predicted, and these ids: one packed row."""
    lengths = [len(ids_T) for ids_T in sequences]
    ids_T = np.concatenate(sequences).astype(np.int64)
    ends = np.cumsum(lengths)
    target_at = np.concatenate([np.arange(e - n, e) for e, n in zip(ends, counts, strict=True)])
    packing = Packing.from_lengths(lengths, model.device)
    x_TD = model(torch.from_numpy(ids_T)[None].to(model.device), packing)[0]
    return x_TD[torch.from_numpy(target_at - 1).to(model.device)], ids_T[target_at]


def _logprobs(model: Transformer, v: Vocabulary, x_PD: Tensor, targets_P: np.ndarray) -> np.ndarray:
    """All three softmaxes from the denominators of a few blocks of ids."""
    audio_stop = v.audio_base + v.num_codebooks * v.codebook_size
    books = [v.codebook_range(k) for k in range(v.num_codebooks)]
    # Markers after the audio block, or a padded vocabulary: with the text.
    rest = [(0, v.audio_base), (audio_stop, model.config.vocab_size)]
    rest = [(start, stop) for start, stop in rest if stop > start]
    slots_P = torch.from_numpy(slots_of(targets_P, v)).to(x_PD.device)
    ids_P = torch.from_numpy(targets_P).to(x_PD.device)
    found = partition(model, x_PD, ids_P, [*books, *rest])
    books_PK = found.logsumexp_PR[:, : v.num_codebooks]
    rest_P = found.logsumexp_PR[:, v.num_codebooks :].logsumexp(1)
    codes_P = books_PK.logsumexp(1)
    closing_P = wide(F.linear(x_PD, model.head_VD[v.audio_end][None]))[:, 0]
    full_P = torch.logaddexp(rest_P, codes_P)
    modality_P = torch.where(slots_P > 0, torch.logaddexp(codes_P, closing_P), rest_P)
    book_P = books_PK.gather(1, (slots_P - 1).clamp(min=0)[:, None])[:, 0]
    first_P = torch.logaddexp(books_PK[:, 0], closing_P)
    slot_P = torch.where(slots_P > 1, book_P, torch.where(slots_P == 1, first_P, rest_P))
    wanted_P3 = torch.stack([full_P, modality_P, slot_P], dim=1)
    return (found.picked_P[:, None] - wanted_P3).float().cpu().numpy()


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
