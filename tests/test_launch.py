"""The launch templates, under stand-ins of what a cluster has."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from tests.stores import small_store

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = {
    "scontrol": 'case "$1" in show) echo 127.0.0.1;; requeue) echo "$2" >> "$PLACE/requeued";; esac',
    "scancel": 'kill -TERM "$(cat "$PLACE/step.pid")"',
    # It becomes the step, as srun on a node does.
    "srun": 'echo $$ > "$PLACE/step.pid"; echo "cpus ${SRUN_CPUS_PER_TASK:-none}"; shift; SLURM_NODEID=0 exec "$@"',
}


@pytest.fixture
def cluster(tmp_path):
    """The environment of a batch job of two tasks' worth of GPUs, and a Python environment whose torchrun is a script."""
    commands, venv = tmp_path / "commands", tmp_path / "venv" / "bin"
    for folder in (commands, venv):
        folder.mkdir(parents=True)
    for name, body in SCRIPTS.items():
        script(commands / name, body)
    (venv / "activate").write_text(f'PATH="{venv}:$PATH"\n')
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PLACE": str(tmp_path),
        "VENV": str(venv.parent),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "64",
        "OMP_NUM_THREADS": "1",
    }


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def batch(cluster, *words: str) -> subprocess.Popen[str]:
    place = cluster["PLACE"]
    return subprocess.Popen(
        ["bash", str(LAUNCH / "train.slurm"), *words],
        env=cluster, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_job_that_fails_at_one_place_is_sent_again_twice(cluster, tmp_path):
    script(tmp_path / "venv" / "bin" / "torchrun", 'echo "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT" "$@"; exit 1')
    ends = []
    for _ in range(3):
        job = batch(cluster, "--recipe", "demo", "--out", "runs/x")
        said = job.communicate(timeout=30)[0]
        ends.append(job.returncode)
    assert ends == [0, 0, 1] and "not requeued: 3 failures" in said
    assert (tmp_path / "requeued").read_text().split() == ["7", "7"]
    assert "cpus 64" in said
    seconds, *words = said.splitlines()[1].split()
    found = get_args_parser().parse_args(words)
    # Time for a large checkpoint, and the signal comes before the limit by more.
    warned = re.search(r"--signal=B:USR1@(\d+)", (LAUNCH / "train.slurm").read_text())
    assert 30 < int(seconds) < int(warned[1])
    assert (found.nnodes, found.nproc_per_node, found.max_restarts) == ("1", "2", 0)
    assert found.training_script_args == ["train", "--recipe", "demo", "--out", "runs/x"]


def test_a_job_without_a_python_environment_says_so(cluster, tmp_path):
    job = batch(cluster | {"VENV": str(tmp_path / "nowhere")})
    assert "No Python environment" in job.communicate(timeout=30)[0] and job.returncode == 2


def test_the_managed_job_starts_torchrun_as_it_is_meant(tmp_path):
    job = yaml.safe_load((LAUNCH / "train.sky.yaml").read_text())
    (tmp_path / "sodakit" / "bin").mkdir(parents=True)
    script(tmp_path / "sodakit" / "bin" / "torchrun", 'echo "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT" "$@"')
    told = {
        "HOME": str(tmp_path), "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "8", "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_TASK_ID": "job-3", "SETTINGS": "--recipe demo",
    }  # fmt: skip
    ran = subprocess.run(
        ["bash", "-eu"], check=True, input=job["run"], env=os.environ | told, capture_output=True, text=True
    )
    seconds, *words = ran.stdout.split()
    found = get_args_parser().parse_args(words)
    assert int(seconds) > 30 and (found.nnodes, found.node_rank, found.master_addr) == ("2", 1, "10.0.0.1")
    assert found.training_script_args == ["train", "--recipe", "demo", "--out", "/runs/job-3"]


@pytest.mark.slow
def test_a_job_near_its_time_limit_saves_goes_back_into_the_queue_and_goes_on(cluster, tmp_path):
    """Two real ranks; the warning before the limit comes twice."""
    script(tmp_path / "venv" / "bin" / "torchrun", f'exec {sys.executable} -m torch.distributed.run "$@"')
    cluster["PYTHONPATH"] = os.pathsep.join(sys.path)
    store = small_store(tmp_path / "store", recordings=40)
    words = [
        "--recipe", "demo", "--data", str(store), "--out", "runs/x", "--device", "cpu", "steps=100000", "data.context=64",
        "data.batch_rows=2", "listen_every_steps=null", "validate_every_steps=null", "save_every_steps=50000",
        "log_every_steps=2",
    ]  # fmt: skip
    metrics, steps = tmp_path / "runs" / "x" / "metrics.jsonl", []
    for number in (1, 2):
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        job = batch(cluster, *words)
        deadline_s = time.monotonic() + 120
        while time.monotonic() < deadline_s and job.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= lines + 2:
                break
            time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        said = job.communicate(timeout=90)[0]
        assert job.returncode == 0 and "requeue: the time limit is near" in said, said
        assert (tmp_path / "requeued").read_text().split() == ["7"] * number
        steps.append(
            load_checkpoint(latest_checkpoint(tmp_path / "runs" / "x" / "checkpoints")).state["step"]
        )
    assert 0 < steps[0] < steps[1]
