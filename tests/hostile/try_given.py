"""Bad sounds, rows and archives through the commands that would read them."""

import re
from functools import partial
from pathlib import Path

from sodakit.files import read_json, read_json_lines
from tests.eval.small_model import small_speech_model
from tests.hostile import bad_lists, bad_sounds
from tests.hostile.trial import CPU, PREPARE, Trial, expect, run
from tests.prepare.test_bad_input import sound_bytes


def make_whole(folder: Path) -> None:
    """Nothing: what is given is made bad."""


def sounds_prepared(whole: Path, folder: Path) -> int:
    sounds = bad_sounds.bad_sounds()
    bad_sounds.sound_corpus(folder / "c", sounds)
    expect(0, "", ["prepare", folder / "c", "--out", folder / "s", *PREPARE])
    rows = {row["id"].removeprefix("c/"): row for row in read_json_lines(folder / "s/quarantine.jsonl")}
    assert set(rows) == {name.replace("\n", "\\n") for name in sounds} | set(bad_sounds.ODD), set(rows) ^ {
        *sounds,
        *bad_sounds.ODD,
    }
    for name, (_, says) in sounds.items():
        assert says in f"{rows[name]['reason']}: {rows[name]['detail']}", (says, rows[name])
    kept = read_json(folder / "s/store.json")["splits"]["train"]["rows"]
    assert kept == len(bad_sounds.GOOD_SOUNDS), kept
    return len(rows)


def sounds_evaluated(whole: Path, folder: Path) -> int:
    sounds = bad_sounds.bad_sounds()
    bad_sounds.sound_corpus(folder / "c", sounds)
    words = ["eval", "asr", "--data", folder / "c", "--model", whole / "run", "--out", folder / "e", *CPU]
    expect(0, "outputs failed and count as errors", words)
    result = read_json(folder / "e/asr.json")
    failed, skipped = len(result["failures"]), len(result.get("skipped") or ())
    assert skipped == len(bad_sounds.ODD) and result["num_cases"] == len(sounds) + len(
        bad_sounds.GOOD_SOUNDS
    ), (
        failed,
        skipped,
    )
    # What a corpus may not hold for its length or level can be heard all the same.
    assert failed >= len(sounds) - 12, failed
    return failed + skipped


def sounds_transcribed(whole: Path, folder: Path) -> int:
    sounds = {name: data for name, data in bad_sounds.bad_sounds().items() if "long" not in name}
    bad_sounds.sound_corpus(folder / "c", sounds)
    files = sorted((folder / "c").glob("*.*"))
    files = [path for path in files if path.suffix != ".txt"]
    found, said = run("transcribe", *files, "--model", whole / "run", *CPU)
    assert found == 2 and "Traceback" not in said, said[-2000:]
    unread = int(re.search(r"(\d+) of \d+ files could not be transcribed", said)[1])
    for name in bad_sounds.GOOD_SOUNDS:
        assert f"{folder / 'c' / name}\t" in said, name
    assert unread >= len(sounds) + len(bad_sounds.ODD) - 12, unread
    return unread


def sounds_encoded(whole: Path, folder: Path) -> int:
    """One after the other, each by itself."""
    sounds = bad_sounds.bad_sounds()
    bad_sounds.sound_corpus(folder / "c", sounds)
    refused = 0
    for name in (*sounds, *bad_sounds.ODD):
        found, said = run("codec", "encode", folder / "c" / name, "--out", folder / "x.npy", "--codec", "toy")
        assert found in (0, 2) and "Traceback" not in said, (name, said[-2000:])
        refused += found == 2
    assert refused >= len(sounds) + len(bad_sounds.ODD) - 12, refused
    return refused


def sounds_uploaded(whole: Path, folder: Path) -> int:
    import httpx

    from sodakit.serve.app import build_app
    from tests.serve.conftest import LIMITS, serving

    sounds, refused = bad_sounds.bad_sounds(), 0
    app = build_app(small_speech_model(), name="tiny", limits=LIMITS)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        for name, data in [*((n, d) for n, (d, _) in sounds.items()), ("good.wav", sound_bytes())]:
            files, form = {"file": (ascii(name), data)}, {"model": "tiny"}
            answer = client.post("/v1/audio/transcriptions", files=files, data=form)
            assert answer.status_code in (200, 400, 413, 415, 422), (name, answer.status_code, answer.text)
            assert answer.status_code == 200 or answer.json()["error"]["message"], name
            refused += answer.status_code != 200
    assert answer.status_code == 200 and refused >= len(sounds) - 14, refused
    return refused


# --- rows and archives


def rows_prepared(whole: Path, folder: Path) -> int:
    bad_lists.row_corpus(folder / "c")
    expect(0, "", ["prepare", folder / "c", "--out", folder / "s", *PREPARE])
    rows = [row for row in read_json_lines(folder / "s/quarantine.jsonl") if row["reason"] != "no file"]
    told = [f"{row['reason']}: {row['detail']}" for row in read_json_lines(folder / "s/quarantine.jsonl")]
    for line, says in bad_lists.bad_rows():
        assert any(says in words for words in told), (line[:100], says)
    assert len(told) == len(bad_lists.bad_rows()), (len(told), len(bad_lists.bad_rows()), len(rows))
    assert read_json(folder / "s/store.json")["splits"]["train"]["rows"] == 2
    return len(told)


def archive_prepared(name: str, whole: Path, folder: Path) -> int:
    """Alone it is refused, or what it holds is; beside a good sound that one comes through, or the refusal names it."""
    data, says = bad_lists.bad_archives()[name]
    (folder / "c").mkdir()
    (folder / "c" / name).write_bytes(data)
    alone = folder / "c" / name
    found, said = run("prepare", alone, "--out", folder / "s", *PREPARE)
    told = (
        said + (folder / "s/quarantine.jsonl").read_text()
        if (folder / "s/quarantine.jsonl").exists()
        else said
    )
    assert found == 2 and "Traceback" not in said, (found, said[-1500:])
    assert says in re.sub(r"\s+", " ", told), (says, told[-600:])
    (folder / "c/good.wav").write_bytes(sound_bytes())
    (folder / "c/good.txt").write_text("good words")
    found, said = run("prepare", folder / "c", "--out", folder / "t", *PREPARE)
    assert "Traceback" not in said and (found == 0 or name in said), (found, said[-1500:])
    if found == 0:
        assert read_json(folder / "t/store.json")["splits"]["train"]["rows"] == 1, said[-600:]
    return 1


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    found: dict[str, Trial] = {
        "sounds: prepare": sounds_prepared, "sounds: eval asr": sounds_evaluated, "sounds: transcribe": sounds_transcribed,
        "sounds: codec encode": sounds_encoded, "sounds: server": sounds_uploaded, "rows: prepare": rows_prepared,
    }  # fmt: skip
    return found | {f"archive: {name}": partial(archive_prepared, name) for name in bad_lists.bad_archives()}
