import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sodakit.ceilings import ceilings_file
from sodakit.errors import ConfigError
from sodakit.files import atomic_folder, atomic_path, digest, parse_json, read_json_lines, write_json_lines


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "f"
    for number in (1, 2):
        with atomic_folder(folder) as temporary:
            (temporary / f"{number}.txt").write_text("x")
    assert [p.name for p in folder.iterdir()] == ["2.txt"] and list(tmp_path.iterdir()) == [folder]


def test_what_a_library_writes_for_the_owner_alone_gets_the_permissions_that_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "a") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_folder(tmp_path / "f") as temporary:
            (temporary / "in").mkdir(mode=0o700)
            for name, mode in (("in/closed", 0o600), ("run.sh", 0o700)):
                os.close(os.open(temporary / name, os.O_CREAT | os.O_WRONLY, mode))
    finally:
        os.umask(before)
    modes = {str(p.relative_to(tmp_path)): p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {"a": 0o644, "f": 0o755, "f/in": 0o755, "f/in/closed": 0o644, "f/run.sh": 0o744}


def test_a_killed_writer_leaves_nothing_at_the_name(tmp_path):
    code = (
        "import sys,time;from sodakit.files import atomic_folder\n"
        "with atomic_folder(sys.argv[1]) as t:\n (t/'a').write_text('x'); print('in',flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "f")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    assert not (tmp_path / "f").exists()


def test_a_torn_last_line_is_left_out_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    write_json_lines(path, [{"a": 1}, {"a": 2}])
    with open(path, "a") as handle:
        handle.write('{"a": 3')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{broken\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_json_lines(path)


@pytest.mark.parametrize("line", ['{"a": 3', '"a"', "[1]"])
def test_of_a_list_that_a_user_gives_every_line_counts(tmp_path, line):
    """A set that shrinks by its last line has another score, unseen."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n' + line)
    with pytest.raises(ConfigError, match="line 3"):
        read_json_lines(path, ours=False)


def test_digests_depend_on_where_parts_begin():
    assert digest("ab", "c") != digest("a", "bc")


def test_a_file_of_a_folder_that_is_being_made_is_flushed_once(tmp_path, monkeypatch):
    """Twice each, a corpus of short sounds took as long as its speech."""
    flushed = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (flushed.append(os.readlink(f"/proc/self/fd/{handle}")), real(handle))
    )
    with atomic_folder(tmp_path / "made") as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            with atomic_path(folder / name) as temporary:
                temporary.write_text(name)
        assert flushed == []
    assert sorted(Path(name).name for name in flushed) == ["a", "b"]
    with atomic_path(tmp_path / "made/c") as temporary:
        temporary.write_text("c")
    assert len(flushed) == 3


def test_a_file_of_a_folder_that_is_being_made_has_its_own_name_at_once_and_is_gone_after_an_error(tmp_path):
    with atomic_folder(tmp_path / "made") as folder:
        with atomic_path(folder / "inner" / "a") as path:
            assert path == folder / "inner" / "a"
            path.write_text("a")
        with pytest.raises(RuntimeError), atomic_path(folder / "b") as path:
            path.write_text("half")
            raise RuntimeError
    assert [p.name for p in (tmp_path / "made").rglob("*") if p.is_file()] == ["a"]


def test_what_can_be_made_again_lies_where_the_user_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert ceilings_file() == tmp_path / ".cache" / "sodakit" / "ceilings.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    assert ceilings_file() == tmp_path / "kept" / "sodakit" / "ceilings.json"


def test_a_null_beside_a_value_is_as_if_it_were_left_out() -> None:
    assert parse_json('{"voice": "alloy", "a": 1, "voice": null}') == {"voice": "alloy", "a": 1}
    assert parse_json('{"voice": null, "voice": 0, "b": null, "b": null}') == {"voice": 0, "b": None}
    with pytest.raises(ValueError, match="'voice' comes twice"):
        parse_json('{"voice": "alloy", "voice": null, "voice": "nova"}')
