"""Sweeps for tests: the digitised Chinchilla runs, the study's own, and simulated ones on the paper's grid."""

from pathlib import Path

import numpy as np

from sodakit.scaling.design import soda_design
from sodakit.scaling.records import read_table, table_from_rows
from sodakit.scaling.simulate import SODA_SURFACE, simulate
from sodakit.scaling.table import RunTable
from tests.recordings import real_recordings


def chinchilla_table() -> RunTable:
    """All runs as Besiroglu et al. read them off the figure."""
    return read_table(real_recordings("scaling") / "chinchilla_epoch.csv")


def chinchilla_runs() -> RunTable:
    """The 240 runs of Besiroglu et al.: all but the five with the highest losses."""
    table = chinchilla_table()
    return table.select(np.sort(np.argsort(table.loss())[:-5]))


def study_runs() -> RunTable:
    """The 27 runs of `docs/studies/cpu_scaling.md`: real, few, and hard on a law."""
    return read_table(Path(__file__).parents[2] / "docs/studies/cpu_sweep.csv")


def soda_runs(noise: float = 0.004, seed: int = 0, targets: bool = True) -> RunTable:
    """SODA's sweep with losses from its published surface."""
    points = soda_design(targets=targets)
    table = table_from_rows(
        [
            {
                **p.row(),
                "kv_heads": p.model.heads,
                "ffn": p.model.ffn_width,
                "vocab": p.model.vocab_size,
                "seq": p.context,
            }
            for p in points
        ],
        "simulated",
    )
    losses = simulate(SODA_SURFACE, table.sizes("two_embeddings"), table.tokens(), noise=noise, seed=seed)
    return RunTable({**table.columns, "loss/all": losses}, "simulated")
