import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sodakit.codec.load import load_codec
from sodakit.errors import CodecError


def test_the_toy_keeps_as_many_codebooks_as_asked() -> None:
    assert load_codec("toy").spec.num_codebooks == 4
    assert load_codec("toy", num_codebooks=2).spec.num_codebooks == 2


def test_a_codec_on_a_gpu_convolves_in_float32(monkeypatch) -> None:
    """torch's default there keeps 10 bits, by which codes would be others than on a CPU, and others in a batch than alone."""
    monkeypatch.setattr("sodakit.codec.load.device_named", lambda name: name)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_codec("toy", device="cpu")
    assert torch.backends.cudnn.allow_tf32
    load_codec("toy", device="cuda")
    assert not torch.backends.cudnn.allow_tf32


def test_an_unknown_name_answers_with_the_nearest_one() -> None:
    with pytest.raises(CodecError, match="Did you mean 'mini'"):
        load_codec("minni")


def test_a_folder_without_a_codec_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"mini\.json"):
        load_codec(str(tmp_path))


def test_more_codebooks_than_there_are_is_refused() -> None:
    with pytest.raises(CodecError, match="Use 1 to 8"):
        load_codec("mini", num_codebooks=9)


def test_the_toy_loads_without_torch_or_transformers() -> None:
    """Commands that only move codes about should start in milliseconds."""
    code = "import sys; from sodakit.codec.load import load_codec; load_codec('toy'); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
