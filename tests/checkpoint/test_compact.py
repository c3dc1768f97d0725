"""Weights stored in few bits come back near what they were, and open like any others."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sodakit.checkpoint.about import About
from sodakit.checkpoint.compact import narrowed, widened
from sodakit.checkpoint.contents import WEIGHTS
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.errors import CheckpointError
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(9, 33, generator=generator) * torch.logspace(-6, 2, 9)[:, None]
    rows[4] = 0
    return {"a.weight": rows, "norm.weight": torch.randn(33, generator=generator)}


def reference_int8(row):
    """One row, number by number."""
    largest = max(abs(float(v)) for v in row)
    scale = np.float32(np.float32(largest) / np.float32(127)) if largest else np.float32(1)
    return np.array([np.float32(np.rint(np.float32(v) / scale)) * scale for v in row.tolist()], np.float32)


def test_int8_is_what_a_plain_loop_over_rows_gives():
    given = weights()
    back = widened(narrowed(given, "int8"))
    assert back.keys() == given.keys() and all(t.dtype == torch.float32 for t in back.values())
    expected = np.stack([reference_int8(row) for row in given["a.weight"]])
    np.testing.assert_allclose(back["a.weight"].numpy(), expected, rtol=1e-6)
    step_R = given["a.weight"].abs().amax(1, keepdim=True) / 127
    assert ((back["a.weight"] - given["a.weight"]).abs() <= 0.5001 * step_R).all()
    assert torch.equal(back["norm.weight"], given["norm.weight"])


@pytest.mark.parametrize("stored, width", [("float16", 2), ("int8", 1)])
def test_a_model_in_few_bits_computes_nearly_the_same_and_takes_fewer_bytes(tmp_path, stored, width):
    model = Transformer(model_size("nano", 300, context=64, init_std=0.1), seed=0).eval()
    paths = {
        kind: save_checkpoint(
            tmp_path / kind, model=model, weights=narrowed(model.state_dict(), kind), state={}, config={}
        )
        for kind in ("float32", stored)
    }
    sizes = {kind: (path / WEIGHTS).stat().st_size for kind, path in paths.items()}
    assert sizes[stored] < (width + 0.3) / 4 * sizes["float32"]
    assert {t.dtype for t in load_file(paths[stored] / WEIGHTS).values()} <= {
        torch.int8,
        torch.float16,
        torch.float32,
    }
    opened = load_checkpoint(paths[stored]).model().eval()
    whole = load_checkpoint(paths["float32"]).model()
    for name, weight in whole.state_dict().items():
        got = opened.state_dict()[name]
        assert got.dtype == torch.float32
        assert (got - weight).norm() <= {"float16": 5e-4, "int8": 1e-2}[stored] * weight.norm(), name


def test_what_a_model_says_of_itself_comes_back(tmp_path):
    model = Transformer(model_size("nano", 300, context=64), seed=0)
    about = About(name="tiny", can=("It hums.",), languages=("en",), measured={"loss": 1.5})
    path = save_checkpoint(tmp_path / "a", model=model, state={}, config={}, about=about)
    opened = load_checkpoint(path)
    assert opened.about == about and opened.name == "tiny" and opened.run_name == "a"
    assert about.introduction() == "tiny answers. It can: It hums."
    (path / "about.json").write_text('{"nmae": 3}')
    with pytest.raises(CheckpointError, match=r"about\.json cannot be read"):
        _ = load_checkpoint(path).about
