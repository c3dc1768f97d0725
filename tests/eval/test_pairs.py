import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.checkpoint.hf import export_hf
from sodakit.commands.eval import main
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.pair_layouts import Pair, Side, first_pairs, pairs_digest, read_pairs
from sodakit.eval.pairs import SALMON_PARTS, score_pairs, task, token_items
from sodakit.eval.policies import Policy, item_scores, policies_for, policy
from sodakit.eval.token_table import read_tables
from sodakit.files import write_json_lines
from sodakit.generate.speech_model import SpeechModel
from tests.eval.small_model import noise, small_checkpoint, small_speech_model


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return small_speech_model()


def wav_bytes(wave: Wave) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.samples_S, wave.sample_rate_hz, "PCM_16", format="WAV")
    return buffer.getvalue()


def audio_column(seeds: list[int]) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": wav_bytes(noise(seed)), "path": f"{seed}.wav"} for seed in seeds], kind)


def salmon_folder(folder: Path, pairs: int = 2) -> Path:
    """SALMon as the hub has it: a folder per part, Parquet with two audio columns."""
    for number, part in enumerate(SALMON_PARTS):
        seeds = [100 * number + n for n in range(2 * pairs)]
        table = pa.table(
            {"negative_audio": audio_column(seeds[1::2]), "positive_audio": audio_column(seeds[::2])}
        )
        (folder / part).mkdir(parents=True)
        pq.write_table(table, folder / part / "train-00000-of-00001.parquet", row_group_size=1)
    return folder


def sound_pairs(folder: Path, count: int = 4) -> list[Pair]:
    for n in range(count):
        for side in (0, 1):
            write_wave(folder / f"sample_{n}_{side}.wav", noise(2 * n + side, 0.3 + 0.1 * n))
    return read_pairs(folder)


def test_salmon_is_read_from_its_hub_layout_part_by_part(tmp_path: Path) -> None:
    pairs = read_pairs(salmon_folder(tmp_path / "salmon"))
    assert sorted({p.part for p in pairs}) == list(SALMON_PARTS)
    assert len(pairs) == 16
    first = next(p for p in pairs if p.part == SALMON_PARTS[0])
    np.testing.assert_allclose(first.positive.read().samples_S, noise(0).samples_S, atol=1e-4)
    np.testing.assert_allclose(first.negatives[0].read().samples_S, noise(1).samples_S, atol=1e-4)


def test_the_config_with_all_parts_is_not_counted_twice(tmp_path: Path) -> None:
    folder = salmon_folder(tmp_path / "salmon", 1)
    rows = pa.table(
        {"task": SALMON_PARTS[:1], "positive_audio": audio_column([0]), "negative_audio": audio_column([1])}
    )
    (folder / "all").mkdir()
    pq.write_table(rows, folder / "all" / "0000.parquet")
    assert len(read_pairs(folder)) == 8
    only = read_pairs(folder / "all")
    assert [p.part for p in only] == [SALMON_PARTS[0]]


def test_words_and_sentences_are_read_spoken_and_written_from_one_file(tmp_path: Path) -> None:
    table = pa.table(
        {
            "positive": audio_column([0, 2]),
            "negative": audio_column([1, 3]),
            "positive_word": ["history", "alike"],
            "negative_word": ["fistory", "alibe"],
            "voice": ["A", "B"],
            "id": [7, 7],
        }
    )
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    spoken, written = read_pairs(tmp_path), read_pairs(tmp_path, speech=False)
    assert [(p.id, p.voice) for p in spoken] == [("7", "A"), ("7", "B")]
    assert [(p.positive.text, p.negatives[0].text) for p in written] == [
        ("history", "fistory"),
        ("alike", "alibe"),
    ]
    with pytest.raises(AudioError, match="text twin"):
        written[0].positive.read()


def test_zerospeech_gold_joins_by_voice_and_id(tmp_path: Path) -> None:
    rows = ["id,filename,voice,frequency,word,correct"]
    for voice in "AB":
        rows += [
            f"1,{voice}w,{voice},oov,word,1",
            f"1,{voice}n,{voice},oov,nerd,0",
            f"2,{voice}x,{voice},6,lone,1",
        ]
        for name, seed in ((f"{voice}w", 1), (f"{voice}n", 2)):
            write_wave(tmp_path / f"{name}.wav", noise(seed))
    (tmp_path / "gold.csv").write_text("\n".join(rows))
    pairs = read_pairs(tmp_path)
    assert [(p.id, p.voice, p.frequency, p.positive.text) for p in pairs] == [
        ("1", "A", 0, "word"),
        ("1", "B", 0, "word"),
    ]


def test_salmon_and_numbered_folders_pair_by_name(tmp_path: Path) -> None:
    write_wave(tmp_path / "room" / "sample_3_0.wav", noise(0))
    write_wave(tmp_path / "room" / "sample_3_1.wav", noise(1))
    write_wave(tmp_path / "words" / "10_good.wav", noise(2))
    write_wave(tmp_path / "words" / "11_bad.wav", noise(3))
    write_wave(tmp_path / "words" / "12_alone.wav", noise(4))
    pairs = read_pairs(tmp_path)
    assert [(p.part, p.id, Path(str(p.positive.audio)).name) for p in pairs] == [
        ("room", "3", "sample_3_0.wav"),
        ("words", "5", "10_good.wav"),
    ]


def test_stories_are_read_with_the_beginning_they_share(tmp_path: Path) -> None:
    write_json_lines(
        tmp_path / "topic.jsonl",
        [{"context": "A dog.", "good": "It ran.", "bad_same_book": "Cats.", "bad_other_book": "Mats."}],
    )
    (pair,) = read_pairs(tmp_path, speech=False, negative="bad_other_book")
    assert (pair.positive.text, pair.positive.prefix, pair.negatives[0].text) == (
        "A dog. It ran.",
        "A dog.",
        "A dog. Mats.",
    )
    released = tmp_path / "released"
    released.mkdir()
    (released / "cloze.csv").write_text(
        "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,"
        "RandomFifthSentenceQuiz2,AnswerRightEnding\nx1,a,b,c,d,wrong,right,2\n"
    )
    (story,) = read_pairs(released, speech=False)
    assert (story.id, story.positive.text, story.negatives[0].text) == (
        "x1",
        "a b c d right",
        "a b c d wrong",
    )


@pytest.mark.parametrize(
    ("last", "problem"), [('{"id": "2", "pos', "line 2"), ('{"id": "2"}', "pair 2"), ("[]", "line 2")]
)
def test_pairs_that_were_built_are_read_whole_or_refused(tmp_path: Path, last: str, problem: str) -> None:
    first = '{"id": "1", "positive": {"text": "a dog"}, "negatives": [{"text": "a gdo"}]}'
    (tmp_path / "pairs.jsonl").write_text(f"{first}\n{last}")
    with pytest.raises(ConfigError, match=problem):
        read_pairs(tmp_path, speech=False)


def test_the_digest_of_pairs_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    side = Side(audio=tmp_path / "a.wav")
    assert pairs_digest([Pair(id="1", positive=side, negatives=(side,))])


def test_a_folder_without_pairs_lists_the_known_layouts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known layouts"):
        read_pairs(tmp_path)
    with pytest.raises(ConfigError, match="hub id"):
        read_pairs(tmp_path / "nowhere")


def test_the_digest_follows_the_sound_of_every_clip(tmp_path: Path) -> None:
    pairs = sound_pairs(tmp_path)
    before = pairs_digest(pairs)
    assert pairs_digest(read_pairs(tmp_path)) == before
    write_wave(tmp_path / "sample_0_1.wav", noise(77, 0.3))
    assert pairs_digest(read_pairs(tmp_path)) != before


def scored_by_hand(model: SpeechModel, wave: Wave, keep: str) -> float:
    """Plain loops over logits, without any of the code under test but the codec and the model's forward."""
    v, codes_KF = model.vocabulary, model.encode(wave)
    ids = [v.bos, v.audio_start]
    for frame in codes_KF.T:
        ids += [v.audio_base + k * v.codebook_size + int(code) for k, code in enumerate(frame)]
    ids.append(v.audio_end)
    logits = model.model.logits(model.model(torch.tensor([ids])))[0].detach().double().log_softmax(-1)
    every = [(position, float(logits[position - 1, ids[position]])) for position in range(1, len(ids))]
    chosen = {
        "codes": [x for p, x in every if 2 <= p < len(ids) - 1],
        "all": [x for _, x in every],
        "semantic+end": [x for p, x in every if p >= 2 and (p - 2) % 2 == 0],
    }[keep]
    return sum(chosen) / len(chosen)


@pytest.mark.parametrize(
    ("name", "task_name", "keep"),
    [("soda", "salmon", "codes"), ("llama-mimi", "salmon", "all"), ("llama-mimi", "swuggy", "semantic+end")],
)
def test_accuracies_are_those_of_an_independent_loop(
    model: SpeechModel, tmp_path: Path, name: str, task_name: str, keep: str
) -> None:
    pairs = sound_pairs(tmp_path / "pairs", 6)
    result = score_pairs(
        model, task(task_name), pairs, [policy(name, task(task_name).family)], tmp_path / "out"
    )
    expected = [
        float(
            scored_by_hand(model, p.positive.read(), keep)
            > scored_by_hand(model, p.negatives[0].read(), keep)
        )
        for p in pairs
    ]
    assert [q["answers"][name] for q in result["questions"]] == expected
    assert result["scores"][name]["accuracy"]["value"] == pytest.approx(np.mean(expected))


def test_scores_are_those_of_transformers_run_clip_by_clip(tmp_path: Path) -> None:
    """The way the published scripts do it: one clip, one call, log-softmax of everything, in a plain loop."""
    transformers = pytest.importorskip("transformers")
    model = small_speech_model(codebooks=3, seed=5)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    pairs = sound_pairs(tmp_path / "pairs", 5)
    rule = policy("soda", "salmon")
    score_pairs(model, task("salmon"), pairs, [rule], tmp_path / "out")
    found = item_scores(read_tables(sorted((tmp_path / "out" / "whole").glob("*.parquet"))), rule)
    v = model.vocabulary
    for number, pair in enumerate(pairs):
        for k, side in enumerate(pair.sides):
            codes = [
                v.audio_base + b * v.codebook_size + int(c)
                for f in model.encode(side.read()).T
                for b, c in enumerate(f)
            ]
            ids = torch.tensor([[v.bos, v.audio_start, *codes, v.audio_end]])
            with torch.no_grad():
                logprobs = theirs(ids).logits[0].log_softmax(-1)
            mean = np.mean([float(logprobs[p - 1, ids[0, p]]) for p in range(2, 2 + len(codes))])
            assert found[f"{number}#{k}"] == pytest.approx(mean, abs=2e-6)


def test_every_policy_of_a_family_is_served_by_one_pass(model: SpeechModel, tmp_path: Path) -> None:
    pairs = read_pairs(salmon_folder(tmp_path / "salmon", 1))
    result = score_pairs(model, task("salmon"), pairs, policies_for("salmon"), tmp_path / "out")
    assert list(result["scores"]) == ["soda", "llama-mimi", "slamkit", "salmon", "sodakit"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["whole"]  # no clip is over Llama-Mimi's 20 s
    assert list(result["scores"]["soda"]["parts"]) == list(SALMON_PARTS)


def test_a_second_call_reads_what_the_first_has_written(model: SpeechModel, tmp_path: Path) -> None:
    pairs = sound_pairs(tmp_path / "pairs")
    first = score_pairs(model, task("salmon"), pairs, [policy("soda", "salmon")], tmp_path / "out")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "whole").glob("*.parquet")}
    again = score_pairs(model, task("salmon"), pairs, [policy("soda", "salmon")], tmp_path / "out")
    assert again == first
    assert all(p.stat().st_mtime_ns == changed for p, changed in files.items())
    json.dumps(first)


def test_clips_are_cut_where_a_policy_says_so(model: SpeechModel, tmp_path: Path) -> None:
    pairs = sound_pairs(tmp_path / "pairs")
    rules = [policy("soda", "salmon"), Policy(name="short", max_s=0.32, tie="wrong")]
    score_pairs(model, task("salmon"), pairs, rules, tmp_path / "out")
    last = [
        pq.read_table(tmp_path / "out" / name / "part-00000.parquet")["position"].to_numpy().max()
        for name in ("whole", "cut_0.32s")
    ]
    assert last == [2 + 8 * 2, 2 + 4 * 2]  # BOS and audio_start, then frames of two codes, then audio_end


def test_a_damaged_clip_changes_the_worst_figure_and_not_the_skipped_one(
    model: SpeechModel, tmp_path: Path
) -> None:
    sound_pairs(tmp_path / "pairs")
    (tmp_path / "pairs" / "sample_1_0.wav").write_bytes(b"no sound")
    pairs = read_pairs(tmp_path / "pairs")
    rules = [Policy(name=m, missing=m) for m in ("skip", "worst")]  # type: ignore[arg-type]
    scores = score_pairs(model, task("salmon"), pairs, rules, tmp_path / "out")["scores"]
    assert scores["skip"]["accuracy"]["num_items"] == 3
    assert scores["worst"]["accuracy"]["num_items"] == 4
    assert scores["worst"]["accuracy"]["value"] == pytest.approx(scores["skip"]["accuracy"]["value"] * 3 / 4)
    assert scores["skip"]["num_missing"] == 1
    with pytest.raises(ConfigError, match="a clip is missing"):
        score_pairs(model, task("salmon"), pairs, [policy("soda", "salmon")], tmp_path / "out")


def test_a_written_ending_begins_with_its_first_token(model: SpeechModel) -> None:
    side = Side(text="A dog ran home.", prefix="A dog")
    (item,) = token_items(model, [("a", side)], speech=False)
    assert model.tokenizer.decode(item.ids_T[item.ending_from :]) == " ran home."


def test_a_spoken_ending_begins_with_the_frame_it_starts_in(model: SpeechModel, tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", noise(0, 0.8))
    (item,) = token_items(model, [("a", Side(audio=tmp_path / "a.wav", ending_start_s=0.4))], speech=True)
    assert item.ending_from == 2 + 5 * 2
    assert len(item.ids_T) == 3 + 10 * 2


def test_a_clip_longer_than_the_context_is_a_missing_one(tmp_path: Path) -> None:
    """Of 4, 5, 7 and 8 frames of two codes, with BOS and two markers."""
    pairs = sound_pairs(tmp_path / "pairs")
    model = small_speech_model(context=3 + 6 * 2)
    result = score_pairs(
        model, task("salmon"), pairs, [Policy(name="skip", missing="skip")], tmp_path / "out"
    )
    answered = [question["answers"]["skip"] is not None for question in result["questions"]]
    assert answered == [True, True, False, False]
    assert result["scores"]["skip"]["num_missing"] == 2


def test_pairs_that_mark_no_ending_are_not_scored_by_endings(
    model: SpeechModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = sound_pairs(tmp_path / "pairs")
    with pytest.raises(ConfigError, match="4 of 4 pairs do not say"):
        score_pairs(model, task("sstorycloze"), pairs, [policy("sodakit", "story")], tmp_path / "out")
    checkpoint = small_checkpoint(tmp_path / "model")
    words = ["--task", "sstorycloze", "--data", str(tmp_path / "pairs"), "--model", str(checkpoint)]
    main(["pairs", *words, "--out", str(tmp_path / "out2")])
    printed = capsys.readouterr()
    assert "Left out: sodakit" in printed.err + printed.out and "| sstorycloze | soda |" in printed.out


def test_tblimp_is_lower_cased(model: SpeechModel, tmp_path: Path) -> None:
    pair = Pair(id="0", positive=Side(text="THE CAT SAT"), negatives=(Side(text="the cat sat"),))
    result = score_pairs(model, task("tblimp"), [pair], [policy("sodakit", "text_syntactic")], tmp_path)
    assert result["questions"][0]["answers"]["sodakit"] == 0.5


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'swuggy'"):
        task("sWUGY")


def test_the_command_scores_a_checkpoint_and_two_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound_pairs(tmp_path / "pairs", 4)
    for seed in (0, 1):
        model = small_checkpoint(tmp_path / f"model{seed}", seed)
        words = ["--task", "salmon", "--data", str(tmp_path / "pairs"), "--model", str(model)]
        main(["pairs", *words, "--policy", "soda", "sodakit", "--out", str(tmp_path / f"out{seed}")])
    printed = capsys.readouterr().out
    assert "| salmon | soda |" in printed and "| salmon | sodakit |" in printed
    results = [str(tmp_path / f"out{seed}" / "salmon.json") for seed in (0, 1)]
    main(["compare", *results])
    assert "soda:" in capsys.readouterr().out


def test_a_task_without_a_release_asks_for_its_folder() -> None:
    with pytest.raises(ConfigError, match="--data"):
        main(["pairs", "--task", "sstorycloze"])


def test_a_limit_takes_the_first_pairs_of_each_paradigm_in_each_part() -> None:
    side = Side(text="a")
    pairs = [
        Pair(id=str(n), part=part, subtype=subtype, positive=side, negatives=(side,))
        for n, (part, subtype) in enumerate(
            [("x", "p"), ("x", "p"), ("x", "p"), ("x", "q"), ("y", ""), ("y", "")]
        )
    ]
    assert [p.id for p in first_pairs(pairs, 2)] == ["0", "3", "4", "5"]
    assert [p.id for p in first_pairs(pairs, 3)] == ["0", "1", "3", "4", "5"]
    assert first_pairs(pairs, None) == pairs
