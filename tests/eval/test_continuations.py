"""Continuations: perplexity and repetition by plain loops, every way to fail counted, published settings by name."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.audio.levels import is_silent
from sodakit.audio.wave import Wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.cases import Recording, read_recordings
from sodakit.eval.continuations import (
    PROTOCOLS,
    auto_bleu,
    auto_bleu_1_2,
    continuation_result,
    is_looping,
    perplexity,
    protocol,
)
from sodakit.eval.generation import ContinueConfig, continue_cases
from sodakit.eval.outputs import Output
from sodakit.eval.results import compare
from sodakit.eval.text_model import Likelihood, TextModel
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import read_json
from tests.eval.recordings import TEXTS, recordings_folder
from tests.eval.small_model import noise, small_checkpoint, small_speech_model
from tests.eval.test_generation import prompts_of, small_judge
from tests.eval.test_spoken_scores import Parrot

SETTINGS = {"task": "continuation", "data_digest": "d", "settings": {"prompt_s": 0.1}}


@pytest.fixture(scope="module", params=["gpt2", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of one layer with a byte-level BPE; the second puts a BOS before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    path = tmp_path_factory.mktemp("text_model") / request.param
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    if request.param == "gpt2":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        config = GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=64)
        GPT2LMHeadModel(config).save_pretrained(path)
    else:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
        Qwen3ForCausalLM(
            Qwen3Config(vocab_size=size, max_position_embeddings=64, **shape, **heads)
        ).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(path)
    return path


def plain_nats(model: TextModel, prompt: str, text: str) -> list[float]:
    """One forward pass for each token of the text after all that stands before it, the text cut off from its end."""
    joined = f"{prompt} {text}".strip()
    ids = model.tokenizer(joined)["input_ids"]
    before = len(model.tokenizer(prompt)["input_ids"]) if prompt else 0
    adds_bos = ids[0] == model.tokenizer.bos_token_id
    nats = []
    for place in range(max(before, 1), len(ids)):
        with torch.no_grad():
            logits_V = model.model(torch.tensor([ids[:place]])).logits[0, -1].double()
        nats.append(float(torch.logsumexp(logits_V, 0) - logits_V[ids[place]]))
    assert before or len(nats) == len(ids) - 1, (
        adds_bos,
        "all but the first are counted where nothing is given",
    )
    return nats


PAIRS = [
    ("a dog ran", "home"),
    ("The cat", "sat, on the mat."),
    ("", "dogs and cats ran home"),
    ("héllo", "ünd so"),
]


def test_likelihoods_are_those_of_one_pass_for_each_token(folder: Path) -> None:
    model = TextModel.load(str(folder))
    found = model.likelihoods([p for p, _ in PAIRS], [t for _, t in PAIRS])
    for likelihood, (prompt, text) in zip(found, PAIRS, strict=True):
        expected = plain_nats(model, prompt, text)
        assert likelihood.tokens == len(expected)
        assert likelihood.nats == pytest.approx(sum(expected), rel=1e-5)
    assert model.likelihoods(["a dog", ""], ["", ""]) == [Likelihood(0.0, 0)] * 2
    with pytest.raises(ConfigError, match="reads 64 at once"):
        model.likelihoods([""], ["xyz " * 40])


def test_a_text_model_is_known_by_weights_and_tokenizer_and_a_folder_without_one_is_explained(
    folder: Path, tmp_path: Path
) -> None:
    model = TextModel.load(str(folder))
    assert model.name == f"{folder.name}@{model.revision[:12]}"
    assert TextModel.load(str(folder)).fingerprint == model.fingerprint
    with pytest.raises(ConfigError, match="does not load as a language model"):
        TextModel.load(str(tmp_path))


def test_perplexity_weighs_tokens_or_texts_alike_and_leaves_out_what_has_none() -> None:
    found = [Likelihood(6.0, 3), Likelihood(1.0, 1), None, Likelihood(0.0, 0)]
    by_token, by_text = (perplexity(found, list("abcd"), weighted=w) for w in (True, False))
    assert by_token is not None and by_text is not None
    assert by_token["value"] == pytest.approx(math.exp(7 / 4))
    assert by_text["value"] == pytest.approx(math.exp((2 + 1) / 2))
    assert by_token["num_items"] == 2 and by_token["low"] <= by_token["value"] <= by_token["high"]
    assert perplexity(found[2:], list("cd")) is None


def plain_auto_bleu(words: list[str], sizes: Sequence[int], overlap: bool) -> float | None:
    """The definition: each n-gram is looked for in what is left when it is taken out."""
    product = 1.0
    for size in sizes:
        grams = [words[n : n + size] for n in range(len(words) - size + 1)]
        if not grams:
            return None
        found = 0
        for n, gram in enumerate(grams):
            others = grams[:n] + grams[n + 1 :]
            if not overlap:
                left, right = words[:n], words[n + size :]
                others = [left[i : i + size] for i in range(len(left) - size + 1)]
                others += [right[i : i + size] for i in range(len(right) - size + 1)]
            found += gram in others
        product *= found / len(grams)
    return product ** (1 / len(sizes))


@pytest.mark.parametrize("seed", range(8))
def test_repetition_is_that_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    for length in (0, 1, 2, 3, 5, 9, 20):
        words = [str(w) for w in random.choice(["a", "b", "c"], length)]
        said = " ".join(words).upper() + "."
        assert auto_bleu(said) == (
            None if length < 2 else pytest.approx(plain_auto_bleu(words, (2,), overlap=True))
        )
        assert auto_bleu_1_2(said) == (
            None if length < 2 else pytest.approx(plain_auto_bleu(words, (1, 2), overlap=False))
        )
    assert auto_bleu(None) is None


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("no no no", False),  # people say so
        ("no no no no no no", True),
        ("then I went, then I went, then I went", True),
        ("so then I went then I went then I went home", True),
        ("then I went then I went home", False),
        ("a b c d e f g h", False),
        ("", False),
    ],
)
def test_a_loop_is_a_phrase_said_three_times_in_a_row(text: str, loops: bool) -> None:
    assert is_looping(text) is loops


def test_silence_is_told_by_its_loudest_moment() -> None:
    quiet = noise(0).samples_S * 0.001
    assert is_silent(Wave(quiet, 8000)) and is_silent(Wave(quiet[:10], 8000))
    quiet[2000:2400] = noise(1).samples_S[:400]
    assert not is_silent(Wave(quiet, 8000))


def cases_and_outputs(folder: Path) -> tuple[list[Recording], list[Output]]:
    """Said, looping, silent, nothing, cut off, and one with a problem."""
    cases = read_recordings(recordings_folder(folder))
    waves = [
        noise(0, 0.5),
        noise(1, 0.7),
        Wave(np.zeros(4000, np.float32), 8000),
        Wave(np.zeros(0, np.float32), 8000),
    ]
    outputs = [Output(id=c.id, wave=w) for c, w in zip(cases, [*waves, noise(4, 0.9)], strict=False)]
    outputs[4] = Output(id=cases[4].id, wave=outputs[4].wave, ended=False)
    return cases, [*outputs, Output(id=cases[5].id, ended=False, problem="context")]


HEARD = {0.1: "a dog", 0.5: "Ran home", 0.7: "the cat the cat the cat", 0.9: "sat"}


def test_every_way_to_fail_is_a_share_of_all_outputs(tmp_path: Path) -> None:
    cases, outputs = cases_and_outputs(tmp_path)
    result = continuation_result(SETTINGS, cases, outputs, Parrot(HEARD), SpectralSpeaker())
    shares = {
        name: result["scores"][f"{name}_fraction"]["value"]
        for name in ("empty", "silent", "unended", "looping")
    }
    assert shares == {"empty": pytest.approx(2 / 6), "silent": pytest.approx(1 / 6),
                      "unended": pytest.approx(1 / 6), "looping": pytest.approx(1 / 6)}  # fmt: skip
    assert [f["id"] for f in result["failures"]] == [cases[3].id, cases[5].id]
    assert result["scores"]["similarity"]["num_items"] == 6  # failures count 0
    assert result["scores"]["similarity_without_failures"]["num_items"] == 4
    # Nobody was asked how likely the words are, and the result says so.
    assert result["text_model"] is None and result["scores"]["gen_ppl"] is None
    assert all(item["gen_nll"] is None for item in result["items"])


def test_gen_ppl_counts_the_continuation_after_the_words_of_the_opening(folder: Path, tmp_path: Path) -> None:
    cases, outputs = cases_and_outputs(tmp_path)
    model = TextModel.load(str(folder))
    judge, speakers = Parrot(HEARD), SpectralSpeaker()
    result = continuation_result(SETTINGS, cases, outputs, judge, speakers, model)
    said = [
        "Ran home",
        HEARD[0.7],
        "Ran home",
        "sat",
    ]  # silence lasts as long as the first, and the parrot goes by that
    nats = [plain_nats(model, "a dog", text) for text in said]
    scores = result["scores"]
    assert scores["gen_ppl"]["value"] == pytest.approx(
        math.exp(sum(map(sum, nats)) / sum(map(len, nats))), rel=1e-5
    )
    means = [sum(n) / len(n) for n in nats]
    assert scores["gen_ppl_macro"]["value"] == pytest.approx(math.exp(sum(means) / 4), rel=1e-5)
    assert scores["gen_ppl"]["num_items"] == 4 and scores["gen_ppl"]["num_clusters"] == 3
    assert scores["originals"]["gen_ppl"]["num_items"] == 6
    assert result["text_model"] == {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "precision": "float32",
    }
    assert result["items"][0]["prompt"] == "a dog" and result["items"][0]["tokens"] == len(nats[0])
    other = [Output(id=o.id, wave=noise(9, 0.5)) for o in outputs]
    difference = compare(
        continuation_result(SETTINGS, cases, other, judge, speakers, model), result, "gen_nll"
    )
    same = sum(nats[0]) / len(nats[0])  # "Ran home" in all four
    micro = sum(map(sum, nats)) / sum(map(len, nats))
    assert difference.value.value == pytest.approx(same - micro, rel=1e-4)


def test_the_whole_is_opening_and_continuation_as_one_sound(folder: Path, tmp_path: Path) -> None:
    cases, outputs = cases_and_outputs(tmp_path)
    model = TextModel.load(str(folder))
    judge = Parrot({0.6: "a dog ran home", 0.8: "the cat the cat", 1.0: "sat"})
    result = continuation_result(SETTINGS, cases, outputs, judge, SpectralSpeaker(), model, "whole")
    said = ["a dog ran home", "the cat the cat", "a dog ran home", "sat"]
    means = [np.mean(n) for text in said if (n := plain_nats(model, "", text))]
    assert result["scores"]["gen_ppl_macro"]["value"] == pytest.approx(math.exp(np.mean(means)), rel=1e-5)
    assert result["judged"] == "whole" and result["items"][0]["prompt"] == ""
    assert result["items"][3]["heard"] == "" and result["items"][3]["gen_nll"] is None


def test_published_settings_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soda, slamkit = PROTOCOLS["soda"].config, PROTOCOLS["slamkit"].config
    assert (soda.prompt_s, soda.temperature, soda.top_p, soda.top_k, soda.max_s) == (3, 1.0, 0.9, 0, 12)
    assert (slamkit.prompt_s, slamkit.temperature, slamkit.top_p, slamkit.top_k) == (3, 0.8, 1.0, 25)
    assert slamkit.max_new_tokens == 150
    with pytest.raises(ConfigError, match="Did you mean 'slamkit'"):
        protocol("slamkitt")
    with pytest.raises(ConfigError, match="max_new_tokens"):
        ContinueConfig(max_new_tokens=0)
    model = small_speech_model()
    asked = prompts_of(model, monkeypatch)
    cases = read_recordings(recordings_folder(tmp_path / "data"))[:1]
    continue_cases(model, cases, tmp_path / "out", ContinueConfig(prompt_s=0.16, max_new_tokens=7, top_k=5))
    assert asked[0].max_new_tokens == 3 * 2 + 1  # whole frames of two codes, and the end
    assert asked[0].semantic.top_k == asked[0].acoustic.top_k == 5


def test_the_command_names_protocol_and_text_model_and_the_page_shows_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_checkpoint(tmp_path / "model")
    small_judge().save(model / "judge.safetensors")
    words = ["continue", "--data", str(recordings_folder(tmp_path / "data")), "--model", str(model)]
    words += ["--max-s", "0.4", "--prompt-s", "0.16"]
    main([*words, "--out", str(tmp_path / "a")])
    assert "GenPPL is not computed" in capsys.readouterr().err
    main([*words, "--out", str(tmp_path / "b"), "--text-model", str(folder), "--protocol", "slamkit"])
    assert f"text model: {folder.name}@" in capsys.readouterr().out
    result = read_json(tmp_path / "b" / "continuation.json")
    assert result["protocol"] == "slamkit, changed" and result["judged"] == "whole"
    assert result["settings"]["top_k"] == 25 and result["settings"]["max_new_tokens"] is None
    for out, said in (("a", "no text model named"), ("b", f"GenPPL by {folder.name}@")):
        main(["report", str(tmp_path / out / "continuation.json"), "--out", str(tmp_path / "page.html")])
        page = (tmp_path / "page.html").read_text()
        assert said in page and "empty_fraction" in page and str(tmp_path) not in page
