"""What the fuzz scripts have found: each of these once ended in a traceback, a crash or a filled memory."""

import gzip
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

import pytest
from safetensors.torch import load_file, save_file

from sodakit import files
from sodakit.codec.fit.sounds import read_sentences
from sodakit.codec.mini import SHIPPED, load_mini
from sodakit.config import override
from sodakit.errors import AudioError, CodecError, SodakitError, StoreError
from sodakit.eval.cases import cases_digest
from sodakit.eval.spoken_cases import _texts
from sodakit.files import read_json, write_json
from sodakit.prepare.sources.lhotse_sets import LhotseCut
from sodakit.prepare.sources.tables import cell_of
from sodakit.store.shard import open_batch
from sodakit.tokens.text import TextTokenizer, extended_tokenizer
from sodakit.voices.parallel import read_parallel
from tests.hostile import fuzz_corpora, fuzz_made
from tests.hostile.fuzzing import Target, mutated

LONG = "a" * 5000


@dataclass(frozen=True)
class Score:
    value: float


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, Target]:
    return fuzz_corpora.targets(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Target]:
    return fuzz_made.targets(tmp_path_factory.mktemp("made"))


def changed(data: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(data), **changes}).encode()


def line(**changes: object) -> bytes:
    return json.dumps(changes).encode() + b"\n"


GIVEN = {
    "no UTF-8": ("texts: words.jsonl", b'{"word": "\xff"}\n', r"words\.jsonl, line 1: not UTF-8"),
    "no JSON": ("texts: words.jsonl", b'\n{"word"}\n', r"words\.jsonl, line 2: not JSON"),
    "deep": ("texts: words.jsonl", b"[" * 100_000, "nested too deeply"),
    "no text": ("texts: words.jsonl", line(word=7, pseudo="oh"), "row 1, is no pair of texts .word is 7"),
    "an endless number": (
        "texts: words.jsonl",
        line(word="ah", pseudo="oh", frequency=float("inf")),
        "row 1, is no pair of texts",
    ),
    "half a gzip": ("texts: jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-9], "cannot be read to its end"),
    "a short row": ("texts: csv", b"word,pseudo\nah\n", r"story\.csv, line 2: it has not the 2 cells"),
    "a context that is none": ("texts: story.jsonl", line(context=None, good="a", bad="b"), "context is None"),
    "gold without names": ("gold.csv", b"id,correct\n1,1\n", "needed: filename and correct"),
    "prompts in Latin-1": ("meta.lst", b"u|say|d/a.wav|\xe9\n", "line 1, is not UTF-8"),
    "a pair of numbers": ("pairs.jsonl", line(id=1, positive={"audio": 7}, negatives=[]), "audio is 7"),
    "half a table": ("pairs.parquet", b"PAR1PAR1", "no complete parquet file"),
    "a table of names in Latin-1": (
        "parquet: texts",
        fuzz_corpora.parquet_of({"text": "say ah"}).replace(b"\x18\x04text", b"\x18\x04t\xe9xt"),
        "no complete parquet file",
    ),
    "a table of translations": ("cvss: covost_v2.es_en.train.tsv", b"path\tx\na.mp3\ty\n", "no column sentence"),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_a_damaged_list_is_named_with_what_is_wrong(corpora, name):
    target, data, message = GIVEN[name]
    with pytest.raises(SodakitError, match=message):
        corpora[target].read(data)


QUARANTINED = {
    "a text that is a list": ("translations.jsonl", {"source_text": ["hola"]}, 1),
    "a name too long": ("translations.jsonl", {"source_audio": LONG}, 1),
    "words that are true": ("beside: whisper/a.json", {"segments": [{"text": "a", "words": True}]}, 0),
}


@pytest.mark.parametrize("name", QUARANTINED)
def test_a_damaged_row_is_left_out_and_its_neighbours_are_kept(corpora, name):
    target, changes, kept = QUARANTINED[name]
    assert corpora[target].read(changed(corpora[target].data.split(b"\n")[0], **changes)) == kept


def test_a_name_that_leads_elsewhere_is_a_bad_row(corpora):
    assert corpora["mls: transcripts.txt"].read(b"11_12_../../x\tauf\n11_12_000001\tzu\n") == 1


def test_a_prompt_of_a_name_too_long_is_a_case_that_fails(corpora):
    cases = corpora["meta.lst"].read(f"{LONG}|say ah|{LONG}.wav|open it\n".encode())
    assert cases[0].original is None and len(cases_digest(cases)) == 16


def test_a_cut_whose_parts_are_none_is_a_bad_row(corpora):
    pytest.importorskip("lhotse")
    target = corpora["lhotse cuts"]
    first, second = gzip.decompress(target.data).splitlines()
    broken = json.loads(first)
    broken["recording"]["channel_ids"] = 7
    assert target.read(gzip.compress(json.dumps(broken).encode() + b"\n" + second)) == 1


def test_a_damaged_footer_of_a_table_does_not_end_the_process():
    """Arrow throws what nobody catches where it is asked for the numbers of one column."""
    script = (
        "import tempfile, pathlib\n"
        "from tests.hostile import fuzz_corpora\n"
        "target = fuzz_corpora.targets(pathlib.Path(tempfile.mkdtemp()))['parquet: utterances']\n"
        # The bytes of a sound are optional; not so by this footer, whose histograms of them have a place too many.
        "data = target.data.replace(b'%\\x02\\x18\\x05bytes', b'%\\x01\\x18\\x05bytes')\n"
        "assert data != target.data\n"
        "print('kept', target.read(data))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "kept" in ended.stdout, ended.stderr


MADE = {
    "a vocabulary without a field": ("model: vocabulary.json (open_model)", {"audio_base": ...}, "lacks audio_base"),
    "a vocabulary of words": ("model: vocabulary.json (open_model)", {"text_size": "many"}, "needed: int"),
    "a vocabulary of endless ids": ("model: vocabulary.json (open_model)", {"codebook_size": 2**70}, "32-bit"),
    "a config of a list": ("run: config.json (look_at_run)", {"train": {"data": []}}, "is damaged"),
    "a codec without a field": ("model: codec.json (open_model)", {"fingerprint": ...}, "lacks fingerprint"),
    "a state of other sums": (
        "run: state.json (resume_run)",
        {"loss_vectors": [{"nats": [0.0], "counts": [0.0]}]},
        "sums of 1 kinds",
    ),
    "a codec of endless width": ("codec: mini.json (open_codec)", {"encoder_widths": [60_000] * 3}, "no tensors of 60000"),
    "a codec of endless windows": ("codec: mini.json (open_codec)", {"window_samples": 2**40}, "window_samples=.*1 to 65536"),
    "an output without its text": ("outputs: part-00000.jsonl (answer_again)", {"text": 7}, "text=7.*made anew"),
    "a line of a corpus": ("corpus: rows.jsonl (say_again)", {"place": None}, "that shard is made anew"),
    "settings that are none": ("notebook: settings.json (open_notebook)", [1], "holds a list"),
    "a plan of other rows": ("prepared: plan.json (prepare_again)", {"num_items": 1}, "none of 1 items"),
    "a plan whose rejected rows are nameless": ("prepared: plan.json (prepare_again)", {"rejected": [{"reason": "silent"}]}, "no list of rows"),
    "a plan that asks for 7": ("prepared: plan.json (prepare_again)", {"asked": 7}, "what was asked for"),
    "a note nested without end": ("notebook: 00000_a.wav.jsonl (open_notebook)", b'{"fingerprint": ' + b"[" * 100_000, "nested too deeply"),
    "a sum of rows that is none": ("store: store.json (open_store)", {"splits": {"train": {"shards": []}}}, "rows=None"),
    "a score without an interval": ("results: salmon.json (show_result)", {"scores": {"mean": {}}}, "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_damage_to_what_was_made_is_named_with_what_to_do(made, name):
    target, changes, message = MADE[name]
    plain = json.loads(made[target].data.splitlines()[0] if "jsonl" in target else made[target].data)
    if isinstance(changes, bytes):
        with pytest.raises(SodakitError, match=message):
            made[target].read(changes)
        return
    if isinstance(changes, dict):
        plain |= {k: v for k, v in changes.items() if v is not ...}
        plain = {k: v for k, v in plain.items() if changes.get(k) is not ...}
    else:
        plain = changes
    with pytest.raises(SodakitError, match=message):
        made[target].read(json.dumps(plain).encode() + b"\n")


def test_a_state_without_sums_is_passed_over_for_an_earlier_one(made, capsys):
    target = made["run: state.json (resume_run)"]
    path = target.read(changed(target.data, loss_vectors=[{"nats": 1}]))
    said = capsys.readouterr().err
    assert path.name == "step_00000004"
    assert "Passed over" in said and "no counts and sums" in said and "at step 2 of 4" in said


def test_a_store_whose_sums_are_lost_is_sealed_again(made, capsys):
    target = made["prepared: store.json (prepare_again)"]
    splits = json.loads(target.data)["splits"]
    del splits["train"]["rows"]
    report = target.read(changed(target.data, splits=splits))
    assert report.utterances["train"] > 0 and "is sealed again" in capsys.readouterr().err


def test_sums_of_a_store_that_are_not_those_of_its_shards_are_refused(made):
    target = made["store: store.json (open_store)"]
    splits = json.loads(target.data)["splits"]
    splits["train"]["frames"] += 1
    with pytest.raises(StoreError, match="frames of train; its shards have"):
        target.read(changed(target.data, splits=splits))


def test_a_shard_of_numbers_that_arrow_does_not_know_is_no_arrow_file(made, tmp_path):
    """It says so with an error that is no ArrowInvalid."""
    data, refused = made["store: shard-00000.arrow (open_store)"].data, []
    for place in range(len(data) - 1500, len(data)):
        if data[place : place + 4] == b"\x10\0\0\0":
            (tmp_path / "a.arrow").write_bytes(data[:place] + b"\1" + data[place + 1 :])
            with suppress(StoreError):
                open_batch(tmp_path / "a.arrow")
                continue
            refused.append(place)
    assert refused


DEEP_LINE = b'{"text": ' + b"[" * 100_000 + b"\n"
READERS = {
    "parallel text": read_parallel,
    "sentences for a codec": read_sentences,
    "sentences to speak": lambda path: list(_texts(path)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("a.jsonl", b"\xff\n", "line 1, is not UTF-8"),
        ("a.jsonl", b"[]\n", "needed: a JSON object"),
        ("a.jsonl", DEEP_LINE + b"{}\n", "nested too deeply"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-9], "cannot be read to its end"),
        ("a.jsonl.gz", b"no gzip", "cannot be read to its end"),
    ],
)
def test_texts_of_every_command_that_are_damaged_are_named(tmp_path, name, file, data, message):
    (tmp_path / file).write_bytes(data)
    with pytest.raises(SodakitError, match=message):
        READERS[name](tmp_path / file)


def test_a_gzip_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED_BYTES", 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b" " * 2000))
    with pytest.raises(SodakitError, match="holds more than"):
        read_parallel(tmp_path / "a.jsonl.gz")


def test_a_setting_that_no_parser_follows_or_no_number_holds_is_refused():
    for value in ("[" * 100_000, "9" * 400):
        with pytest.raises(SodakitError, match="value"):
            override(Score(0.5), {"value": value})


def test_a_lhotse_cut_without_an_id_still_has_a_name():
    assert "lhotse cut" in LhotseCut("{}", 1.0).name and "lhotse cut" in LhotseCut("[]", 1.0).name


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"added_tokens": 7}',
        b'{"added_tokens": [{"content": "<|endoftext|>"}]}',
        b"[" * 100_000,
    ],
)
def test_a_tokenizer_to_begin_with_that_is_damaged_is_named(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(SodakitError, match=r"tokenizer\.json"):
        extended_tokenizer(tmp_path)


def test_a_table_whose_columns_differ_in_length_is_damaged(tmp_path):
    (tmp_path / "a.parquet").write_bytes(fuzz_corpora.parquet_of({"text": "say ah"}))
    assert cell_of(tmp_path / "a.parquet", "text", 0, 0) == "say ah"
    with pytest.raises(AudioError, match="text has 1 rows in row group 0, another 2"):
        cell_of(tmp_path / "a.parquet", "text", 0, 1)


def test_a_tokenizer_that_panics_is_damaged(made, tmp_path):
    """The library does not raise where its words lack a prefix, but panics: no `Exception` at all."""
    plain = json.loads(made["prepared: tokenizer.json (prepare_again)"].data)
    plain["model"]["continuing_subword_prefix"] = "x\ny"
    write_json(tmp_path / "tokenizer.json", plain)
    with pytest.raises(SodakitError, match="cannot be read: range end index"):
        TextTokenizer.load(tmp_path)


def test_styles_that_are_no_zip_are_refused(made):
    target = made["kokoro: voices.npz (open_styles)"]
    for data in (b"PK", target.data[:-40], target.data.replace(b"\0\0\x80?", b"\0\0\x80@", 1)):
        with pytest.raises(SodakitError, match="no style vectors that can be read"):
            target.read(data)


def test_a_codec_whose_weights_are_whole_numbers_is_refused(tmp_path):
    """They were taken for numbers like any others."""
    shutil.copytree(SHIPPED, tmp_path / "codec")
    tensors = load_file(tmp_path / "codec/mini.safetensors")
    save_file({name: tensor.int() for name, tensor in tensors.items()}, tmp_path / "codec/mini.safetensors")
    with pytest.raises(CodecError, match="holds int32; needed: floating-point"):
        load_mini(tmp_path / "codec")


def test_half_of_a_surrogate_pair_is_written_as_its_escape(tmp_path):
    write_json(tmp_path / "a.json", {"text": "a\ud800"})
    assert read_json(tmp_path / "a.json") == {"text": "a\ud800"}


def test_a_checkpoint_that_names_a_file_that_is_not_there_is_passed_over(made, capsys):
    target = made["run: contents.json (resume_run)"]
    target.read(changed(target.data, sha256={"modelx.safetensors": "0"}))
    assert "has lost modelx.safetensors" in capsys.readouterr().err


def test_a_row_of_the_quarantine_without_a_reason_hides_no_store(made):
    made["store: quarantine.jsonl (open_store)"].read(b'{"id": "a"}\n{"id": "b", "reason": "too short"}\n')


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["corpora", "made"])
def test_some_hundred_seeds_raise_nothing_else(request, kind):
    targets = request.getfixturevalue(kind)
    for seed in range(400):
        name, data = mutated(seed, targets)
        with suppress(SodakitError):
            targets[name].read(data)
