"""Locks of the queue: of the living, and not of the dead."""

import os
import socket

from sodakit.files import write_json
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
