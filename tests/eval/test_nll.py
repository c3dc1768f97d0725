import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.checkpoint.save import save_checkpoint
from sodakit.commands.eval import main
from sodakit.config import to_plain
from sodakit.data.language import vocabulary_of
from sodakit.errors import ConfigError, StoreError
from sodakit.eval.nll import VARIANTS, Likelihood, store_likelihood
from sodakit.eval.results import compare
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.vocabulary import Vocabulary
from tests.stores import small_store


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Transformer, Vocabulary, StoreReader]:
    store = StoreReader(small_store(tmp_path_factory.mktemp("store")))
    vocabulary = vocabulary_of(store)
    config = model_size("nano", vocabulary.size, init_std=0.1, context=256)
    return Transformer(config, seed=1).eval(), vocabulary, store


@pytest.fixture(scope="module")
def found(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Likelihood, dict[str, object]]:
    return store_likelihood(*street, "validation", tmp_path_factory.mktemp("nll"), part_items=3)


def by_hand(
    model: Transformer, v: Vocabulary, utterances: list[Utterance], variant: int
) -> tuple[float, int]:
    """The variants as the paper words them, one plain loop each."""
    total, count = 0.0, 0
    for u in utterances:
        audio = [v.audio_start]
        for frame in u.codes_KF.T.tolist():
            audio += [v.audio_base + k * v.codebook_size + code for k, code in enumerate(frame)]
        audio.append(v.audio_end)
        text = [v.text_start, *u.text_ids_T.tolist(), v.text_end]
        ids = [v.bos] + {
            1: audio + text,
            2: text + audio,
            3: text + audio,
            4: audio,
            5: audio + text,
            6: text,
        }[variant]
        logprobs = model.logits(model(torch.tensor([ids])))[0].detach().log_softmax(-1)
        codes = range(v.audio_base, v.audio_base + v.num_codebooks * v.codebook_size)
        for position in range(2, len(ids)):
            token = ids[position]
            counted = {
                1: True,
                2: token in codes,
                3: v.audio_base <= token < v.audio_base + v.codebook_size,
                4: token in codes,
                5: token < v.text_size,
                6: token < v.text_size,
            }[variant]
            if counted:
                total, count = total - float(logprobs[position - 1, token]), count + 1
    return total / count, count


@pytest.mark.parametrize(("number", "name"), enumerate(VARIANTS, start=1))
def test_each_variant_is_that_of_a_plain_loop(
    street: tuple[Transformer, Vocabulary, StoreReader],
    found: tuple[Likelihood, dict[str, object]],
    number: int,
    name: str,
) -> None:
    model, vocabulary, store = street
    utterances = [u for u in store.utterances("validation") if u.codes_KF.shape[1] and len(u.text_ids_T)]
    nats, count = by_hand(model, vocabulary, utterances, number)
    assert found[0].variants[name].value == pytest.approx(nats, abs=1e-5)
    assert found[0].num_tokens[name] == count


def test_three_markers_an_utterance_are_counted_as_in_the_published_figures(
    found: tuple[Likelihood, dict[str, object]],
) -> None:
    tokens = found[0].num_tokens
    markers = tokens["asr"] - tokens["tts_audio"] - tokens["asr_text"]
    assert markers == 3 * found[0].num_utterances


def test_bits_per_second_are_the_mean_nats_of_a_frame_times_its_rate(
    found: tuple[Likelihood, dict[str, object]],
) -> None:
    kinds = found[0].kinds["audio_first"]
    frame = kinds["semantic"] + kinds["acoustic_1"] + kinds["acoustic_2"]
    assert found[0].bits_per_audio_s["audio_first"] == pytest.approx(frame / np.log(2) * 12.5)
    assert "text_only" not in found[0].bits_per_audio_s


def test_the_published_kinds_give_the_published_bits() -> None:
    """The anchor of the recipe: 562.6 bits per second of audio."""
    kinds = [2.696, 3.579, 3.991, 3.998, 4.101, 4.158, 4.260, 4.413]
    assert sum(kinds) / np.log(2) * 12.5 == pytest.approx(562.6, abs=0.05)


def test_intervals_hold_the_value_and_count_recordings(found: tuple[Likelihood, dict[str, object]]) -> None:
    for value in found[0].variants.values():
        assert value.low <= value.value <= value.high
        assert value.num_clusters == 4  # six recordings, one of them text alone and one without transcript


def test_over_legal_ids_a_code_competes_with_its_codebook_alone(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path: Path
) -> None:
    """And codes of the first codebook with the end of the audio; a plain loop over the audio-only view."""
    model, v, store = street
    total, count = 0.0, 0
    for u in store.utterances("validation"):
        if not (u.codes_KF.shape[1] and len(u.text_ids_T)):
            continue
        codes = [
            v.audio_base + k * v.codebook_size + c for f in u.codes_KF.T.tolist() for k, c in enumerate(f)
        ]
        ids = [v.bos, v.audio_start, *codes]
        scores = model.logits(model(torch.tensor([ids])))[0].detach()
        for n, code in enumerate(codes):
            k = n % v.num_codebooks
            legal = [*range(*v.codebook_range(k)), *([v.audio_end] if k == 0 else [])]
            total -= float(scores[1 + n, code] - scores[1 + n, legal].logsumexp(0))
            count += 1
    found, result = store_likelihood(*street, "validation", tmp_path, softmax="slot")
    assert found.variants["audio_only"].value == pytest.approx(total / count, abs=1e-5)
    full = store_likelihood(*street, "validation", tmp_path)[1]  # the same log-probabilities, read again
    assert full["softmax"] == "full" != result["softmax"]
    with pytest.raises(ConfigError, match="softmax"):
        compare(result, full, "asr")


def test_two_models_are_compared_over_recordings(
    street: tuple[Transformer, Vocabulary, StoreReader],
    found: tuple[Likelihood, dict[str, object]],
    tmp_path: Path,
) -> None:
    model, vocabulary, store = street
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head_VD.mul_(1.5)
    its = store_likelihood(other, vocabulary, store, "validation", tmp_path)[1]
    for name in VARIANTS:
        difference = compare(its, found[1], name).value
        expected = its["nll"][name]["value"] - found[0].variants[name].value
        assert difference.value == pytest.approx(expected) and expected != 0
        assert difference.low <= difference.value <= difference.high


def test_the_result_is_json_and_the_same_twice(
    street: tuple[Transformer, Vocabulary, StoreReader],
    found: tuple[Likelihood, dict[str, object]],
    tmp_path: Path,
) -> None:
    again = store_likelihood(*street, "validation", tmp_path / "again", part_items=3)[1]
    assert json.loads(json.dumps(found[1])) == json.loads(json.dumps(again))


def test_a_limit_takes_some_utterances_over_the_whole_split(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path: Path
) -> None:
    result = store_likelihood(*street, "validation", tmp_path, limit=3)[1]
    assert result["num_utterances"] == 3
    assert len({str(name).split("-")[1] for name in result["utterances"]}) == 3


def test_utterances_that_do_not_fit_the_context_are_counted_and_left_out(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path: Path
) -> None:
    _, vocabulary, store = street
    lengths = sorted(
        3 * u.codes_KF.shape[1] + len(u.text_ids_T) + 5
        for u in store.utterances("validation")
        if u.codes_KF.shape[1] and len(u.text_ids_T)
    )
    short = Transformer(model_size("nano", vocabulary.size, context=lengths[-1] - 1))
    result = store_likelihood(short, vocabulary, store, "validation", tmp_path)[1]
    assert result["num_too_long"] == lengths.count(lengths[-1])
    assert result["num_utterances"] == len(lengths) - result["num_too_long"]
    nothing = Transformer(model_size("nano", vocabulary.size, context=8))
    with pytest.raises(StoreError, match="context of 8"):
        store_likelihood(nothing, vocabulary, store, "validation", tmp_path / "none")


def test_a_store_of_another_tokenizer_is_refused(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path: Path
) -> None:
    model, vocabulary, store = street
    other = Vocabulary.from_plain(vocabulary.to_plain() | {"tokenizer_fingerprint": "other"})
    with pytest.raises(StoreError, match="tokenizer"):
        store_likelihood(model, other, store, "validation", tmp_path)


def test_the_command_prints_the_six_variants(
    street: tuple[Transformer, Vocabulary, StoreReader], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, vocabulary, store = street
    vocabulary.save(tmp_path / "language")
    spec = to_plain(store.codec_spec)
    folder = save_checkpoint(
        tmp_path / "model",
        model=model,
        state={},
        config={},
        vocabulary_folder=tmp_path / "language",
        codec=spec,
    )
    words = ["--store", str(store.folder), "--model", str(folder), "--out", str(tmp_path / "out")]
    main(["nll", *words])
    printed = capsys.readouterr().out
    assert all(f"{n} {name}" in printed for n, name in enumerate(VARIANTS, start=1))
    assert json.loads((tmp_path / "out" / "nll_validation.json").read_text())["nll"].keys() == VARIANTS.keys()
