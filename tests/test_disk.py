"""A disk that is full, read-only or somebody else's: one line, nothing lost, and the same command resumes."""

import errno
import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sodakit.checkpoint.load import load_checkpoint
from sodakit.cli import main
from sodakit.disk import disk_error
from sodakit.errors import ConfigError, DiskError
from sodakit.eval import generation
from sodakit.files import atomic_folder, atomic_path, write_json
from sodakit.prepare.stages import prepare
from sodakit.train.trainer import train
from tests.disks import SmallDisk, small_disk
from tests.eval.recordings import voice_list
from tests.eval.small_model import small_checkpoint
from tests.eval.test_generation import small_judge
from tests.prepare.test_stages import digests, options, tone, toy
from tests.stores import small_store
from tests.train.test_trainer import config_for, losses


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


def test_prepare_on_a_full_disk_at_twelve_points_ends_with_the_same_bytes(tmp_path, disk):
    items = [tone(f"t{n}", 2.0, text="a word and another " * 8) for n in range(60)]
    choice = options(shard_duration_s=12.0, text_vocab_size=300)
    prepare(items, tmp_path / "whole", toy(), choice)
    whole = sum(len(data) for data in digests(tmp_path / "whole").values())
    stops = set()
    for share in np.linspace(0.02, 1.6, 40):
        disk.resize(round(whole * share))
        try:
            prepare(items, disk.folder / "out", toy(), choice)
        except DiskError as error:
            message = str(error)
            assert str(disk.folder / "out") in message and "the disk is full; needed: " in message
            assert "run the same command again: it resumes" in message and "\n" not in message
            stops.add(share)
            assert not list(disk.folder.rglob("*.tmp"))
        else:
            break
    assert len(stops) >= 12
    assert digests(disk.folder / "out") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_training_on_a_full_disk_at_twelve_points_ends_with_the_same_weights(tmp_path, disk):
    store = small_store(tmp_path / "store", recordings=40)
    config = config_for(store)
    whole = train(config, tmp_path / "whole")
    largest = sum(p.stat().st_size for p in (tmp_path / "whole").rglob("*") if p.is_file())
    stops = 0
    for share in np.linspace(0.02, 2.5, 40):
        disk.resize(round(largest * share))
        try:
            ended = train(config, disk.folder / "run")
        except DiskError as error:
            assert str(disk.folder / "run") in str(error) and "the disk is full" in str(error)
            stops += 1
        else:
            break
    assert stops >= 12
    assert losses(disk.folder / "run") == losses(tmp_path / "whole")
    ends = [load_checkpoint(path).weights() for path in (whole, ended)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def stops_while_it_grows(disk: SmallDisk, page_bytes: int, run: Callable[[], None], capsys) -> int:
    """How often a command is stopped on a disk that is given room page by page, until it is through.

    Each time it says one line with the path, what was needed and what to do, and leaves nothing half written.
    """
    for stops in range(100):
        disk.resize(8192 + stops * page_bytes)
        capsys.readouterr()
        try:
            run()
        except SystemExit as stopped:
            said = [row for row in capsys.readouterr().err.splitlines() if row.startswith("sodakit: ")]
            assert stopped.code == 2 and len(said) == 1, said
            assert f"sodakit: {disk.folder}/out" in said[0] and "the disk is full; needed: " in said[0]
            assert "run the same command again: it resumes" in said[0]
            assert not [p for p in disk.folder.rglob("*") if p.name.endswith(".tmp")]
        else:
            return stops
    raise AssertionError("it never came through")


@pytest.mark.parametrize(("task", "page_bytes"), [("asr", 4096), ("tts", 16 << 10)])
def test_eval_on_a_full_disk_at_many_points_ends_with_the_same_bytes(
    tmp_path, disk, capsys, monkeypatch, task, page_bytes
):
    for function in ("transcribe_cases", "speak_cases"):
        monkeypatch.setitem(getattr(generation, function).__kwdefaults__, "part_items", 1)
    data, model = voice_list(tmp_path / "data"), small_checkpoint(tmp_path / "model")
    judge = tmp_path / "judge.safetensors"
    small_judge().save(judge)
    words = ["eval", task, "--data", str(data), "--model", str(model)]
    words += ["--max-s", "0.4", "--judge", str(judge)] if task == "tts" else ["--max-new-tokens", "8"]
    main([*words, "--out", str(tmp_path / "whole")])
    stops = stops_while_it_grows(
        disk, page_bytes, lambda: main([*words, "--out", str(disk.folder / "out")]), capsys
    )
    assert stops >= 4
    assert digests(disk.folder / "out") == digests(tmp_path / "whole")


def test_synthesise_on_a_full_disk_at_many_points_ends_with_the_same_bytes(tmp_path, disk, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"Number {n} is said.\n" for n in range(6)))
    words = ["synthesise", str(texts), "--voices", "anna", "frank", "--shard-lines", "2", "--workers", "1"]
    main([*words, "--out", str(tmp_path / "whole")])
    stops = stops_while_it_grows(
        disk, 28 << 10, lambda: main([*words, "--out", str(disk.folder / "out")]), capsys
    )
    assert stops >= 6
    assert digests(disk.folder / "out") == digests(tmp_path / "whole")


def test_a_process_that_speaks_says_that_the_disk_is_full_in_one_line(tmp_path, disk, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"Number {n} is said.\n" for n in range(6)))
    words = ["synthesise", str(texts), "--voices", "anna", "--shard-lines", "1", "--workers", "2"]
    disk.resize(60 << 10)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--out", str(disk.folder / "out")])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in said
    assert f"sodakit: {disk.folder}/out/shards/" in said and "the disk is full; needed: " in said


def test_a_file_larger_than_allowed_says_how_much_was_needed(tmp_path):
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from sodakit.files import write_json\nwrite_json(sys.argv[1], 'x' * 10_000)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.json")], capture_output=True, text=True, check=False
    )
    assert "a.json cannot be written: the file would be larger" in ended.stderr
    assert "needed: 9.8 KiB" in ended.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EROFS, "Read-only file system"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        Exception("Error while serializing: IoError(Os { code: 28, kind: StorageFull })"),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("how", [atomic_path, atomic_folder])
def test_whatever_a_library_says_the_path_is_named_and_the_old_file_stays(tmp_path, error, how):
    (tmp_path / "kept").mkdir() if how is atomic_folder else (tmp_path / "kept").write_text("old")
    with (
        pytest.raises(DiskError, match=r"kept cannot be written: .* same command") as told,
        how(tmp_path / "kept"),
    ):
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # out of a worker process


def test_other_errors_pass_as_they_are(tmp_path):
    for error in (ConfigError("no"), ValueError("code: 7")):
        with pytest.raises(type(error)), atomic_path(tmp_path / "a"):
            raise error


def test_out_under_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="a part of the path is a file"):
        write_json(tmp_path / "file/store/plan.json", {})
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", str(tmp_path), "--out", str(tmp_path / "file/store"), "--codec", "toy"])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in said


def test_an_error_of_the_system_that_no_one_expected_is_one_line(monkeypatch, capsys, tmp_path):
    """Every verb ends in the same place."""
    import sodakit.commands.describe

    def fail(argv):
        open(tmp_path / "none" / "there")  # noqa: SIM115

    monkeypatch.setattr(sodakit.commands.describe, "main", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["describe", "x"])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "it does not exist" in said and "there" in said
    assert disk_error(OSError("something else")) is None
    assert disk_error(ConnectionRefusedError(errno.ECONNREFUSED, "no")) is None
