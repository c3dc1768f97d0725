"""Prepare on Ray: the same store, also when a worker dies on the way."""

import os
import signal
import threading
import time

import pytest

from tests.prepare.test_stages import TOY, ToyCodec, digests, options, prepare, tone, toy

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


class Patient(ToyCodec):
    """Leaves its process id where the test finds it, and takes its time."""

    def __init__(self, folder) -> None:
        super().__init__(*TOY)
        self.folder = str(folder)

    def encode_batch(self, waves_S):
        with open(os.path.join(self.folder, str(os.getpid())), "w"):
            pass
        time.sleep(0.2)
        return super().encode_batch(waves_S)


def test_a_ray_cluster_of_two_workers_makes_the_same_store(tmp_path):
    items = [tone(f"t{n}", 0.2 + 0.05 * n, recording=f"r{n // 2}") for n in range(12)]
    chosen = {"shard_duration_s": 1.0, "workers": 2}
    prepare(items, tmp_path / "here", toy(), options(**chosen))
    prepare(items, tmp_path / "ray", toy(), options(engine="ray", **chosen))
    assert digests(tmp_path / "here") == digests(tmp_path / "ray")


def test_a_worker_killed_on_the_way_changes_nothing(tmp_path):
    items = [tone(f"t{n}") for n in range(30)]
    (tmp_path / "pids").mkdir()
    killed = []

    def kill_one() -> None:
        deadline_s = time.monotonic() + 120
        while not killed and time.monotonic() < deadline_s:
            for name in os.listdir(tmp_path / "pids"):
                if int(name) != os.getpid():
                    os.kill(int(name), signal.SIGKILL)
                    killed.append(name)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    chosen = {"shard_duration_s": 1.0, "workers": 2, "verify_items": 1}
    prepare(items, tmp_path / "ray", Patient(tmp_path / "pids"), options(engine="ray", **chosen))
    killer.join()
    prepare(items, tmp_path / "here", toy(), options(**chosen))
    assert killed
    assert digests(tmp_path / "here") == digests(tmp_path / "ray")
