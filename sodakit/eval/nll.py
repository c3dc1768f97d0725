"""Validation negative log-likelihood in the six variants of the paper, and bits per second of audio.

    1 asr           all tokens of audio_start A audio_end text_start T text_end
    2 tts_audio     audio tokens of the transcript-first order
    3 tts_semantic  semantic tokens of the transcript-first order
    4 audio_only    audio tokens without a transcript
    5 asr_text      text tokens of the audio-first order
    6 text_only     text tokens without audio

Every utterance is scored by itself, after BOS. Its opening marker is given: which of the two orders comes is a coin
toss that says nothing about the model. So variant 1 counts three markers an utterance, as the published figures do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sodakit.errors import ConfigError, StoreError
from sodakit.eval.logprobs import TokenItem, score_folder
from sodakit.eval.provenance import weights_provenance
from sodakit.eval.results import DRAWS, Estimate, estimate, plain_estimate, provenance
from sodakit.eval.token_table import AUDIO, EDGE, TEXT, TokenTable
from sodakit.model.families import pattern_of
from sodakit.model.transformer import Transformer
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.documents import Span, Speech, Template, Text
from sodakit.tokens.layouts.contract import Layout
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.units import spread

Softmax = Literal["full", "slot"]
"""Which ids share the probability: all, or those that are legal in the token's place."""
VIEWS = ("audio_first", "text_first", "audio_only", "text_only")
"""The four ways an utterance is written; one forward pass each."""

VARIANTS = {
    "asr": ("audio_first", "all"),
    "tts_audio": ("text_first", "audio"),
    "tts_semantic": ("text_first", "semantic"),
    "audio_only": ("audio_only", "audio"),
    "asr_text": ("audio_first", "text"),
    "text_only": ("text_only", "text"),
}
"""The paper's six, 1 to 6: which view, and which of its tokens."""


@dataclass(frozen=True)
class Likelihood:
    """How well a model predicts an evaluation set."""

    variants: dict[str, Estimate]
    """Nats per token of the six variants, with intervals over recordings."""
    kinds: dict[str, dict[str, float]]
    """By view: mean nats of text, markers, semantic, acoustic_1, …"""
    bits_per_audio_s: dict[str, float]
    """By view with audio: bits that a second of audio costs, all codebooks together."""
    num_tokens: dict[str, int]
    """By variant."""
    num_utterances: int
    audio_s: float
    """Seconds of audio scored in each view."""
    recordings: dict[str, dict[str, tuple[float, int]]]
    """By variant and recording: nats and tokens, which is what a paired test resamples."""


def store_likelihood(
    model: Transformer,
    vocabulary: Vocabulary,
    store: StoreReader,
    split: str,
    folder: Path | str,
    *,
    limit: int | None = None,
    num_codebooks: int | None = None,
    softmax: Softmax = "full",
    part_items: int = 64,
    row_tokens: int = 2048,
    draws: int = DRAWS,
) -> tuple[Likelihood, dict[str, Any]]:
    """The likelihood of the utterances of a split that have both speech and a transcript, and the JSON result.

    Utterances longer than the context are left out and counted as `num_too_long`.

    Args:
        folder: log-probabilities are kept here; the same call goes on after an interruption.
        limit: take this many utterances, evenly spaced over the split; None for all.
        num_codebooks: the first codebooks of the store; None for those of the vocabulary.
        softmax: over all ids, as the paper has it, or over those that are legal in their place: for a model trained so
            (`loss.slot_softmax`), whose scores of different slots have nothing to do with each other.
    Raises:
        StoreError: another tokenizer or codec shape than the model's, or no such utterance in the split.
    """
    _check_store(store, vocabulary)
    num_codebooks = num_codebooks or min(vocabulary.num_codebooks, store.codec_spec.num_codebooks)
    layout = pattern_of(model.config).layout(vocabulary, num_codebooks)
    chosen, num_too_long = _utterances(store, split, limit, layout, model.config.context)
    template = Template(vocabulary, num_codebooks)
    settings = {
        "task": "nll",
        "split": split,
        "store": {"codec": store.codec_spec.fingerprint, "tokenizer": store.tokenizer_fingerprint},
        "utterances": [u.id for u in chosen] if limit else len(chosen),
        "num_too_long": num_too_long,
        "num_codebooks": num_codebooks,
        "shards": [info.sha256 for info in store.shards(split)],
        **weights_provenance(model),
    }
    table = score_folder(
        model,
        vocabulary,
        len(chosen),
        partial(_items, chosen, template),
        folder,
        settings,
        part_items=part_items,
        row_tokens=row_tokens,
    )
    rate_hz = store.codec_spec.frame_rate_hz
    found = likelihood(table, vocabulary, chosen, rate_hz, num_codebooks, softmax=softmax, draws=draws)
    return found, settings | {"softmax": softmax, "versions": provenance()} | _plain(found)


def likelihood(
    table: TokenTable,
    vocabulary: Vocabulary,
    utterances: Sequence[Utterance],
    frame_rate_hz: float,
    num_codebooks: int,
    *,
    softmax: Softmax = "full",
    draws: int = DRAWS,
) -> Likelihood:
    """The numbers that follow from a table whose items are named `number#view`."""
    nats_P = -(table.logprob_P if softmax == "full" else table.logprob_slot_P).astype(np.float64)
    number_I = np.array([int(name.split("#")[0]) for name in table.items], np.int64)
    view_I = np.array([VIEWS.index(name.split("#")[1]) for name in table.items], np.int64)
    view_P, utterance_P = view_I[table.item_P], number_I[table.item_P]
    given_P = (table.position_P == 1) | (table.kind_P == EDGE)
    recordings = [u.recording for u in utterances]
    variants, num_tokens, by_recording = {}, {}, {}
    for name, (view, tokens) in VARIANTS.items():
        rows_P = (view_P == VIEWS.index(view)) & ~given_P & _wanted(table, vocabulary, tokens)
        sums = _sums(nats_P[rows_P], utterance_P[rows_P], recordings)
        means = [nats / tokens for nats, tokens in sums.values()]
        weights = [tokens for _, tokens in sums.values()]
        variants[name] = estimate(means, list(sums), weights=weights, draws=draws)
        num_tokens[name], by_recording[name] = sum(weights), sums
    kinds = {
        view: _kind_means(table, nats_P, (view_P == n) & ~given_P, vocabulary, num_codebooks)
        for n, view in enumerate(VIEWS)
    }
    names = vocabulary.kind_names[2 : 2 + num_codebooks]
    bits = {
        view: sum(means[name] for name in names) / np.log(2) * frame_rate_hz
        for view, means in kinds.items()
        if view != "text_only"
    }
    audio_s = sum(u.codes_KF.shape[1] for u in utterances) / frame_rate_hz
    return Likelihood(variants, kinds, bits, num_tokens, len(utterances), audio_s, by_recording)


def _utterances(
    store: StoreReader, split: str, limit: int | None, layout: Layout, context: int
) -> tuple[list[Utterance], int]:
    """Those with speech and transcript that fit the context, and how many do not fit."""
    every, columns = store.utterances(split), store.columns(split)
    frames_N, text_N = np.diff(columns.frame_offsets), np.diff(columns.text_offsets)
    both_N = (frames_N > 0) & (text_N > 0)
    fits_N = layout.speech_positions(frames_N) + text_N + 3 <= context  # BOS and the markers of the text
    found = np.flatnonzero(both_N & fits_N)
    if not len(found):
        raise StoreError(
            f"{store.folder}, split {split!r}: of {len(every)} utterances {both_N.sum()} have both speech and a "
            f"transcript, which the six variants need, and none of these fits the model's context of {context} "
            "tokens. Choose another split or store, or a model with a longer context."
        )
    if limit is not None and limit < len(found):
        found = np.array(spread(found.tolist(), limit))
    return [every[int(n)] for n in found], int((both_N & ~fits_N).sum())


def _check_store(store: StoreReader, vocabulary: Vocabulary) -> None:
    if vocabulary.tokenizer_fingerprint and vocabulary.tokenizer_fingerprint != store.tokenizer_fingerprint:
        raise StoreError(
            f"{store.folder} has text of tokenizer {store.tokenizer_fingerprint}; the model's is "
            f"{vocabulary.tokenizer_fingerprint}. Prepare the recordings with the model's tokenizer."
        )
    if store.codec_spec.codebook_size != vocabulary.codebook_size:
        raise StoreError(
            f"{store.folder} has codebooks of {store.codec_spec.codebook_size} entries; the model's have "
            f"{vocabulary.codebook_size}. Prepare the recordings with the model's codec."
        )


def _items(utterances: Sequence[Utterance], template: Template, part: range) -> list[TokenItem]:
    items = []
    for number in part:
        speech, text = Speech(utterances[number].codes_KF), Text(utterances[number].text_ids_T)
        spans: dict[str, list[Span]] = {
            "audio_first": [speech, text],
            "text_first": [text, speech],
            "audio_only": [speech],
            "text_only": [text],
        }
        for view in VIEWS:
            ids_T = np.concatenate([[template.vocabulary.bos], *(template.span(s) for s in spans[view])])
            items.append(TokenItem(f"{number}#{view}", ids_T.astype(np.int32)))
    return items


def _wanted(table: TokenTable, vocabulary: Vocabulary, tokens: str) -> np.ndarray:
    if tokens == "all":
        return np.ones(len(table), bool)
    if tokens == "semantic":
        return np.isin(table.codebook_P, vocabulary.semantic_codebooks)
    return table.kind_P == (AUDIO if tokens == "audio" else TEXT)


def _sums(
    nats_P: np.ndarray, utterance_P: np.ndarray, recordings: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Nats and tokens of each recording that has some.

    Args:
        nats_P: of the tokens that count.
        utterance_P: which utterance each is of.
        recordings: of each utterance.
    """
    names, recording_U = np.unique(recordings, return_inverse=True)
    recording_P = recording_U[utterance_P]
    nats_R = np.bincount(recording_P, nats_P, len(names))
    tokens_R = np.bincount(recording_P, minlength=len(names))
    if not tokens_R.any():
        raise ConfigError("Not one token of a variant was scored. Are the utterances without text or audio?")
    found = zip(names.tolist(), nats_R.tolist(), tokens_R.tolist(), strict=True)
    return {name: (nats, tokens) for name, nats, tokens in found if tokens}


def _kind_means(
    table: TokenTable, nats_P: np.ndarray, rows_P: np.ndarray, vocabulary: Vocabulary, num_codebooks: int
) -> dict[str, float]:
    kind_P = np.where(table.kind_P == AUDIO, 2 + table.codebook_P, np.where(table.kind_P == TEXT, 0, 1))
    nats = np.bincount(kind_P[rows_P], nats_P[rows_P], 2 + num_codebooks)
    counts = np.bincount(kind_P[rows_P], minlength=2 + num_codebooks)
    names = vocabulary.kind_names[: 2 + num_codebooks]
    return {n: float(s / c) for n, s, c in zip(names, nats, counts, strict=True) if c}


def _plain(found: Likelihood) -> dict[str, Any]:
    return {
        "nll": {name: plain_estimate(value) for name, value in found.variants.items()},
        "num_tokens": found.num_tokens,
        "kinds": found.kinds,
        "bits_per_audio_s": found.bits_per_audio_s,
        "num_utterances": found.num_utterances,
        "audio_s": found.audio_s,
        "recordings": found.recordings,
    }
