"""Locks of the queue: of the living, and not of the dead."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from sodakit.files import read_json, write_json
from sodakit.scaling import lock as locks
from sodakit.scaling.lock import holder, lock


def test_a_folder_is_held_once_and_free_afterwards(tmp_path):
    with lock(tmp_path) as ours, lock(tmp_path) as twice:
        assert ours and not twice and holder(tmp_path) == f"process {os.getpid()}"
    assert holder(tmp_path) is None


def test_a_lock_of_another_machine_holds_while_it_is_touched_and_no_longer(tmp_path):
    """Otherwise a run on a machine that died would wait for ever."""
    path = tmp_path / "lock.json"
    write_json(path, {"pid": 1, "host": "elsewhere"})
    assert holder(tmp_path) == "elsewhere"
    long_ago = path.stat().st_mtime - locks.STALE_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))
    assert holder(tmp_path) is None
    with lock(tmp_path) as ours:
        assert ours


def test_a_number_that_another_process_got_later_does_not_hold(tmp_path):
    path = tmp_path / "lock.json"
    write_json(path, {"pid": os.getppid(), "host": socket.gethostname()})
    assert holder(tmp_path) == f"process {os.getppid()}"
    os.utime(path, (0, 0))
    assert holder(tmp_path) is None


def test_the_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_EVERY_S", 0.01)
    with lock(tmp_path):
        path = tmp_path / "lock.json"
        os.utime(path, (0, 0))
        for _ in range(1000):
            if path.stat().st_mtime > 0:
                break
            locks.time.sleep(0.01)
        assert path.stat().st_mtime > 0


def dead_lock(folder):
    """What a machine leaves that went down long ago."""
    write_json(folder / "lock.json", {"pid": 1, "host": "elsewhere"})
    os.utime(folder / "lock.json", (0, 0))


def test_of_two_that_find_a_dead_lock_one_takes_it(tmp_path, monkeypatch):
    """Both look before either acts: the second would delete the first one's new lock as if it were the dead one."""
    dead_lock(tmp_path)
    looked, both_looked, done = locks.holder, threading.Barrier(2), threading.Barrier(2)
    taken = threading.Event()

    def look(folder):
        found = looked(folder)
        with suppress(threading.BrokenBarrierError):
            if both_looked.wait(0.5) == 1:
                taken.wait(5)
        return found

    monkeypatch.setattr(locks, "holder", look)
    answers = []

    def take():
        with lock(tmp_path) as ours:
            answers.append(ours)
            taken.set()
            done.wait(30)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True]


RACE = """
import os, sys, time
from pathlib import Path
from sodakit.scaling.lock import lock
root, rounds, begin_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for number in range(rounds):
    folder = root / str(number)
    while time.time() < begin_s + 0.004 * number:
        pass
    with lock(folder) as ours:
        if ours:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails where another is inside
            (folder / "taken").touch()
            time.sleep(0.001)
            (folder / "inside").unlink()
"""


def test_processes_that_race_for_dead_locks_never_hold_one_together(tmp_path):
    rounds = 300
    for number in range(rounds):
        dead_lock(tmp_path / str(number))
    command = [sys.executable, "-c", RACE, str(tmp_path), str(rounds), str(time.time() + 3)]
    racers = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        said = racer.communicate(timeout=120)[1]
        assert racer.returncode == 0, said
    assert all((tmp_path / str(number) / "taken").exists() for number in range(rounds))


def test_a_lock_that_another_took_is_neither_touched_nor_deleted(tmp_path, monkeypatch, capsys):
    """As after a machine slept for a quarter of an hour: the run is another's now."""
    monkeypatch.setattr(locks, "BEAT_EVERY_S", 0.01)
    path = tmp_path / "lock.json"
    with lock(tmp_path) as ours:
        assert ours
        threads = [t for t in threading.enumerate() if t.name == "sodakit-lock"]
        write_json(path, {"pid": os.getppid(), "host": socket.gethostname(), "token": "another's"})
        os.utime(path, (1000, 1000))
        for thread in threads:
            thread.join(10)
        assert path.stat().st_mtime == 1000
    assert read_json(path)["token"] == "another's"
    assert "no longer held" in capsys.readouterr().err


def test_a_folder_that_is_deleted_under_its_holder_is_no_error(tmp_path):
    with lock(tmp_path / "run"):
        for name in ("lock.json", ".lock"):
            (tmp_path / "run" / name).unlink()
        (tmp_path / "run").rmdir()


def test_a_file_system_without_locks_is_said_and_still_has_one_holder(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    locks._say_without.cache_clear()
    dead_lock(tmp_path)
    with lock(tmp_path) as ours, lock(tmp_path) as twice:
        assert ours and not twice
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert capsys.readouterr().err.count("locks no files") == 1
