"""Real jobs of 2 and 4 ranks: the same losses as one, whatever the layout; checkpoints that change layout; kills."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.errors import ConfigError
from sodakit.files import read_json_lines
from sodakit.model.families import build_model
from sodakit.model.init import first_values
from sodakit.train import parallel
from sodakit.train.config import OptimConfig, ParallelConfig
from sodakit.train.parallel import copy_weights, start_ranks
from sodakit.train.trainer import train
from tests.train.ranks import rank_config, start, stop, together, train_all

ROOT = Path(__file__).parents[2]
LAYOUTS = [("ddp", 2), ("fsdp", 2), ("ddp", 4), ("fsdp", 4), ("hsdp", 4)]


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> Path:
    """One run on each layout, and one alone."""
    root = tmp_path_factory.mktemp("runs")
    train(rank_config(store), root / "alone", device="cpu")
    for world in (2, 4):
        jobs = []
        for kind in [k for k, w in LAYOUTS if w == world]:
            # Two micro-batches, and activations computed again, in one layout each.
            micro_rows = 1 if (kind, world) == ("ddp", 2) else None
            config = rank_config(store, kind, micro_rows=micro_rows)
            recompute = replace(config.parallel, activation_checkpointing=kind == "fsdp")
            jobs.append((replace(config, parallel=recompute), root / f"{kind}{world}"))
        together(world, train_all, jobs)
    return root


def losses(run: Path) -> dict[tuple[int, str], float]:
    kept = ("loss/", "validation/loss/", "grad_norm")
    return {
        (row["step"], name): value
        for row in read_json_lines(run / "metrics.jsonl")
        for name, value in row.items()
        if name.startswith(kept)
    }


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = latest_checkpoint(run / "checkpoints")
    assert newest is not None
    return load_checkpoint(newest).weights()


@pytest.mark.parametrize(("kind", "world"), LAYOUTS)
def test_any_layout_has_the_losses_of_one_rank(runs, kind, world):
    alone, shared = losses(runs / "alone"), losses(runs / f"{kind}{world}")
    assert shared.keys() == alone.keys() and len(alone) > 50
    for name, value in alone.items():
        assert shared[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize(("kind", "world"), LAYOUTS)
def test_any_layout_hears_the_same_hours_and_tokens(runs, kind, world):
    alone, shared = (
        [
            (row["positions"], row["tokens"], row["audio_hours"])
            for row in read_json_lines(runs / n / "metrics.jsonl")
            if "tokens" in row
        ]
        for n in ("alone", f"{kind}{world}")
    )
    assert shared == alone


@pytest.mark.parametrize("kind", ["fsdp", "hsdp"])
def test_shards_are_a_checkpoint_that_one_process_reads(runs, kind):
    """To speak with a model nobody needs the ranks that trained it.

    A number whose gradient is next to nothing may be left out of a cautious update by another order of sums: very few are
    apart by more than rounding, and by no more than updates.
    """
    checkpoint = load_checkpoint(latest_checkpoint(runs / f"{kind}4" / "checkpoints"))
    assert checkpoint.is_sharded
    assert len(list((checkpoint.folder / "shards").glob("*.safetensors"))) > 1
    alone = weights(runs / "alone")
    for name, weight in checkpoint.model().state_dict().items():
        apart = (weight - alone[name]).abs()
        assert (apart > 1e-5 + 1e-3 * alone[name].abs()).sum() <= 1 + apart.numel() / 100, name
        assert apart.max() < 5e-3, name


def from_step_8(run: Path, to: Path) -> Path:
    """A copy of a run as it was when step 8 had been saved."""
    shutil.copytree(run, to)
    for path in (to / "checkpoints").glob("step_*"):
        if int(path.name.removeprefix("step_")) > 8:
            shutil.rmtree(path)
    return to


@pytest.mark.parametrize("first", ["fsdp4", "alone"])
def test_a_run_goes_on_with_another_number_of_ranks(runs, store, tmp_path, first):
    """Four ranks' shards on one and on two; one rank's files on two with shards."""
    expected = losses(runs / "alone")
    ones, twos = (from_step_8(runs / first, tmp_path / name) for name in ("one", "two"))
    if first != "alone":
        train(rank_config(store), ones, device="cpu")
        assert losses(ones) == pytest.approx(expected, rel=1e-5)
    together(2, train_all, [(rank_config(store, "fsdp"), twos)])
    assert losses(twos) == pytest.approx(expected, rel=1e-5)


def train_with_kills(config, folder: Path, kills: int, seed: int) -> None:
    """Train on two ranks; a random one is killed at random moments, the other goes with it, and both start again."""
    chance = random.Random(seed)
    metrics = folder / "metrics.jsonl"
    for _ in range(kills):
        rows = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        processes = start(2, train_all, [(config, folder)])
        wanted = rows + chance.randint(1, 6)
        while all(p.is_alive() for p in processes):
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.01)
        victim = chance.choice(processes)
        assert victim.is_alive(), "the run ended before it could be killed"
        os.kill(victim.pid, signal.SIGKILL)
        stop(processes)
    together(2, train_all, [(config, folder)])


def test_ranks_killed_at_random_moments_end_with_the_same_weights(store, tmp_path):
    """Copies and shards in turn would cost twice; shards have the harder life: pieces from two ranks, written later."""
    config = rank_config(store, "fsdp", steps=18, save_every_steps=3)
    together(2, train_all, [(config, tmp_path / "whole")])
    train_with_kills(config, tmp_path / "killed", kills=2, seed=0)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "family"), [("ddp", "flat"), ("fsdp", "flat"), ("fsdp", "depth")])
def test_twenty_kills_under_torchrun_end_with_the_same_weights(store, tmp_path, kind, family):
    """torchrun itself restarts the ranks, as it would on a cluster."""
    kills, steps = 20, 400
    chance = random.Random(1)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={kills + 2}", str(ROOT / "tests/train/ranks.py"), str(store)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole"), kind, family, str(steps)], check=True, env=environment)
    job = subprocess.Popen([*command, str(tmp_path / "killed"), kind, family, str(steps)], env=environment)
    metrics, killed = tmp_path / "killed" / "metrics.jsonl", 0
    wanted = chance.randint(1, 8)
    while job.poll() is None and killed < kills:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= wanted:
            ranks = children(job.pid)
            if len(ranks) == 2:
                os.kill(chance.choice(ranks), signal.SIGKILL)
                killed += 1
                wanted = min(wanted + chance.randint(1, 8), steps // 2 - 2)
                time.sleep(1.0)
        time.sleep(0.02)
    assert job.wait() == 0 and killed == kills
    whole, ended = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], ended[name]) for name in whole)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def test_a_batch_that_does_not_divide_is_refused(store, tmp_path):
    """Rank counts are found out late; the message says which number to change."""
    from sodakit.data.language import open_language
    from sodakit.data.loader import Loader

    loader = Loader(rank_config(store).data, open_language(store)[1])
    with pytest.raises(ConfigError, match="batch_rows=4 does not divide among 3 ranks"):
        loader.batch(0, rank=0, world_size=3)


def test_the_layout_is_no_part_of_a_runs_identity(store, tmp_path):
    config = rank_config(store, steps=4)
    train(config, tmp_path, device="cpu")
    other = replace(config, parallel=ParallelConfig(activation_checkpointing=True), micro_rows=1)
    train(other, tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"optim\.kind"):
        train(replace(config, optim=OptimConfig(kind="adamw")), tmp_path, device="cpu")


def test_muon_on_shards_is_muon(store, tmp_path):
    """Its direction needs whole matrices, which no rank holds."""
    config = rank_config(store, "fsdp", steps=3, optim=OptimConfig(kind="muon"))
    train(config, tmp_path / "one", device="cpu")
    together(2, train_all, [(config, tmp_path / "two")])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def count_exchanges(store: str, folder: Path) -> None:
    """Gradients that cross between the copies of `hsdp`, in one step of two micro-batches."""
    sizes: list[int] = []
    plain = torch.distributed.all_reduce

    def counted(tensor, *args, **kwargs):
        sizes.append(tensor.numel())
        return plain(tensor, *args, **kwargs)

    torch.distributed.all_reduce = counted
    parallel = ParallelConfig(kind="hsdp", shard_ranks=1)
    train(rank_config(store, steps=1, micro_rows=1, validation=(), parallel=parallel), folder, device="cpu")
    torch.distributed.all_reduce = plain
    model = load_checkpoint(latest_checkpoint(folder / "checkpoints")).model()
    # A kind of parameter at a time, its norms too: what is exchanged is about one gradient, not two.
    assert 0.9 < sum(size for size in sizes if size > 64) / sum(p.numel() for p in model.parameters()) < 1.1


def test_copies_of_shards_exchange_gradients_once_a_step(store, tmp_path):
    """Between machines that is the slowest thing a step does."""
    together(2, count_exchanges, str(store), tmp_path / "two", timeout_s=120)
    config = rank_config(store, steps=1, validation=())
    train(config, tmp_path / "one", device="cpu")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_model_that_never_lay_whole_on_the_host_has_the_same_first_weights(store):
    """On a GPU, and where it is spread over ranks, it is made without memory and filled matrix by matrix."""
    config = rank_config(store).model
    with torch.device("meta"):
        model = build_model(config, seed=7)
    model.to_empty(device="cpu")
    copy_weights(model, first_values(model, std=config.init_std, seed=7))
    for name, weight in build_model(config, seed=7).state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    with pytest.raises(RuntimeError, match=r"embedding.*is \(2, 2\)"):
        copy_weights(model, {"embedding.weight": torch.zeros(2, 2)}.items())
    with pytest.raises(RuntimeError, match="missing"):
        copy_weights(model, {}.items())


def test_ranks_on_gpus_join_with_their_own_device_and_talk_of_small_things_on_the_host(monkeypatch):
    """What NCCL is told: which GPU is whose before anything is sent, and how long to wait."""
    asked, groups = {}, []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **more: asked.update(more, backend=backend)
    )
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **more: groups.append(more))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(current=device))
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    for name, value in {"RANK": "11", "LOCAL_RANK": "3", "WORLD_SIZE": "16"}.items():
        monkeypatch.setenv(name, value)
    ranks = start_ranks(ParallelConfig(), "cuda")
    mine = torch.device("cuda:3")
    assert (ranks.rank, ranks.size, ranks.device) == (11, 16, mine)
    assert asked["backend"] == "cpu:gloo,cuda:nccl" and asked["device_id"] == asked["current"] == mine
    assert asked["timeout"] == parallel.TIMEOUT and (asked["rank"], asked["world_size"]) == (11, 16)
    assert groups == [{"backend": "gloo", "timeout": parallel.TIMEOUT}]
