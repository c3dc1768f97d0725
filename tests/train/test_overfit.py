from dataclasses import replace

import torch

from sodakit.codec.load import load_codec
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.language import open_language
from sodakit.model.accounting import count_parameters
from sodakit.model.config import model_size
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.stages import prepare
from sodakit.train.config import ScheduleConfig, TrainConfig
from sodakit.train.trainer import Run
from tests.recordings import recordings


def test_a_small_model_learns_one_batch_of_real_recordings_by_heart(tmp_path):
    """All 8 codebooks, both orders, the full softmax: under 0.1 nats per token, or something is wired wrongly."""
    prepare(open_folder(recordings("vctk")), tmp_path / "store", load_codec("mini"), PrepareOptions())
    _, vocabulary = open_language(tmp_path / "store")
    config = TrainConfig(
        model=model_size("tiny", vocabulary.size, context=256),
        data=DataConfig(sources=(SourceConfig(store=str(tmp_path / "store")),), context=256, batch_rows=1),
        steps=110,
        schedule=ScheduleConfig(peak_lr=6e-3, warmup_fraction=0.1, decay_fraction=0.4),
        precision="float32",
    )
    config = replace(config, optim=replace(config.optim, beta1=0.9, beta2=0.95, weight_decay=0.0))
    assert 0.7e6 < count_parameters(config.model).non_embedding < 1.5e6
    run = Run(config, tmp_path / "run", torch.device("cpu"))
    batch = run.loader.batch(0)
    for _ in range(config.steps):
        run.vector.read()
        run.update(batch)
    assert run.vector.read()["loss/all"] < 0.1
