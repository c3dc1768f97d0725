"""The queue on Ray, on this machine."""

import pytest

from sodakit.errors import ConfigError
from sodakit.files import write_json_lines
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
