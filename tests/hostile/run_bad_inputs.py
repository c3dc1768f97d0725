"""Every input of `bad_inputs.py` through the command that would read it; run by hand, a sample is in the test suite.

    python -m tests.hostile.run_bad_inputs

Each trial runs in a child process that does the next ones too, so that a crash or a hang is found, counted and ends
nothing else. A trial holds where nothing but a clear error comes of the bad inputs, each is named, the totals add up, and
good neighbours come through. Status 1 where one did not, or where memory passed 1 GB.
"""

import argparse
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sodakit.cli import main as sodakit
from sodakit.files import read_json, read_json_lines
from tests.eval.small_model import small_checkpoint, small_speech_model
from tests.hostile import bad_inputs as bad
from tests.stores import small_store

HANG_S = 120
"""A trial that takes longer ends its process, like one that crashes."""
MOST_BYTES = 1 << 30
PREPARE = ("--codec", "toy", "--validation", "0", "--test", "0", "--max-failed-fraction", "1")
Trial = Callable[[Path, Path], int]
"""From the folder of whole things and an empty one to the number of bad inputs that ended as they should; raises otherwise."""


def make_whole(folder: Path) -> Path:
    """A whole store, checkpoint and voice, to be damaged."""
    small_store(folder / "store", recordings=40)
    small_checkpoint(folder / "run")
    return folder


def run(*words: object) -> tuple[int, str]:
    """Status of a command and everything it said, by whatever library."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            sodakit([str(word) for word in words])
            status = 0
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else int(bool(stopped.code))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, handle in zip((1, 2), kept, strict=True):
                os.dup2(handle, number)
                os.close(handle)
        said.seek(0)
        return status, said.read().decode("utf-8", "replace")


def expect(status: int, says: str, words: list[object]) -> str:
    """Run it and hold it to a status and to words that it says, on lines that may be broken anywhere."""
    found, said = run(*words)
    assert found == status, f"status {found}, not {status}: {said[-600:]}"
    assert "Traceback" not in said, said[-2000:]
    flat = re.sub(r"\s+", " ", said)
    assert says in flat, f"{says!r} is not in: {flat[-600:]}"
    return said


# --- sounds


def sounds_prepared(whole: Path, folder: Path) -> int:
    sounds = bad.bad_sounds()
    bad.sound_corpus(folder / "c", sounds)
    expect(0, "", ["prepare", folder / "c", "--out", folder / "s", *PREPARE])
    rows = {row["id"].removeprefix("c/"): row for row in read_json_lines(folder / "s/quarantine.jsonl")}
    assert set(rows) == {name.replace("\n", "\\n") for name in sounds} | set(bad.ODD), set(rows) ^ {
        *sounds,
        *bad.ODD,
    }
    for name, (_, says) in sounds.items():
        assert says in f"{rows[name]['reason']}: {rows[name]['detail']}", (says, rows[name])
    kept = read_json(folder / "s/store.json")["splits"]["train"]["rows"]
    assert kept == len(bad.GOOD_SOUNDS), kept
    return len(rows)


def sounds_evaluated(whole: Path, folder: Path) -> int:
    sounds = bad.bad_sounds()
    bad.sound_corpus(folder / "c", sounds)
    words = [
        "eval",
        "asr",
        "--data",
        folder / "c",
        "--model",
        whole / "run",
        "--out",
        folder / "e",
        "--device",
        "cpu",
    ]
    expect(0, "outputs failed and count as errors", words)
    result = read_json(folder / "e/asr.json")
    failed, skipped = len(result["failures"]), len(result.get("skipped") or ())
    assert skipped == len(bad.ODD) and result["num_cases"] == len(sounds) + len(bad.GOOD_SOUNDS), (
        failed,
        skipped,
    )
    # What a corpus may not hold for its length or level can be heard all the same.
    assert failed >= len(sounds) - 12, failed
    return failed + skipped


def sounds_transcribed(whole: Path, folder: Path) -> int:
    sounds = {name: data for name, data in bad.bad_sounds().items() if "long" not in name}
    bad.sound_corpus(folder / "c", sounds)
    files = sorted((folder / "c").glob("*.*"))
    files = [path for path in files if path.suffix != ".txt"]
    found, said = run("transcribe", *files, "--model", whole / "run", "--device", "cpu")
    assert found == 2 and "Traceback" not in said, said[-2000:]
    unread = int(re.search(r"(\d+) of \d+ files could not be transcribed", said)[1])
    for name in bad.GOOD_SOUNDS:
        assert f"{folder / 'c' / name}\t" in said, name
    assert unread >= len(sounds) + len(bad.ODD) - 12, unread
    return unread


def sounds_encoded(whole: Path, folder: Path) -> int:
    """One after the other, each by itself."""
    sounds = bad.bad_sounds()
    bad.sound_corpus(folder / "c", sounds)
    refused = 0
    for name in (*sounds, *bad.ODD):
        found, said = run("codec", "encode", folder / "c" / name, "--out", folder / "x.npy", "--codec", "toy")
        assert found in (0, 2) and "Traceback" not in said, (name, said[-2000:])
        refused += found == 2
    assert refused >= len(sounds) + len(bad.ODD) - 12, refused
    return refused


def sounds_uploaded(whole: Path, folder: Path) -> int:
    import httpx

    from sodakit.serve.app import build_app
    from tests.serve.conftest import LIMITS, serving

    sounds, refused = bad.bad_sounds(), 0
    app = build_app(small_speech_model(), name="tiny", limits=LIMITS)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        for name, data in [*((n, d) for n, (d, _) in sounds.items()), ("good.wav", bad.sound_bytes())]:
            files, form = {"file": (ascii(name), data)}, {"model": "tiny"}
            answer = client.post("/v1/audio/transcriptions", files=files, data=form)
            assert answer.status_code in (200, 400, 413, 415, 422), (name, answer.status_code, answer.text)
            assert answer.status_code == 200 or answer.json()["error"]["message"], name
            refused += answer.status_code != 200
    assert answer.status_code == 200 and refused >= len(sounds) - 14, refused
    return refused


# --- rows and archives


def rows_prepared(whole: Path, folder: Path) -> int:
    bad.row_corpus(folder / "c")
    expect(0, "", ["prepare", folder / "c", "--out", folder / "s", *PREPARE])
    rows = [row for row in read_json_lines(folder / "s/quarantine.jsonl") if row["reason"] != "no file"]
    told = [f"{row['reason']}: {row['detail']}" for row in read_json_lines(folder / "s/quarantine.jsonl")]
    for line, says in bad.bad_rows():
        assert any(says in words for words in told), (line[:100], says)
    assert len(told) == len(bad.bad_rows()), (len(told), len(bad.bad_rows()), len(rows))
    assert read_json(folder / "s/store.json")["splits"]["train"]["rows"] == 2
    return len(told)


def archive_prepared(name: str, whole: Path, folder: Path) -> int:
    """Alone it is refused, or what it holds is; beside a good sound that one comes through, or the refusal names it."""
    data, says = bad.bad_archives()[name]
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
    (folder / "c/good.wav").write_bytes(bad.sound_bytes())
    (folder / "c/good.txt").write_text("good words")
    found, said = run("prepare", folder / "c", "--out", folder / "t", *PREPARE)
    assert "Traceback" not in said and (found == 0 or name in said), (found, said[-1500:])
    if found == 0:
        assert read_json(folder / "t/store.json")["splits"]["train"]["rows"] == 1, said[-600:]
    return 1


# --- stores, checkpoints, voices


def store_used(name: str, whole: Path, folder: Path) -> int:
    shutil.copytree(whole / "store", folder / "s")
    bad.bad_stores()[name](folder / "s")
    small = ["data.context=64", "model.context=64", "steps=1", "data.batch_rows=2"]
    expect(2, str(folder / "s"), ["describe", folder / "s", "--verify"])
    expect(
        2,
        str(folder / "s"),
        ["train", "--data", folder / "s", "--out", folder / "r", "--device", "cpu", *small],
    )
    expect(2, str(folder / "s"), ["leaks", folder / "s", "--against", whole / "store"])
    expect(2, str(folder / "s"), ["documents", folder / "s", "--out", folder / "d"])
    return 1


def checkpoint_used(name: str, whole: Path, folder: Path) -> int:
    shutil.copytree(whole / "run", folder / "r")
    (checkpoint,) = (folder / "r/checkpoints").iterdir()
    bad.bad_checkpoints()[name](checkpoint)
    (folder / "good.wav").write_bytes(bad.sound_bytes())
    said = expect(2, "", ["transcribe", folder / "good.wav", "--model", checkpoint, "--device", "cpu"])
    assert str(folder / "r") in re.sub(r"\s+", "", said), said[-600:]
    return 1


def voice_skipped(name: str, whole: Path, folder: Path) -> int:
    import logging

    from sodakit.audio.files import read_wave
    from sodakit.generate.speech_model import VoiceSample
    from sodakit.serve.voices import Voices

    model, shelf = small_speech_model(), folder / "v"
    sample = VoiceSample(read_wave(io.BytesIO(bad.sound_bytes()), 8000), "words")
    for voice in ("ann", "ben"):
        Voices(model, 9, shelf).add(voice, sample)
    for path in shelf.glob("*.json"):
        if read_json(path)["name"] == "ann":
            for suffix in (".json", ".flac"):
                path.with_suffix(suffix).rename(shelf / f"voice{suffix}")
    bad.bad_voices()[name](shelf)
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("sodakit.serve").addHandler(handler)
    try:
        found = [voice.name for voice in Voices(model, 9, shelf).all()]
    finally:
        logging.getLogger("sodakit.serve").removeHandler(handler)
    assert found == ["ben"] and len(said) == 1 and "voice" in said[0], (found, said)
    return 1


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    found: dict[str, Trial] = {
        "sounds: prepare": sounds_prepared, "sounds: eval asr": sounds_evaluated, "sounds: transcribe": sounds_transcribed,
        "sounds: codec encode": sounds_encoded, "sounds: server": sounds_uploaded, "rows: prepare": rows_prepared,
    }  # fmt: skip
    groups = (
        ("archive", archive_prepared, bad.bad_archives()),
        ("store", store_used, bad.bad_stores()),
        ("checkpoint", checkpoint_used, bad.bad_checkpoints()),
        ("voice", voice_skipped, bad.bad_voices()),
    )
    for group, trial, things in groups:
        found |= {f"{group}: {name}": partial(trial, name) for name in things}
    return found


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bad-") as folder:
        yield Path(folder)


def work(names: list[str], whole: Path) -> None:
    """Try these, each said before and after, then the most memory that was held."""
    found, out = trials(), os.fdopen(os.dup(1), "w")
    for name in names:
        print(f"> {name}", file=out, flush=True)
        signal.alarm(HANG_S)
        try:
            with scratch() as folder:
                print(f"< ok {found[name](whole, folder)}", file=out, flush=True)
        except Exception as error:
            print(f"< {type(error).__name__} {str(error)[:2000]!r}", file=out, flush=True)
        signal.alarm(0)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"= {max(peaks) * 1024}", file=out, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="trials whose name holds this")
    parser.add_argument(
        "--every", type=int, default=1, help="one in so many, but all of sounds and rows for prepare"
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Path(options.worker[1]).read_text().splitlines(), Path(options.worker[0]))
        return 0
    begun_s, peak, inputs, failed = time.monotonic(), 0, 0, []
    names = [name for name in trials() if options.only in name]
    names = [name for n, name in enumerate(names) if n % options.every == 0 or name.endswith(": prepare")]
    with scratch() as folder:
        whole, left = make_whole(folder), names
        while left:
            (folder / "names").write_text("\n".join(left))
            command = [
                sys.executable,
                "-m",
                "tests.hostile.run_bad_inputs",
                "--worker",
                str(whole),
                str(folder / "names"),
            ]
            current, done = None, 0
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                for line in child.stdout:
                    mark, what = line.rstrip("\n").split(" ", 1)
                    if mark == ">":
                        current = what
                    elif mark == "=":
                        peak = max(peak, int(what))
                    else:
                        done += 1
                        outcome, _, more = what.partition(" ")
                        inputs += int(more) if outcome == "ok" else 0
                        if outcome != "ok":
                            failed.append(f"{current}: {what}")
                            print(failed[-1], flush=True)
                status = child.wait()
            if done < len(left):
                failed.append(f"{left[done]}: ended its process with status {status}")
                print(failed[-1], flush=True)
            left = left[done + 1 :] if done < len(left) else []
    took_s = time.monotonic() - begun_s
    print(
        f"{len(names)} trials, {inputs} bad inputs, {len(failed)} failures, peak {peak / 2**20:.0f} MiB, {took_s:.0f} s"
    )
    return 1 if failed or peak > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
