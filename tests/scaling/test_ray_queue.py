"""The queue on Ray, on this machine."""

import os
import time
from types import SimpleNamespace

import pytest

from sodakit.errors import ConfigError
from sodakit.files import write_json, write_json_lines
from sodakit.scaling import lock as locks
from sodakit.scaling import ray_queue
from sodakit.scaling.design import soda_design
from sodakit.scaling.ray_queue import run_on_ray


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow  # Ray takes seconds to start
def test_a_cluster_trains_what_is_left_and_tells_a_mistake_when_the_rest_is_through(cluster, tmp_path):
    points = soda_design()[:4]
    bad = points[1].name

    def fake(config, folder):
        if folder.name == bad and not (tmp_path / "mended").exists():
            raise ConfigError("a mistake")
        with open(tmp_path / "trained", "a") as file:
            file.write(folder.name + "\n")
        write_json_lines(folder / "metrics.jsonl", [{"step": 1, "loss/all": 3.0}])
        return folder

    with pytest.raises(ConfigError, match="a mistake"):
        run_on_ray(points, tmp_path / "queue", lambda p: p, fake)
    assert len((tmp_path / "trained").read_text().split()) == 3
    (tmp_path / "mended").touch()
    assert str(run_on_ray(points, tmp_path / "queue", lambda p: p, fake)) == "4 finished"
    assert sorted((tmp_path / "trained").read_text().split()) == sorted(p.name for p in points)


def lock_of_a_dead_node(folder, left_s):
    """A lock as a node leaves it that has just died: it looks alive for a while."""
    write_json(folder / "lock.json", {"pid": 1, "host": "dead-node"})
    touched_s = time.time() - locks.STALE_AFTER_S + left_s
    os.utime(folder / "lock.json", (touched_s, touched_s))


def finish(config, folder):
    write_json_lines(folder / "metrics.jsonl", [{"step": 1, "loss/all": 3.0}])
    return folder


class RayHere:
    """As much of Ray as the queue uses; a task is done when it is asked for."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self):
        self.started = []

    def is_initialized(self):
        return True

    def remote(self, **_):
        def make(function):
            def start(*arguments):
                self.started.append(arguments)
                return lambda: function(*arguments)

            return SimpleNamespace(remote=start)

        return make

    def wait(self, tasks, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        return task()


def test_a_dead_node_s_runs_are_waited_for_and_trained(tmp_path, monkeypatch):
    """Ray starts the task again within seconds; the lock is fresh then, and the run would be left for ever."""
    points = soda_design()[:3]
    here = RayHere()
    monkeypatch.setattr(ray_queue, "_ray", lambda: here)
    monkeypatch.setattr(ray_queue, "ASK_AGAIN_S", 0.3)
    lock_of_a_dead_node(tmp_path / points[0].name, left_s=1.0)
    begin_s = time.monotonic()
    assert str(run_on_ray(points, tmp_path, lambda p: p, finish)) == "3 finished"
    assert time.monotonic() - begin_s >= 0.9 and 5 <= len(here.started) <= 9


@pytest.mark.slow
def test_a_cluster_waits_for_the_lock_of_a_dead_node(cluster, tmp_path, monkeypatch):
    points = soda_design()[:3]
    monkeypatch.setattr(ray_queue, "ASK_AGAIN_S", 1.0)
    lock_of_a_dead_node(tmp_path / points[0].name, left_s=15.0)

    def train(config, folder):
        write_json_lines(folder / "metrics.jsonl", [{"step": 1, "loss/all": 3.0}])
        return folder

    assert str(run_on_ray(points, tmp_path, lambda p: p, train)) == "3 finished"
